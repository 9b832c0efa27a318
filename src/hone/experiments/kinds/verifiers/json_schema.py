"""The answer is JSON of a given form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hone.algorithms.config import Config
from hone.experiments.kinds.contract import Verifier

if TYPE_CHECKING:
    from hone.algorithms.graders import Grader


class JsonSchemaParams(Config):
    form: dict[str, Any] | None = None
    """The JSON schema; without it the row's column `schema`."""


class JsonSchema(Verifier[JsonSchemaParams]):
    """1 or 0: the answer, or its last fenced block, meets the schema; and equals the gold answer where there is one."""

    Params = JsonSchemaParams

    def grader(self) -> Grader:
        from hone.algorithms.graders import json_schema

        return json_schema.JsonSchema(self.params.form)
