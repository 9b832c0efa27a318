import asyncio
from pathlib import Path

import pytest

from hone.engine import contract
from hone.errors import UserError
from hone.server.lanes import lane as lane_module
from tests.support.service import Client, datum_message, forward_backward, serving
from tests.support.uniform_engine import UniformEngine

pytestmark = pytest.mark.usefixtures("any_database")


async def three(client: Client, order: tuple[int, ...], session_seq: int) -> list[float]:
    """Three different operations of a new model, submitted in this order; their results in order of number."""
    model = await client.model(await client.session(), session_seq)
    requests = {}
    for seq in order:
        datum = datum_message([seq, seq + 1], weights=[1, 1])
        requests[seq] = await client.send(forward_backward(model, seq, datum))
    return [(await client.output(requests[seq])).metrics["state:max"] for seq in sorted(order)]


def test_operations_take_effect_in_order_of_number_whatever_the_order_of_arrival(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            expected = await three(client, (1, 2, 3), 0)
            assert len(set(expected)) == 3
            assert await three(client, (2, 3, 1), 1) == expected
            assert await three(client, (3, 2, 1), 2) == expected

    asyncio.run(run())


def test_operations_go_to_the_engine_without_waiting_for_results(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, UniformEngine(slow=0.1)) as client:
            model = await client.model(await client.session())
            requests = [await client.send(forward_backward(model, seq)) for seq in (1, 2, 3)]
            requests.append(await client.step(model, 4))
            await asyncio.sleep(0.02)
            kinds = [type(operation).__name__ for operation in client.engine.submitted[1:]]
            assert kinds == ["ForwardBackward"] * 3 + ["OptimStep"]
            assert (await client.result(requests[-1]))["metrics"]["steps"] == 1

    asyncio.run(run())


def test_a_failed_operation_is_an_answer_and_the_next_ones_work(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            client.engine.fail_next = [UserError("too bad"), RuntimeError("a bug")]
            bad, worse, good = [await client.send(forward_backward(model, seq)) for seq in (1, 2, 3)]
            assert await client.result(bad) == {"error": "too bad", "category": "user"}
            assert (await client.result(worse))["category"] == "server"
            assert (await client.output(good)).metrics["loss:sum"] > 0

    asyncio.run(run())


def test_what_waits_for_a_number_that_never_comes_fails_and_the_model_goes_on(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, gap_seconds=0.1) as client:
            model = await client.model(await client.session())
            early = await client.send(forward_backward(model, 3))
            failed = await client.result(early)
            assert failed["category"] == "user"
            assert "seq_id 3 came, but 1, 2 before it did not" in failed["error"]
            late = await client.send(forward_backward(model, 2))
            assert "wait for it was over" in (await client.result(late))["error"]
            assert (await client.output(await client.send(forward_backward(model, 4)))).metrics["loss:sum"] > 0

    asyncio.run(run())


def test_a_repeated_submission_runs_once(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            requests = {await client.send(forward_backward(model, 1)) for _ in range(3)}
            requests |= set(await asyncio.gather(*(client.send(forward_backward(model, 1)) for _ in range(3))))
            assert len(requests) == 1
            await client.output(requests.pop())
            assert sum(isinstance(done, contract.ForwardBackward) for done in client.engine.submitted) == 1
            other = forward_backward(model, 1, loss_fn="ppo").SerializeToString()
            response = await client.http.post("/api/v1/forward_backward", content=other)
            assert response.status_code == 400
            assert "another request" in response.json()["detail"]

    asyncio.run(run())


def test_a_model_that_could_not_be_made_says_so_in_every_later_answer(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            body = {"session_id": session, "model_seq_id": 0, "base_model": "no/such"}
            creation = await client.post("create_model", body)
            request = await client.send(forward_backward(f"{session}:train:0", 1))
            assert "no/such" in (await client.result(creation["request_id"]))["error"]
            failed = await client.result(request)
            assert failed["category"] == "user"

    asyncio.run(run())


def test_a_model_is_snapshotted_by_policy_and_when_idle(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, snapshot_operations=4, idle_seconds=0.1) as client:
            model = await client.model(await client.session())
            for seq in (1, 3, 5):
                await client.output(await client.send(forward_backward(model, seq)))
                await client.result(await client.step(model, seq + 1))
            taken = [done for done in client.engine.submitted if isinstance(done, contract.Snapshot)]
            assert len(taken) == 1, "creation and three operations reach the limit of four; two more do not"
            await asyncio.sleep(0.4)
            run_row = await client.service.store.run(model)
            assert run_row.snapshot_seq == 6
            assert [path.name for path in client.service.data.snapshots.iterdir()] == [
                str(run_row.snapshot_directory).split("/")[1]
            ], "the older one is gone"
            history = await client.service.journal.history(model, -1, 6)
            assert [past.entry.payload for past in history] == [b""] * 7

    asyncio.run(run())


def test_what_is_far_ahead_waits_in_the_journal_and_not_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither this process nor the engine's holds more than a part of what a client sends ahead."""

    async def run(ahead: int | None) -> tuple[list[float], int, int]:
        if ahead is not None:
            monkeypatch.setattr(lane_module, "AHEAD_BYTES", ahead)
        engine = UniformEngine()
        async with serving(tmp_path / str(ahead), engine) as client:
            model = await client.model(await client.session())
            engine.slow = 1.0  # it has hardly begun when all is sent
            data = [datum_message([seq] * 200, weights=[1] * 200) for seq in range(1, 31)]
            requests = [await client.send(forward_backward(model, seq, one)) for seq, one in enumerate(data, 1)]
            lane = client.service.worker._lanes[model]
            submitted = sum(isinstance(done, contract.ForwardBackward) for done in engine.submitted)
            held = sum(len(entry.payload) for entry in [*lane._queue, *lane._answers.unanswered.values()])
            engine.slow = 0.0
            requests.append(await client.step(model, 31))
            outputs = [await client.output(request) for request in requests[:-1]]
            assert (await client.result(requests[-1]))["metrics"]["steps"] == 1
            return [output.metrics["state:max"] for output in outputs], submitted, held

    free, all_at_once, all_bytes = asyncio.run(run(None))
    one = all_bytes // all_at_once
    bounded, submitted, held = asyncio.run(run(3 * one))
    assert bounded == free
    assert all_at_once > 20
    assert submitted < 20
    assert held <= 8 * one
