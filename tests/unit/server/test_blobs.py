"""With an object store the data directory is a cache: everything works when its files are gone."""

import asyncio
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hone.errors import ServerError
from hone.server.expiry import remove_expired
from hone.storage.object_store import LIST, ObjectStore
from tests.support.service import Client, crash, forward_backward, make_service, serving
from tests.support.uniform_engine import UniformEngine
from tests.unit.server.test_checkpoints import save
from tests.unit.server.test_copies import copy
from tests.unit.server.test_downloads import FILE, anonymous, export, links

pytestmark = pytest.mark.usefixtures("any_database")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def lose_files(client: Client) -> None:
    """As if the disk were new; the engine forgets its versions too."""
    for folder in (client.service.data.checkpoints, client.service.data.snapshots):
        shutil.rmtree(folder)
        folder.mkdir()
    client.service.versions._loaded.clear()
    client.engine.versions.clear()


def stored(store: Path) -> list[str]:
    """The complete directories in the store. Others may vanish while it looks, which `os.walk` bears."""
    return sorted(str(Path(folder).relative_to(store)) for folder, _, files in os.walk(store) if LIST in files)


async def publish(client: Client, model: str, seq: int, **fields: Any) -> Any:
    submitted = await client.post("save_weights_for_sampler", {"model_id": model, "seq_id": seq} | fields)
    return await client.result(submitted["request_id"])


async def sample(client: Client, sampler: str, seq: int = 0) -> Any:
    body = {
        "sampling_session_id": sampler,
        "seq_id": seq,
        "num_samples": 1,
        "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1, 2]}]},
        "sampling_params": {"max_tokens": 3},
    }
    return await client.result((await client.post("asample", body))["request_id"])


def test_checkpoints_load_sample_download_and_copy_from_the_store(tmp_path: Path, store: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path / "data", blobs_url=f"file://{store}") as client:
            session = await client.session()
            model = await client.model(session)
            await client.output(await client.send(forward_backward(model, 1)))
            path = (await save(client, model, 2, "a"))["path"]
            published = (await publish(client, model, 3, path="p"))["path"]
            await export(client, model, 4)
            listed = (await client.get(f"training_runs/{model}/checkpoints"))["checkpoints"]
            assert all(checkpoint["size_bytes"] for checkpoint in listed)
            assert [name.split("/")[2] for name in stored(store)] == ["external_weights", "sampler_weights", "weights"]
            lose_files(client)

            load = {"session_id": session, "model_seq_id": 1, "path": path, "optimizer": True}
            loaded = await client.result((await client.post("load_weights", load))["request_id"])
            output = await client.output(await client.send(forward_backward(loaded["model_id"], 1)))
            expected = await client.output(await client.send(forward_backward(model, 5)))
            assert output.metrics == expected.metrics

            body = {"session_id": session, "sampling_session_seq_id": 1, "model_path": published}
            sampler = (await client.post("create_sampling_session", body))["sampling_session_id"]
            assert isinstance(await sample(client, sampler), bytes)

            url = (await links(client, model))["urls"][FILE]
            lose_files(client)
            async with anonymous(client) as http:
                assert (await http.get(url)).status_code == 200
                lose_files(client)
                archive = await client.http.get(f"/api/v1/training_runs/{model}/checkpoints/weights/a/archive")
                assert archive.status_code == 302
                assert FILE not in archive.headers["location"]
                assert (await http.get(archive.headers["location"])).status_code == 200

            lose_files(client)
            copied = await copy(client, path)
            run_id = copied.removeprefix("tinker://").split("/")[0]
            assert any(name.startswith(f"checkpoints/{run_id}/") for name in stored(store))
            described = await client.post("weights_info", {"tinker_path": copied})
            assert described["lora_rank"] == 4

    asyncio.run(run())


def test_what_is_deleted_overwritten_or_expired_leaves_the_store(tmp_path: Path, store: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path / "data", blobs_url=f"file://{store}") as client:
            model = await client.model(await client.session())
            for seq, name in enumerate(("deleted", "expired", "overwritten", "kept"), 1):
                await save(client, model, seq, name)
            await save(client, model, 5, "overwritten", overwrite=True)
            await client.http.delete(f"/api/v1/training_runs/{model}/checkpoints/weights/deleted")
            ttl = f"/api/v1/training_runs/{model}/checkpoints/weights/expired/ttl"
            assert (await client.http.put(ttl, json={"ttl_seconds": 3600})).status_code == 204
            service = client.service
            await remove_expired(service.store, service.versions, service.blobs, time.time() + 4000)
            while service.blobs._discarding:
                await asyncio.sleep(0.01)
            assert {name.rsplit("/", 1)[1] for name in stored(store) if name.startswith("checkpoints/")} == {
                "overwritten@5",
                "kept@4",
            }

    asyncio.run(run())


