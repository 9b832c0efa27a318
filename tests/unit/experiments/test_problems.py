import pytest

from hone.errors import UserError
from hone.experiments.problems import ConfigError, Problem, nearest, shown, suggestion, unique


def test_a_problem_says_where_what_found_and_what_to_do() -> None:
    problem = Problem(
        file="a.yaml", line=7, key="budget.tokens", message="must be greater than 0", found="-1", hint="leave it out"
    )
    assert str(problem) == "a.yaml:7: budget.tokens: must be greater than 0, found -1; leave it out"


def test_an_unknown_key_is_not_said_twice() -> None:
    assert str(Problem(key="run.modle", message="unknown key", found="'modle'")) == "run.modle: unknown key"


def test_an_error_holds_every_problem_once_in_the_order_of_the_file() -> None:
    late, early = Problem(file="a", line=9, message="late"), Problem(file="a", line=2, message="early")
    with pytest.raises(UserError, match="2 problems") as error:
        raise ConfigError([late, early, late])
    assert isinstance(error.value, ConfigError)
    assert error.value.problems == [early, late] == unique([late, early, late])


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [("modle", ["model", "data"], "model"), ("LR", ["lr"], "lr"), ("xyz", ["model"], None), ("a", [], None)],
)
def test_the_nearest_name_is_one_that_looks_alike(name: str, known: list[str], expected: str | None) -> None:
    assert nearest(name, known) == expected


def test_without_a_near_name_the_valid_ones_are_listed() -> None:
    assert suggestion("xyz", ["model", "data"]) == "there are data, model"
    assert (
        suggestion("xyz", [f"q{i:02}" for i in range(23)])
        == f"there are {', '.join(f'q{i:02}' for i in range(20))} and 3 more"
    )
    assert suggestion("xyz", []) is None


def test_values_are_shown_in_yaml_words_and_cut() -> None:
    assert [shown(value) for value in (None, True, 1.5, "a")] == ["nothing", "true", "1.5", "'a'"]
    assert len(shown("x" * 100)) == 60
