"""Texts with holes: `{question}`, `{meta.level}`; `{{` and `}}` are braces."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from typing import Any

from hone.errors import UserError
from hone.experiments.dotted import value_at


class TemplateError(UserError):
    """It cannot be read, or not filled with these values."""


class Template:
    """Read once, filled often."""

    def __init__(self, text: str) -> None:
        """Raises `TemplateError` if a brace is not closed, or a hole is more than a name."""
        self.text = text
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError as error:
            raise TemplateError(
                f"the template {text!r} cannot be read: {error}; braces are written {{{{ and }}}}"
            ) from None
        for _, name, form, conversion in parts:
            if name is not None and (not name or form or conversion):
                raise TemplateError(
                    f"the template {text!r} has a hole that is no name; write {{name}} or {{name.inner}}"
                )
        self._parts = [(before, name) for before, name, _, _ in parts]
        self.names = frozenset(name for _, name in self._parts if name is not None)
        """The dotted names that it is filled with."""

    def fill(self, values: Mapping[str, Any]) -> str:
        """The text with values in its holes; what is no text is written as JSON.

        Raises:
            TemplateError: a value is not there, or null.
        """
        return "".join(before + ("" if name is None else self._filled(name, values)) for before, name in self._parts)

    def _filled(self, name: str, values: Mapping[str, Any]) -> str:
        try:
            value = value_at(values, name)
        except KeyError:
            value = None
        if value is None:
            there = ", ".join(sorted(map(str, values))) or "nothing"
            raise TemplateError(f"the template {self.text!r} needs {name!r}; there are {there}")
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
