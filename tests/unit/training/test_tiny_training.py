"""What the trainer reads and how it steers: no step of training is run here."""

import random

import pytest

from training.tiny.problem import is_held_out
from training.tiny.tasks import TASKS

pytest.importorskip("torch")
pytest.importorskip("transformers")

from training.tiny import headroom
from training.tiny.mixture import EARLY_PART, LONGEST, Mixture
from training.tiny.train import DECAY_FROM, rate


def test_conversations_end_with_an_answer_and_have_at_most_one_system_prompt() -> None:
    rng, mixture = random.Random(0), Mixture(progress=0.5)
    for _ in range(300):
        roles = [message["role"] for message in mixture.conversation(rng)]
        assert roles[-1] == "assistant"
        assert "system" not in roles[1:]
        assert roles.count("assistant") == roles.count("user") + roles.count("tool")


def test_some_conversations_are_long() -> None:
    rng, mixture = random.Random(0), Mixture(progress=0.5)
    lengths = [sum(len(message["content"]) for message in mixture.conversation(rng)) for _ in range(500)]
    assert max(lengths) > LONGEST
    assert sorted(lengths)[250] < 150


def test_the_early_part_keeps_to_the_early_tasks() -> None:
    early, late = (
        {Mixture(progress=progress)._task(random.Random(seed)).early for seed in range(200)}
        for progress in (EARLY_PART / 2, EARLY_PART)
    )
    assert early == {True}
    assert late == {True, False}


def test_nothing_held_out_is_drawn_for_training() -> None:
    rng = random.Random(1)
    for task in TASKS.values():
        assert not any(is_held_out(key) for key in task.sample(rng).keys)


@pytest.mark.parametrize("name", headroom.TARGETS)
def test_a_task_leaves_the_mix_when_it_reaches_its_target(name: str) -> None:
    target, full = headroom.TARGETS[name], TASKS[name].weight
    assert headroom.weights({name: 0.0}) == {name: full}
    assert headroom.weights({name: target}) == {name: pytest.approx(full / 2)}
    assert headroom.weights({name: target + headroom.WIDTH}) == {name: pytest.approx(0.0)}
    assert headroom.weights({name: 1.0}) == {name: 0.0}


def test_learning_rate_rises_stays_and_falls() -> None:
    assert rate(0.0, 0) == 0.01
    assert rate(DECAY_FROM, 1000) == 1.0
    assert rate((1 + DECAY_FROM) / 2, 1000) == pytest.approx(0.5)
    assert rate(1.0, 1000) == 0.0
