import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import MODEL, Client, forward_backward, serving
from tests.support.uniform_engine import UniformEngine

pytestmark = pytest.mark.usefixtures("any_database")


async def save(client: Client, model: str, seq: int, name: str, kind: str = "save_weights", **fields: Any) -> Any:
    submitted = await client.post(kind, {"model_id": model, "seq_id": seq, "path": name} | fields)
    return await client.result(submitted["request_id"])


def test_a_run_goes_on_exactly_where_its_checkpoint_was_taken(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            model = await client.model(session)
            await client.send(forward_backward(model, 1))
            await client.step(model, 2)
            path = (await save(client, model, 3, "here"))["path"]
            assert path == f"tinker://{model}/weights/here"
            expected = (await client.output(await client.send(forward_backward(model, 4)))).metrics
        async with serving(tmp_path) as client:
            session = await client.session()
            load = {"session_id": session, "model_seq_id": 0, "path": path, "optimizer": True}
            loaded = await client.result((await client.post("load_weights", load))["request_id"])
            assert loaded["model_id"] == f"{session}:train:0"
            info = await client.post("get_info", {"model_id": loaded["model_id"]})
            assert info["model_data"]["model_name"] == MODEL
            assert info["lora_rank"] == 4
            again = (await client.output(await client.send(forward_backward(loaded["model_id"], 1)))).metrics
            assert again == expected
            other = await client.model(session, 1)
            old_way = {"model_id": other, "seq_id": 1, "path": path, "optimizer": True}
            await client.result((await client.post("load_weights", old_way))["request_id"])
            assert (await client.output(await client.send(forward_backward(other, 2)))).metrics == expected

    asyncio.run(run())


def test_a_run_loaded_from_a_checkpoint_survives_its_deletion(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            model = await client.model(session)
            path = (await save(client, model, 1, "gone"))["path"]
            load = {"session_id": session, "model_seq_id": 1, "path": path, "optimizer": True}
            loaded = (await client.result((await client.post("load_weights", load))["request_id"]))["model_id"]
            await client.output(await client.send(forward_backward(loaded, 1)))
            await client.http.delete(f"/api/v1/training_runs/{model}/checkpoints/weights/gone")
            client.engine.die()
            assert (await client.output(await client.send(forward_backward(loaded, 2)))).metrics["loss:sum"] > 0

    asyncio.run(run())


def test_a_checkpoint_belongs_to_the_weights_it_was_trained_on(tmp_path: Path) -> None:
    """Of the same shape, so that the engine itself would notice nothing."""
    engine = UniformEngine()
    engine.models["same/long"] = replace(engine.models[MODEL], name="same/long", max_context=512)
    engine.models["other/model"] = replace(engine.models[MODEL], name="other/model", directory="/elsewhere")

    async def run() -> None:
        async with serving(tmp_path, engine) as client:
            session = await client.session()
            model = await client.model(session)
            path = (await save(client, model, 1, "a"))["path"]
            for number, base_model, status in ((1, "same/long", 200), (2, "other/model", 400)):
                load = {"session_id": session, "model_seq_id": number, "optimizer": True}
                sample = {"session_id": session, "sampling_session_seq_id": number}
                loaded = await client.post("load_weights", load | {"path": path, "base_model": base_model})
                answer = await client.result(loaded["request_id"])
                body = sample | {"model_path": path, "base_model": base_model}
                opened = await client.post("create_sampling_session", body, status=status)
                if status == 200:
                    info = await client.post("get_info", {"model_id": answer["model_id"]})
                    assert info["model_data"]["model_name"] == base_model
                else:
                    says = "belongs to hone/uniform, not to other/model"
                    assert says in answer["error"]
                    assert answer["category"] == "user"
                    assert says in opened["detail"]

    asyncio.run(run())


def test_overwriting_replaces_weights_and_metadata_and_leaves_one_directory(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            await save(client, model, 1, "x", user_metadata={"a": "1"})
            await client.send(forward_backward(model, 2))
            await save(client, model, 3, "x", user_metadata={"b": "2"}, overwrite=True)
            (listed,) = (await client.get(f"training_runs/{model}/checkpoints"))["checkpoints"]
            assert listed["user_metadata"] == {"b": "2"}
            assert [path.name for path in client.service.data.checkpoints.glob("*/weights/*")] == ["x@3"]

    asyncio.run(run())


def test_lists(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session(), user_metadata={"renderer_name": "r"})
            await save(client, model, 1, "a")
            await save(client, model, 2, "a", "save_weights_for_sampler", ttl_seconds=3600)
            await save(client, model, 3, "b")
            listed = await client.get("checkpoints?limit=2")
            assert [checkpoint["checkpoint_id"] for checkpoint in listed["checkpoints"]] == [
                "weights/b",
                "sampler_weights/a",
            ]
            assert listed["cursor"] == {"offset": 0, "limit": 2, "total_count": 3}
            sampler = listed["checkpoints"][1]
            assert sampler["checkpoint_type"] == "sampler"
            assert sampler["size_bytes"] > 0
            assert sampler["expires_at"] > sampler["time"]
            shown = await client.get(f"training_runs/{model}")
            assert shown["user_metadata"] == {"renderer_name": "r"}
            assert shown["last_checkpoint"]["checkpoint_id"] == "weights/b"
            assert shown["last_sampler_checkpoint"]["checkpoint_id"] == "sampler_weights/a"
            runs = await client.get("training_runs?limit=20&access_scope=owned")
            assert runs == {"training_runs": [shown], "cursor": {"offset": 0, "limit": 20, "total_count": 1}}
            info = await client.post("weights_info", {"tinker_path": f"tinker://{model}/weights/a"})
            assert (info["base_model"], info["lora_rank"], info["train_mlp"]) == (MODEL, 4, True)

    asyncio.run(run())


def test_changes(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            await save(client, model, 1, "a")
            base = f"/api/v1/training_runs/{model}/checkpoints/weights/a"

            async def shown() -> Any:
                return (await client.get(f"training_runs/{model}/checkpoints"))["checkpoints"]

            for _ in range(2):
                assert (await client.http.post(f"{base}/publish")).status_code == 204
                assert (await shown())[0]["public"] is True
            for _ in range(2):
                assert (await client.http.delete(f"{base}/publish")).status_code == 204
                assert (await shown())[0]["public"] is False
            assert (await client.http.put(f"{base}/ttl", json={"ttl_seconds": 7200})).status_code == 204
            assert (await shown())[0]["expires_at"] is not None
            assert (await client.http.put(f"{base}/ttl", json={"ttl_seconds": None})).status_code == 204
            assert (await shown())[0]["expires_at"] is None
            assert (await client.http.put(f"{base}/ttl", json={"ttl_seconds": 1})).status_code == 400
            assert (await client.http.delete(base)).status_code == 204
            assert await shown() == []
            assert not list(client.service.data.checkpoints.glob("*/weights/*"))
            assert (await client.http.delete(base)).status_code == 404
            assert (await client.http.post(f"{base}/publish")).status_code == 404
            assert (await client.http.delete(base.replace("weights/a", "other/a"))).status_code == 400
            assert (await save(client, model, 2, "a"))["path"].endswith("/weights/a"), "the name is free again"

    asyncio.run(run())
