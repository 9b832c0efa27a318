from typing import Any

import pytest

from hone.experiments.tree import Node, Place, from_values, key_text, read_value, read_yaml, scalar


def read(text: str, **environ: str) -> Any:
    node, problems = read_yaml(text, "x.yaml", environ)
    assert problems == []
    return node.plain()


def complaints(text: str, **environ: str) -> list[str]:
    return [str(problem) for problem in read_yaml(text, "x.yaml", environ)[1]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1.0e-5", 1e-5),
        ("-.5", -0.5),
        ("5.", 5.0),
        ("12", 12),
        ("010", 10),
        ("0x10", 16),
        ("0o10", 8),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("no", "no"),
        ("off", "off"),
        ("yes", "yes"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        ("1e999", "1e999"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_quotes_keep_text_text() -> None:
    assert read("a: '1e-5'\nb: \"no\"\nc: |\n  12\n") == {"a": "1e-5", "b": "no", "c": "12\n"}


def test_explicit_tags_decide() -> None:
    assert read("a: !!str 12\nb: !!int '12'\n") == {"a": "12", "b": 12}


def test_each_value_knows_the_line_of_its_key() -> None:
    node, _ = read_yaml("a:\n  b:\n    - 1\n    - c: 2\n", "x.yaml", {})
    found, beyond = node.at(("a", "b", 1, "c"))
    assert (found.value, found.place, beyond) == (2, Place("x.yaml", 4, ("a", "b", 1, "c")), ())
    above, beyond = node.at(("a", "b", 0, "d"))
    assert (above.place.line, beyond) == (3, ("d",))


def test_a_key_that_stands_twice_is_told_with_both_lines() -> None:
    assert complaints("a: 1\nb: 2\na: 3\n") == [
        "x.yaml:3: a: the key stands here twice, first in line 1; keep one of them"
    ]


def test_all_double_keys_are_told() -> None:
    assert len(complaints("a: 1\na: 2\nb: {c: 1, c: 2}\na: 3\n")) == 3


def test_anchors_and_merge_keys() -> None:
    text = "base: &base {a: 1, b: 2}\nother:\n  <<: *base\n  b: 3\nlist: [*base, *base]\n"
    found = read(text)
    assert found["other"] == {"a": 1, "b": 3}
    assert found["list"] == [{"a": 1, "b": 2}] * 2


def test_an_alias_within_its_own_anchor_is_told() -> None:
    assert complaints("a: &a\n  b: *a\n") == [
        "x.yaml:2: a.b: the anchor of this alias (line 1) contains the alias itself"
    ]


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("a: [1\nb: 2\n", "x.yaml:2", "is not YAML"),
        ("a: 1\n---\nb: 2\n", "x.yaml:3", "second document"),
        ("a: .nan\n", "x.yaml:1", "finite"),
        ("a: !!python/object:os.system x\n", "x.yaml:1", "tag"),
        ("? [1, 2]\n: 3\n", "x.yaml:1", "a key is a list or a mapping"),
        ("a: {b: ${C}}\n", "x.yaml:1", "quote values that hold"),
        ("a:\n\tb: 1\n", "x.yaml:2", "indented by spaces"),
        ("<<: 3\n", "x.yaml:1", "takes a mapping"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(text: str, place: str, says: str) -> None:
    (told,) = complaints(text)
    assert told.startswith(place)
    assert says in told


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert read("") == read("# nothing\n") == {}


def test_the_environment_fills_in() -> None:
    text = "a: ${ONE}\nb: 'x ${TWO} y'\nc: ${NONE:-7}\nd: '${ONE}'\ne: $${ONE}\nf: ${EMPTY:-z}${EMPTY}\n"
    found = read(text, ONE="1", TWO="two", EMPTY="")
    assert found == {"a": 1, "b": "x two y", "c": 7, "d": "1", "e": "${ONE}", "f": "z"}


def test_a_missing_variable_is_told_with_its_place() -> None:
    (told,) = complaints("a:\n  b: data/${WHERE}/x\n")
    assert told.startswith("x.yaml:2: a.b: the environment has no WHERE, found 'data/${WHERE}/x'; set it")


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "HF_TOKEN", "DB_PASSWORD", "client_secret"])
def test_a_secret_is_not_filled_in(name: str) -> None:
    node, (problem,) = read_yaml(f"a: x ${{{name}}}\n", "x.yaml", {name: "s3cr3t"})
    assert problem.message.startswith(f"{name} is a secret by its name")
    assert "s3cr3t" not in f"{problem}{node.plain()}"
    assert read("a: ${EOS_TOKEN}\nb: ${SORT_KEY}\n", EOS_TOKEN="x", SORT_KEY="y") == {"a": "x", "b": "y"}


def test_a_value_given_elsewhere_is_at_its_label() -> None:
    node, problems = read_value("[1e-5, {a: no}]", "--set x", ("x",), {})
    assert problems == []
    assert node.plain() == [1e-5, {"a": "no"}]
    assert node.at(("1", "a"))[0].place == node.place == Place("--set x", None, ("x",))
    assert read_value("", "--set x", ("x",), {})[0].value is None
    assert next(str(one) for one in read_value("[", "--set x", ("x",), {})[1]).startswith("--set x: x: is not YAML")


def test_values_of_a_program_have_no_file() -> None:
    node = from_values({"a": [1, {"b": None}]})
    assert node.plain() == {"a": [1, {"b": None}]}
    assert isinstance(node.value, dict)
    assert node.value["a"] == Node(
        [Node(1, Place(None, None, ("a", 0))), node.at(("a", 1))[0]], Place(None, None, ("a",))
    )


def test_paths_as_people_write_them() -> None:
    assert key_text(("runs", 0, "model", "name")) == "runs[0].model.name"
