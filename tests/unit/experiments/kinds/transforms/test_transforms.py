"""Each transform: what it makes, that it is lazy, pure and keeps origins, and what it refuses."""

import copy
import itertools

import pytest

from hone.errors import UserError
from hone.experiments.data.parse import RowError, parse
from hone.experiments.kinds import plugins
from hone.experiments.kinds.contract import RawRow

U = {"role": "user", "content": "q"}
A = {"role": "assistant", "content": "a"}
B = {"role": "assistant", "content": "b"}
S = {"role": "system", "content": "s"}


def make(kind, **params):
    return plugins.transforms.make(kind, params)


def rows(*values):
    return [RawRow(f"f:{number}", value) for number, value in enumerate(values, 1)]


def apply(kind, *values, **params):
    return [row.value for row in make(kind, **params).apply(iter(rows(*values)))]


EXAMPLES = {
    "columns": ({"rename": {"prompt": "question"}}, {"prompt": "q", "answer": "a"}),
    "template": ({"prompt": "Say {prompt}"}, {"prompt": "q", "answer": "a"}),
    "map_values": ({"column": "answer", "values": {"a": "b"}}, {"prompt": "q", "answer": "a"}),
    "system_prompt": ({"text": "s"}, {"prompt": "q", "answer": "a"}),
    "filter": ({"where": "answer == 'a'"}, {"prompt": "q", "answer": "a"}),
    "dedupe": ({}, None),
    "limit": ({"rows": 3}, {"prompt": "q"}),
    "sample": ({"share": 0.5}, None),
    "to_chat": ({}, {"prompt": "q", "answer": "a"}),
    "to_task": ({}, {"messages": [U, A]}),
    "to_preference": ({}, {"prompt": "q", "chosen": "a", "rejected": "b"}),
}


def test_every_built_in_has_an_example_here():
    assert set(EXAMPLES) == set(plugins.transforms.names())


@pytest.mark.parametrize("kind", EXAMPLES)
def test_transforms_are_lazy_keep_places_and_origins_and_change_nothing_in_place(kind):
    params, value = EXAMPLES[kind]
    endless = (RawRow(f"f:{i}", copy.deepcopy(value) or {"prompt": f"q{i}"}) for i in itertools.count(1))
    given = list(itertools.islice(endless, 2))
    before = copy.deepcopy(given)
    transform = make(kind, **params)
    made = list(itertools.islice(transform.apply(itertools.chain(given, endless)), 2))
    assert len(made) == 2
    assert given == before
    assert next(transform.apply(itertools.chain(given, endless))) == made[0]  # no state
    if kind != "sample":
        assert [(row.place, row.origin) for row in made] == [(row.place, row.value) for row in before]


def test_columns():
    value = {"a": 1, "b": {"c": 2}, "d": 3}
    assert apply("columns", value, rename={"b.c": "e", "a": "f"}) == [{"b": {"c": 2}, "d": 3, "f": 1, "e": 2}]
    assert apply("columns", value, rename={"a": "d", "d": "a"}) == [{"b": {"c": 2}, "d": 1, "a": 3}]
    assert apply("columns", value, rename={"a": "x"}, keep=["x", "d"]) == [{"x": 1, "d": 3}]
    assert apply("columns", value, drop=["a", "not there"]) == [{"b": {"c": 2}, "d": 3}]
    with pytest.raises(RowError, match=r"f:1: it has no column 'aa'; did you mean 'a'\? it has a, b, d"):
        apply("columns", value, rename={"aa": "x"})
    with pytest.raises(RowError, match="f:1: it has no column 'x'"):
        apply("columns", value, keep=["x"])
    for wrong in ({"keep": ["a"], "drop": ["b"]}, {"rename": {"a": "x", "b": "x"}}):
        with pytest.raises(UserError, match="cannot take its params"):
            make("columns", **wrong)


def test_template():
    value = {"q": "Is {x}?", "meta": {"a": 4}}
    assert apply("template", value, prompt="Q: {q}", answer="{meta.a}", columns={"n": "{{{meta.a}}}"}) == [
        value | {"prompt": "Q: Is {x}?", "answer": "4", "n": "{4}"}
    ]
    said = [{"role": "system", "content": "s"}, {"role": "user", "content": "{q}"}]
    assert apply("template", value, messages=said)[0]["messages"] == [S, {"role": "user", "content": "Is {x}?"}]
    with pytest.raises(RowError, match=r"f:1: the template '{z}' needs 'z'; there are meta, q"):
        apply("template", value, prompt="{z}")
    for wrong in ({}, {"prompt": "{"}, {"messages": []}, {"columns": {"a": "{}"}}):
        with pytest.raises(UserError, match="cannot take its params"):
            make("template", **wrong)


def test_map_values():
    values = {"0": "no", "1": "yes", "null": "?", "true": "t"}
    found = apply("map_values", {"l": 0}, {"l": "1"}, {"l": None}, {"l": True}, column="l", values=values)
    assert [value["l"] for value in found] == ["no", "yes", "?", "t"]
    assert apply("map_values", {"l": 0}, column="l", values=values, to="answer") == [{"l": 0, "answer": "no"}]
    assert apply("map_values", {"l": 7}, column="l", values=values, others="keep") == [{"l": 7}]
    assert apply("map_values", {"l": 7}, column="l", values=values, others="drop") == []
    with pytest.raises(RowError, match="f:1: l is 7; `values` has 0, 1"):
        apply("map_values", {"l": 7}, column="l", values=values)
    with pytest.raises(RowError, match="f:1: it has no column 'l'"):
        apply("map_values", {"x": 7}, column="l", values=values)


