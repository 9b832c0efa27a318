"""What commands print with `--json`, field by field, from the models that they print."""

from __future__ import annotations

import inspect

from docs.generate.markdown import parameter_table
from hone.experiments.check import CheckReport
from hone.experiments.compare import Difference
from hone.experiments.conclusion import Conclusion
from hone.experiments.explain import Explanation, Section, parameters_of
from hone.experiments.summary import History, Listing, Plan, Summary

HEAD = """# What `--json` prints

One object on standard output; what is said to people goes to standard error. Fields may be added to these, but none
is removed or changes its meaning. [Exit codes](exit-codes.md) say how it went."""

SHAPES: dict[str, type] = {
    "hone check": CheckReport,
    "hone run --dry-run": Plan,
    "hone run": Summary,
    "hone experiments list": Listing,
    "hone experiments show": Summary,
    "hone experiments compare": Difference,
    "hone experiments conclude": Conclusion,
    "hone diff": Difference,
    "hone history": History,
    "hone explain REGISTRY KIND": Explanation,
    "hone explain config PART": Section,
}


def page() -> str:
    parts = [HEAD]
    first: dict[type, str] = {}
    for command, shape in SHAPES.items():
        parts.append(f"## {command}")
        if shape in first:
            parts.append(f"As `{first[shape]}`.")
            continue
        first[shape] = command
        parts += [inspect.cleandoc(shape.__doc__ or ""), parameter_table(parameters_of(shape))]
    return "\n\n".join(parts)
