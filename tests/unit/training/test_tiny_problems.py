"""The problem generators: repeatable, split for good, varied."""

import random

import pytest

from training.tiny.problem import Task, is_held_out
from training.tiny.tasks import FAMILIES, TASKS
from training.tiny.words import made_up, plural

SPLIT_TASKS = [task for task in TASKS.values() if not task.memorised]
IMPORTANT = ("sum_two_digit", "subtract_two_digit", "sort_three_descending", "copy_words", "first_item", "sentiment")


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_same_seed_gives_the_same_problems(task: Task) -> None:
    first, second = ([task.sample(rng) for _ in range(5)] for rng in (random.Random(3), random.Random(3)))
    assert first == second


def test_the_split_never_moves() -> None:
    """Golden: moving a key to the other side would let a trained problem into an evaluation."""
    assert [b for b in range(10, 60) if is_held_out(f"83-{b}")] == [14, 25, 32, 40, 56, 59]
    assert not is_held_out("talk")


@pytest.mark.parametrize("task", SPLIT_TASKS, ids=lambda task: task.name)
def test_held_out_problems_are_never_trained_on(task: Task) -> None:
    rng = random.Random(1)
    trained = {key for _ in range(300) for key in task.sample(rng).keys}
    assert not any(is_held_out(key) for key in trained)
    for _ in range(20):
        problem = task.sample(rng, "held_out")
        assert problem.held_out
        assert not trained.issuperset(problem.keys)


def test_a_sum_is_on_the_same_side_in_every_task() -> None:
    rng = random.Random(2)
    for name in ("sum_two_digit", "story_sum", "same_again", "think_sum"):
        for _ in range(200):
            problem = TASKS[name].sample(rng)
            assert all(not is_held_out(key) and "+" in key for key in problem.keys)
            left, right = map(int, problem.keys[-1].split("+"))
            assert left <= right, "3+5 and 5+3 must share a key"


@pytest.mark.parametrize("name", IMPORTANT)
def test_important_tasks_have_many_phrasings(name: str) -> None:
    rng = random.Random(4)
    openings = {"".join(sign for sign in TASKS[name].sample(rng).question if not sign.isdigit()) for _ in range(400)}
    assert len(openings) >= 8


def test_every_task_belongs_to_one_family_and_has_a_share() -> None:
    assert sum(len(tasks) for tasks in FAMILIES.values()) == len(TASKS)
    assert all(task.weight > 0 for task in TASKS.values())
    assert all(name == task.name for name, task in TASKS.items())


def test_made_up_words_are_open_ended() -> None:
    rng = random.Random(5)
    assert len({made_up(rng) for _ in range(1000)}) > 900


@pytest.mark.parametrize(
    ("one", "many"), [("cat", "cats"), ("box", "boxes"), ("cherry", "cherries"), ("key", "keys"), ("mouse", "mice")]
)
def test_plural(one: str, many: str) -> None:
    assert plural(one) == many
