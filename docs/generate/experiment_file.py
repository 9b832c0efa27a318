"""The experiment file: every part and key."""

from __future__ import annotations

from docs.generate.markdown import parameter_table
from hone.experiments.explain import explain_config

HEAD = """# The experiment file

Every part and key of the YAML that `hone run` takes. An unknown key is an error, with the nearest known name.
`hone explain config` prints the same, `hone schema` as JSON Schema. `{kind, params}` is a [plugin](plugins.md).

Beside these keys, `extends: FILE` (or a list of files) puts the file on top of others: mappings merge key by key,
everything else replaces what was there, and `params` belong to their `kind`. `${NAME}` and `${NAME:-default}` take a
value from the environment; one whose name says that it is a secret (`..._API_KEY`, `..._PASSWORD`) is refused, because
the run directory keeps every value: name such a variable where a parameter asks for it (`api_key_env`). What is
set on the command line (`--set KEY=VALUE`) comes last."""


def page() -> str:
    sections = (
        f"## {one.path or 'The whole'}\n\n{one.about}\n\n{parameter_table(one.keys, anchors=True)}"
        for one in explain_config()
    )
    return "\n\n".join((HEAD, *sections))
