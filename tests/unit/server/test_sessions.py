import asyncio
from pathlib import Path

import pytest

from hone.engine import contract
from tests.support.service import Client, crash, forward_backward, make_service, serving
from tests.support.uniform_engine import UniformEngine

pytestmark = pytest.mark.usefixtures("any_database")


async def finish(client: Client, session: str, reason: str = "success") -> None:
    body = {"reason": {"type": reason}, "detail": None}
    response = await client.http.post(f"/api/v1/sessions/{session}/finish", json=body)
    assert response.status_code == 204, response.text


async def eventually(holds: object) -> None:
    for _ in range(100):
        if holds():  # type: ignore[operator]
            return
        await asyncio.sleep(0.02)
    pytest.fail("still not so after two seconds")


def test_a_repeated_creation_is_the_same_session(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            made = []
            for key in ("a", "a", "b", None, None):
                headers = {"X-Idempotency-Key": key} if key else {}
                response = await client.http.post("/api/v1/create_session", json={"sdk_version": "x"}, headers=headers)
                made.append(response.json()["session_id"])
            assert made[0] == made[1]
            assert len(set(made)) == 4

    asyncio.run(run())


def test_a_finished_session_takes_no_work_and_ends_its_heartbeat(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            model = await client.model(session)
            heartbeat = {"session_id": session}
            assert await client.post("session_heartbeat", heartbeat) == {"type": "session_heartbeat"}
            await finish(client, session)
            await finish(client, session, "errored")
            await client.post("session_heartbeat", heartbeat, status=410)
            message = forward_backward(model, 1).SerializeToString()
            refused = await client.http.post("/api/v1/forward_backward", content=message)
            assert refused.status_code == 400
            assert "is finished" in refused.json()["detail"]
            await client.post("session_heartbeat", {"session_id": "x"}, status=404)

    asyncio.run(run())


def test_what_was_accepted_before_the_end_is_completed_and_then_nothing_is_left(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, UniformEngine(slow=0.05), idle_seconds=0.01) as client:
            session = await client.session()
            model = await client.model(session)
            publish = {"model_id": model, "seq_id": 1, "sampling_session_seq_id": 0}
            await client.result((await client.post("save_weights_for_sampler", publish))["request_id"])
            save = await client.post("save_weights", {"model_id": model, "seq_id": 2, "path": "kept"})
            last = await client.send(forward_backward(model, 3))
            await finish(client, session)
            assert (await client.output(last)).metrics["loss:sum"] > 0
            assert "path" in await client.result(save["request_id"])
            await eventually(lambda: not client.engine.adapters)
            await eventually(lambda: not list(client.service.data.snapshots.iterdir()))
            await eventually(lambda: not list(client.service.data.checkpoints.glob("*/sampler_weights/*")))
            assert [path.name for path in client.service.data.checkpoints.glob("*/weights/*")] == ["kept@2"]
            assert isinstance(client.engine.submitted[-1], contract.DropVersion | contract.DropAdapter)

    asyncio.run(run())


def test_an_end_that_a_crash_interrupted_goes_on(tmp_path: Path) -> None:
    async def run() -> None:
        engine = UniformEngine()
        service = make_service(tmp_path, engine, idle_seconds=0.01)
        await service.start()
        before = Client(service, engine)
        async with before.http:
            session = await before.session()
            await before.model(session)
            await eventually(lambda: list(service.data.snapshots.iterdir()))
            await asyncio.sleep(0.1)
            await service.store.finish_session(session, "success", None)
            await crash(service)
        async with serving(tmp_path) as client:
            await eventually(lambda: not list(client.service.data.snapshots.iterdir()))

    asyncio.run(run())


def test_sessions_are_listed_with_what_they_made(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            body = {"sdk_version": "x", "user_metadata": {"n": 1}, "display_name": "mine"}
            session = (await client.post("create_session", body))["session_id"]
            other = await client.session()
            model = await client.model(session)
            assert set((await client.get("sessions"))["sessions"]) == {session, other}
            assert (await client.get("sessions?limit=1&offset=1"))["sessions"] == [session]
            assert await client.get(f"sessions/{session}") == {
                "training_run_ids": [model],
                "sampler_ids": [],
                "user_metadata": {"n": "1"},
                "display_name": "mine",
            }

    asyncio.run(run())


def test_a_session_that_fell_silent_is_freed_and_resumed_from_its_checkpoint(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            silent, alive = await client.session(), await client.session()
            model = await client.model(silent)
            await client.model(alive)
            saved = await client.post("save_weights", {"model_id": model, "seq_id": 1, "path": "a"})
            path = (await client.result(saved["request_id"]))["path"]
            await client.service.sessions.finish_silent(3600)
            assert await client.post("session_heartbeat", {"session_id": silent})
            await asyncio.sleep(0.2)
            assert await client.post("session_heartbeat", {"session_id": alive})
            await client.service.sessions.finish_silent(0.15)
            await client.post("session_heartbeat", {"session_id": silent}, status=410)
            await client.post("session_heartbeat", {"session_id": alive})
            await asyncio.sleep(0.2)
            assert list(client.engine.adapters) == [f"{alive}:train:0"]
            load = {"session_id": alive, "model_seq_id": 1, "path": path, "optimizer": True}
            resumed = await client.post("load_weights", load)
            assert (await client.result(resumed["request_id"]))["model_id"] == f"{alive}:train:1"

    asyncio.run(run())
