"""One model on one set of rows, against what can be worked out by hand."""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tinker

from hone.algorithms.graders.grade import Grade, GradingError, Task
from hone.errors import UserError
from hone.experiments.data.rows import ChatRow, PreferenceRow, TaskRow
from hone.experiments.kinds.contract import NoParams
from hone.experiments.kinds.metrics.mean_reward import MeanReward
from hone.experiments.kinds.metrics.nll import NegativeLogLikelihood
from hone.experiments.kinds.metrics.preference_accuracy import PreferenceAccuracy
from hone.experiments.runner.measure import measure_inference, measure_sampler
from hone.experiments.runner.rows import MeasuredRows, named_metrics
from hone.experiments.runner.usage import Meter
from tests.support.fake_tinker import MODEL, FakeService
from tests.support.letters import Letters

PROMPT: list[Any] = [{"role": "user", "content": "ab"}]


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


class Fixed:
    """A sampler that says the same answers to everybody, and finds token t as likely as exp(-t)."""

    def __init__(self, *answers: list[int], stop: str = "stop", fails: bool = False) -> None:
        self.answers, self.stop, self.fails = answers, stop, fails

    async def sample(self, prompt: tinker.ModelInput, num_samples: int, params: Any) -> Any:
        if self.fails:
            raise UserError("the server is away")
        sequences = [
            tinker.SampledSequence(
                stop_reason=self.stop,  # type: ignore[arg-type]
                sequence_id="s",
                tokens_np=np.array(answer, dtype=np.int32),
                logprobs_np=np.zeros(len(answer), dtype=np.float32),
            )
            for answer in self.answers[:num_samples]
        ]
        return tinker.SampleResponse(sequences=sequences)

    async def compute_logprobs(self, prompt: tinker.ModelInput) -> list[float | None]:
        return [None, *(-float(token) for token in prompt.to_ints()[1:])]


async def is_x(task: Task, answer: str) -> Grade:
    if answer == "q":
        raise GradingError("no verdict")
    return Grade(float(answer == "x"))


def tasks(count: int, **more: Any) -> MeasuredRows:
    rows = [TaskRow(f"t{n}", f"rows:{n}", PROMPT, cluster=f"c{n % 2}") for n in range(count)]
    told: dict[str, Any] = {"metrics": {"mean_reward": MeanReward(NoParams())}, "graders": [is_x] * count}
    return MeasuredRows(tasks=rows, **(told | more))


def measure(sampler: Any, rows: MeasuredRows) -> Any:
    return asyncio.run(measure_sampler(sampler, rows, Letters(), step=3, seed=1, meter=Meter())).measurement


def test_failures_count_as_nothing_and_by_their_reason() -> None:
    x, y, q, open_end = [24, 0], [25, 0], [17, 0], [24]
    found = measure(Fixed(x, y, q, open_end), tasks(3, samples=4))
    assert found.step == 3
    assert found.metrics == {"mean_reward": 0.25}
    assert found.failures == {"ungraded": 3, "malformed": 3}
    assert [one.values for one in found.tasks["mean_reward"]] == [[1.0, 0.0, 0.0, 0.0]] * 3
    assert [one.cluster for one in found.tasks["mean_reward"]] == ["c0", "c1", "c0"]
    assert measure(Fixed(open_end, stop="length"), tasks(2)).failures == {"cut_off": 2}


def test_a_model_that_cannot_be_asked_at_all_has_no_result() -> None:
    with pytest.raises(UserError, match="the server is away"):
        measure(Fixed(fails=True), tasks(2))
    with pytest.raises(UserError, match="no verdict"):
        measure(Fixed([17, 0]), tasks(2))


def test_likelihood_is_per_token_and_rows_count_by_their_tokens() -> None:
    rows = [ChatRow(text, "rows:1", [*PROMPT, said(text)]) for text in ("b", "dd")]  # type: ignore[list-item]
    found = measure(Fixed(), MeasuredRows({"nll": NegativeLogLikelihood(NoParams())}, examples=rows))
    one, two = found.tasks["nll"]  # b is token 2, d is 4, the end is 0
    assert (one.values, one.weight) == ([1.0], 2.0)
    assert two.weight == 3.0
    assert math.isclose(two.values[0], 8 / 3)
    assert math.isclose(found.metrics["nll"], (2 + 8) / 5)


def test_preferences_are_scored_by_whole_answers() -> None:
    rows = [
        PreferenceRow(str(n), "rows:1", PROMPT, [said(better)], [said(worse)])  # type: ignore[list-item]
        for n, (better, worse) in enumerate((("b", "c"), ("d", "bb"), ("c", "b"), ("b", "c")))
    ]
    rows_measured = MeasuredRows({"preference_accuracy": PreferenceAccuracy(NoParams())}, pairs=rows)
    found = measure(Fixed(), rows_measured)
    assert found.metrics == {"preference_accuracy": (1 + 0.5 + 0 + 1) / 4}
    assert found.tasks["preference_accuracy"][0].values == [-2.0, -3.0]


def test_the_same_weights_rows_and_seed_give_the_same_answers() -> None:
    sampler = FakeService().create_sampling_client(base_model=MODEL).result()
    rows = tasks(4, samples=3, max_tokens=30)

    def answers(seed: int) -> Sequence[Any]:
        found = asyncio.run(measure_sampler(sampler, rows, Letters(), step=0, seed=seed, meter=Meter()))  # type: ignore[arg-type]
        return [one.text for one in found.answers]

    assert answers(1) == answers(1) != answers(2)


def test_another_model_is_asked_the_same() -> None:
    class Other:
        async def generate(self, messages: Any, *, max_tokens: int, temperature: float, seed: int) -> str:
            if seed % 2:
                raise UserError("busy")
            return "x"

    found = asyncio.run(measure_inference(Other(), tasks(8, samples=4), seed=0)).measurement  # type: ignore[arg-type]
    assert found.metrics["mean_reward"] == 1 - found.failures["error"] / 32
    assert 0 < found.failures["error"] < 32


def test_metrics_are_called_what_results_call_them() -> None:
    assert list(named_metrics(["nll", "pass@4"])) == ["nll", "pass@4"]
