"""Every preference objective moves the model the way its data say, on prompts that it was not trained on."""

import asyncio
import json
import math
import signal
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import tinker
from transformers import PreTrainedTokenizerBase

from hone.algorithms.config import CheckpointConfig, ModelConfig, OptimizerConfig
from hone.algorithms.preference import train as preference
from hone.algorithms.preference.objectives import BradleyTerry, Dpo, Ipo, Judged, Kto, Objective, Orpo, Simpo
from hone.algorithms.preference.pairs import Pair, pair
from hone.algorithms.preference.reference import score, summed_logprobs
from hone.algorithms.preference.reward_model import RewardHead, RewardModel
from hone.algorithms.run_directory import Checkpoint
from hone.errors import UserError
from tests.support.fake_tinker import MODEL, FakeService, FakeTrainingClient, Request, crash_at
from tests.support.fake_tinker import Crash as FakeCrash
from tests.support.interruptions import Crash, CrashAt

NOUNS = "apples birds boats cats chairs cows cups dogs doors eggs fish flags".split()


@dataclass(frozen=True)
class Case:
    """A question with an answer in the style that is wanted, and one that is not."""

    prompt: list[int]
    wanted: list[int]
    unwanted: list[int]


@pytest.fixture(scope="module")
def cases(tokenizer: PreTrainedTokenizerBase) -> list[Case]:
    def case(noun: str) -> Case:
        turn = [{"role": "user", "content": f"Do you like {noun}?"}]
        prompt = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        end = [tokenizer.eos_token_id]
        return Case(
            tokenizer.encode(prompt, add_special_tokens=False),
            tokenizer.encode("yes", add_special_tokens=False) + end,
            tokenizer.encode("no", add_special_tokens=False) + end,
        )

    return [case(noun) for noun in NOUNS]


def config(model: str, objective: Objective, rate: float = 2e-3) -> preference.PreferenceConfig:
    return preference.PreferenceConfig(
        model=ModelConfig(name=model, lora_rank=4, seed=1),
        objective=objective,
        optimizer=OptimizerConfig(learning_rate=rate),
        checkpoints=CheckpointConfig(every=2),
        batch_size=4,
        epochs=3,
    )


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


async def lead(sampler: tinker.SamplingClient, held_out: Sequence[Case]) -> float:
    """By how many nats the wanted answers lead on average."""
    data_D = [
        datum
        for case in held_out
        for both in [pair(case.prompt, case.wanted, case.unwanted)]
        for datum in (both.chosen, both.rejected)
    ]
    sums_D = summed_logprobs(data_D, await score(sampler, data_D, asyncio.Semaphore(8)))
    return float((sums_D[0::2] - sums_D[1::2]).mean())


