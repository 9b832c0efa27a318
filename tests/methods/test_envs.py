"""Environments in the loop of reinforcement learning, and a judge, on the embedded model behind a real server."""

import asyncio

import tinker
from transformers import PreTrainedTokenizerBase

from hone.algorithms.envs.built_in import ENVIRONMENTS
from hone.algorithms.envs.datasets import EpisodeDataset
from hone.algorithms.envs.games import SelfPlay
from hone.algorithms.envs.message_env import asked
from hone.algorithms.envs.tic_tac_toe import TicTacToe
from hone.algorithms.graders.judges import TinkerJudge
from hone.algorithms.renderers import get_renderer
from hone.algorithms.rl.config import RolloutConfig
from hone.algorithms.rl.policy import Policy
from hone.algorithms.rl.rollouts import run_group, run_groups
from hone.algorithms.types import TrajectoryGroup


def test_episodes_run_and_repeat(service: tinker.ServiceClient, model: str, tokenizer: PreTrainedTokenizerBase) -> None:
    renderer = get_renderer("qwen3_instruct", tokenizer)
    sampler = service.create_sampling_client(base_model=model).result()
    config = RolloutConfig(max_tokens=24)

    async def groups() -> list[TrajectoryGroup]:
        policy = Policy(sampler, max_tokens=24)
        found = []
        for name in ("subtract_two_digit", "calculator", "guess_number"):
            dataset = EpisodeDataset(ENVIRONMENTS[name].make, renderer, 1, batch_size=2, group_size=4, tags=(name,))
            found += await run_groups(dataset.get_batch(0), policy, (0,), config)
        match = SelfPlay(TicTacToe, renderer, ("tic_tac_toe",), turn_timeout_seconds=60)
        found.append(await run_group(match, policy, (1,), config))
        return found

    found, again = asyncio.run(groups()), asyncio.run(groups())
    assert [group.failures for group in found] == [()] * 7
    assert [len(group.trajectories_G) for group in found] == [4] * 6 + [2]
    assert [group.total_rewards_G() for group in found] == [group.total_rewards_G() for group in again]
    # The card of the model says that it is right about every second time.
    differences = [reward for group in found[:2] for reward in group.total_rewards_G()]
    assert 0.0 < sum(differences) < 8.0
    assert sum(found[-1].total_rewards_G()) == 0.0  # what one player wins the other loses


def test_a_tinker_model_judges(service: tinker.ServiceClient, model: str, tokenizer: PreTrainedTokenizerBase) -> None:
    sampler = service.create_sampling_client(base_model=model).result()
    judge = TinkerJudge(sampler, get_renderer("qwen3_instruct", tokenizer), max_tokens=16)
    first, again = (asyncio.run(judge([asked("What is 2 + 3?")], seed=0)) for _ in range(2))
    assert first == again == "5"
