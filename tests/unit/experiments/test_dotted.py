import pytest

from hone.experiments.dotted import value_at


def test_dots_go_into_objects_and_keys_may_hold_dots():
    values = {"a": {"b": {"c": 1}, "b.d": 2}, "a.e": 3, "n": None}
    assert value_at(values, "a.b.c") == 1
    assert value_at(values, "a.b.d") == 2
    assert value_at(values, "a.e") == 3
    assert value_at(values, "n") is None


@pytest.mark.parametrize("path", ["x", "a.x", "a.b.c", "", "a."])
def test_what_is_not_there_is_a_key_error(path):
    with pytest.raises(KeyError):
        value_at({"a": {"b": 1}}, path)
