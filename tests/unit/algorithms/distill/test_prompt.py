"""Lessons that a teacher answered stay answered."""

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hone.algorithms.distill.lessons import ONLY, Lesson
from hone.algorithms.distill.prompt import Answered, answer_lessons
from hone.errors import UserError
from hone.observe.progress import PlainDisplay
from tests.support.fake_tinker import END, MODEL, Crash, FakeService, crash_at

LESSONS = [Lesson((1 + number, 2), teacher_prompt=(3, 1 + number, 2)) for number in range(6)]


def answered(service: FakeService, file: Path | None, lessons: list[Lesson] = LESSONS, **options: Any) -> Answered:
    teachers = {ONLY: service.create_sampling_client(base_model=MODEL).result()}
    told = {"stop": [END], "max_tokens": 30, "attempts": 3, "seed": 4, "concurrency": 1} | options
    return asyncio.run(answer_lessons(lessons, teachers, file=file, **told))  # type: ignore[arg-type]


def test_only_what_is_missing_is_asked_to_the_same_result(tmp_path: Path) -> None:
    file, service = tmp_path / "run" / "lessons.jsonl", FakeService()
    service.on_request = crash_at("sample", 4)
    with pytest.raises(Crash):
        answered(service, file)
    service.on_request = None
    before = len(file.read_text().splitlines())
    assert 3 <= before < len(LESSONS)
    file.write_text(file.read_text() + '{"lesson": 5, "asked"')  # cut off by the crash
    found = answered(service, file)
    assert service.kinds().count("sample") == len(LESSONS) + 1  # the one that failed was asked again
    assert found == answered(FakeService(), None)
    assert found.lessons
    asked = len(service.requests)
    assert answered(service, file) == found
    assert len(service.requests) == asked


def test_progress_counts_the_lessons_that_are_asked(tmp_path: Path) -> None:
    file, shown = tmp_path / "lessons.jsonl", io.StringIO()
    service = FakeService(on_request=crash_at("sample", 5))
    with pytest.raises(Crash):
        answered(service, file)
    service.on_request = None
    left = len(LESSONS) - len(file.read_text().splitlines())
    assert 0 < left < len(LESSONS)
    answered(service, file, display=PlainDisplay(Console(file=shown)))
    told = [line.split()[:2] for line in shown.getvalue().splitlines()]
    assert told == [["lessons", f"{number}/{left}"] for number in range(1, left + 1)]


def test_what_is_accepted_may_change(tmp_path: Path) -> None:
    file, service = tmp_path / "lessons.jsonl", FakeService()
    everything = answered(service, file)
    short = answered(service, file, accept=lambda lesson, answer: len(answer.tokens) < 10)
    assert service.kinds().count("sample") == len(LESSONS)
    assert short.refused > everything.refused
    assert short == answered(FakeService(), None, accept=lambda lesson, answer: len(answer.tokens) < 10)


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 29},
        {"attempts": 2},
        {"seed": 5},
        {"temperature": 0.5},
        {"stop": [1]},
        {"lessons": LESSONS[::-1]},
        {"lessons": LESSONS[:5]},
    ],
)
def test_answers_to_something_else_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    file = tmp_path / "lessons.jsonl"
    answered(FakeService(), file)
    with pytest.raises(UserError, match=r"lessons\.jsonl holds answers to other lessons, or of other settings"):
        answered(FakeService(), file, **options)
