"""Exports and archives: files fetched by links that need no key, and nothing else by them."""

import asyncio
import io
import tarfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.service import Client, serving

pytestmark = pytest.mark.usefixtures("any_database")

FILE = "adapter_model.safetensors"


async def export(client: Client, model: str, seq: int, name: str = "out", **fields: Any) -> Any:
    submitted = await client.post("save_weights_external", {"model_id": model, "seq_id": seq, "path": name} | fields)
    return await client.result(submitted["request_id"])


def anonymous(client: Client) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=client.http._transport, base_url="http://server")


async def links(client: Client, model: str, name: str = "out") -> Any:
    return await client.get(f"training_runs/{model}/checkpoints/external_weights/{name}/external_weights_urls")


def test_an_export_is_listed_and_its_files_are_fetched_without_a_key(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            saved = await export(client, model, 1, ttl_seconds=3600)
            assert saved["path"] == f"tinker://{model}/external_weights/out"
            (listed,) = (await client.get(f"training_runs/{model}/checkpoints"))["checkpoints"]
            assert (listed["checkpoint_type"], listed["size_bytes"]) == ("external", saved["size_bytes"])
            given = await links(client, model)
            assert list(given["urls"]) == [FILE]
            assert given["expires"] > listed["time"]
            async with anonymous(client) as http:
                fetched = await http.get(given["urls"][FILE])
                assert fetched.status_code == 200
                assert int(fetched.headers["content-length"]) == saved["size_bytes"]
                part = await http.get(given["urls"][FILE], headers={"Range": "bytes=0-3"})
                assert (part.status_code, part.content) == (206, fetched.content[:4])
                assert (await http.get(f"/api/v1/training_runs/{model}/checkpoints")).status_code == 401

    asyncio.run(run())


def test_links_follow_the_name_that_clients_use_or_the_operator_gives(tmp_path: Path) -> None:
    async def run(wanted: str, **settings: Any) -> None:
        async with serving(tmp_path / wanted.partition("//")[2], **settings) as client:
            model = await client.model(await client.session())
            await export(client, model, 1)
            assert (await links(client, model))["urls"][FILE].startswith(f"{wanted}/api/v1/downloads/")

    asyncio.run(run("http://server"))
    asyncio.run(run("https://hone.example", public_url="https://hone.example/"))


def test_a_link_opens_one_file_until_it_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client, anonymous(client) as http:
            model = await client.model(await client.session())
            await export(client, model, 1)
            url = (await links(client, model))["urls"][FILE]
            start, _, token, _ = urlsplit(url).path.rsplit("/", 3)
            base = f"{start}/downloads"
            claims = token.split(".")
            changed = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
            for path in (
                f"{base}/{changed}/{FILE}",
                f"{base}/{claims[0]}.{claims[1]}./{FILE}",
                f"{base}/{claims[0]}.e30.{claims[2]}/{FILE}",
                f"{base}/x/{FILE}",
                f"{base}/{token}/hone.sqlite",
                f"{base}/{token}/..%5Chone.sqlite",
            ):
                assert (await http.get(path)).status_code == 403, path
            for path in (f"{base}/{token}/../../../hone.sqlite", f"{base}/{token}/..%2F..%2Fhone.sqlite", f"{base}/"):
                assert (await http.get(path)).status_code in (401, 403, 404), path
            now = time.time()
            monkeypatch.setattr(time, "time", lambda: now + 3500)
            assert (await http.get(url)).status_code == 200
            monkeypatch.setattr(time, "time", lambda: now + 3601)
            late = await http.get(url)
            assert (late.status_code, "expired" in late.json()["detail"]) == (403, True)

    asyncio.run(run())


def test_a_link_does_not_outlive_its_checkpoint(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client, anonymous(client) as http:
            model = await client.model(await client.session())
            await export(client, model, 1)
            url = (await links(client, model))["urls"][FILE]
            await client.http.delete(f"/api/v1/training_runs/{model}/checkpoints/external_weights/out")
            assert (await http.get(url)).status_code == 404
            await export(client, model, 2)
            again = await http.get(url)
            assert (again.status_code, "saved again" in again.json()["detail"]) == (404, True)

    asyncio.run(run())


def test_a_name_in_use_and_too_many_keys_are_the_users_mistakes(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            await export(client, model, 1)
            again = await export(client, model, 2)
            assert again["category"] == "user"
            assert "in use" in again["error"]
            eleven = await export(client, model, 3, "many", age_encryption_recipients=["age1x"] * 11)
            assert eleven["category"] == "user"
            assert "at most 10" in eleven["error"]
            assert "3600" in (await export(client, model, 4, "short", ttl_seconds=3599))["error"]
            assert (await export(client, model, 5, "../x"))["category"] == "user"
            encrypted = await export(client, model, 6, "secret", age_encryption_recipients=["age1x"])
            assert list((await links(client, model, "secret"))["urls"]) == [f"{FILE}.age"], encrypted

    asyncio.run(run())


def test_only_exports_have_links_and_only_what_is_there(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            await client.result(
                (await client.post("save_weights", {"model_id": model, "seq_id": 1, "path": "a"}))["request_id"]
            )
            base = f"/api/v1/training_runs/{model}/checkpoints"
            refused = await client.http.get(f"{base}/weights/a/external_weights_urls")
            assert (refused.status_code, "save_weights_external" in refused.json()["detail"]) == (400, True)
            assert (await client.http.get(f"{base}/external_weights/a/external_weights_urls")).status_code == 404
            load = {"session_id": model.partition(":")[0], "model_seq_id": 1, "optimizer": False}
            load["path"] = f"tinker://{model}/external_weights/a"
            answer = await client.result((await client.post("load_weights", load))["request_id"])
            assert "external checkpoint" in answer["error"]

    asyncio.run(run())


def test_older_clients_get_an_archive(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client, anonymous(client) as http:
            model = await client.model(await client.session())
            body = {"model_id": model, "seq_id": 1, "path": "a"}
            await client.result((await client.post("save_weights_for_sampler", body))["request_id"])
            (directory,) = client.service.data.checkpoints.glob("*/sampler_weights/*")
            (directory / "hone.json").write_text("{}")
            (directory / "optimizer.safetensors").write_text("moments")
            (directory / "adapter_config.json").write_text("x" * 1000)
            asked = await client.http.get(f"/api/v1/training_runs/{model}/checkpoints/sampler_weights/a/archive")
            assert asked.status_code == 302
            assert asked.headers["location"] == asked.json()["url"]
            assert asked.headers["expires"].endswith("GMT")
            fetched = await http.get(asked.headers["location"])
            assert int(fetched.headers["content-length"]) == len(fetched.content)
            with tarfile.open(fileobj=io.BytesIO(fetched.content)) as archive:
                assert archive.getnames() == ["adapter_config.json", "state.json", "checkpoint_complete"]
                content = archive.extractfile("adapter_config.json")
                assert content is not None
                assert content.read() == b"x" * 1000

    asyncio.run(run())
