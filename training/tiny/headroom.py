"""Keeps a few short tasks half learned.

Reinforcement learning needs problems that the model solves sometimes. For these tasks a probe at temperature 1 runs
now and then during training; a task that reaches its target leaves the mix, and comes back when it is forgotten. The
probe uses training-side problems, so the held-out ones stay unseen by every decision of the run.
"""

import random

from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from training.tiny.sampling import answer
from training.tiny.tasks import TASKS

TARGETS = {
    "subtract_two_digit": 0.36,
    "sort_three_descending": 0.36,
    "multiply_two_by_one": 0.30,
    "sum_three_numbers": 0.40,
}
"""The share of right answers at temperature 1 at which a task is left alone."""
WIDTH = 0.06
"""From this far below the target, a task's weight falls off until it is zero this far above."""


def probe(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int, count: int = 150) -> dict[str, float]:
    """The share of right answers at temperature 1 for each task with a target."""
    rng = random.Random(f"probe {seed}")
    problems = [TASKS[name].sample(rng) for name in TARGETS for _ in range(count)]
    texts = answer(model, tokenizer, problems, [12] * len(problems), temperature=1.0, seed=seed)
    right = [text.strip() == problem.answer for text, problem in zip(texts, problems, strict=True)]
    return {name: sum(right[place * count : (place + 1) * count]) / count for place, name in enumerate(TARGETS)}


def weights(scores: dict[str, float]) -> dict[str, float]:
    """The mix weights that these scores ask for."""
    room = {name: (TARGETS[name] + WIDTH - score) / (2 * WIDTH) for name, score in scores.items()}
    return {name: TASKS[name].weight * min(1.0, max(0.0, part)) for name, part in room.items()}
