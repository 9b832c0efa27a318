"""The answer is JSON of a given form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jsonschema
from jsonschema.protocols import Validator

from hone.algorithms.graders.answers import last_code
from hone.algorithms.graders.grade import Grade, GradingError, Task, verdict


@dataclass(frozen=True)
class JsonSchema:
    """Reads the answer, or its last fenced block, as JSON and holds it against a JSON schema.

    The schema is `schema`, else `task.facts["schema"]`. If `task.gold` is given, the value has to equal it too.
    """

    schema: Mapping[str, Any] | None = None

    async def __call__(self, task: Task, answer: str) -> Grade:
        validator = self._fixed if self.schema is not None else _validator(task.facts.get("schema"))
        try:
            value = strict_json(last_code(answer))
        except ValueError as error:
            return verdict(False, problem=f"not JSON: {error}")
        for problem in validator.iter_errors(value):
            return verdict(False, problem=f"{problem.json_path}: {problem.message}"[:300])
        if task.gold and not _same(value, strict_json(task.gold)):
            return verdict(False, problem="of the right form, but another value")
        return verdict(True)

    @cached_property
    def _fixed(self) -> Validator:
        return _validator(self.schema)


def strict_json(text: str) -> Any:
    """JSON without the liberties that Python takes: no NaN, no key given twice."""
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_twice)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _validator(schema: Any) -> Validator:
    if schema is None:
        raise GradingError("no schema: give JsonSchema(schema=...) or the task's fact `schema`")
    kind = jsonschema.validators.validator_for(schema)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise GradingError(f"not a JSON schema: {error.message}") from None
    return kind(schema)


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1, and 1.0 is 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found
