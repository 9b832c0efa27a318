"""Tasks that were hard for language models: BIG-Bench Hard. Suzgun et al. 2022 (arXiv 2210.09261)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hone.algorithms.evals.benchmark import Item, Source, question
from hone.algorithms.graders.answers import marked_answer
from hone.algorithms.graders.grade import Grade, Task, verdict

ASK = "{input}\n\nThink step by step, and end with one line: The answer is, and the answer as the question wants it."


@dataclass(frozen=True)
class BbhAnswer:
    """The marked answer, else the last line, is the target; case, spaces, quotes and brackets around it are nothing."""

    async def __call__(self, task: Task, answer: str) -> Grade:
        lines = answer.strip().splitlines()
        found = marked_answer(answer) or (lines[-1] if lines else "")
        return verdict(_plain(found) == _plain(task.gold), found=found[:200])


def _plain(text: str) -> str:
    stripped = text.strip().strip("*\"'`$ ").removesuffix(".")
    # `(B)` and `B` are one choice; `] ]` of the bracket task is itself.
    if len(stripped) == 3 and stripped[0] == "(" and stripped[2] == ")":
        stripped = stripped[1]
    return " ".join(stripped.casefold().split())


def read(row: Mapping[str, Any], name: str) -> Item:
    asked, kind = str(row["input"]), str(row.get("task", ""))
    named = f"{kind}/{name}" if kind else name
    return Item(named, question(ASK.format(input=asked)), Task(asked, str(row["target"])), kind)


TASKS = (
    *("boolean_expressions", "causal_judgement", "date_understanding", "disambiguation_qa", "dyck_languages"),
    *("formal_fallacies", "geometric_shapes", "hyperbaton", "logical_deduction_five_objects"),
    *("logical_deduction_seven_objects", "logical_deduction_three_objects", "movie_recommendation"),
    *("multistep_arithmetic_two", "navigate", "object_counting", "penguins_in_a_table"),
    *("reasoning_about_colored_objects", "ruin_names", "salient_translation_error_detection", "snarks"),
    *("sports_understanding", "temporal_sequences", "tracking_shuffled_objects_five_objects"),
    *("tracking_shuffled_objects_seven_objects", "tracking_shuffled_objects_three_objects", "web_of_lies"),
    "word_sorting",
)
"""On the hub each is a configuration. Items of one task share a cluster: they are one skill."""

BBH = Source(read, BbhAnswer, ("lukaemon/bbh", None, "test"), subset="task", configurations=TASKS)
