import random

import pytest

from hone.cli.demo.tasks import MANY_TASKS, RL_TASK, SFT_TASK, Problem, Task

TASKS = (SFT_TASK, RL_TASK, *MANY_TASKS)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_held_out_problems_share_no_key_with_training(task: Task) -> None:
    rng = random.Random(0)
    trained = {task.draw(rng, "train").key for _ in range(3000)}
    held_out = {problem.key for problem in task.examination(100)}
    assert trained.isdisjoint(held_out)
    assert len(held_out) >= 15, "too few different things to work out"


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_an_examination_asks_each_question_once_and_is_always_the_same(task: Task) -> None:
    problems = task.examination(100)
    assert len({problem.question for problem in problems}) == 100
    assert problems == task.examination(100)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_one_question_has_one_answer(task: Task) -> None:
    rng = random.Random(1)
    answers: dict[str, str] = {}
    for _ in range(3000):
        problem = task.generate(rng)
        assert answers.setdefault(problem.question, problem.answer) == problem.answer


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_verifier_accepts_the_answer_and_only_that(task: Task) -> None:
    problem = task.draw(random.Random(2), "train")
    assert problem.solved_by(problem.answer)
    assert problem.solved_by(f" {problem.answer}\n")
    assert not problem.solved_by(f"{problem.answer} and more")
    assert not problem.solved_by("")


def test_the_answers_are_right() -> None:
    rng = random.Random(3)
    for _ in range(200):
        problem = RL_TASK.generate(rng)
        asked = [int(number) for number in problem.question.removeprefix("Sort descending: ").split(", ")]
        answered = [int(number) for number in problem.answer.split(", ")]
        assert answered == sorted(asked, reverse=True)


def test_the_side_depends_on_the_key_alone() -> None:
    assert Problem("Sort: 2, 1", "1, 2", "words 1 2").held_out == Problem("2, 1", "2, 1", "words 1 2").held_out