@pytest.mark.parametrize(
    "objective", [Dpo(), Ipo(), Simpo(), Orpo(beta=1.0), Kto()], ids=lambda objective: objective.kind
)
def test_the_wanted_answers_gain_on_the_others(
    service: tinker.ServiceClient, model: str, cases: list[Case], objective: Objective, tmp_path: Path
) -> None:
    trained, held_out = cases[:8], cases[8:]
    examples: list[Pair] | list[Judged]
    if objective.kind == "kto":
        examples = [Judged(case.prompt, case.wanted, True) for case in trained]
        examples += [Judged(case.prompt, case.unwanted, False) for case in trained]
    else:
        examples = [pair(case.prompt, case.wanted, case.unwanted) for case in trained]
    last = asyncio.run(preference.train(config(model, objective), service, examples, tmp_path))
    before = service.create_sampling_client(base_model=model).result()
    after = service.create_sampling_client(model_path=last.sampler_path).result()
    assert asyncio.run(lead(after, held_out)) > asyncio.run(lead(before, held_out)) + 1.0
    first, *_, final = rows(tmp_path)
    assert final[f"{objective.kind}_loss"] < first[f"{objective.kind}_loss"]
    if objective.kind == "dpo":
        assert first["dpo_loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert first["accuracy"] == 0
        assert final["accuracy"] == 1


def test_a_run_that_was_cut_off_keeps_its_reference_and_its_numbers(
    service: tinker.ServiceClient, model: str, cases: list[Case], tmp_path: Path
) -> None:
    examples = [pair(case.prompt, case.wanted, case.unwanted) for case in cases]

    settings = config(model, Dpo()).model_copy(update={"eval_every": 5})
    asyncio.run(preference.train(settings, service, examples, tmp_path / "whole"))
    with pytest.raises(Crash):
        asyncio.run(preference.train(settings, service, examples, tmp_path / "cut", evaluators=[CrashAt(2)]))
    asyncio.run(preference.train(settings, service, examples, tmp_path / "cut"))
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


@pytest.mark.parametrize("objective", [Dpo(), Kto(), BradleyTerry()], ids=lambda objective: objective.kind)
def test_the_first_interrupt_saves_and_the_run_goes_on_to_the_same_numbers(
    objective: Objective, tmp_path: Path
) -> None:
    head = RewardHead((7,), 8, 9)
    examples: dict[str, Sequence[Any]] = {
        "dpo": [pair([1, 2 + number], [3 + number, 0], [4 + number, 0]) for number in range(8)],
        "kto": [Judged([1, 2 + number], [3 + number, 0], number % 2 == 0) for number in range(8)],
        "bradley_terry": [head.pair([1, 2 + number], [3 + number], [4 + number]) for number in range(8)],
    }
    settings = config(MODEL, objective).model_copy(update={"checkpoints": CheckpointConfig(every=0)})

    def run(out: Path, service: FakeService) -> Checkpoint:
        return asyncio.run(preference.train(settings, service, examples[objective.kind], out))  # type: ignore[arg-type]

    assert run(tmp_path / "whole", FakeService()).batch == 6
    interrupting = crash_at("optim_step", 3)

    def interrupt(request: Request) -> None:
        try:
            interrupting(request)
        except FakeCrash:
            signal.raise_signal(signal.SIGINT)

    service = FakeService(on_request=interrupt)
    stopped = run(tmp_path / "cut", service)
    assert (stopped.batch, stopped.final) == (3, False)  # the step under way was finished
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")[:3]
    service.on_request = None
    assert run(tmp_path / "cut", service).final
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_a_reward_model_scores_answers_it_has_not_seen(
    service: tinker.ServiceClient, model: str, cases: list[Case], tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    good, bad = (tokenizer.encode(word, add_special_tokens=False)[0] for word in ("good", "bad"))
    question = "<|im_start|>user\nIs that good or bad?<|im_end|>\n<|im_start|>assistant\n"
    head = RewardHead(tuple(tokenizer.encode(question, add_special_tokens=False)), good, bad)
    examples = [head.pair(case.prompt, case.wanted, case.unwanted) for case in cases[:8]]
    last = asyncio.run(preference.train(config(model, BradleyTerry()), service, examples, tmp_path))
    reward_model = RewardModel(service.create_sampling_client(model_path=last.sampler_path).result(), head)

    async def margins() -> list[float]:
        return [
            await reward_model.reward(case.prompt, case.wanted) - await reward_model.reward(case.prompt, case.unwanted)
            for case in cases[8:]
        ]

    assert min(asyncio.run(margins())) > 0.5
    assert rows(tmp_path)[0]["bradley_terry_loss"] > rows(tmp_path)[-1]["bradley_terry_loss"]


@pytest.mark.parametrize(
    ("prompts", "batch_size", "max_steps"), [([2], 4, None), ([2, 2], 4, None), (range(2, 11), 4, None), ([2, 3], 1, 1)]
)
def test_kto_needs_two_prompts_in_every_step(
    prompts: Sequence[int], batch_size: int, max_steps: int | None, tmp_path: Path
) -> None:
    settings = config(MODEL, Kto()).model_copy(update={"batch_size": batch_size, "max_steps": max_steps})
    examples = [Judged([1, token], [3, 0], place % 2 == 0) for place, token in enumerate(prompts)]
    service = FakeService()
    with pytest.raises(UserError, match=r"'kto' needs two different prompts.* has one prompt"):
        asyncio.run(preference.train(settings, service, examples, tmp_path))  # type: ignore[arg-type]
    assert not service.requests, "before anything is trained"
    if len(examples) > batch_size > 1:  # it ends before the batch that has one
        shorter = settings.model_copy(update={"max_steps": 2})
        assert asyncio.run(preference.train(shorter, service, examples, tmp_path)).batch == 2  # type: ignore[arg-type]


def test_the_drift_of_kto_is_measured_on_answers_to_other_prompts() -> None:
    """Pairs lie side by side, and the answers of a pair belong to one prompt."""
    asked = [1, 1, 2, 2, 2]
    examples = [Judged([token], [10 * token + place, 0], True) for place, token in enumerate(asked)]
    mismatched_D = Kto().datums(examples)[len(examples) :]
    found = [(datum.model_input.to_ints()[0], datum.model_input.to_ints()[1]) for datum in mismatched_D]
    assert found == [(1, 22), (1, 22), (2, 10), (2, 10), (2, 10)]


def test_the_loss_is_logged_where_a_service_reports_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older releases of the SDK have no `loss:sum` of a custom loss."""
    examples = [pair([1], [2 + number, 0], [3 + number, 0]) for number in range(4)]
    asyncio.run(preference.train(config(MODEL, Dpo()), FakeService(), examples, tmp_path / "new"))  # type: ignore[arg-type]
    monkeypatch.setattr(
        "tests.support.fake_tinker.FakeTrainingClient.forward_backward_custom",
        partialmethod(_without_sum, FakeTrainingClient.forward_backward_custom),
    )
    asyncio.run(preference.train(config(MODEL, Dpo()), FakeService(), examples, tmp_path / "old"))  # type: ignore[arg-type]
    old, new = ([row["dpo_loss"] for row in rows(tmp_path / name) if "dpo_loss" in row] for name in ("old", "new"))
    assert old == new
    assert new[0] == pytest.approx(math.log(2))


def _without_sum(client: Any, plain: Callable[..., Any], data: Any, loss: Any) -> Any:
    future = plain(client, data, loss)
    future.result().metrics.pop("loss:sum")
    return future


def test_a_beginning_that_was_lost_leaves_no_reference(tmp_path: Path) -> None:
    service = FakeService(on_request=crash_at("optim_step", 1))
    examples = [pair([1], [2 + number, 0], [3 + number, 0]) for number in range(4)]
    for crash in (True, False):
        with pytest.raises(FakeCrash) if crash else nullcontext():
            asyncio.run(preference.train(config(MODEL, Dpo()), service, examples, tmp_path))  # type: ignore[arg-type]
    frozen = json.loads((tmp_path / "frozen_weights.json").read_text())
    assert frozen == {"reference": "tinker://fake:train:2/sampler_weights/reference"}, "that of the second beginning"
