"""What an experiment leaves behind: its directory, file by file."""

from __future__ import annotations

import inspect

from docs.generate.markdown import fenced
from hone.experiments.runner import directory

HEAD = """# Results

An experiment's results lie in `runs/<name>/` beside its file (`output_dir` says otherwise). Nothing else is needed
to read them: the report is one HTML file, everything else is text. The fields of `record.json` are
[documented](json.md#experimentrecord)."""


def page() -> str:
    first, listing, rest = inspect.cleandoc(directory.__doc__ or "").split("\n\n", 2)
    assert first.startswith("The files of an experiment")
    return "\n\n".join((HEAD, fenced("text", inspect.cleandoc(listing)), rest))
