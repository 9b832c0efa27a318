"""A real engine process behind its socket."""

import asyncio
import os
import signal
import time
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from hone.engine import contract as c
from hone.engine.build import start_engine
from hone.engine.contract import ModelSource
from hone.errors import EngineLostError, ServerError, UserError
from hone.protocol.types import AdamParams, LoraConfig, SamplingParams
from tests.unit.engine.material import VOCAB, random_datum

T = TypeVar("T")
STEP = AdamParams(learning_rate=1e-2)


class Process:
    """An engine, and the event loop that it belongs to; the loop runs only while a test waits."""

    def __init__(self, directory: Path) -> None:
        self._runner = asyncio.Runner()
        self.engine = self.run(start_engine([ModelSource("tiny", directory)], threads=1))

    def run(self, work: Coroutine[Any, Any, T], seconds: float = 60) -> T:
        return self._runner.run(asyncio.wait_for(work, seconds))

    def ask(self, *operations: Any, seconds: float = 60) -> list[Any]:
        """Submit all at once; results and errors in order."""

        async def ask() -> list[Any]:
            futures = [self.engine.submit(op) for op in operations]
            return await asyncio.gather(*futures, return_exceptions=True)

        return self.run(ask(), seconds)

    def kill(self) -> None:
        os.kill(self.engine.pid, signal.SIGKILL)

    def close(self) -> None:
        self.run(self.engine.close())
        self._runner.close()


@pytest.fixture(scope="module")
def process(model_directories: dict[str, Path]) -> Iterator[Process]:
    running = Process(model_directories["qwen3"])
    yield running
    running.close()


def train(adapter: str, seed: int = 0, loss_config: dict[str, float | str] | None = None) -> c.ForwardBackward:
    rng = np.random.default_rng(seed)
    return c.ForwardBackward(adapter, tuple(random_datum(rng, n) for n in (5, 20)), "cross_entropy", loss_config or {})


def sample(version: str | None, max_tokens: int = 8, **params: Any) -> c.Sample:
    prompt = np.arange(10, dtype=np.int32)
    return c.Sample("tiny", version, prompt, 1, SamplingParams(max_tokens=max_tokens, stop=(), **params), 3)


def test_the_model_is_described(process: Process) -> None:
    model = process.engine.models["tiny"]
    assert (model.name, model.architecture, model.vocab_size) == ("tiny", "qwen3", VOCAB)
    assert process.engine.pid not in (0, os.getpid())


def test_create_train_publish_sample_snapshot_load(process: Process, tmp_path: Path) -> None:
    create = c.CreateAdapter("a", "tiny", LoraConfig(4, 1))
    loop = [op for _ in range(5) for op in (train("a"), c.OptimStep("a", STEP))]
    created, *results = process.ask(create, *loop)
    assert created is None
    losses = [r.metrics["loss:sum"] for r in results[::2]]
    assert losses[-1] < losses[0]  # the same data over and over
    published, size = process.ask(c.Publish("a", "v", str(tmp_path / "v")), c.Snapshot("a", str(tmp_path / "s")))
    assert published is None
    assert size == sum(f.stat().st_size for f in (tmp_path / "s").iterdir())
    (first,) = process.ask(sample("v"))
    assert len(first.sequences[0].tokens) == 8
    info, _, loaded = process.ask(
        c.LoadAdapter("b", "tiny", str(tmp_path / "s"), True),
        c.LoadVersion("again", "tiny", str(tmp_path / "v")),
        c.OptimStep("b", STEP),
    )
    assert (info.steps, info.lora.rank) == (5, 4)
    assert loaded["optimizer/skipped"] == 1
    (second,) = process.ask(sample("again"))
    np.testing.assert_array_equal(first.sequences[0].logprobs, second.sequences[0].logprobs)


def test_an_error_arrives_with_its_class_and_the_next_operation_runs(process: Process) -> None:
    wrong, fine = process.ask(train("nobody"), c.CreateAdapter("e", "tiny", LoraConfig(4, 1)))
    assert isinstance(wrong, UserError)
    assert "'nobody'" in str(wrong)
    assert fine is None


@pytest.mark.parametrize("key", ["learning_rate", "@"])
def test_an_unknown_setting_fails_its_own_operation_only(key: str, model_directories: dict[str, Path]) -> None:
    """Clients choose these keys; none may silence the engine for everybody."""
    own = Process(model_directories["qwen3"])
    try:
        create = c.CreateAdapter("x", "tiny", LoraConfig(4, 1))
        _, refused = own.ask(create, train("x", loss_config={key: 1.0}), seconds=5)
        assert isinstance(refused, UserError)
        assert f"'{key}'" in str(refused)
        assert own.ask(c.DropAdapter("x"), seconds=5) == [None]
    finally:
        own.kill()
        own.close()


