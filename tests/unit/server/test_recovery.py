"""Runs that lose the engine, the server or both must end exactly like one that lost nothing."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from hone.engine import contract
from tests.support.service import MODEL, Client, crash, datum_message, forward_backward, make_service, serving
from tests.support.uniform_engine import UniformEngine

pytestmark = pytest.mark.usefixtures("any_database")

STEPS = 6


async def submit_run(client: Client, model: str, first: int = 0, last: int = STEPS) -> list[str]:
    """Submit steps of training without waiting; two numbers each."""
    requests = []
    for i in range(first, last):
        datum = datum_message([i + 1, i + 2, i + 3], weights=[1, 1, 1])
        requests.append(await client.send(forward_backward(model, 2 * i + 1, datum)))
        requests.append(await client.step(model, 2 * i + 2, learning_rate=1e-3 * (i + 1)))
    return requests


async def results(client: Client, requests: list[str]) -> list[Any]:
    return [await client.result(request) for request in requests]


async def undisturbed(root: Path) -> list[Any]:
    async with serving(root) as client:
        model = await client.model(await client.session())
        return await results(client, await submit_run(client, model))


@pytest.mark.parametrize("snapshot_operations", [3, 1000])
@pytest.mark.parametrize("lost_at", [1, 4, 5, 9, 12])
def test_losing_the_engine_changes_no_result(tmp_path: Path, lost_at: int, snapshot_operations: int) -> None:
    async def run() -> None:
        expected = await undisturbed(tmp_path / "a")
        seen = 0

        def lose(operation: object) -> bool:
            nonlocal seen
            seen += isinstance(operation, contract.ForwardBackward | contract.OptimStep)
            return seen == lost_at

        async with serving(tmp_path / "b", snapshot_operations=snapshot_operations) as client:
            model = await client.model(await client.session())
            client.engine.lose_on = lose
            assert await results(client, await submit_run(client, model)) == expected
            assert client.engine.restarts == 1

    asyncio.run(run())


def test_losing_the_engine_again_and_again_changes_no_result(tmp_path: Path) -> None:
    async def run() -> None:
        expected = await undisturbed(tmp_path / "a")
        async with serving(tmp_path / "b", UniformEngine(slow=0.005), snapshot_operations=4) as client:
            model = await client.model(await client.session())
            requests = await submit_run(client, model)
            for _ in range(5):
                await asyncio.sleep(0.05)
                client.engine.die()
            assert await results(client, requests) == expected

    asyncio.run(run())


@pytest.mark.parametrize("snapshot_operations", [3, 1000])
@pytest.mark.parametrize("answered", [0, 1, 5, 12])
def test_a_server_killed_and_started_again_changes_no_result(
    tmp_path: Path, answered: int, snapshot_operations: int
) -> None:
    async def run() -> None:
        expected = await undisturbed(tmp_path / "a")
        engine = UniformEngine(slow=0.01)
        service = make_service(tmp_path / "b", engine, snapshot_operations=snapshot_operations)
        await service.start()
        before = Client(service, engine)
        async with before.http:
            model = await before.model(await before.session())
            requests = await submit_run(before, model)
            assert await results(before, requests[:answered]) == expected[:answered]
            await crash(service)
        async with serving(tmp_path / "b", snapshot_operations=snapshot_operations) as client:
            assert await results(client, requests) == expected
            assert await submit_run(client, model) == requests, "the client may send everything again"

    asyncio.run(run())


def test_a_clean_stop_leaves_nothing_to_repeat(tmp_path: Path) -> None:
    async def run() -> None:
        expected = await undisturbed(tmp_path / "a")
        async with serving(tmp_path / "b") as client:
            model = await client.model(await client.session())
            first = await submit_run(client, model, last=3)
            await results(client, first)
        async with serving(tmp_path / "b") as client:
            second = await submit_run(client, model, first=3)
            assert await results(client, first + second) == expected
            kinds = [type(operation).__name__ for operation in client.engine.submitted]
            assert kinds == ["LoadAdapter", *["ForwardBackward", "OptimStep"] * 3]

    asyncio.run(run())


def test_a_named_save_is_not_made_twice(tmp_path: Path) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(serving(tmp_path))
            model = await client.model(await client.session())
            await client.output(await client.send(forward_backward(model, 1)))
            save = await client.post("save_weights", {"model_id": model, "seq_id": 2, "path": "first"})
            saved = await client.result(save["request_id"])
            client.engine.die()
            after = await client.output(await client.send(forward_backward(model, 3)))
            assert after.metrics["loss:sum"] > 0
            assert await client.result(save["request_id"]) == saved
            assert sum(isinstance(done, contract.SaveAdapter) for done in client.engine.submitted) == 1

    asyncio.run(run())


def test_a_version_lost_before_it_was_on_disk_is_published_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            model = await client.model(session)
            await client.output(await client.send(forward_backward(model, 1)))
            body = {"model_id": model, "seq_id": 2, "sampling_session_seq_id": 0}
            sampler = (await client.result((await client.post("save_weights_for_sampler", body))["request_id"]))[
                "sampling_session_id"
            ]
            before = await sample(client, sampler, 0)
            (version,) = client.service.data.root.glob("checkpoints/*/sampler_weights/*")
            (version / "state.json").unlink()
            version.rmdir()
            client.engine.die()
            assert await sample(client, sampler, 1) == before

    asyncio.run(run())


async def sample(client: Client, sampler: str, seq: int) -> bytes:
    body = {
        "sampling_session_id": sampler,
        "seq_id": seq,
        "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]},
        "sampling_params": {"max_tokens": 20, "seed": 11, "stop": []},
    }
    content = await client.result((await client.post("asample", body))["request_id"])
    assert isinstance(content, bytes), content
    return content


def test_pending_samples_are_drawn_with_the_seed_of_their_acceptance(tmp_path: Path) -> None:
    async def run() -> None:
        engine = UniformEngine(slow=30)
        service = make_service(tmp_path, engine)
        await service.start()
        before = Client(service, engine)
        async with before.http:
            session = await before.session()
            opened = {"session_id": session, "sampling_session_seq_id": 0, "base_model": MODEL}
            sampler = (await before.post("create_sampling_session", opened))["sampling_session_id"]
            body = {
                "sampling_session_id": sampler,
                "seq_id": 0,
                "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1]}]},
                "sampling_params": {"max_tokens": 5},
            }
            submitted = await before.post("asample", body)
            await asyncio.sleep(0.05)
            (first,) = engine.submitted
            await crash(service)
        async with serving(tmp_path) as client:
            assert isinstance(await client.result(submitted["request_id"]), bytes)
            (again,) = client.engine.submitted
            assert isinstance(first, contract.Sample)
            assert isinstance(again, contract.Sample)
            assert first.seed == again.seed

    asyncio.run(run())


def test_an_operation_that_ends_every_engine_fails_instead_of_hanging(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            alive = client.engine.submit

            def poisoned(operation: contract.Operation) -> asyncio.Future[Any]:
                if isinstance(operation, contract.OptimStep):
                    client.engine.lose_on = lambda _: True
                return alive(operation)

            client.engine.submit = poisoned  # type: ignore[method-assign]
            failed = await client.result(await client.step(model, 1))
            assert failed["category"] == "server"
            assert "engine ended" in failed["error"]
            assert (await client.output(await client.send(forward_backward(model, 2)))).metrics["loss:sum"] > 0

    asyncio.run(run())


def test_an_engine_that_cannot_start_fails_operations_and_health(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hone.server.recovery.RESTARTS", 1)

    async def no_restart() -> None:
        raise OSError("no memory")

    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            client.engine.restart = no_restart  # type: ignore[method-assign]
            client.engine.die()
            failed = await client.result(await client.send(forward_backward(model, 1)))
            assert "could not be started again" in failed["error"]
            assert (await client.http.get("/healthz")).status_code == 503

    asyncio.run(run())
