import asyncio
from pathlib import Path
from typing import Any

import pytest

from hone.engine.contract import Publish
from tests.support.service import Client, forward_backward, serving
from tests.unit.server.test_checkpoints import save

pytestmark = pytest.mark.usefixtures("any_database")


async def copy(client: Client, path: str, key: str | None = None, status: int = 200, **fields: Any) -> Any:
    headers = {} if key is None else {"X-Idempotency-Key": key}
    body = {"source_path": path, "destination_project_id": "other"} | fields
    answer = await client.http.post("/api/v1/copy_weights", json=body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json().get("tinker_path") or answer.json()["detail"]


def test_a_copy_outlives_its_source_and_trains_elsewhere(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session(), user_metadata={"renderer_name": "r"})
            await client.output(await client.send(forward_backward(model, 1)))
            path = (await save(client, model, 2, "a", user_metadata={"k": "v"}))["path"]
            copied = await copy(client, path, ttl_seconds=3600)
            run_id = copied.removeprefix("tinker://").split("/")[0]
            assert run_id != model
            assert copied.endswith("/weights/a")
            shown = await client.get(f"training_runs/{run_id}")
            assert shown["user_metadata"] == {"renderer_name": "r"}
            assert shown["last_checkpoint"]["user_metadata"] == {"k": "v"}
            assert shown["last_checkpoint"]["expires_at"] is not None
            await client.http.delete(f"/api/v1/training_runs/{model}/checkpoints/weights/a")
            load = {"session_id": await client.session(), "model_seq_id": 0, "path": copied, "optimizer": True}
            loaded = await client.result((await client.post("load_weights", load))["request_id"])
            output = await client.output(await client.send(forward_backward(loaded["model_id"], 1)))
            expected = await client.output(await client.send(forward_backward(model, 3)))
            assert output.metrics == expected.metrics

    asyncio.run(run())


def test_a_repeated_request_makes_no_second_copy(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            path = (await save(client, model, 1, "a"))["path"]
            other = (await save(client, model, 2, "b"))["path"]
            first, twin = await asyncio.gather(copy(client, path, "key"), copy(client, path, "key"))
            assert first == twin == await copy(client, path, "key")
            assert await copy(client, path, "another") != first
            assert "another key" in await copy(client, other, "key", status=400)
            await client.http.delete(f"/api/v1/training_runs/{model}/checkpoints/weights/a")
            assert await copy(client, path, "key") == first
            assert len(list(client.service.data.checkpoints.glob("*/weights/a@*"))) == 2

    asyncio.run(run())


def test_the_copys_run_cannot_be_trained(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            model = await client.model(session)
            path = (await save(client, model, 1, "a"))["path"]
            copied = await copy(client, path, session_id=session, model_seq_id=5)
            assert copied == f"tinker://{session}:train:5/weights/a"
            step = {"model_id": f"{session}:train:5", "seq_id": 1, "adam_params": {"learning_rate": 0.1}}
            assert "cannot be trained" in (await client.post("optim_step", step, status=400))["detail"]
            again = {"session_id": session, "model_seq_id": 5, "base_model": "hone/uniform"}
            assert "cannot be trained" in (await client.post("create_model", again, status=400))["detail"]
            assert "model_seq_id" in await copy(client, path, status=400, session_id=session, model_seq_id=0)
            assert "go together" in await copy(client, path, status=400, session_id=session)
            alone = (await copy(client, path)).removeprefix("tinker://").split("/")[0]
            step["model_id"] = alone
            assert (await client.http.post("/api/v1/optim_step", json=step)).status_code == 400
            await client.post(f"sessions/{session}/finish", {"reason": {"type": "success"}}, status=204)
            async with asyncio.timeout(5):
                while client.service.worker._lanes:  # the session ends although a copy is in it
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def test_sampler_weights_are_copied_and_sampled(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            model = await client.model(session)
            path = (await save(client, model, 1, "s", "save_weights_for_sampler"))["path"]
            assert any(isinstance(operation, Publish) for operation in client.engine.submitted)
            copied = await copy(client, path)
            body = {"session_id": session, "sampling_session_seq_id": 0, "model_path": copied}
            sampler = (await client.post("create_sampling_session", body))["sampling_session_id"]
            sample = {
                "sampling_session_id": sampler,
                "seq_id": 0,
                "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1, 2]}]},
                "sampling_params": {"max_tokens": 2},
            }
            assert b"error" not in await client.result((await client.post("asample", sample))["request_id"])

    asyncio.run(run())


def test_what_cannot_be_copied_is_said(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            assert "does not exist" in await copy(client, f"tinker://{model}/weights/x", status=404)
            assert "external" in await copy(client, f"tinker://{model}/external_weights/x", status=400)
            path = (await save(client, model, 1, "a"))["path"]
            for seconds in (3599, 10 * 365 * 24 * 3600 + 1):
                assert "ttl_seconds" in await copy(client, path, status=400, ttl_seconds=seconds)
            assert len(list(client.service.data.checkpoints.glob("*/weights/*"))) == 1

    asyncio.run(run())
