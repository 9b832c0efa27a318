"""Models beyond the engine's room wait in their snapshots, and nobody can tell."""

import asyncio
from pathlib import Path

import pytest

from hone.engine import contract
from hone.server.residency import BYTES_PER_PARAMETER, Residency
from tests.support.service import MODEL, Client, forward_backward, serving
from tests.support.uniform_engine import UniformEngine

pytestmark = pytest.mark.usefixtures("any_database")


class Model:
    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self.asked_to_leave = 0
        self.is_busy = False

    def leave(self) -> None:
        self.asked_to_leave += 1


def test_the_least_recently_used_leave_until_the_rest_fits() -> None:
    models = {name: Model(name) for name in "abcd"}
    residency = Residency(25)
    for name in "abab":
        residency.used(models[name], 10)
    residency.used(models["c"], 10)
    assert [models[name].asked_to_leave for name in "abc"] == [1, 0, 0]
    residency.gone(models["a"])
    assert residency.bytes == 20
    residency.used(models["d"], 20)
    assert [models[name].asked_to_leave for name in "abcd"] == [1, 1, 1, 0]
    residency.used(models["d"], 100)  # larger than all the room there is: it may stay all the same
    assert models["d"].asked_to_leave == 0


def test_who_asks_for_room_gets_it_in_turn_and_those_that_are_there_are_asked_to_leave() -> None:
    async def run() -> None:
        models = {name: Model(name) for name in "abcde"}
        residency = Residency(25)
        for name in "ab":
            await residency.enter(models[name], 10)
        assert residency.bytes == 20
        assert not residency.is_wanted
        asking = [asyncio.create_task(residency.enter(models[name], size)) for name, size in (("c", 12), ("d", 1))]
        await asyncio.sleep(0)
        assert residency.is_wanted
        assert [models[name].asked_to_leave > 0 for name in "ab"] == [True, False]
        residency.used(models["a"], 10)  # and so b is the least recently used one
        await asyncio.sleep(0)
        assert models["b"].asked_to_leave == 1
        assert not any(task.done() for task in asking), "the small one would fit, and waits for its turn"
        residency.gone(models["b"])
        await asyncio.gather(*asking)
        assert residency.bytes == 23
        whole = asyncio.create_task(residency.enter(models["e"], 100))  # more than there is: it may be there alone
        await asyncio.sleep(0)
        for name in "acd":
            assert not whole.done()
            assert models[name].asked_to_leave
            residency.gone(models[name])
        await whole
        assert residency.bytes == 100
        gives_up = asyncio.create_task(residency.enter(models["a"], 1))
        await asyncio.sleep(0)
        gives_up.cancel()
        await asyncio.gather(gives_up, return_exceptions=True)
        assert not residency.is_wanted

    asyncio.run(run())


def test_those_without_work_leave_before_those_that_were_used_earlier() -> None:
    async def run() -> None:
        models = {name: Model(name) for name in "abcd"}
        residency = Residency(30)
        for name in "abc":
            await residency.enter(models[name], 10)
        models["a"].is_busy = True
        waiting = asyncio.create_task(residency.enter(models["d"], 10))
        await asyncio.sleep(0)
        assert [models[name].asked_to_leave for name in "abc"] == [0, 1, 0]
        residency.gone(models["b"])
        await waiting

    asyncio.run(run())


async def train(client: Client, model: str, seq: int) -> float:
    loss = (await client.output(await client.send(forward_backward(model, seq)))).metrics["state:max"]
    await client.result(await client.step(model, seq + 1))
    return loss


async def left(client: Client, model: str) -> None:
    async with asyncio.timeout(5):
        while not any(done == contract.DropAdapter(model) for done in client.engine.submitted):
            await asyncio.sleep(0.01)


def test_a_model_that_left_goes_on_where_it_was(tmp_path: Path) -> None:
    async def run(adapter_bytes: int) -> list[list[float]]:
        async with serving(tmp_path / str(adapter_bytes), idle_seconds=0.05, adapter_bytes=adapter_bytes) as client:
            session = await client.session()
            models = [await client.model(session, i) for i in range(3)]
            losses: list[list[float]] = [[], [], []]
            for turn in range(4):
                for i, model in enumerate(models):
                    losses[i].append(await train(client, model, 1 + 2 * turn))
                if adapter_bytes == 1:
                    await left(client, models[0])
                    client.engine.submitted.clear()
            loads = sum(isinstance(done, contract.LoadAdapter) for done in client.engine.submitted)
            assert adapter_bytes == 1 or not loads
            return losses

    assert asyncio.run(run(1)) == asyncio.run(run(1 << 30))


