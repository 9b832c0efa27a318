"""Measure a model on problems it was never trained on: python -m training.tiny.evaluate --model src/hone/assets/tiny

Every task is answered greedily and at temperature 1. `--card` writes the numbers into the model card.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from training.tiny import card
from training.tiny.problem import Problem, Task, exact
from training.tiny.sampling import answer
from training.tiny.tasks import FAMILIES, TASKS

SEED = 1
SHORT = 10
"""An answer of at most this many tokens, its end mark not counted, makes quick reinforcement learning. Three two-digit
numbers with commas are ten."""
HEADROOM = (0.25, 0.50)
"""The range of accuracy at temperature 1 in which there is both something to reward and something to gain."""


@dataclass(frozen=True, slots=True)
class Score:
    family: str
    task: str
    greedy: float
    sampled: float
    """The share of right answers at temperature 1."""
    answer_tokens: int
    """The longest right answer, in tokens."""
    split: str
    """`held_out`, or `train` where there is nothing to hold out."""

    @property
    def has_headroom(self) -> bool:
        low, high = HEADROOM
        checkable = TASKS[self.task].check is exact and not TASKS[self.task].guessable
        return checkable and self.answer_tokens <= SHORT and low <= self.sampled <= high


def problems_of(task: Task, count: int) -> list[Problem]:
    rng = random.Random(f"{task.name} {SEED}")
    return [task.sample(rng, "train" if task.memorised else "held_out") for _ in range(count)]


def evaluate(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, names: Sequence[str], count: int, samples: int
) -> list[Score]:
    """Scores by task, from `count` problems each, with `samples` answers to each at temperature 1."""
    problems = [problem for name in names for problem in problems_of(TASKS[name], count)]
    limits = [TASKS[name].max_tokens for name in names for _ in range(count)]

    def right(texts: list[str], per_problem: int) -> list[float]:
        """Share of right answers, task by task."""
        per_task = count * per_problem
        marks = [
            TASKS[names[place // per_task]].check(problems[place // per_problem], text)
            for place, text in enumerate(texts)
        ]
        return [sum(marks[start : start + per_task]) / per_task for start in range(0, len(marks), per_task)]

    repeated = [problem for problem in problems for _ in range(samples)]
    repeated_limits = [limit for limit in limits for _ in range(samples)]
    greedy = right(answer(model, tokenizer, problems, limits, temperature=0), 1)
    sampled = right(answer(model, tokenizer, repeated, repeated_limits, temperature=1.0, seed=SEED), samples)
    lengths = [len(tokenizer.encode(problem.answer, add_special_tokens=False)) for problem in problems]
    family = {name: family for family, tasks in FAMILIES.items() for name in tasks}
    return [
        Score(
            family=family[name],
            task=name,
            greedy=round(greedy[place], 3),
            sampled=round(sampled[place], 3),
            answer_tokens=max(lengths[place * count : (place + 1) * count]),
            split="train" if TASKS[name].memorised else "held_out",
        )
        for place, name in enumerate(names)
    ]


def table(scores: Sequence[Score]) -> str:
    """Markdown, one row a task; a star marks headroom for reinforcement learning."""
    rows = ["| family | task | greedy | temperature 1 | longest answer |", "| --- | --- | ---: | ---: | ---: |"]
    for score in scores:
        name = score.task + (" *" if score.has_headroom else "")
        rows.append(f"| {score.family} | {name} | {score.greedy:.0%} | {score.sampled:.0%} | {score.answer_tokens} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("src/hone/assets/tiny"))
    parser.add_argument("--tasks", nargs="*", choices=list(TASKS), default=list(TASKS), metavar="TASK")
    parser.add_argument("--problems", type=int, default=100, help="held-out problems for each task")
    parser.add_argument("--samples", type=int, default=4, help="answers to each problem at temperature 1")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the scores as JSON")
    parser.add_argument("--card", action="store_true", help="write the model card into the model's folder")
    given = parser.parse_args()
    if given.card and len(given.tasks) < len(TASKS):
        sys.exit("The model card lists every task: leave out --tasks, or --card.")
    torch.set_num_threads(given.threads)
    transformers.logging.disable_progress_bar()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(given.model)
    model = Qwen3ForCausalLM.from_pretrained(given.model, dtype=torch.float32).eval()
    scores = evaluate(model, tokenizer, given.tasks, given.problems, given.samples)
    print(table(scores))
    for label, pick in (("greedy", [s.greedy for s in scores]), ("temperature 1", [s.sampled for s in scores])):
        solid = sum(value > 0.8 for value in pick)
        print(f"mean {label}: {sum(pick) / len(pick):.1%}; above 80 %: {solid} of {len(pick)} tasks")
    if given.json:
        given.json.write_text(json.dumps([asdict(score) for score in scores], indent=1) + "\n", encoding="utf-8")
    if given.card:
        text = card.render(
            table(scores), [score.task for score in scores if score.has_headroom], given.problems, given.samples
        )
        (given.model / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
