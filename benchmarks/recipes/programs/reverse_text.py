"""An environment of the `verifiers` library, under the name by which the recipe asks for one: say a word backwards."""

from typing import Any

import verifiers
from datasets import Dataset

WORDS = ["cat", "sun", "ten", "map", "dog", "red"]


def load_environment(**settings: Any) -> verifiers.Environment:
    data = Dataset.from_list([{"question": f"Reverse the letters of: {w}", "answer": w[::-1]} for w in WORDS])
    return verifiers.SingleTurnEnv(dataset=data, rubric=verifiers.Rubric(funcs=[letters_right]))


def letters_right(completion: list[dict[str, str]], answer: str, **others: Any) -> float:
    said = completion[-1]["content"]
    return sum(a == b for a, b in zip(said, answer, strict=False)) / len(answer)
