"""A checkpoint whose time is over is gone at once, its files soon, and whoever asks for it learns why."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from hone.server.expiry import remove_expired
from tests.support.service import Client, serving
from tests.unit.server.test_checkpoints import save

pytestmark = pytest.mark.usefixtures("any_database")


async def sweep(client: Client) -> None:
    service = client.service
    await remove_expired(service.store, service.versions, service.blobs, time.time())


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + seconds)


def test_an_expired_checkpoint_vanishes_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            model = await client.model(session)
            path = (await save(client, model, 1, "a", ttl_seconds=3600))["path"]
            sampler = (await save(client, model, 2, "a", "save_weights_for_sampler", ttl_seconds=3600))["path"]
            kept = (await save(client, model, 3, "kept"))["path"]
            later(monkeypatch, 3590)
            await sweep(client)
            assert len((await client.get("checkpoints"))["checkpoints"]) == 3
            later(monkeypatch, 20)

            async def gone() -> None:
                listed = await client.get("checkpoints")
                assert [one["tinker_path"] for one in listed["checkpoints"]] == [kept]
                assert listed["cursor"]["total_count"] == 1
                shown = await client.get(f"training_runs/{model}")
                assert shown["last_checkpoint"]["tinker_path"] == kept
                assert shown["last_sampler_checkpoint"] is None
                told: list[Any] = [
                    await client.post("weights_info", {"tinker_path": path}, status=404),
                    await client.post(
                        "create_sampling_session",
                        {"session_id": session, "sampling_session_seq_id": 9, "model_path": sampler},
                        status=404,
                    ),
                    await client.post("copy_weights", {"source_path": path}, status=404),
                ]
                assert all("expired at" in answer["detail"] for answer in told), told
                base = f"/api/v1/training_runs/{model}/checkpoints/weights/a"
                assert (await client.http.put(f"{base}/ttl", json={"ttl_seconds": None})).status_code == 404
                assert (await client.http.post(f"{base}/publish")).status_code == 404

            await gone()
            await sweep(client)
            await gone()
            assert [one.name for one in client.service.data.checkpoints.glob("*/*/*")] == ["kept@3"]

    asyncio.run(run())


def test_loading_an_expired_checkpoint_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            path = (await save(client, await client.model(session), 1, "a", ttl_seconds=3600))["path"]
            later(monkeypatch, 3601)
            await sweep(client)
            load = {"session_id": session, "model_seq_id": 1, "path": path, "optimizer": False}
            answer = await client.result((await client.post("load_weights", load))["request_id"])
            assert answer["category"] == "user"
            assert "expired at" in answer["error"]

    asyncio.run(run())


@pytest.mark.parametrize("swept", [False, True])
def test_the_name_is_free_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swept: bool) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            await save(client, model, 1, "a", ttl_seconds=3600)
            later(monkeypatch, 3601)
            if swept:
                await sweep(client)
            path = (await save(client, model, 2, "a"))["path"]
            await sweep(client)
            assert (await client.post("weights_info", {"tinker_path": path}))["lora_rank"] == 4
            assert [one.name for one in client.service.data.checkpoints.glob("*/*/*")] == ["a@2"]

    asyncio.run(run())


def test_a_time_to_live_out_of_range_is_the_users_mistake(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            for seq, seconds in enumerate((0, 3599, 10 * 365 * 24 * 3600 + 1), start=1):
                answer = await save(client, model, seq, "a", ttl_seconds=seconds)
                assert answer["category"] == "user"
                assert "ttl_seconds" in answer["error"]
            assert "path" in await save(client, model, 4, "a", ttl_seconds=10 * 365 * 24 * 3600)

    asyncio.run(run())


def test_the_server_sweeps_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            await save(client, await client.model(await client.session()), 1, "a", ttl_seconds=3600)
        later(monkeypatch, 3601)
        async with serving(tmp_path) as client:
            async with asyncio.timeout(5):
                while list(client.service.data.checkpoints.glob("*/*/*")):
                    await asyncio.sleep(0.01)

    asyncio.run(run())
