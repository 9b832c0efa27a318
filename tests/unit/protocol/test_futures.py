import json

import pytest

from hone.errors import EngineLostError, HoneError, NotFoundError, UserError
from hone.protocol.futures import failure_of, success


def test_a_success_never_looks_like_a_failure() -> None:
    assert json.loads(success({"path": "p"}).content) == {"path": "p"}
    with pytest.raises(AssertionError):
        success({"error": "x"})


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (UserError("a"), "user"),
        (NotFoundError("a"), "user"),
        (EngineLostError("a"), "server"),
        (HoneError("a"), "server"),
    ],
)
def test_our_errors_say_whose_fault_they_are(error: HoneError, category: str) -> None:
    outcome = failure_of(error)
    assert outcome.failed
    assert json.loads(outcome.content) == {"error": "a", "category": category}


def test_what_was_not_raised_on_purpose_is_the_servers_fault() -> None:
    assert json.loads(failure_of(KeyError("k")).content)["category"] == "server"
