"""The exit codes of every command."""

from __future__ import annotations

from docs.generate.markdown import table
from hone.cli.exit_codes import MEANINGS

HEAD = """# Exit codes

The same for every command. With `--json`, what went wrong is in the object that is printed where there is one, and in a
sentence on standard error in any case."""


def page() -> str:
    return f"{HEAD}\n\n{table(('code', 'meaning'), ((str(code), text) for code, text in MEANINGS.items()))}"
