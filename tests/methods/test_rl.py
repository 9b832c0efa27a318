"""Reinforcement learning against a real server: it learns, goes on after an interruption, bears failures, and computes
what the cookbook computes from the same episodes."""

import asyncio
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinker
from transformers import PreTrainedTokenizerBase

from hone.algorithms.config import CheckpointConfig, ModelConfig, OptimizerConfig
from hone.algorithms.datums import floats
from hone.algorithms.rl import asynchronous, streaming, train
from hone.algorithms.rl.advantages import training_data
from hone.algorithms.rl.asynchronous import AsynchronousConfig
from hone.algorithms.rl.config import RlConfig, RolloutConfig
from hone.algorithms.rl.kl import pre_post_kl, with_penalty
from hone.algorithms.rl.losses import ImportanceSampling
from hone.algorithms.rl.metrics import episode_metrics
from hone.algorithms.rl.rollouts import run_groups
from hone.algorithms.rl.streaming import StreamingConfig
from hone.algorithms.rl.train import GrpoConfig, KlPenaltyConfig
from hone.algorithms.rl.updates import acting, publish, submit_update
from hone.algorithms.types import EnvGroupBuilder
from hone.client.embedded import ServerInfo
from tests.support import killed_run
from tests.support.cookbook_types import their_group
from tests.support.rl_tasks import Broken, Group, Problems, Question

SUBJECTS = "cat dog bird fish tree house river stone cloud boat road king queen ship star rain".split()
MakeProblems = Callable[..., Problems]
Grade = Callable[[list[int]], float]
Row = dict[str, Any]


def is_anything(answer: list[int]) -> float:
    return sum(answer) % 7 / 7


@pytest.fixture(scope="module")
def stories(tokenizer: PreTrainedTokenizerBase) -> MakeProblems:
    """Stories that are to say "and" early: one in three of the model's own does."""

    def prompt(subject: str) -> list[int]:
        turn = [{"role": "user", "content": f"Write a story about a {subject}."}]
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        return list(tokenizer.encode(text, add_special_tokens=False))

    def builder(subject: str, members: int, grade: Grade) -> Group:
        def question() -> Question:
            return Question(prompt(subject), grade, [tokenizer.eos_token_id])

        return Group(lambda: [question() for _ in range(members)], tags=(subject,))

    def says_and(answer: list[int]) -> float:
        return float(" and" in tokenizer.decode(answer))

    def problems(batches: int, groups: int, members: int, grade: Grade = says_and) -> Problems:
        def batch(index: int) -> list[EnvGroupBuilder]:
            first = index * groups
            return [builder(SUBJECTS[(first + at) % len(SUBJECTS)], members, grade) for at in range(groups)]

        return Problems(batches, batch)

    return problems


def config_of(model: str, kind: type[RlConfig] = GrpoConfig, **fields: Any) -> Any:
    known: dict[str, Any] = {
        "model": ModelConfig(name=model, lora_rank=8, seed=1),
        "optimizer": OptimizerConfig(learning_rate=5e-3),
        "rollouts": RolloutConfig(max_tokens=24, shared_prompts=True),
        "checkpoints": CheckpointConfig(every=2),
        "eval_every": 0,
        "remove_constant_groups": False,
    }
    return kind(**known | fields)


def rows(folder: Path) -> list[Row]:
    """Without what depends on the clock and on what the server remembers of prompts."""
    read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in row.items() if not key.startswith("time/") and "total_cached" not in key}
        for row in read
    ]


def test_the_reward_rises(
    service: tinker.ServiceClient,
    model: str,
    tokenizer: PreTrainedTokenizerBase,
    stories: MakeProblems,
    tmp_path: Path,
) -> None:
    rollouts = RolloutConfig(max_tokens=16, shared_prompts=True)
    config = config_of(model, rollouts=rollouts, checkpoints=CheckpointConfig(every=0))
    last = asyncio.run(train.train(config, service, stories(7, 4, 8), tmp_path, decode=tokenizer.decode))
    rewards = [row["env/all/reward/total"] for row in rows(tmp_path)]
    assert rewards[0] < 0.5, str(rewards)
    assert max(rewards[-3:]) > 0.8, str(rewards)
    # The trainer finds the log-probabilities that the sampler found.
    assert all(abs(row["optim/kl_sample_train_v2"]) < 1e-6 for row in rows(tmp_path))
    assert last.final
    assert "story about" in (tmp_path / "iteration_000000" / "rollouts.html").read_text()


class Crash(Exception):
    pass


@dataclass
class CrashAt:
    """Ends the program the way a kill would, when it is asked for the `evaluation`-th time."""

    evaluation: int
    seen: int = 0

    async def __call__(self, sampler: tinker.SamplingClient) -> Mapping[str, float]:
        self.seen += 1
        if self.seen == self.evaluation:
            raise Crash
        return {}


def test_a_run_that_was_cut_off_goes_on_to_the_same_numbers(
    service: tinker.ServiceClient, model: str, stories: MakeProblems, tmp_path: Path
) -> None:
    # One request for each answer: the seed of every single one has to be right.
    config = config_of(model, eval_every=1, rollouts=RolloutConfig(max_tokens=24))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    asyncio.run(train.train(config, service, stories(5, 2, 4, is_anything), whole))
    with pytest.raises(Crash):
        asyncio.run(train.train(config, service, stories(5, 2, 4, is_anything), cut, evaluators=[CrashAt(4)]))
    asyncio.run(train.train(config, service, stories(5, 2, 4, is_anything), cut))
    assert rows(cut) == rows(whole)
    assert (cut / "iteration_000004" / "rollouts.jsonl").read_text() == (
        whole / "iteration_000004" / "rollouts.jsonl"
    ).read_text()


