"""Sentences in fourteen languages, made of parts that are written down in `languages.yaml`."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from hone.algorithms.envs.generated import Split
from hone.algorithms.graders.grade import Task

PARTS: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("languages.yaml").read_text(encoding="utf-8"))


def sentences(split: Split, count: int, seed: int) -> list[Task]:
    """As many in each language, none twice. Held-out ones have subjects and objects of their own."""
    rng = random.Random(f"languages/{split}/{seed}")
    drawn: list[Task] = []
    for parts in PARTS:
        told = parts if split == "train" else parts["held_out"]
        whole = product(told["subjects"], parts["verbs"], told["objects"], parts["places"])
        for subject, verb, thing, place in rng.sample(list(whole), -(-count // len(PARTS))):
            text = parts["order"].format(subject=subject, verb=verb, object=thing, place=place)
            drawn.append(Task(text[0].upper() + text[1:], parts["code"]))
    rng.shuffle(drawn)
    return drawn[:count]
