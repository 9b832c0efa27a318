"""Three stages in one run: what people prefer, shown in pairs only, comes out in the policy's own answers."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import tinker
from transformers import PreTrainedTokenizerBase

from hone.algorithms.config import ModelConfig, OptimizerConfig
from hone.algorithms.datums import supervised_datum
from hone.algorithms.graders.grade import Task
from hone.algorithms.graders.pairwise import Pairwise
from hone.algorithms.messages import Message
from hone.algorithms.preference.judged import JudgedPrompts, compared
from hone.algorithms.preference.objectives import BradleyTerry, Dpo
from hone.algorithms.preference.reward_model import RewardHead
from hone.algorithms.preference.rlhf import RlhfConfig, train
from hone.algorithms.preference.train import PreferenceConfig
from hone.algorithms.renderers import get_renderer
from hone.algorithms.rl import train as grpo
from hone.algorithms.rl.config import RolloutConfig
from hone.algorithms.sft import SftConfig
from hone.errors import UserError

NOUNS = "apples birds boats cats chairs cows cups dogs doors eggs fish flags".split()


@pytest.fixture(scope="module")
def prompts(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    return [
        tokenizer.encode(
            f"<|im_start|>user\nDo you like {noun}?<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False
        )
        for noun in NOUNS
    ]


@pytest.fixture(scope="module")
def answers(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    yes, no = (tokenizer.encode(f"{word}<|im_end|>", add_special_tokens=False) for word in ("yes", "no"))
    return yes, no


@pytest.fixture(scope="module")
def demonstrations(prompts: list[list[int]], answers: tuple[list[int], list[int]]) -> list[tinker.Datum]:
    """Both answers, equally often."""
    return [
        supervised_datum(tinker.ModelInput.from_ints([*prompt, *answer]), [0.0] * len(prompt) + [1.0] * len(answer))
        for prompt in prompts
        for answer in answers
    ]


def configuration(model: str) -> RlhfConfig:
    adapter, fast = ModelConfig(name=model, lora_rank=8, seed=1), OptimizerConfig(learning_rate=3e-3)
    return RlhfConfig(
        sft=SftConfig(model=adapter, optimizer=fast, batch_size=24, epochs=20, eval_every=0),
        reward_model=PreferenceConfig(
            model=adapter, objective=BradleyTerry(), optimizer=fast, batch_size=12, epochs=12, eval_every=0
        ),
        policy=grpo.GrpoConfig(
            model=adapter,
            optimizer=fast,
            rollouts=RolloutConfig(max_tokens=4, shared_prompts=True),
            epochs=8,
            eval_every=0,
        ),
        group_size=4,
        prompts_per_step=12,
        kl_coefficient=0.02,
    )


def rewards(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["env/all/reward/total"] for row in rows]


class Noted:
    """A place for metrics that takes none once it is closed, as W&B does."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.closed = False

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        assert not self.closed
        self.steps.append(step)

    def close(self) -> None:
        self.closed = True


def test_the_policy_comes_to_say_what_people_prefer(
    service: tinker.ServiceClient,
    model: str,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    answers: tuple[list[int], list[int]],
    demonstrations: list[tinker.Datum],
    tmp_path: Path,
) -> None:
    good, bad = (tokenizer.encode(word, add_special_tokens=False)[0] for word in ("good", "bad"))
    question = "<|im_start|>user\nIs that good or bad?<|im_end|>\n<|im_start|>assistant\n"
    head = RewardHead(tuple(tokenizer.encode(question, add_special_tokens=False)), good, bad)
    comparisons = [head.pair(prompt, answers[0], answers[1]) for prompt in prompts]
    stop = [tokenizer.eos_token_id]

    noted: dict[str, Noted] = {}

    def sinks(stage: Path) -> list[Noted]:
        return [noted.setdefault(stage.name, Noted())]

    def run() -> object:
        return asyncio.run(
            train(
                configuration(model),
                service,
                demonstrations,
                comparisons,
                prompts,
                head,
                tmp_path,
                stop=stop,
                sinks=sinks,
            )
        )

    result = run()
    assert {name: (len(stage.steps), stage.closed) for name, stage in noted.items()} == {
        "sft": (20, True),
        "reward_model": (12, True),
        "policy": (8, True),
    }
    found = rewards(tmp_path / "policy")
    assert found[-1] > found[0] + 1.0
    sampler = service.create_sampling_client(model_path=result.policy.sampler_path).result()  # type: ignore[attr-defined]
    params = tinker.SamplingParams(max_tokens=4, temperature=1.0, stop=stop, seed=1)
    said = sampler.sample(tinker.ModelInput.from_ints(prompts[0]), 20, params).result().sequences
    assert sum(sequence.tokens == answers[0] for sequence in said) >= 15
    assert run() == result, "a finished run is not run again"


def test_a_policy_learns_from_comparisons_alone(
    service: tinker.ServiceClient,
    model: str,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    answers: tuple[list[int], list[int]],
    demonstrations: list[tinker.Datum],
    tmp_path: Path,
) -> None:
    """A judge that prefers `no`, whatever the question."""

    class PrefersNo:
        async def __call__(self, messages: Sequence[Message], *, seed: int) -> str:
            first, second = (f"<answer_{place}>\nno\n<" in str(messages[-1]["content"]) for place in "ab")
            return "Verdict: " + ("Tie" if first == second else "A" if first else "B")

    training = service.create_lora_training_client(model, rank=8, seed=1).result()
    for _ in range(20):
        gradient = training.forward_backward(demonstrations, "cross_entropy")
        training.optim_step(tinker.AdamParams(learning_rate=3e-3)).result()
        gradient.result()
    start = training.save_state("start").result().path
    settings = configuration(model).policy
    settings = settings.model_copy(update={"model": ModelConfig(name=model, init_from_checkpoint=start)})
    renderer = get_renderer("chat_template", tokenizer)
    tasks = [Task(f"Do you like {noun}?", facts={"rubric": "no is better"}) for noun in NOUNS]
    judged = compared(tasks, Pairwise(PrefersNo()), renderer)
    assert [prompt.tokens for prompt in judged] == prompts
    dataset = JudgedPrompts(judged, renderer.get_stop_sequences(), 8, 12)
    last = asyncio.run(grpo.train(settings, service, dataset, tmp_path))
    sampler = service.create_sampling_client(model_path=last.sampler_path).result()
    params = tinker.SamplingParams(max_tokens=4, temperature=1.0, stop=[tokenizer.eos_token_id], seed=1)
    said = sampler.sample(tinker.ModelInput.from_ints(prompts[0]), 20, params).result().sequences
    assert sum(sequence.tokens == answers[1] for sequence in said) >= 15


def test_a_reward_model_learns_by_its_own_objective(service: tinker.ServiceClient, model: str, tmp_path: Path) -> None:
    config = configuration(model)
    wrong = config.model_copy(update={"reward_model": config.reward_model.model_copy(update={"objective": Dpo()})})
    with pytest.raises(UserError, match=r"reward_model\.objective\.kind is 'dpo'"):
        asyncio.run(train(wrong, service, [], [], [[1]], RewardHead((1,), 2, 3), tmp_path, stop=[0]))
