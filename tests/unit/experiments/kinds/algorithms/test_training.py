"""Every built-in algorithm on the stand-in service: what it teaches, when it measures, and how it goes on."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinker

from hone.algorithms.graders.grade import Grade, Task
from hone.algorithms.run_directory import Checkpoint, read_metrics
from hone.errors import UserError
from hone.experiments.config import DataConfig, ModelConfig, RunConfig, Spec
from hone.experiments.data.rows import ChatRow, PreferenceRow, RowKind, StandardRow, TaskRow
from hone.experiments.kinds import plugins
from hone.experiments.kinds.contract import StopTraining, Training
from hone.observe.progress import Display, silent
from hone.storage import jsonl
from tests.support.fake_tinker import MODEL, Crash, FakeService, FakeTokenizer, crash_at
from tests.support.letters import Letters

WORDS = ["ab", "cd", "ef", "gh", "ij", "kl"]


def asked(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


ROWS: dict[RowKind, list[Any]] = {
    "chat": [ChatRow(word, f"rows:{n}", [asked(word), said("x")]) for n, word in enumerate(WORDS)],  # type: ignore[list-item]
    "preference": [
        PreferenceRow(word, f"rows:{n}", [asked(word)], [said("x")], [said("y")])  # type: ignore[list-item]
        for n, word in enumerate(WORDS)
    ],
    "task": [TaskRow(word, f"rows:{n}", [asked(word)], gold="x") for n, word in enumerate(WORDS)],  # type: ignore[list-item]
}


async def begins_with_x(task: Task, answer: str) -> Grade:
    return Grade(float(answer.startswith(task.gold)))


class Steps:
    """Keeps the steps it is told, and stops at one of them."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.seen: list[int] = []
        self.stop_at = stop_at

    async def __call__(self, sampler: tinker.SamplingClient) -> Mapping[str, float]:
        raise AssertionError

    async def at_step(self, sampler: tinker.SamplingClient, step: int) -> Mapping[str, float]:
        self.seen.append(step)
        if step == self.stop_at:
            raise StopTraining("enough")
        return {}


def train(
    service: FakeService,
    run_dir: Path,
    kind: str,
    params: Mapping[str, Any],
    *,
    evaluators: Sequence[Steps] = (),
    every: int = 2,
    run: RunConfig | None = None,
    rows: Mapping[RowKind, Sequence[StandardRow]] = ROWS,
    display: Display = silent,
) -> Checkpoint:
    algorithm = plugins.algorithms.make(kind, params)

    def rows_as(wanted: RowKind, graded: bool) -> tuple[Any, Any]:
        return rows[wanted], [begins_with_x] * len(rows[wanted]) if graded else []

    given, graders = rows_as(algorithm.learns_from, algorithm.needs_graders)
    run = run or RunConfig(data=DataConfig(source=Spec(kind="rows")), model=ModelConfig(name=MODEL), seed=5)
    training = Training(
        service=service,  # type: ignore[arg-type]
        run=run,
        renderer=Letters(),
        tokenizer=FakeTokenizer(),
        rows=given,
        graders=graders,
        run_dir=run_dir,
        evaluators=evaluators,
        validate_every=every,
        sinks=[],
        display=display,
        rows_as=rows_as,
    )
    return asyncio.run(algorithm.train(training))


def likes_x(service: FakeService, checkpoint: Checkpoint) -> float:
    """How likely `x` is as an answer, in nats, less how likely it was."""
    prompt = tinker.ModelInput.from_ints([1, 2, 39, 24])  # ab=x

    def found(**who: Any) -> float:
        return float(service.create_sampling_client(**who).result().compute_logprobs(prompt).result()[3])

    return found(model_path=checkpoint.sampler_path) - found(base_model=MODEL)


COMMON = {"lr": 0.5, "batch_size": 2, "epochs": 2}
SAMPLED = {"max_tokens": 2, "group_size": 8, "lr": 0.3, "batch_size": 2, "epochs": 2}
METHODS: dict[str, dict[str, Any]] = {
    "sft": COMMON,
    "dpo": COMMON,
    "ipo": COMMON,
    "simpo": COMMON,
    "orpo": COMMON,
    "kto": COMMON | {"batch_size": 4},
    "grpo": SAMPLED,
    "distill_off_policy": COMMON | {"candidates": 20},
    "distill_on_policy": SAMPLED,
    "prompt_distill": COMMON | {"max_tokens": 40, "attempts": 8, "teacher_prompt": "xxxx"},
}


@pytest.mark.parametrize("kind", METHODS)
def test_each_learns_measures_in_time_and_keeps_what_it_measured(kind: str, tmp_path: Path) -> None:
    service, steps = FakeService(), Steps()
    done = train(service, tmp_path, kind, METHODS[kind], evaluators=[steps])
    algorithm = plugins.algorithms.make(kind, METHODS[kind])
    assert done.final
    assert done.batch == algorithm.steps(len(WORDS)) == 6
    assert steps.seen == [0, 2, 4, 6]
    assert [one.batch for one in algorithm.checkpoints(tmp_path)] == [2, 4, 6]
    if kind in ("sft", "dpo", "ipo", "simpo", "orpo", "kto", "grpo"):
        assert likes_x(service, done) > 0.1
    rates = [row.get("learning_rate", row.get("optim/lr")) for row in read_metrics(tmp_path)]
    assert rates[0] == METHODS[kind]["lr"]


