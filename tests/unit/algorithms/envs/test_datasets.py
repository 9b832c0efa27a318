"""Problems from files and made up; batches are known from the seed and the index."""

import asyncio
import functools
import operator
from pathlib import Path

import pytest

from hone.algorithms.envs.built_in import ENVIRONMENTS
from hone.algorithms.envs.datasets import EpisodeDataset, ProblemDataset
from hone.algorithms.envs.generated import FAMILIES, is_held_out
from hone.algorithms.envs.jsonl import read_problems
from hone.algorithms.envs.message_env import GroupBuilder
from hone.algorithms.graders.grade import Task
from hone.algorithms.graders.numeric import Numeric
from hone.algorithms.types import Observation
from hone.errors import UserError
from tests.support.chatml import ByteChatMl

RENDERER = ByteChatMl()


def prompt(builder: GroupBuilder) -> str:
    async def first() -> str:
        envs = await builder.make_envs()
        found = [await env.initial_observation() for env in envs]
        assert all(isinstance(one, Observation) for one in found)
        return bytes(token for token in found[0][0].to_ints() if token < 256).decode()  # type: ignore[index]

    return asyncio.run(first())


def problems(epochs: int = 2) -> ProblemDataset:
    tasks = [Task(f"{number} + 0?", str(number)) for number in range(10)]
    return ProblemDataset(tasks, Numeric(), RENDERER, batch_size=4, group_size=2, seed=1, epochs=epochs)


def test_every_problem_comes_once_in_each_epoch() -> None:
    dataset = problems()
    assert len(dataset) == 6
    prompts = [[prompt(builder) for builder in dataset.get_batch(index)] for index in range(6)]
    assert [len(batch) for batch in prompts] == [4, 4, 2] * 2
    first, second = functools.reduce(operator.iadd, prompts[:3], []), functools.reduce(operator.iadd, prompts[3:], [])
    assert len(set(first)) == 10
    assert sorted(first) == sorted(second)
    assert first != second
    assert [prompt(builder) for builder in problems().get_batch(4)] == prompts[4]
    with pytest.raises(UserError, match="nothing to train on"):
        ProblemDataset([], Numeric(), RENDERER, 1, 1)


def test_episodes_of_a_batch_are_the_same_again_and_others_in_another() -> None:
    def dataset(seed: int) -> EpisodeDataset:
        make = ENVIRONMENTS["calculator"].make
        return EpisodeDataset(make, RENDERER, batches=3, batch_size=4, group_size=2, seed=seed)

    batches = [[prompt(builder) for builder in dataset(0).get_batch(index)] for index in range(3)]
    assert len(set(functools.reduce(operator.iadd, batches, []))) == 12
    assert [prompt(builder) for builder in dataset(0).get_batch(1)] == batches[1]
    assert [prompt(builder) for builder in dataset(1).get_batch(1)] != batches[1]
    with pytest.raises(UserError, match="there are 3 batches; batch 3"):
        dataset(0).get_batch(3)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_held_out_is_never_trained_on(name: str) -> None:
    trained = {FAMILIES[name].problem(seed).key for seed in range(100)}
    held_out = {FAMILIES[name].problem(seed, "held_out").key for seed in range(100)}
    assert not trained & held_out
    assert all(map(is_held_out, held_out))


def test_families_hold_out_what_the_embedded_model_never_saw() -> None:
    """The hash and the keys are those of its training."""
    import random

    from training.tiny.problem import is_held_out as theirs
    from training.tiny.tasks import arithmetic, sorting

    for name, module in (
        ("subtract_two_digit", arithmetic),
        ("sum_three_numbers", arithmetic),
        ("sort_three_descending", sorting),
    ):
        drawn = FAMILIES[name].problem(0, "held_out")
        assert theirs(drawn.key)
        keys = {key for seed in range(300) for key in module.TASKS[name].generate(random.Random(seed)).keys}
        assert {key.split()[0] if " " in key else "" for key in keys} == {
            drawn.key.split()[0] if " " in drawn.key else ""
        }


GSM = '{"question": "1 + 1?", "answer": "Add them.\\n#### 2"}'


def test_problems_are_read(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text(f'{GSM}\n\n{{"question": "2 + 2?", "answer": "#### 4", "level": 3}}\n')
    tasks = read_problems(path, question="Solve: {question}", gold_after="####").all_or_error()
    assert [(task.question, task.gold) for task in tasks] == [("Solve: 1 + 1?", "2"), ("Solve: 2 + 2?", "4")]
    assert tasks[1].facts["level"] == 3


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("{broken", "is not JSON"),
        ("[1, 2]", "is a list, not an object"),
        ('{"question": "1 + 1?"}', "has no answer; it has question"),
        ('{"question": null, "answer": "#### 2"}', "has no question"),
        ('{"question": " ", "answer": "#### 2"}', "has an empty question"),
        ('{"question": "1 + 1?", "answer": "Two. ####"}', "has an empty gold answer"),
        ('{"question": "1 + 1?", "answer": ""}', "has an empty gold answer"),
        ('{"question": "1 + 1?", "answer": "2"}', "has no '####' in its gold answer"),
        ('{"question": "1 + 1 + 1 + 1 + 1?", "answer": "#### 5"}', "has a question of 18 characters; 10 are allowed"),
        ('{"question": "\xff"}', "is not UTF-8"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line_and_counted(tmp_path: Path, row: str, why: str) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_bytes(f"{GSM}\n{row}\n{GSM}\n".encode("latin-1"))
    found = read_problems(path, gold_after="####", longest_question=10)
    assert len(found.tasks) == 2
    assert next(str(rejected) for rejected in found.rejected).startswith(f"{path}:2 {why}")
    with pytest.raises(UserError, match=r"1 of 3 rows are no problems:\n(.|\n)*problems.jsonl:2"):
        found.all_or_error()


def test_many_bad_rows_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text("nonsense\n" * 9)
    with pytest.raises(UserError, match=r"9 of 9 rows(.|\n)*and 4 more"):
        read_problems(path).all_or_error()
    path.write_text("\n")
    with pytest.raises(UserError, match="holds no rows"):
        read_problems(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_problems(tmp_path / "nothing.jsonl")