@pytest.mark.parametrize("name", killed_run.LOOPS)
def test_a_killed_process_goes_on(name: str, server: ServerInfo, service: tinker.ServiceClient, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "tests.support.killed_run", server.url, server.api_key, name, str(folder)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        try:
            while not (folder / "metrics.jsonl").exists() or len(rows(folder)) < 3:
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.02)
            time.sleep(0.1)  # in the middle of the fourth step
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    assert len(rows(folder)) < killed_run.STEPS
    killed_run.run(name, service, folder)
    found = rows(folder)
    assert [row["step"] for row in found] == list(range(killed_run.STEPS))
    assert all(row["num_datums"] > 0 and row["optim/kl_sample_train_v2"] < 0.05 for row in found)
    if name == "streaming":  # in the order of the dataset, to the last bit
        killed_run.run(name, service, tmp_path / "whole")
        assert found == rows(tmp_path / "whole")
    else:  # every problem once, and none too late
        trained = [problem for row in found for problem in row["async/groups"].split()]
        every = itertools.product(range(killed_run.STEPS), range(killed_run.GROUPS))
        assert sorted(trained) == sorted(f"{batch}:{place}" for batch, place in every)
        assert max(row["async/staleness_max"] for row in found) == 2


@pytest.mark.parametrize(
    ("loop", "kind"), [(streaming.train, StreamingConfig), (asynchronous.train, AsynchronousConfig)]
)
def test_the_other_loops_bear_a_failing_environment(
    loop: Callable[..., Any],
    kind: type[RlConfig],
    service: tinker.ServiceClient,
    model: str,
    stories: MakeProblems,
    tmp_path: Path,
) -> None:
    good = stories(3, 2, 4, is_anything)
    dataset = Problems(3, lambda index: [*good.get_batch(index), Group(lambda: [Broken("observe")])])
    asyncio.run(loop(config_of(model, kind), service, dataset, tmp_path))
    found = rows(tmp_path)
    assert sum(row.get("rollout_errors/groups_skipped", 0) for row in found) == 3
    assert sum(row["num_datums"] for row in found) == 24
    if kind is AsynchronousConfig:  # the server has checked where every token came from
        assert max(row["async/staleness_max"] for row in found) == 1
        assert found[1]["optim/kl_sample_train_v2"] > 0 == found[0]["optim/kl_sample_train_v2"]


def test_a_whole_step_is_the_cookbooks(
    service: tinker.ServiceClient, model: str, stories: MakeProblems, tokenizer: PreTrainedTokenizerBase
) -> None:
    their_train = pytest.importorskip("tinker_cookbook.rl.train")
    from tinker_cookbook.rl.metrics import compute_kl_sample_train, compute_post_kl

    rollouts, penalty, rate = RolloutConfig(max_tokens=24, shared_prompts=True), 0.05, 2e-3
    problems = stories(1, 3, 6, is_anything).get_batch(0)

    async def both() -> tuple[Row, Row, Sequence[Any], Sequence[Any]]:
        clients = [await service.create_lora_training_client(model, rank=8, seed=3) for _ in range(2)]
        reference = await service.create_sampling_client(base_model=model)
        slots = asyncio.Semaphore(64)
        # A first step in common, so that policy and reference differ.
        sampler = await publish(clients[0], ImportanceSampling())
        first_P = await run_groups(problems, acting(sampler, rollouts, slots), (0, "train", 0), rollouts)
        first_D = training_data(first_P, "centred", remove_constant=False)
        for client in clients:
            await submit_update(client, first_D, ImportanceSampling(), OptimizerConfig(), rate).metrics()
        sampler = await publish(clients[0], ImportanceSampling())
        groups_P = await run_groups(problems, acting(sampler, rollouts, slots), (0, "train", 1), rollouts)

        data_D = training_data(groups_P, "centred", remove_constant=False)
        data_D, ours = await with_penalty(data_D, reference, KlPenaltyConfig(coefficient=penalty), slots)
        learned = await submit_update(clients[0], data_D, ImportanceSampling(), OptimizerConfig(), rate, 2).metrics()
        after = await publish(clients[0], ImportanceSampling())
        ours |= episode_metrics(groups_P) | learned | await pre_post_kl(data_D, after, slots)

        their_D, theirs, _ = await their_train.prepare_minibatch(
            problems, [their_group(group) for group in groups_P], tokenizer, reference, penalty, 0.0
        )
        reported: Row = {}
        logprobs_D = await their_train.train_step(their_D, clients[1], rate, 2, "importance_sampling", None, reported)
        their_after = await clients[1].save_weights_and_get_sampling_client()
        post, _ = await compute_post_kl(their_D, their_after)
        theirs |= reported | compute_kl_sample_train(their_D, logprobs_D) | post

        check = [item.datum for item in data_D]
        outputs = [await client.forward(check, "importance_sampling") for client in clients]
        scores = [[floats(o["logprobs"]) for o in output.loss_fn_outputs] for output in outputs]
        return ours, theirs, *scores

    ours, theirs, our_scores, their_scores = asyncio.run(both())
    assert ours["kl_policy_base"] > 1e-4  # the penalty had something to do
    assert ours["optim/kl_sample_train_v2"] > 1e-6  # and the second substep saw the first
    shared = [name for name in theirs if not name.startswith("engine/")]
    assert {"optim/entropy", "kl_policy_base", "optimizer/grad_norm", "env/all/reward/total", "kl_pre_post_v2"} <= set(
        shared
    )
    for name in shared:
        assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-6), name
    for our, their in zip(our_scores, their_scores, strict=True):  # the weights after it are the same
        np.testing.assert_allclose(our, their, atol=1e-5)
