"""The engine's thread, without a process around it: order, isolation, errors, persistence."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hone.engine import contract as c
from hone.engine import loop as loop_module
from hone.engine import side_by_side, trainer
from hone.engine.limits import Limits
from hone.engine.loop import EngineLoop
from hone.engine.models.load import LoadedModel
from hone.engine.sampling.sampler import Sampler
from hone.engine.wire import CANCEL, CLOSE
from hone.errors import ServerError, UserError
from hone.protocol.types import AdamParams, Datum, LoraConfig, SamplingParams
from tests.unit.engine.material import VOCAB, random_datum

STEP = AdamParams(learning_rate=1e-2)


class RunningLoop:
    """An `EngineLoop` on a thread of its own."""

    def __init__(self, models: dict[str, LoadedModel], limits: Limits) -> None:
        self._futures: dict[int, Future[Any]] = {}
        self.loop = EngineLoop(models, limits, self._reply)
        self._thread = threading.Thread(target=self.loop.run)
        self._thread.start()

    def submit(self, operation: Any) -> "Future[Any]":
        ticket = len(self._futures) + 1
        future: Future[Any] = Future()
        self._futures[ticket] = future
        self.loop.put(ticket, operation)
        return future

    def ask(self, operation: Any) -> Any:
        return self.submit(operation).result(30)

    def cancel(self, future: "Future[Any]") -> None:
        (ticket,) = [t for t, f in self._futures.items() if f is future]
        self.loop.put(ticket, CANCEL)

    def close(self) -> None:
        self.loop.put(0, CLOSE)
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _reply(self, ticket: int, result: Any) -> None:
        if isinstance(result, Exception):
            self._futures[ticket].set_exception(result)
        else:
            self._futures[ticket].set_result(result)


@pytest.fixture
def engine(models: dict[str, LoadedModel]) -> Iterator[RunningLoop]:
    running = RunningLoop({name: models[name] for name in ("qwen3", "qwen3_moe")}, Limits(micro_batch_tokens=64))
    yield running
    running.close()


def create(adapter: str, seed: int = 1, model: str = "qwen3", rank: int = 4) -> c.CreateAdapter:
    return c.CreateAdapter(adapter, model, LoraConfig(rank, seed))


def train(adapter: str, seed: int = 0, lengths: tuple[int, ...] = (9, 30, 40), **more: Any) -> c.ForwardBackward:
    rng = np.random.default_rng(seed)
    loss_fn = more.pop("loss_fn", "cross_entropy")
    data = tuple(random_datum(rng, n, loss_fn) for n in lengths)
    return c.ForwardBackward(adapter, data, loss_fn, more.pop("loss_config", {}), **more)


def sample(version: str | None, seed: int = 0, max_tokens: int = 10, model: str = "qwen3") -> c.Sample:
    prompt = np.arange(20, dtype=np.int32)
    return c.Sample(model, version, prompt, 2, SamplingParams(max_tokens=max_tokens, stop=()), seed)


def bytes_of(engine: RunningLoop, adapter: str, directory: Path) -> dict[str, bytes]:
    """Everything about an adapter, as a snapshot has it."""
    engine.ask(c.Snapshot(adapter, str(directory)))
    return {f.name: f.read_bytes() for f in directory.iterdir()}


def test_operations_of_one_adapter_take_effect_in_order(engine: RunningLoop, tmp_path: Path) -> None:
    """Sent in one go, they are what they are one by one."""
    work = [create("a"), train("a", 1), c.OptimStep("a", STEP), train("a", 2), train("a", 3), c.OptimStep("a", STEP)]
    sent = [engine.submit(op) for op in work]
    one_go = [f.result(30) for f in sent]
    together = bytes_of(engine, "a", tmp_path / "together")
    one_by_one = [engine.ask(op) for op in work]
    assert one_go[2] == one_by_one[2]
    assert one_go[4].metrics["loss:sum"] == one_by_one[4].metrics["loss:sum"]
    assert bytes_of(engine, "a", tmp_path / "apart") == together


def test_other_tenants_change_no_bit(engine: RunningLoop, tmp_path: Path) -> None:
    mine = [create("a"), train("a", 1), c.OptimStep("a", STEP), train("a", 2, loss_fn="ppo"), c.OptimStep("a", STEP)]
    for op in mine:
        engine.ask(op)
    alone = bytes_of(engine, "a", tmp_path / "alone")
    others = [f"other {i}" for i in range(4)]
    for i, name in enumerate(others):
        engine.submit(create(name, seed=i, rank=2 + i, model="qwen3_moe" if i == 3 else "qwen3"))
    sent = []
    for turn, op in enumerate(mine):
        sent.append(engine.submit(op))
        for name in others:
            sent.append(engine.submit(train(name, 10 * turn, lengths=(5, 60, 13))))
            sent.append(engine.submit(c.OptimStep(name, STEP)))
        sent.append(engine.submit(sample(None, turn)))
    for future in sent:
        future.result(60)
    assert bytes_of(engine, "a", tmp_path / "in company") == alone


def test_a_step_without_a_gradient_is_skipped(engine: RunningLoop) -> None:
    engine.ask(create("a"))
    assert engine.ask(c.OptimStep("a", STEP))["optimizer/skipped"] == 1
    engine.ask(train("a", forward_only=True))
    assert engine.ask(c.OptimStep("a", STEP))["optimizer/skipped"] == 1
    engine.ask(train("a"))
    assert "optimizer/skipped" not in engine.ask(c.OptimStep("a", STEP))


def test_results_stand_in_the_order_of_the_data(engine: RunningLoop) -> None:
    engine.ask(create("a"))
    op = train("a", lengths=(40, 3, 17, 3, 60, 1))
    together = engine.ask(op)
    assert [len(x) for x in together.logprobs] == [40, 3, 17, 3, 60, 1]
    for i, datum in enumerate(op.data):
        (alone,) = engine.ask(replace(op, data=(datum,), forward_only=True)).logprobs
        np.testing.assert_array_equal(alone, together.logprobs[i])
    losses = [engine.ask(replace(op, data=(d,), forward_only=True)).metrics["loss:sum"] for d in op.data]
    assert together.metrics["loss:sum"] == pytest.approx(sum(losses), rel=1e-6)


def test_the_substitute_loss_names_itself(engine: RunningLoop) -> None:
    engine.ask(create("a"))
    metrics = engine.ask(train("a", loss_fn="stable_reinforce")).metrics
    assert metrics["stable_reinforce_substitute:mean"] == 1.0


def bad_data() -> dict[str, tuple[c.ForwardBackward, str]]:
    good = train("a").data[0]
    targets = good.loss_inputs["target_tokens"]

    def with_inputs(**inputs: np.ndarray) -> c.ForwardBackward:
        return c.ForwardBackward(
            "a", (good, replace(good, loss_inputs={**good.loss_inputs, **inputs})), "cross_entropy", {}
        )

    return {
        "unknown loss": (train("a", loss_fn="cross_entropy", loss_config={"x": 1.0}), "'x'"),
        "no data": (c.ForwardBackward("a", (), "cross_entropy", {}), "data is empty"),
        "wrong token": (with_inputs(target_tokens=targets + VOCAB), r"data\[1\].*target_tokens"),
        "wrong shape": (with_inputs(weights=np.ones(3, np.float32)), r"data\[1\].*weights"),
        "not finite": (with_inputs(weights=np.full(len(targets), np.nan, np.float32)), r"data\[1\].*weights"),
        "missing input": (replace(train("a"), loss_fn="ppo"), r"data\[0\].*logprobs"),
        "too long": (train("a", lengths=(300,)), r"data\[0\].*300 tokens"),
        "no such adapter": (train("nobody"), "'nobody' does not exist"),
    }


@pytest.mark.parametrize("case", bad_data())
def test_bad_data_are_refused_and_leave_no_trace(case: str, engine: RunningLoop, tmp_path: Path) -> None:
    op, named = bad_data()[case]
    engine.ask(create("a"))
    engine.ask(train("a"))
    before = bytes_of(engine, "a", tmp_path / "before")
    with pytest.raises(UserError, match=named):
        engine.ask(op)
    assert bytes_of(engine, "a", tmp_path / "after") == before
    engine.ask(train("a"))


@pytest.mark.parametrize("earlier", [True, False], ids=["after a pass", "first pass"])
def test_a_pass_that_fails_half_way_leaves_the_gradient_as_it_was(
    earlier: bool, engine: RunningLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.ask(create("a"))
    if earlier:
        engine.ask(train("a", 1))
    before = bytes_of(engine, "a", tmp_path / "before")
    plain, calls = trainer.run_pieces, 0

    def failing(*args: Any) -> Any:
        nonlocal calls
        results = plain(*args)
        calls += 1
        if calls == 2:
            raise RuntimeError("the machine is on fire")
        return results

    monkeypatch.setattr(side_by_side, "run_pieces", failing)
    failed = engine.submit(train("a", 2))
    following = engine.submit(train("a", 3, forward_only=True))
    with pytest.raises(ServerError, match="on fire"):
        failed.result(30)
    following.result(30)
    assert bytes_of(engine, "a", tmp_path / "after") == before


def test_unknown_names_are_user_errors(engine: RunningLoop) -> None:
    with pytest.raises(UserError, match=r"'nowhere' is not served here.*qwen3"):
        engine.ask(create("a", model="nowhere"))
    with pytest.raises(UserError, match="'nowhere' is not served here"):
        engine.ask(sample(None, model="nowhere"))
    with pytest.raises(UserError, match="'a' does not exist"):
        engine.ask(c.OptimStep("a", STEP))
    with pytest.raises(ServerError, match="'v' is not loaded"):
        engine.ask(sample("v"))


@pytest.mark.parametrize(
    ("lora", "named"),
    [
        (LoraConfig(0, 1), "rank"),
        (LoraConfig(1025, 1), "rank"),
        (LoraConfig(4, 1, train_attn=False, train_mlp=False, train_unembed=False), "trains nothing"),
    ],
)
def test_an_adapter_that_makes_no_sense_is_refused(lora: LoraConfig, named: str, engine: RunningLoop) -> None:
    with pytest.raises(UserError, match=named):
        engine.ask(c.CreateAdapter("a", "qwen3", lora))


def test_a_published_version_is_what_the_adapter_was(engine: RunningLoop, tmp_path: Path) -> None:
    engine.ask(create("a"))
    engine.ask(train("a"))
    engine.ask(c.OptimStep("a", STEP))
    engine.ask(c.Publish("a", "v", str(tmp_path / "v")))
    before = engine.ask(sample("v"))
    for _ in range(3):
        engine.ask(train("a", 5))
        engine.ask(c.OptimStep("a", STEP))
    engine.ask(c.DropAdapter("a"))
    after = engine.ask(sample("v"))
    np.testing.assert_array_equal(before.sequences[1].logprobs, after.sequences[1].logprobs)
    assert not np.array_equal(before.sequences[1].logprobs, engine.ask(sample(None)).sequences[1].logprobs)


def test_a_version_from_disk_gives_the_same_samples(engine: RunningLoop, tmp_path: Path) -> None:
    engine.ask(create("a"))
    engine.ask(train("a"))
    engine.ask(c.OptimStep("a", STEP))
    engine.ask(c.Publish("a", "v", str(tmp_path / "v")))
    wanted = engine.ask(sample("v"))
    engine.ask(c.Snapshot("a", str(tmp_path / "s")))  # by now the publication is on disk
    engine.ask(c.DropVersion("v"))
    engine.ask(c.LoadVersion("v", "qwen3", str(tmp_path / "v")))
    found = engine.ask(sample("v"))
    for a, b in zip(found.sequences, wanted.sequences, strict=True):
        np.testing.assert_array_equal(a.logprobs, b.logprobs)
        np.testing.assert_array_equal(a.tokens, b.tokens)


def test_publications_are_on_disk_before_a_later_snapshot(engine: RunningLoop, tmp_path: Path) -> None:
    engine.ask(create("a", rank=64))
    published = [engine.submit(c.Publish("a", f"v{i}", str(tmp_path / f"v{i}"))) for i in range(8)]
    engine.ask(c.Snapshot("a", str(tmp_path / "s")))
    assert all(f.done() for f in published)
    assert all((tmp_path / f"v{i}" / "hone.json").is_file() for i in range(8))


def test_a_publication_that_found_no_room_is_written_before_a_later_snapshot(
    engine: RunningLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> int:
        raise ServerError("No space left on device")

    engine.ask(create("a"))
    engine.ask(create("b"))
    with monkeypatch.context() as full:
        full.setattr("hone.engine.loop.write_image", no_room)
        engine.ask(c.Publish("a", "v", str(tmp_path / "v")))
        engine.ask(c.Publish("a", "dropped", str(tmp_path / "dropped")))
        with pytest.raises(ServerError, match="No space"):
            engine.ask(c.Snapshot("a", str(tmp_path / "s")))
    engine.ask(c.DropVersion("dropped"))
    engine.ask(c.Snapshot("b", str(tmp_path / "b")))
    assert not (tmp_path / "v").exists(), "what one adapter owes holds up no other"
    engine.ask(c.Snapshot("a", str(tmp_path / "s")))
    assert (tmp_path / "v" / "hone.json").is_file()
    assert not (tmp_path / "dropped").exists()


@pytest.mark.parametrize("durable", [False, True])
def test_a_publication_may_be_repeated(engine: RunningLoop, tmp_path: Path, durable: bool) -> None:
    engine.ask(create("a"))
    for _ in range(2):
        engine.ask(c.Publish("a", "v", str(tmp_path / "v"), durable))
    engine.ask(c.Snapshot("a", str(tmp_path / "s")))
    assert (tmp_path / "v" / "hone.json").is_file()


def test_a_durable_publication_is_answered_when_it_is_on_disk(engine: RunningLoop, tmp_path: Path) -> None:
    engine.ask(create("a"))
    size = engine.ask(c.Publish("a", "v", str(tmp_path / "v"), durable=True))
    assert size == sum(file.stat().st_size for file in (tmp_path / "v").iterdir())
    assert (tmp_path / "v" / "hone.json").is_file()
    assert engine.ask(sample("v")).sequences


def test_continuing_from_a_snapshot_is_continuing(engine: RunningLoop, tmp_path: Path) -> None:
    engine.ask(create("a"))
    engine.ask(train("a", 1))
    engine.ask(c.OptimStep("a", STEP))
    engine.ask(train("a", 2))
    engine.ask(c.Snapshot("a", str(tmp_path / "s")))
    info = engine.ask(c.LoadAdapter("b", "qwen3", str(tmp_path / "s"), with_optimizer=True))
    assert (info.lora, info.steps) == (LoraConfig(4, 1), 1)
    for name in "ab":
        engine.ask(train(name, 3))
        engine.ask(c.OptimStep(name, STEP))
    assert bytes_of(engine, "a", tmp_path / "a") == bytes_of(engine, "b", tmp_path / "b")


def test_a_saved_checkpoint_does_not_replace_another(engine: RunningLoop, tmp_path: Path) -> None:
    engine.ask(create("a"))
    assert engine.ask(c.SaveAdapter("a", str(tmp_path / "c"), False)) > 0
    with pytest.raises(ServerError, match="exists already"):
        engine.ask(c.SaveAdapter("a", str(tmp_path / "c"), False))


def test_a_failed_load_keeps_the_adapter_of_that_name(engine: RunningLoop, tmp_path: Path) -> None:
    engine.ask(create("a"))
    engine.ask(train("a"))
    before = bytes_of(engine, "a", tmp_path / "before")
    with pytest.raises(UserError, match="missing or incomplete"):
        engine.ask(c.LoadAdapter("a", "qwen3", str(tmp_path / "nothing"), with_optimizer=True))
    with pytest.raises(UserError, match="another shape"):
        engine.ask(c.LoadAdapter("a", "qwen3_moe", str(tmp_path / "before"), with_optimizer=True))
    assert bytes_of(engine, "a", tmp_path / "after") == before


def test_others_compute_while_an_adapter_is_read(
    engine: RunningLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own operations wait for it, in order; a version that is dropped meanwhile does not come back."""
    for name in "ab":
        engine.ask(create(name))
    engine.ask(c.SaveAdapter("a", str(tmp_path / "saved"), True))
    engine.ask(train("a"))
    arrived, may_read, plain = threading.Event(), threading.Event(), loop_module.read_adapter

    def slow(*args: Any, **named: Any) -> Any:
        arrived.set()
        assert may_read.wait(20)
        return plain(*args, **named)

    monkeypatch.setattr(loop_module, "read_adapter", slow)
    load = engine.submit(c.LoadAdapter("a", "qwen3", str(tmp_path / "saved"), with_optimizer=True))
    step, version = (
        engine.submit(c.OptimStep("a", STEP)),
        engine.submit(c.LoadVersion("v", "qwen3", str(tmp_path / "saved"))),
    )
    assert arrived.wait(20)
    engine.ask(train("b"))
    engine.ask(c.OptimStep("b", STEP))
    engine.ask(sample(None))
    engine.ask(c.DropVersion("v"))
    assert not load.done()
    assert not step.done()
    may_read.set()
    assert load.result(20).steps == 0
    assert step.result(20)["optimizer/skipped"] == 1, "the gradient from before the load is gone"
    assert version.result(20) is None
    with pytest.raises(ServerError, match="'v' is not loaded"):
        engine.ask(sample("v"))


