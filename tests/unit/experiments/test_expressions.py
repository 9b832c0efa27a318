import pytest

from hone.experiments.expressions import LONGEST, Expression, ExpressionError

VALUES = {
    "algorithm": {"kind": "sft", "params": {"lr": 1e-5}},
    "n": 3,
    "text": "A small cat",
    "tags": ["a", "b"],
    "none": None,
    "algorithm.params.rank": 8,
    "meta": {"my key": 5},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("algorithm.kind == 'sft' or algorithm.params.lr < 2e-5", True),
        ("algorithm.kind == 'dpo' and algorithm.params.lr < 2e-5", False),
        ("algorithm.params.rank >= 8", True),
        ("not n in [1, 2]", True),
        ("n not in (1, 2, 3)", False),
        ("1 < n <= 3", True),
        ("1 < n < 3", False),
        ("-n + 4 == 1 and n % 2 == 1 and n * 2 / 3 == 2", True),
        ("'a' in tags and len(tags) == 2", True),
        ("words(text) == 3 and lower(text) == 'a small cat'", True),
        ("matches(text, 'sm.ll$')", False),
        ("startswith(text, 'A') and endswith(text, 'cat')", True),
        ("none is None", True),
        ("none is null", True),
        ("has(none)", False),
        ("has(algorithm.params.beta)", False),
        ("get(algorithm.params.beta, 0.1) == 0.1", True),
        ("get(n, 9) == 3", True),
        ("meta['my key'] == 5", True),
        ("tags[0] == 'a' and tags[-1] == 'b'", True),
        ("(1 if n > 2 else 0) == 1", True),
        ("true", True),
        ("text + '!' == 'A small cat!'", True),
    ],
)
def test_it_comes_to_what_python_says(text, expected):
    assert Expression(text).holds(VALUES) is expected


def test_what_decides_already_ends_the_search():
    assert Expression("n == 3 or absent > 1").holds(VALUES)
    assert not Expression("n == 4 and absent > 1").holds(VALUES)


def test_it_says_which_names_it_looks_at():
    assert Expression("a.b > 1 and has(c.d) or e in [f, true]").names == {"a.b", "e", "f"}


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__.__bases__",
        "text.__class__",
        "[x for x in tags]",
        "lambda: 1",
        "f'{text}'",
        "open('x')",
        "n ** 99",
        "text.upper()",
        "b'bytes' == 1",
        "len(key=1)",
        "len(*tags)",
        "(n := 4)",
        "{1: 2}",
        "has('text')",
        "has()",
        "get(n)",
        "tags[0:1]",
        "n ==",
        "",
        "n; n",
        "(" * 300 + "n" + ")" * 300,
        "n" * (LONGEST + 1),
    ],
)
def test_anything_more_than_looking_at_values_is_refused_when_it_is_read(text):
    with pytest.raises(ExpressionError):
        Expression(text)


@pytest.mark.parametrize("text", ["text * 999999999 == ''", "'%0999999999d' % n == ''", "tags * 3 == tags"])
def test_texts_cannot_be_multiplied(text):
    with pytest.raises(ExpressionError, match="no number"):
        Expression(text).holds(VALUES)


def test_a_name_that_is_not_there_is_an_error_with_the_nearest_one():
    with pytest.raises(ExpressionError, match=r"no 'algorihm'; did you mean 'algorithm'\? there are algorithm, "):
        Expression("algorihm == 1").holds(VALUES)


@pytest.mark.parametrize("text", ["text < 3", "n / 0 == 1", "tags[9] == 1", "int(text) == 1", "matches(text, '(')"])
def test_values_that_do_not_allow_it_are_an_error(text):
    with pytest.raises(ExpressionError, match="cannot be decided"):
        Expression(text).holds(VALUES)