def test_a_model_with_work_does_not_leave(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, idle_seconds=0.05) as client:
            model = await client.model(await client.session())
            await train(client, model, 1)
            requests = [await client.send(forward_backward(model, seq)) for seq in range(3, 23)]
            client.service.worker._lanes[model].leave()
            assert [(await client.output(request)).metrics["loss:sum"] > 0 for request in requests] == [True] * 20
            drops = [done for done in client.engine.submitted if isinstance(done, contract.DropAdapter)]
            assert not drops
            await asyncio.sleep(0.2)  # its last answers are kept
            client.service.worker._lanes[model].leave()
            await left(client, model)
            assert (await client.output(await client.send(forward_backward(model, 23)))).metrics["loss:sum"] > 0

    asyncio.run(run())


def test_what_an_ended_engine_held_is_no_longer_counted(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, idle_seconds=0.05) as client:
            lost, kept = [await client.model(await client.session(), i) for i in range(2)]
            residency = client.service.worker.shared.residency
            for model in (lost, kept):
                await train(client, model, 1)
                async with asyncio.timeout(5):
                    while (await client.service.store.run(model)).snapshot_seq < 2:
                        await asyncio.sleep(0.01)
            before = residency.bytes
            client.engine.die()
            await train(client, kept, 3)
            client.service.worker._lanes[lost].leave()
            async with asyncio.timeout(5):
                while residency.bytes >= before:
                    await asyncio.sleep(0.01)
            assert await train(client, lost, 3) > 0

    asyncio.run(run())


@pytest.mark.parametrize("room", [1, 2])
def test_more_models_than_fit_take_turns_and_none_can_tell(tmp_path: Path, room: int) -> None:
    """All have work all the time. Never are more in the engine than fit, and nobody waits for the others' end."""
    size = BYTES_PER_PARAMETER * 4 * 30  # of rank 4 on the uniform model
    steps = 6

    async def run(adapter_bytes: int) -> list[list[float]]:
        engine = UniformEngine(slow=0.002)
        settings = {"adapter_bytes": adapter_bytes, "idle_seconds": 5.0}
        async with serving(tmp_path / str(adapter_bytes), engine, **settings) as client:
            session = await client.session()
            most, finished = 0, list[int]()

            async def watch() -> None:
                nonlocal most
                while True:
                    most = max(most, len(engine.adapters))
                    await asyncio.sleep(0)

            async def one(i: int) -> list[float]:
                model = await client.model(session, i)
                losses = []
                for turn in range(steps):
                    losses.append(await train(client, model, 1 + 2 * turn))
                    finished.append(i)
                return losses

            watching = asyncio.create_task(watch())
            losses = await asyncio.gather(*(one(i) for i in range(5)))
            watching.cancel()
            loads = sum(isinstance(done, contract.LoadAdapter) for done in engine.submitted)
            if adapter_bytes == room * size:
                assert most <= room
                assert loads >= steps, "they took turns"
                assert set(finished[: 4 * steps]) == set(range(5)), "nobody waited for the others' end"
                assert client.service.worker.shared.residency.bytes <= room * size
            else:
                assert not loads
            return losses

    assert asyncio.run(run(room * size)) == asyncio.run(run(1 << 30))


def test_a_model_that_was_never_made_takes_no_room(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            residency = client.service.worker.shared.residency
            await client.model(session, 0)
            mine = residency.bytes
            assert mine == BYTES_PER_PARAMETER * 4 * 30
            wrong = [{"rank": 0}, {"rank": 10**9}, {"rank": "many"}]
            for seq, lora in enumerate(wrong, 1):
                body = {"session_id": session, "model_seq_id": seq, "base_model": MODEL, "lora_config": lora}
                response = await client.http.post("/api/v1/create_model", json=body)
                if response.status_code == 200:
                    assert "error" in await client.result(response.json()["request_id"])
                assert residency.bytes == mine
            assert not any(isinstance(done, contract.DropAdapter) for done in client.engine.submitted), "nobody left"

    asyncio.run(run())


def test_an_operation_before_its_model_is_in_the_engine_has_it_loaded_at_once(tmp_path: Path) -> None:
    """While others compute: loading is asked for when the operation comes, not when the engine has nothing else."""

    async def run() -> None:
        engine = UniformEngine(slow=0.05)
        async with serving(tmp_path, engine, idle_seconds=0.05, adapter_bytes=1 << 30) as client:
            session = await client.session()
            away, busy = [await client.model(session, i) for i in range(2)]
            await train(client, away, 1)
            await asyncio.sleep(0.2)  # its last answers are kept
            client.service.worker._lanes[away].leave()
            await left(client, away)
            backlog = [await client.send(forward_backward(busy, seq)) for seq in range(1, 21)]
            request = await client.send(forward_backward(away, 3))
            await asyncio.sleep(0.02)
            assert any(isinstance(done, contract.LoadAdapter) for done in engine.submitted)
            assert (await client.output(request)).metrics["loss:sum"] > 0
            done = [client.service.futures.expect(one).done() for one in backlog]
            assert not all(done), "it did not wait for the backlog"

    asyncio.run(run())
