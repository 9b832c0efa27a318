"""What a finished operation answers: the very bytes that will be sent, so that they can be stored and sent again."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from hone.errors import Category, HoneError

MediaType = Literal["application/json", "application/x-protobuf"]
JSON: MediaType = "application/json"
PROTOBUF: MediaType = "application/x-protobuf"


@dataclass(frozen=True)
class Outcome:
    content: bytes
    media_type: MediaType = JSON
    failed: bool = False


def success(fields: dict[str, Any]) -> Outcome:
    """A JSON result; a key `error` at its top would read as a failure."""
    assert "error" not in fields
    return Outcome(json.dumps(fields).encode())


def failure(message: str, category: Category) -> Outcome:
    return Outcome(json.dumps({"error": message, "category": category}).encode(), failed=True)


def failure_of(error: BaseException) -> Outcome:
    """The answer to an operation that raised; what we did not raise on purpose is our own fault."""
    if isinstance(error, HoneError):
        return failure(str(error), error.category)
    return failure(f"internal error: {type(error).__name__}: {error}", "server")