def test_a_save_is_answered_when_it_is_in_the_store_and_repeated_if_the_server_ended_before(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is killed while the upload is under way."""
    put, under_way, over = ObjectStore.put, asyncio.Event(), threading.Event()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        engine = UniformEngine()
        service = make_service(tmp_path / "data", engine, blobs_url=f"file://{store}")
        await service.start()
        client = Client(service, engine)
        model = await client.model(await client.session())

        def cut_short(self: ObjectStore, name: str, directory: Path) -> None:
            loop.call_soon_threadsafe(under_way.set)
            over.wait(20)
            raise ServerError("the server is gone")

        monkeypatch.setattr(ObjectStore, "put", cut_short)
        requests = [
            await client.post("save_weights", {"model_id": model, "seq_id": 1, "path": "a"}),
            await client.post("save_weights_for_sampler", {"model_id": model, "seq_id": 2, "path": "b"}),
            await client.post("save_weights_external", {"model_id": model, "seq_id": 3, "path": "c"}),
        ]
        await under_way.wait()
        assert stored(store) == []
        await crash(service)
        over.set()
        monkeypatch.setattr(ObjectStore, "put", put)
        async with serving(tmp_path / "data", blobs_url=f"file://{store}") as client:
            for request in requests:
                assert "path" in await client.result(request["request_id"])
            assert [name.split("/")[2] for name in stored(store)][:3] == [
                "external_weights",
                "sampler_weights",
                "weights",
            ]

    asyncio.run(run())


def test_a_save_fails_while_the_store_does_and_nothing_of_it_stays(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ObjectStore, name: str, directory: Path) -> None:
        raise ServerError("the object store could not write it: no space")

    async def run() -> None:
        async with serving(tmp_path / "data", blobs_url=f"file://{store}") as client:
            model = await client.model(await client.session())
            with monkeypatch.context() as broken:
                broken.setattr(ObjectStore, "put", fail)
                assert "no space" in (await save(client, model, 1, "a"))["error"]
                assert "no space" in (await publish(client, model, 2, path="p"))["error"]
            assert (await client.get(f"training_runs/{model}/checkpoints"))["checkpoints"] == []
            assert not list(client.service.data.checkpoints.glob("*/*/*"))
            assert (await save(client, model, 3, "a"))["path"].endswith("/weights/a")

    asyncio.run(run())


@pytest.mark.parametrize("stopped", [True, False])
def test_a_run_goes_on_from_the_store_and_the_database_alone(tmp_path: Path, store: Path, stopped: bool) -> None:
    """A new machine: of the data directory only the database is left. Unnamed samplers come along."""

    async def run() -> None:
        settings = {
            "blobs_url": f"file://{store}",
            "database_url": f"sqlite:///{tmp_path / 'db'}",
            "idle_seconds": 0.05,
        }
        engine = UniformEngine()
        service = make_service(tmp_path / "old", engine, **settings)
        await service.start()
        client = Client(service, engine)
        model = await client.model(await client.session())
        await client.output(await client.send(forward_backward(model, 1)))
        await client.result(await client.step(model, 2))
        sampler = (await publish(client, model, 3, sampling_session_seq_id=1))["sampling_session_id"]
        while not any(name.startswith("snapshots/") for name in stored(store)):
            await asyncio.sleep(0.01)
        assert any(".unnamed@3" in name for name in stored(store))  # before the snapshot that covers it
        await client.output(await client.send(forward_backward(model, 4)))
        await client.result(await client.step(model, 5))
        drawn = await sample(client, sampler)
        quiet = engine.adapters[model]
        await (service.stop() if stopped else crash(service))

        async with serving(tmp_path / "new", **settings) as client:
            assert await sample(client, sampler) == drawn
            await save(client, model, 6, "last")
            assert client.engine.adapters[model] == quiet

    asyncio.run(run())


def test_the_end_of_a_session_leaves_only_what_was_saved(tmp_path: Path, store: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path / "data", blobs_url=f"file://{store}", idle_seconds=0.05) as client:
            session = await client.session()
            model = await client.model(session)
            await save(client, model, 1, "kept")
            await publish(client, model, 2, sampling_session_seq_id=1)
            while len(stored(store)) < 3:
                await asyncio.sleep(0.01)
            assert [name.split("/")[0] for name in stored(store)] == ["checkpoints", "checkpoints", "snapshots"]
            await client.service.sessions.finish(session, "success", None)
            while len(stored(store)) > 1:
                await asyncio.sleep(0.01)
            assert stored(store) == [f"checkpoints/{model}/weights/kept@1"]

    asyncio.run(run())


def test_snapshots_of_others_in_a_shared_store_are_left_alone(tmp_path: Path, store: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path / "one", blobs_url=f"file://{store}", idle_seconds=0.05) as client:
            await client.model(await client.session())
            while not stored(store):
                await asyncio.sleep(0.01)
        before = stored(store)
        async with serving(tmp_path / "two", blobs_url=f"file://{store}"):
            assert stored(store) == before

    asyncio.run(run())