def test_what_cannot_be_encoded_fails_its_own_operation_only(process: Process) -> None:
    failed, fine = process.ask(c.DropAdapter(object()), c.DropAdapter("nobody"))  # type: ignore[arg-type]
    assert isinstance(failed, ServerError)
    assert fine is None


def test_compute_seconds_grow_with_work(process: Process) -> None:
    async def seconds() -> float:
        return await process.engine.compute_seconds()

    before = process.run(seconds())
    process.ask(c.CreateAdapter("t", "tiny", LoraConfig(4, 1)), *[train("t", i) for i in range(5)])
    time.sleep(0.05)
    after = process.run(seconds())
    assert after > before
    time.sleep(0.2)
    assert process.run(seconds()) - after < 0.15  # an idle engine computes nothing


def test_a_cancelled_sample_makes_room(process: Process) -> None:
    async def cancel_and_go_on() -> float:
        before = await process.engine.compute_seconds()
        futures = [process.engine.submit(sample(None, max_tokens=240)) for _ in range(200)]
        await asyncio.sleep(0.05)
        for future in futures:
            future.cancel()
        await process.engine.submit(sample(None))
        await asyncio.sleep(0.05)
        settled = await process.engine.compute_seconds()
        assert settled > before
        await asyncio.sleep(0.2)
        return await process.engine.compute_seconds() - settled

    assert process.run(cancel_and_go_on()) < 0.1


def test_a_killed_engine_loses_what_was_under_way_and_can_be_restarted(model_directories: dict[str, Path]) -> None:
    own = Process(model_directories["qwen3"])
    try:
        own.ask(c.CreateAdapter("a", "tiny", LoraConfig(4, 1)))
        old = own.engine.pid

        async def killed() -> list[Any]:
            waiting = [own.engine.submit(train("a", i)) for i in range(200)]
            waiting.append(own.engine.submit(sample(None, max_tokens=200)))
            own.kill()
            return await asyncio.gather(*waiting, return_exceptions=True)

        results = own.run(killed())
        assert isinstance(results[-1], EngineLostError)
        assert isinstance(results[-2], EngineLostError)
        (late,) = own.ask(c.DropAdapter("a"))
        assert isinstance(late, EngineLostError)

        own.run(own.engine.restart())
        assert own.engine.pid != old
        forgotten, sampled = own.ask(train("a"), sample(None))
        assert isinstance(forgotten, UserError)
        assert len(sampled.sequences[0].tokens) == 8
    finally:
        own.close()


def test_closing_finishes_the_writes_under_way(model_directories: dict[str, Path], tmp_path: Path) -> None:
    own = Process(model_directories["qwen3"])
    pid = own.engine.pid
    own.ask(c.CreateAdapter("a", "tiny", LoraConfig(512, 1)))

    async def write_and_go() -> None:
        snapshots = [own.engine.submit(c.Snapshot("a", str(tmp_path / f"s{i}"))) for i in range(4)]
        await own.engine.submit(c.Publish("a", "v", str(tmp_path / "v")))
        await own.engine.close()
        await asyncio.gather(*snapshots, return_exceptions=True)  # written, but nobody was left to be told

    own.run(write_and_go())
    own.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert sorted(d.name for d in tmp_path.iterdir()) == ["s0", "s1", "s2", "s3", "v"]


def test_a_stream_is_the_result_in_parts(process: Process) -> None:
    operation = replace(sample(None), num_samples=3, topk_sample_logprobs=2)

    async def collect() -> list[Any]:
        return [part async for part in process.engine.stream(operation)]

    *parts, result = process.run(collect())
    (whole,) = process.ask(operation)
    for index, sequence in enumerate(whole.sequences):
        mine = [part for part in parts if part.index == index]
        np.testing.assert_array_equal([part.token for part in mine], sequence.tokens)
        np.testing.assert_array_equal(np.float32([part.logprob for part in mine]), sequence.logprobs)
        np.testing.assert_array_equal(np.float32([part.topk for part in mine])[..., 1], sequence.topk.logprobs)
        assert [part.stop_reason for part in mine] == [None] * (len(mine) - 1) + [sequence.stop_reason]
        np.testing.assert_array_equal(result.sequences[index].tokens, sequence.tokens)


def test_a_stream_that_is_left_stops_its_sampling(process: Process) -> None:
    async def leave() -> float:
        stream = process.engine.stream(replace(sample(None, max_tokens=10_000), num_samples=8))
        async for _ in stream:
            break
        await stream.aclose()
        await asyncio.sleep(0.2)  # for what was under way
        before = await process.engine.compute_seconds()
        await asyncio.sleep(0.3)
        return await process.engine.compute_seconds() - before

    assert process.run(leave()) < 0.05


def test_a_stream_fails_as_its_operation_does(process: Process) -> None:
    async def collect(operation: c.Sample) -> None:
        async for _ in process.engine.stream(operation):
            pass

    with pytest.raises(UserError, match="temperature"):
        process.run(collect(sample(None, temperature=-1.0)))