@pytest.mark.parametrize("kind", ["sft", "dpo", "grpo", "prompt_distill", "distill_on_policy"])
def test_one_that_was_killed_goes_on_to_the_same_weights(kind: str, tmp_path: Path) -> None:
    whole, cut = FakeService(), FakeService()
    expected = train(whole, tmp_path / "whole", kind, METHODS[kind])
    cut.on_request = crash_at("optim_step", 4)
    with pytest.raises(Crash):
        train(cut, tmp_path / "cut", kind, METHODS[kind])
    cut.on_request = None
    found = train(cut, tmp_path / "cut", kind, METHODS[kind])
    assert likes_x(cut, found) == likes_x(whole, expected)


def test_a_teacher_is_asked_once_however_often_its_run_is_killed(tmp_path: Path) -> None:
    service, whole = FakeService(), FakeService()
    params = METHODS["prompt_distill"] | {"concurrency": 1}
    service.on_request = crash_at("sample", 4)
    with pytest.raises(Crash):
        train(service, tmp_path / "cut", "prompt_distill", params)
    service.on_request = crash_at("optim_step", 2)
    with pytest.raises(Crash):
        train(service, tmp_path / "cut", "prompt_distill", params)
    service.on_request = None
    found = train(service, tmp_path / "cut", "prompt_distill", params)
    assert service.kinds().count("sample") == len(WORDS) + 1  # the one that failed was asked again
    assert likes_x(service, found) == likes_x(whole, train(whole, tmp_path / "whole", "prompt_distill", params))


def test_an_evaluator_ends_the_training_and_what_it_measured_is_saved(tmp_path: Path) -> None:
    for kind in ("sft", "dpo", "grpo"):
        with pytest.raises(StopTraining, match="enough"):
            train(FakeService(), tmp_path / kind, kind, METHODS[kind], evaluators=[Steps(stop_at=4)])
        saved = plugins.algorithms.make(kind, METHODS[kind]).checkpoints(tmp_path / kind)
        assert saved[-1].batch == 4
        assert not saved[-1].final


def test_rows_that_are_not_shuffled_keep_their_order(tmp_path: Path) -> None:
    run = RunConfig(
        data=DataConfig(source=Spec(kind="rows"), shuffle=False), model=ModelConfig(name=MODEL, renderer="letters")
    )
    long = [ChatRow(str(n), f"rows:{n}", [asked("a" * n), said("x")]) for n in range(1, 5)]  # type: ignore[list-item]
    params = {"lr": 0.1, "batch_size": 1, "epochs": 2}
    train(FakeService(), tmp_path, "sft", params, run=run, rows={**ROWS, "chat": long})
    lengths = [row["num_tokens"] for row in read_metrics(tmp_path)]
    assert lengths == [3, 4, 5, 6, 3, 4, 5, 6]


def test_seeds_reach_the_order_and_the_samples(tmp_path: Path) -> None:
    def metrics(kind: str, seed: int, name: str) -> list[Any]:
        run = RunConfig(data=DataConfig(source=Spec(kind="rows")), model=ModelConfig(name=MODEL), seed=seed)
        train(FakeService(), tmp_path / name, kind, METHODS[kind], run=run)
        key = "train_mean_nll" if kind == "sft" else "env/all/reward/total"
        return [row[key] for row in read_metrics(tmp_path / name)]

    for kind in ("sft", "grpo"):
        assert metrics(kind, 1, f"{kind}a") == metrics(kind, 1, f"{kind}b") != metrics(kind, 2, f"{kind}c")


def test_seeds_reach_the_first_weights(tmp_path: Path) -> None:
    given: list[Any] = []

    class Noting(FakeService):
        def create_lora_training_client(self, *args: Any, **kwargs: Any) -> Any:
            given.append(kwargs["seed"])
            return super().create_lora_training_client(*args, **kwargs)

    for seed in (1, 2):
        run = RunConfig(data=DataConfig(source=Spec(kind="rows")), model=ModelConfig(name=MODEL), seed=seed)
        train(Noting(), tmp_path / str(seed), "sft", METHODS["sft"], run=run)
    assert given == [1, 2]


