"""The three stages of RLHF on the strict service in this process, and what becomes of them when they are cut off."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import tinker

from hone.algorithms.config import CheckpointConfig, ModelConfig, OptimizerConfig
from hone.algorithms.datums import supervised_datum
from hone.algorithms.preference.objectives import BradleyTerry
from hone.algorithms.preference.reward_model import RewardHead
from hone.algorithms.preference.rlhf import RlhfConfig, RlhfResult, train
from hone.algorithms.preference.train import PreferenceConfig
from hone.algorithms.rl.config import RolloutConfig, TranscriptConfig
from hone.algorithms.rl.train import GrpoConfig
from hone.algorithms.sft import SftConfig
from tests.support.fake_tinker import MODEL, Crash, FakeService, crash_at

PROMPTS = [[token] for token in range(1, 9)]
LIKED, DISLIKED = [20, 0], [21, 0]
HEAD = RewardHead(question=(30,), better=31, worse=32)
DEMONSTRATIONS = [
    supervised_datum(tinker.ModelInput.from_ints([*prompt, *answer]), [0.0, 1.0, 1.0])
    for prompt in PROMPTS
    for answer in (LIKED, DISLIKED)
]


def configuration() -> RlhfConfig:
    stage: dict[str, Any] = {
        "model": ModelConfig(name=MODEL),
        "optimizer": OptimizerConfig(learning_rate=0.2),
        "checkpoints": CheckpointConfig(every=4),
        "eval_every": 0,
    }
    return RlhfConfig(
        sft=SftConfig(**stage, batch_size=16, epochs=15),
        reward_model=PreferenceConfig(**stage, objective=BradleyTerry(), batch_size=8, epochs=15),
        policy=GrpoConfig(
            **stage, rollouts=RolloutConfig(max_tokens=3), transcripts=TranscriptConfig(every=0), epochs=10
        ),
        group_size=4,
    )


def run(service: FakeService, folder: Path) -> RlhfResult:
    comparisons = [HEAD.pair(prompt, LIKED, DISLIKED) for prompt in PROMPTS]
    return asyncio.run(
        train(configuration(), service, DEMONSTRATIONS, comparisons, PROMPTS, HEAD, folder, stop=[0])  # type: ignore[arg-type]
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in read]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[FakeService, RlhfResult, Path]:
    service, folder = FakeService(), tmp_path_factory.mktemp("rlhf")
    return service, run(service, folder), folder


def test_the_policy_comes_to_say_what_is_liked(whole: tuple[FakeService, RlhfResult, Path]) -> None:
    service, result, folder = whole
    policy = rows(folder / "policy")
    assert policy[-1]["env/all/judged"] > policy[0]["env/all/judged"] + 1.0
    assert policy[0]["kl_policy_base"] == pytest.approx(0.0, abs=1e-6), "it begins where the first stage ended"
    sampler = service.create_sampling_client(model_path=result.policy.sampler_path).result()
    params = tinker.SamplingParams(max_tokens=3, stop=[0], seed=1)
    said = [
        sequence.tokens
        for prompt in PROMPTS
        for sequence in sampler.sample(tinker.ModelInput.from_ints(prompt), 10, params).result().sequences
    ]
    assert said.count(LIKED) > 0.8 * len(said)
    before = len(service.requests)
    assert run(service, folder) == result, "a finished run is not run again"
    assert len(service.requests) == before


@pytest.mark.parametrize(
    ("kind", "count"), [("optim_step", 6), ("forward_backward_custom", 7), ("publish", 8), ("save_state", 9)]
)
def test_a_run_that_was_cut_off_in_any_stage_goes_on_to_the_same_numbers(
    kind: str, count: int, whole: tuple[FakeService, RlhfResult, Path], tmp_path: Path
) -> None:
    service = FakeService(on_request=crash_at(kind, count))
    with pytest.raises(Crash):
        run(service, tmp_path)
    service.on_request = None
    run(service, tmp_path)
    for stage in ("sft", "reward_model", "policy"):
        assert rows(tmp_path / stage) == rows(whole[2] / stage)
