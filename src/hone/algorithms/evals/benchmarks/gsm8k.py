"""Grade-school word problems. Cobbe et al. 2021 (arXiv 2110.14168)."""

from collections.abc import Mapping
from typing import Any

from hone.algorithms.evals.benchmark import Item, Source, question
from hone.algorithms.graders.grade import Task
from hone.algorithms.graders.numeric import Numeric

ASK = "{question}\n\nThink step by step, and end with the final number in \\boxed{{}}."


def read(row: Mapping[str, Any], name: str) -> Item:
    asked = str(row["question"])
    _, _, gold = str(row["answer"]).rpartition("####")
    return Item(name, question(ASK.format(question=asked)), Task(asked, gold.strip()))


GSM8K = Source(read, Numeric, ("openai/gsm8k", "main", "test"))
