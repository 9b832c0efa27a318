"""pass@k for the k that are asked for."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hone.algorithms.evals.benchmark import Benchmark, Item
from hone.algorithms.evals.run import Answer, EvalSettings, run_benchmark, summarise
from hone.algorithms.graders.exact import Exact
from hone.algorithms.graders.grade import Task
from hone.errors import UserError
from tests.support.chatml import ByteChatMl
from tests.support.fake_tinker import MODEL, FakeService

RIGHT = {"a": 0, "b": 1, "c": 9}
ANSWERS = [
    Answer(item, "", number, float(number < right), 3, "") for item, right in RIGHT.items() for number in range(10)
]


def test_any_k_may_be_asked_for() -> None:
    assert list(summarise("made-up", ANSWERS).pass_at) == [1, 2, 4, 8]
    found = summarise("made-up", ANSWERS, [10, 1, 3, 3])
    assert found.pass_at == pytest.approx({1: (0.1 + 0.9) / 3, 3: (0.3 + 1) / 3, 10: 2 / 3})
    assert list(found.pass_at_intervals) == [1, 3, 10]
    assert all(one.low <= one.mean <= one.high for one in found.pass_at_intervals.values())


def test_more_than_there_are_answers_is_refused_before_any_is_asked(tmp_path: Path) -> None:
    service: Any = FakeService()
    sampler = service.create_sampling_client(base_model=MODEL).result()
    benchmark = Benchmark("made-up", [Item("a", [{"role": "user", "content": "?"}], Task("?", "!"))], Exact(), 4)
    for k in (0, 3):
        settings = EvalSettings(answers=2, pass_at=[1, k])
        with pytest.raises(UserError, match=rf"pass@{k} cannot be had of 2 `answers`"):
            asyncio.run(run_benchmark(benchmark, sampler, ByteChatMl(), tmp_path, settings))
    assert not service.requests
    assert not list(tmp_path.iterdir())
