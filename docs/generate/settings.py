"""Every HONE_* variable, from `hone.settings`."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import fields

from docs.generate.markdown import table
from hone.settings import Settings

HEAD = """# Settings

Environment variables of `hone serve` and of everything that starts a server. They are read once, at the start."""


def page() -> str:
    meanings = _docstrings()
    rows = [
        (f"`{entry.metadata['name']}`", _default(entry.default), meanings[entry.name]) for entry in fields(Settings)
    ]
    return f"{HEAD}\n\n{table(('variable', 'default', 'meaning'), rows)}"


def _default(value: object) -> str:
    if isinstance(value, bool):
        return f"`{int(value)}`"
    return "" if value in (None, "") else f"`{value}`"


def _docstrings() -> dict[str, str]:
    """The text under each field. Raises KeyError later for a field that has none."""
    body = ast.parse(textwrap.dedent(inspect.getsource(Settings))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found