@pytest.mark.parametrize(
    ("value", "column", "begun"),
    [
        ({"messages": [U, A]}, "messages", [S, U, A]),
        ({"messages": [{"role": "system", "content": "old"}, U]}, "messages", [S, U]),
        ({"prompt": "q", "answer": "a"}, "prompt", [S, U]),
        ({"question": "q"}, "question", [S, U]),
        ({"prompt": [U], "chosen": "a", "rejected": "b"}, "prompt", [S, U]),
    ],
)
def test_system_prompt(value, column, begun):
    assert apply("system_prompt", value, text="s") == [value | {column: begun}]


def test_system_prompt_where_there_is_one():
    value = {"messages": [{"role": "developer", "content": "old"}, U]}
    assert apply("system_prompt", value, text="s", existing="keep") == [value]
    with pytest.raises(RowError, match="f:1: it has a system prompt already"):
        apply("system_prompt", value, text="s", existing="refuse")
    with pytest.raises(RowError, match="f:1: it has none of messages, prompt"):
        apply("system_prompt", {"text": "x"}, text="s")


def test_filter():
    values = [{"n": 1, "t": "a b"}, {"n": 2, "t": "c"}]
    assert apply("filter", *values, where="n > 1 or words(t) == 2") == values
    assert apply("filter", *values, where="n > 1") == values[1:]
    with pytest.raises(RowError, match="f:1: 'm > 1' cannot be decided: there is no 'm'"):
        apply("filter", *values, where="m > 1")
    with pytest.raises(UserError, match=r"where: Value error, .*calls 'open'"):
        make("filter", where="open('x')")


def test_dedupe():
    values = [{"p": "A  cat", "n": 1}, {"p": "a cat", "n": 1}, {"p": "ａ cat", "n": 2}, {"p": "a cat.", "n": 1}]
    assert [value["p"] for value in apply("dedupe", *values)] == ["A  cat", "ａ cat", "a cat."]
    assert [value["p"] for value in apply("dedupe", *values, columns=["p"])] == ["A  cat", "a cat."]
    assert apply("dedupe", *values, normalise=False) == values
    assert len(apply("dedupe", {"m": [U]}, {"m": [{"role": "user", "content": "Q"}]})) == 1
    with pytest.raises(RowError, match="f:1: it has no column 'x'"):
        apply("dedupe", *values, columns=["x"])


def test_limit():
    assert apply("limit", {"a": 1}, {"a": 2}, {"a": 3}, rows=2) == [{"a": 1}, {"a": 2}]


def test_sample():
    values = [{"n": n} for n in range(1000)]
    drawn = apply("sample", *values, rows=100)
    assert len(drawn) == 100
    assert drawn == sorted(drawn, key=lambda value: value["n"])
    assert drawn == apply("sample", *values, rows=100) != apply("sample", *values, rows=100, seed=1)
    grown = apply("sample", *values, *({"n": n} for n in range(1000, 1100)), rows=100)
    assert len([value for value in drawn if value in grown]) > 80
    share = apply("sample", *values, share=0.3)
    assert 240 < len(share) < 360
    assert apply("sample", *values[:500], share=0.3) == [v for v in share if v["n"] < 500]
    assert len(apply("sample", *values[:5], rows=100)) == 5
    for wrong in ({}, {"rows": 1, "share": 0.5}, {"share": 0.0}):
        with pytest.raises(UserError, match="cannot take its params"):
            make("sample", **wrong)


def test_to_chat():
    assert apply("to_chat", {"prompt": "q", "chosen": "a", "x": 1}) == [{"messages": [U, A], "x": 1}]
    assert apply("to_chat", {"prompt": "q", "chosen": "a", "x": 1}, keep=False) == [{"messages": [U, A]}]
    with pytest.raises(RowError, match="f:1: it is no chat row"):
        apply("to_chat", {"prompt": "q"})


def test_to_task():
    assert apply("to_task", {"messages": [S, U, A], "x": 1}) == [{"prompt": [S, U], "answer": "a", "x": 1}]
    (value,) = apply("to_task", {"prompt": "q", "completion": "a"}, verifier={"kind": "exact"})
    assert value == {"prompt": [U], "answer": "a", "verifier": {"kind": "exact", "params": {}}}
    assert parse(RawRow("f:1", value), "task").gold == "a"
    with pytest.raises(RowError, match="f:1: it has an answer and no question"):
        apply("to_task", {"messages": [A]})


def test_to_preference():
    value = {"prompt": "q", "good": "a", "bad": "b", "x": 1}
    assert apply("to_preference", value, chosen="good", rejected="bad") == [
        {"prompt": "q", "x": 1, "chosen": "a", "rejected": "b"}
    ]
    whole = {"chosen": [U, A, U, A], "rejected": [U, A, U, B]}
    assert apply("to_preference", whole) == [{"prompt": [U, A, U], "chosen": [A], "rejected": [B]}]
    scored = {"prompt": "q", "completions": ["a", "b", "c"], "scores": [0.5, 1, 0]}
    assert apply("to_preference", scored) == [{"prompt": "q", "chosen": "b", "rejected": "c"}]
    assert apply("to_preference", scored | {"scores": [1, 1, 1]}) == []
    assert apply("to_preference", scored, margin=1) == []
    for wrong, why in (
        ({"prompt": "q"}, "neither chosen and rejected nor lists"),
        (scored | {"scores": [1]}, "a number for each of 3 answers"),
        ({"chosen": "a", "rejected": "b"}, "without a prompt both are conversations"),
        ({"chosen": [U, A], "rejected": [U, A]}, "do not begin alike and then differ"),
        ({"chosen": [U, A], "rejected": [S, U, B]}, "do not begin alike and then differ"),
    ):
        with pytest.raises(RowError, match=f"f:1: .*{why}"):
            apply("to_preference", wrong)