@pytest.mark.parametrize("mode", ["sync", "streaming", "async"])
def test_grpo_has_three_ways_to_sample(mode: str, tmp_path: Path) -> None:
    service = FakeService()
    told = SAMPLED | {"mode": mode, "groups_per_batch": 3, "group_size": 32, "num_substeps": 2, "loss": "cispo"}
    done = train(service, tmp_path, "grpo", told | {"remove_constant_groups": False})
    assert done.batch == 4
    assert service.kinds().count("optim_step") == 2 * done.batch
    assert likes_x(service, done) > 0.1


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"loss": "dro", "clip_low": 0.5}, "has no clip"),
        ({"mode": "streaming", "kl": 0.1}, "whole batch"),
        ({"rate": 1e-3}, "rate"),
    ],
)
def test_what_does_not_go_together_is_refused(params: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        plugins.algorithms.make("grpo", params)


def test_a_sequence_begins_each_phase_with_the_weights_of_the_one_before(tmp_path: Path) -> None:
    phases = [{"kind": "sft", "params": COMMON}, {"kind": "grpo", "params": SAMPLED | {"max_steps": 3}}]
    service, steps = FakeService(), Steps()
    done = train(service, tmp_path, "sequence", {"phases": phases}, evaluators=[steps])
    first = plugins.algorithms.make("sft", COMMON).checkpoints(tmp_path / "1-sft")[-1]
    assert done.batch == 9
    assert done.final
    assert steps.seen == [0, 2, 4, 6, 6, 8, 9]
    # The second phase alone, from the first one's weights, gives the same.
    run = RunConfig(
        data=DataConfig(source=Spec(kind="rows")),
        model=ModelConfig(name=MODEL, init_from_checkpoint=first.state_path),
        seed=5,
    )
    alone = train(service, tmp_path / "alone", "grpo", SAMPLED | {"max_steps": 3}, run=run)
    assert likes_x(service, alone) == likes_x(service, done)
    found = plugins.algorithms.make("sequence", {"phases": phases}).checkpoints(tmp_path)
    assert [(one.batch, one.final) for one in found] == [(2, False), (4, False), (6, False), (8, False), (9, True)]


def test_a_sequence_may_be_stopped_between_its_phases(tmp_path: Path) -> None:
    phases = [{"kind": "sft", "params": COMMON}, {"kind": "grpo", "params": SAMPLED}]
    with pytest.raises(StopTraining):
        train(FakeService(), tmp_path, "sequence", {"phases": phases}, evaluators=[Steps(stop_at=6)])
    saved = plugins.algorithms.make("sequence", {"phases": phases}).checkpoints(tmp_path)
    assert [one.batch for one in saved] == [2, 4, 6]


def test_a_sequence_that_was_killed_in_its_second_phase_goes_on(tmp_path: Path) -> None:
    phases = [{"kind": "sft", "params": COMMON}, {"kind": "grpo", "params": SAMPLED}]
    whole, cut = FakeService(), FakeService(on_request=crash_at("optim_step", 9))
    expected = train(whole, tmp_path / "whole", "sequence", {"phases": phases})
    with pytest.raises(Crash):
        train(cut, tmp_path / "cut", "sequence", {"phases": phases})
    cut.on_request = None
    found = train(cut, tmp_path / "cut", "sequence", {"phases": phases})
    assert (found.batch, likes_x(cut, found)) == (expected.batch, likes_x(whole, expected))


def test_a_tie_cannot_be_learned(tmp_path: Path) -> None:
    tie = PreferenceRow("t", "rows:9", [asked("ab")], [said("x")], [said("y")], tie=True)  # type: ignore[list-item]
    with pytest.raises(UserError, match=r"rows:9 is a tie"):
        train(FakeService(), tmp_path, "dpo", COMMON, rows={**ROWS, "preference": [tie]})


def test_the_learning_rate_has_a_default_for_the_model() -> None:
    for kind in METHODS:
        params: Any = plugins.algorithms.params(kind, {})
        assert params.rate("hone/tiny") >= 10 * params.rate("Qwen/Qwen3-8B") > 0
    assert np.isclose(plugins.algorithms.params("sft", {"lr": 3e-4}).rate("hone/tiny"), 3e-4)  # type: ignore[attr-defined]


def test_sft_says_which_rows_max_length_cuts(tmp_path: Path) -> None:
    class Heard:
        def __init__(self) -> None:
            self.said: list[str] = []

        def say(self, text: str) -> None:
            self.said.append(text)

        bar = silent.bar

    rows = [ChatRow(n, f"rows.jsonl:{n}", [asked("ab"), said("x" * length)]) for n, length in (("1", 1), ("2", 9))]  # type: ignore[list-item]
    heard = Heard()
    params = COMMON | {"max_length": 6}
    train(FakeService(), tmp_path / "cut", "sft", params, rows={"chat": rows}, display=heard)
    assert heard.said == [
        "1 of 2 rows are cut at max_length = 6 and learned without their end: rows.jsonl:2 (13 tokens)"
    ]
    assert jsonl.read(tmp_path / "cut" / "cut_rows.jsonl") == [{"place": "rows.jsonl:2", "tokens": 13, "lost": 7}]
    train(FakeService(), tmp_path / "whole", "sft", COMMON | {"max_length": 13}, rows={"chat": rows}, display=heard)
    assert len(heard.said) == 1
    assert jsonl.read(tmp_path / "whole" / "cut_rows.jsonl") == []
