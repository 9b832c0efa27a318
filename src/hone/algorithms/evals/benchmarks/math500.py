"""Competition mathematics: 500 problems of MATH. Hendrycks et al. 2021 (arXiv 2103.03874); Lightman et al. 2023."""

from collections.abc import Mapping
from typing import Any

from hone.algorithms.evals.benchmark import Item, Source, question
from hone.algorithms.graders.grade import Task
from hone.algorithms.graders.maths import Maths

ASK = "{problem}\n\nThink step by step, and end with the final answer in \\boxed{{}}."


def read(row: Mapping[str, Any], name: str) -> Item:
    asked = str(row["problem"])
    named = str(row.get("unique_id", name))
    return Item(named, question(ASK.format(problem=asked)), Task(asked, str(row["answer"]), dict(row)))


MATH500 = Source(read, Maths, ("HuggingFaceH4/MATH-500", None, "test"), max_tokens=4096)