def test_snapshots_of_many_adapters_are_not_copied_all_at_once(
    engine: RunningLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that wait are taken at their place in the order all the same."""
    names = "abcdef"
    for i, name in enumerate(names):
        engine.ask(create(name, seed=i))
        engine.ask(train(name, i))
    wanted = [bytes_of(engine, name, tmp_path / f"wanted {name}") for name in names]
    size = loop_module.capture(engine.loop._adapters["a"].state, True, True).weights.nbytes * 4
    monkeypatch.setattr(loop_module, "CAPTURED_BYTES", 2 * size)
    plain, copies, most = loop_module.write_image, engine.loop, 0
    may_write = threading.Event()

    def slow(*args: Any) -> int:
        nonlocal most
        assert may_write.wait(20)
        most = max(most, copies._captured)
        return plain(*args)

    monkeypatch.setattr(loop_module, "write_image", slow)
    snapshots = [engine.submit(c.Snapshot(name, str(tmp_path / name))) for name in names]
    steps = [engine.submit(c.OptimStep(name, STEP)) for name in names]
    assert steps[0].result(20)["optimizer/steps"] == 1, "its copy was made, so it goes on"
    assert not steps[-1].done(), "its copy was not"
    may_write.set()
    for future in [*snapshots, *steps]:
        future.result(20)
    assert [{f.name: f.read_bytes() for f in (tmp_path / name).iterdir()} for name in names] == wanted
    assert most == 2 * size


def test_dropping_what_is_absent_is_fine(engine: RunningLoop) -> None:
    assert engine.ask(c.DropAdapter("nobody")) is None
    assert engine.ask(c.DropVersion("nothing")) is None


def test_a_cancelled_sample_stops_and_the_next_one_runs(engine: RunningLoop) -> None:
    doomed = engine.submit(replace(sample(None, max_tokens=200), num_samples=60))
    engine.ask(sample(None, seed=1, max_tokens=1))  # by now the first is running
    engine.cancel(doomed)
    engine.ask(sample(None, seed=2))
    time.sleep(0.05)
    assert not doomed.done()
    assert not engine.loop._samplers


def test_time_spent_computing_is_counted_and_waiting_is_not(engine: RunningLoop) -> None:
    engine.ask(create("a"))
    started = time.perf_counter()
    engine.ask(train("a"))
    time.sleep(0.02)  # the reply comes just before the clock is read
    first = engine.loop.compute_seconds
    assert 0 < first <= time.perf_counter() - started + 1
    time.sleep(0.1)
    assert engine.loop.compute_seconds == first
    engine.ask(train("a"))
    time.sleep(0.02)
    assert engine.loop.compute_seconds > first


def test_writes_under_way_are_finished_before_the_end(models: dict[str, LoadedModel], tmp_path: Path) -> None:
    running = RunningLoop({"qwen3": models["qwen3"]}, Limits())
    running.ask(create("a", rank=64))
    for i in range(5):
        running.ask(c.Publish("a", f"v{i}", str(tmp_path / f"v{i}")))
    running.close()
    assert all((tmp_path / f"v{i}" / "hone.json").is_file() for i in range(5))


def test_sampling_goes_on_while_a_long_pass_is_under_way(engine: RunningLoop) -> None:
    engine.ask(create("a"))
    backlog = engine.submit(train("a", lengths=(60,) * 200))
    engine.submit(sample(None, max_tokens=3)).result(30)
    assert not backlog.done()
    backlog.result(60)


def test_training_goes_on_between_the_chunks_of_a_long_prompt(models: dict[str, LoadedModel]) -> None:
    running = RunningLoop({"long": models["qwen3_long"]}, Limits(prefill_tokens=16))
    try:
        running.ask(create("a", model="long"))
        op = replace(sample(None, max_tokens=1, model="long"), prompt=np.arange(1200, dtype=np.int32) % VOCAB)
        long = running.submit(op)
        running.ask(train("a"))
        running.ask(c.OptimStep("a", STEP))
        assert not long.done()
        assert len(long.result(60).sequences) == 2
    finally:
        running.close()


def test_a_prompt_that_never_fits_the_cache_fails_alone(models: dict[str, LoadedModel]) -> None:
    running = RunningLoop({"qwen3": models["qwen3"]}, Limits(cache_bytes=50_000))  # 4 blocks
    try:
        other = running.submit(sample(None, max_tokens=20))
        op = replace(sample(None), prompt=np.arange(80, dtype=np.int32))
        with pytest.raises(UserError, match=r"80 tokens; .* key-value cache of \d+ tokens"):
            running.ask(op)
        assert len(other.result(30).sequences) == 2
    finally:
        running.close()


def test_a_datum_beyond_the_micro_batch_is_computed(engine: RunningLoop) -> None:
    engine.ask(create("a"))
    (logprobs,) = engine.ask(train("a", lengths=(200,))).logprobs
    assert logprobs.shape == (200,)
    assert torch.isfinite(torch.from_numpy(logprobs)).all()


def test_targets_of_different_widths_may_share_an_operation(engine: RunningLoop) -> None:
    engine.ask(create("a"))
    (one,) = train("a", lengths=(6,)).data
    wide = Datum(one.tokens, {"target_tokens": np.zeros((6, 3), np.int64), "weights": np.ones((6, 3), np.float32)})
    result = engine.ask(c.ForwardBackward("a", (one, wide, one), "cross_entropy", {}))
    assert [x.shape for x in result.logprobs] == [(6,), (6, 3), (6,)]
    np.testing.assert_array_equal(result.logprobs[0], result.logprobs[2])


def test_a_pass_says_how_it_went(engine: RunningLoop) -> None:
    engine.ask(create("a"))
    first, second = (engine.ask(train("a")).metrics for _ in range(2))
    assert second["engine/cycle:max"] > first["engine/cycle:max"]
    assert 0 < first["engine/batch_fill:mean"] <= 1
    assert first["engine/device_seconds:sum"] > 0
    assert first["engine/queue_seconds:max"] >= 0


def test_those_that_share_a_micro_batch_say_the_same(engine: RunningLoop) -> None:
    for name in "abc":
        engine.ask(create(name))
    backlog = engine.submit(train("a", 1, lengths=(60,) * 8))
    sent = time.perf_counter()
    small = [engine.submit(train(name, 2, lengths=(20,))) for name in "bc"]
    one, other = (future.result(30).metrics for future in small)
    waited = time.perf_counter() - sent
    last = backlog.result(30).metrics
    assert one["engine/cycle:max"] == other["engine/cycle:max"] < last["engine/cycle:max"]
    assert one["engine/batch_fill:mean"] == other["engine/batch_fill:mean"] == 40 / 64
    assert one["engine/device_seconds:sum"] == other["engine/device_seconds:sum"] < last["engine/device_seconds:sum"]
    for metrics in (one, other):
        assert 0 < metrics["engine/queue_seconds:max"] + 2 * metrics["engine/device_seconds:sum"] < waited


def test_a_step_runs_as_soon_as_its_gradient_is_there(engine: RunningLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the sampler has its turn, and before the passes of others go on."""
    for name in "ab":
        engine.ask(create(name))
    happened: list[str] = []

    def told(what: str, run: Any) -> Any:
        def told_and_run(*given: Any) -> Any:
            happened.append(what)
            return run(*given)

        return told_and_run

    monkeypatch.setattr(loop_module, "adamw_step", told("step", loop_module.adamw_step))
    monkeypatch.setattr(engine.loop._passes, "compute", told("pass", engine.loop._passes.compute))
    monkeypatch.setattr(Sampler, "step", told("sample", Sampler.step))
    sampling = engine.submit(sample(None, max_tokens=200))
    others = engine.submit(train("b", 1, lengths=(60,) * 12))
    asked = [engine.submit(op) for op in (train("a", 2, lengths=(20,)), c.OptimStep("a", STEP))]
    for future in (*asked, others, sampling):
        future.result(60)
    before = happened[: happened.index("step")]
    assert before[-1] == "pass"
    assert "pass" in happened[happened.index("step") :], "the other one had not ended"
    assert happened[happened.index("step") + 1] == "sample"


def test_the_sampler_has_its_half_however_much_arrives(engine: RunningLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.ask(create("a"))
    engine.ask(sample(None))  # what is compiled once is
    between: list[int] = []
    step, run = Sampler.step, side_by_side.run_pieces

    def counted(sampler: Sampler) -> Any:
        engine.loop.put(0, CANCEL)  # something arrives all the time
        if between:
            between[-1] += 1
        return step(sampler)

    def slow(*args: Any) -> Any:
        between.append(0)
        time.sleep(0.2)
        return run(*args)

    monkeypatch.setattr(Sampler, "step", counted)
    monkeypatch.setattr(side_by_side, "run_pieces", slow)
    drawn = engine.submit(sample(None, max_tokens=200))
    passes = [engine.submit(train("a", seed, lengths=(60,))) for seed in range(2)]
    for future in (*passes, drawn):
        future.result(30)
    assert len(between) == 2
    assert between[0] >= 10, "tokens in the time of a pass"


@pytest.fixture
def returned(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released each time that memory goes back; a loop rests for 0.3 seconds before."""
    monkeypatch.setattr(loop_module, "REST_SECONDS", 0.3)
    monkeypatch.setattr(loop_module, "PAUSE_SECONDS", 0.03)
    done = threading.Semaphore(0)
    monkeypatch.setattr(loop_module, "return_freed_bytes", done.release)
    return done


def test_memory_goes_back_once_when_there_is_nothing_to_do(
    models: dict[str, LoadedModel], returned: threading.Semaphore
) -> None:
    running = RunningLoop({"qwen3": models["qwen3"]}, Limits())
    try:
        assert returned.acquire(timeout=10)
        assert not returned.acquire(timeout=0.3)
        running.ask(create("a"))
        assert returned.acquire(timeout=10)
    finally:
        running.close()


def test_copies_to_disk_do_not_keep_the_memory_of_passes(
    models: dict[str, LoadedModel], returned: threading.Semaphore, tmp_path: Path
) -> None:
    running = RunningLoop({"qwen3": models["qwen3"]}, Limits())
    try:
        running.ask(create("a"))
        running.ask(train("a"))
        for turn in range(100):
            if returned.acquire(timeout=0.1):
                break
            running.ask(c.Snapshot("a", str(tmp_path / str(turn))))
        else:
            pytest.fail("a message every tenth of a second kept it")
    finally:
        running.close()
