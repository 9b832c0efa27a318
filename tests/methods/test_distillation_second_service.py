"""On-policy distillation on the strict service in this process: what it learns, sends and resumes."""

import asyncio
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tinker

from hone.algorithms.config import CheckpointConfig, ModelConfig, OptimizerConfig
from hone.algorithms.datums import supervised_datum
from hone.algorithms.distill import on_policy
from hone.algorithms.distill.lessons import ONLY, Lesson, Teachers
from hone.algorithms.run_directory import Checkpoint
from hone.errors import UserError
from tests.support.fake_tinker import MODEL, Crash, FakeService, Request, crash_at

TOKENS = range(1, 13)
LESSONS = [Lesson((token,)) for token in TOKENS]
STOP = [0]
Row = dict[str, Any]


def config(**fields: Any) -> on_policy.OnPolicyConfig:
    known: dict[str, Any] = {
        "model": ModelConfig(name=MODEL),
        "optimizer": OptimizerConfig(learning_rate=0.6),
        "checkpoints": CheckpointConfig(every=3),
        "batch_size": 4,
        "max_tokens": 2,
        "epochs": 6,
        "eval_every": 0,
    }
    return on_policy.OnPolicyConfig(**known | fields)


def teacher(service: FakeService, shift: int = 1) -> Any:
    """Says the token that is `shift` further on, and ends."""
    training = service.create_lora_training_client(MODEL).result()
    data = [
        supervised_datum(tinker.ModelInput.from_ints([token, token + shift, 0]), [0.0, 1.0, 1.0]) for token in TOKENS
    ]
    for _ in range(15):
        training.forward_backward(data, "cross_entropy").result()
        training.optim_step(tinker.AdamParams(learning_rate=0.3)).result()
    return training.save_weights_and_get_sampling_client().result()


def train(
    settings: on_policy.OnPolicyConfig,
    service: FakeService,
    teachers: Teachers,
    folder: Path,
    lessons: list[Lesson] = LESSONS,
    **more: Any,
) -> Checkpoint:
    return asyncio.run(
        on_policy.train(settings, service, lessons, teachers, folder, stop_condition=STOP, **more)  # type: ignore[arg-type]
    )


def rows(folder: Path) -> list[Row]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def probability(service: FakeService, path: str | None, lesson: Lesson, answer: int) -> float:
    sampler = service.create_sampling_client(model_path=path).result()
    topk = sampler.sample(
        tinker.ModelInput.from_ints([*lesson.prompt, answer]),
        1,
        tinker.SamplingParams(max_tokens=1, stop=[], seed=1),
        include_prompt_logprobs=True,
    ).result()
    assert topk.prompt_logprobs is not None
    return float(2.718281828 ** (topk.prompt_logprobs[-1] or 0.0))


def test_the_student_comes_to_answer_as_the_teacher_does(tmp_path: Path) -> None:
    service = FakeService()
    last = train(config(epochs=12, group_size=16), service, {ONLY: teacher(service)}, tmp_path)
    found = rows(tmp_path)
    assert len(found) == 36
    assert all(abs(row["optim/kl_sample_train_v1"]) < 1e-6 for row in found), "every step is on-policy"
    assert found[-1]["teacher_kl"] < 0.1 * found[0]["teacher_kl"]
    assert all(probability(service, last.sampler_path, lesson, lesson.prompt[0] + 1) > 0.7 for lesson in LESSONS)


def test_each_of_several_teachers_is_followed_where_it_teaches(tmp_path: Path) -> None:
    service = FakeService()
    lessons = [Lesson((token,), teacher="next" if token % 2 else "after") for token in TOKENS]
    teachers = {"next": teacher(service), "after": teacher(service, 2)}
    gentle = OptimizerConfig(learning_rate=0.3)
    last = train(config(epochs=12, group_size=16, optimizer=gentle), service, teachers, tmp_path, lessons)
    first, *_, final = rows(tmp_path)
    assert all(final[f"teacher_kl/{name}"] < 0.5 * first[f"teacher_kl/{name}"] for name in teachers)
    for lesson in (lessons[2], lessons[3]):
        wanted = lesson.prompt[0] + (1 if lesson.teacher == "next" else 2)
        assert probability(service, last.sampler_path, lesson, wanted) > 0.3


def test_a_student_teaches_itself_by_what_it_is_told(tmp_path: Path) -> None:
    """With the answer before it the prompt makes the answer likelier, and the student learns it without."""
    service = FakeService()
    told = [Lesson((token,), teacher_prompt=(token + 13, token)) for token in TOKENS]
    settings = config(teach_self_every=3, epochs=2)
    train(settings, service, {}, tmp_path, told)
    assert len(json.loads((tmp_path / "frozen_weights.json").read_text())) == 2
    assert rows(tmp_path)[0]["teacher_kl"] > 0.0


@pytest.mark.parametrize(
    ("itself", "kind", "count"),
    [(False, "optim_step", 8), (False, "sample", 30), (False, "compute_logprobs", 70), (True, "publish", 5)],
)
def test_a_run_that_was_cut_off_anywhere_goes_on_to_the_same_numbers(
    itself: bool, kind: str, count: int, tmp_path: Path
) -> None:
    settings = config(teach_self_every=4 if itself else 0, discount=0.5)
    service = FakeService()
    lessons = [Lesson((token,), teacher_prompt=(token + 1, token) if itself else ()) for token in TOKENS]
    teachers = {} if itself else {ONLY: teacher(service)}
    train(settings, service, teachers, tmp_path / "whole", lessons)
    service.on_request = crash_at(kind, count)
    with pytest.raises(Crash):
        train(settings, service, teachers, tmp_path / "cut", lessons)
    service.on_request = None
    train(settings, service, teachers, tmp_path / "cut", lessons)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_the_first_interrupt_saves_and_the_run_goes_on_later(tmp_path: Path) -> None:
    service = FakeService()
    teachers = {ONLY: teacher(service)}
    settings = config(checkpoints=CheckpointConfig(every=0))
    train(settings, service, teachers, tmp_path / "whole")
    interrupting = crash_at("optim_step", 4)

    def interrupt(request: Request) -> None:
        try:
            interrupting(request)
        except Crash:
            signal.raise_signal(signal.SIGINT)

    service.on_request = interrupt
    assert train(settings, service, teachers, tmp_path / "cut").batch == 4
    service.on_request = None
    assert train(settings, service, teachers, tmp_path / "cut").final
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_evaluators_see_every_measure_of_the_run(tmp_path: Path) -> None:
    class Count:
        seen = 0

        async def __call__(self, sampler: tinker.SamplingClient) -> Mapping[str, float]:
            self.seen += 1
            return {"count": self.seen}

    service = FakeService()
    train(config(eval_every=3, max_steps=6), service, {ONLY: teacher(service)}, tmp_path, evaluators=[Count()])
    assert [row.get("test/count") for row in rows(tmp_path)] == [1, None, None, 2, None, None, 3]


def test_requests_stay_within_their_number(tmp_path: Path) -> None:
    service = FakeService()
    train(config(concurrency=3, group_size=1, max_steps=2), service, {ONLY: teacher(service)}, tmp_path)
    assert service.most_samples_at_once <= 3


def test_lessons_without_a_teacher_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    service = FakeService()
    teachers = {"other": teacher(service)}
    before = len(service.requests)
    with pytest.raises(UserError, match="names the teacher 'teacher'; there are other"):
        train(config(), service, teachers, tmp_path / "run")
    assert len(service.requests) == before
