import pytest

from hone.experiments.templates import Template, TemplateError


def test_holes_are_filled_with_values_at_dotted_paths():
    values = {"a": "x", "meta": {"n": 3, "list": [1, "ä"]}, "a.b": 1.5}
    assert Template("{a}-{meta.n} {meta.list} {a.b} {{}}").fill(values) == 'x-3 [1, "ä"] 1.5 {}'
    assert Template("{a} {meta.n}").names == {"a", "meta.n"}


@pytest.mark.parametrize("text", ["{", "}", "{}", "{a:>3}", "{a!r}", "{a.__class__}{"])
def test_what_is_no_template_is_refused_when_it_is_read(text):
    with pytest.raises(TemplateError):
        Template(text)


def test_values_are_only_looked_up():
    with pytest.raises(TemplateError, match=r"needs 'a\.__class__'; there are a"):
        Template("{a.__class__}").fill({"a": "x"})


def test_null_is_missing():
    with pytest.raises(TemplateError, match="needs 'a'"):
        Template("{a}").fill({"a": None})
