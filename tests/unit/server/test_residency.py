"""Models beyond the engine's room wait in their snapshots, and nobody can tell."""

import asyncio
from pathlib import Path

import pytest

from hone.engine import contract
from hone.server.residency import Residency
from tests.support.service import Client, forward_backward, serving

pytestmark = pytest.mark.usefixtures("any_database")


class Model:
    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self.asked_to_leave = 0

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
