"""What only clients before 0.38 send: training in JSON, and the end of a model before that of its session."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hone.protocol.proto import tinker_public_pb2 as wire
from tests.support.service import Client, crash, forward_backward, serving
from tests.support.uniform_engine import UniformEngine

pytestmark = pytest.mark.usefixtures("any_database")


def as_json(model: str, seq: int, tokens: list[int], key: str = "forward_backward_input") -> dict[str, Any]:
    shape = [len(tokens)]
    ones = {"data": [1.0] * len(tokens), "dtype": "float32", "shape": shape}
    targets = {"data": [*tokens[1:], 1], "dtype": "int64", "shape": shape}
    datum = {
        "model_input": {"chunks": [{"type": "encoded_text", "tokens": tokens}]},
        "loss_fn_inputs": {"target_tokens": targets, "weights": ones},
    }
    return {"model_id": model, "seq_id": seq, key: {"data": [datum], "loss_fn": "cross_entropy"}}


async def only(client: Client, models: list[str]) -> None:
    """Wait until the engine has these models and no other."""
    async with asyncio.timeout(5):
        while sorted(client.engine.adapters) != models:
            await asyncio.sleep(0.01)


def test_json_and_protobuf_of_equal_content_are_one_request(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            first = (await client.post("forward_backward", as_json(model, 1, [1, 2, 3])))["request_id"]
            assert (await client.post("forward_backward", as_json(model, 1, [1, 2, 3])))["request_id"] == first
            assert await client.send(forward_backward(model, 1)) == first
            await client.post("forward_backward", as_json(model, 1, [1, 2]), status=400)
            assert (await client.output(first)).metrics["loss:sum"] > 0

    asyncio.run(run())


def test_forward_changes_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            states = []
            for seq, path, key in ((1, "forward", "forward_input"), (2, "forward_backward", "forward_backward_input")):
                request_id = (await client.post(path, as_json(model, seq, [1, 2, 3], key)))["request_id"]
                states.append((await client.output(request_id)).metrics["state:max"])
            assert states[0] == 7, "the seed: a forward leaves the adapter as it was made"
            assert states[1] != 7

    asyncio.run(run())


def test_a_request_that_cannot_be_read_uses_up_its_number(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            request_id = (await client.post("forward_backward", as_json(model, 1, [2**31])))["request_id"]
            failed = await client.result(request_id)
            assert failed["category"] == "user"
            assert "no tokens of any model" in failed["error"]
            output = await client.output(await client.send(forward_backward(model, 2)))
            assert isinstance(output, wire.ForwardBackwardOutput)

    asyncio.run(run())


def test_an_unloaded_model_is_let_go_once_its_work_is_done(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, UniformEngine(slow=0.05)) as client:
            session = await client.session()
            model, other = await client.model(session), await client.model(session, seq=1)
            await client.post("save_weights", {"model_id": model, "seq_id": 1, "path": "kept"})
            sampler = {"model_id": model, "seq_id": 2, "path": "kept"}
            await client.post("save_weights_for_sampler", sampler)
            last = await client.send(forward_backward(model, 3))
            unloading = await client.post("unload_model", {"model_id": model})
            assert await client.result(unloading["request_id"]) == {"model_id": model, "type": "unload_model"}
            assert (await client.output(last)).metrics["loss:sum"] > 0, "accepted before, so done before"
            await only(client, [other])
            assert list((tmp_path / "snapshots").glob(f"{model}@*")) == []
            refused = await client.post("optim_step", {"model_id": model, "seq_id": 4, "adam_params": {}}, status=400)
            assert "takes no more work" in refused["detail"]
            again = await client.post("unload_model", {"model_id": model})
            assert again["request_id"] == unloading["request_id"]
            path = f"tinker://{model}/weights/kept"
            loading = {"session_id": session, "model_seq_id": 2, "path": path, "optimizer": True}
            assert (await client.result((await client.post("load_weights", loading))["request_id"]))["path"] == path
            await client.post(f"sessions/{session}/finish", {"reason": {"type": "success"}}, status=204)
            await only(client, [])

    asyncio.run(run())


def test_unloading_survives_a_crash(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, UniformEngine(slow=0.2)) as client:
            model = await client.model(await client.session())
            await client.send(forward_backward(model, 1))
            unloading = await client.post("unload_model", {"model_id": model})
            await crash(client.service)
        async with serving(tmp_path) as client:
            answer = await client.result(unloading["request_id"])
            assert answer == {"model_id": model, "type": "unload_model"}
            await client.post("optim_step", {"model_id": model, "seq_id": 2, "adam_params": {}}, status=400)

    asyncio.run(run())


def test_an_unknown_model_cannot_be_unloaded(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            answer = await client.post("unload_model", {"model_id": f"{session}:train:5"}, status=404)
            assert f"{session}:train:5" in answer["detail"]

    asyncio.run(run())


def test_lists_leave_out_kinds_that_the_client_does_not_know(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            for seq, kind in enumerate(("save_weights", "save_weights_external"), start=1):
                saved = await client.post(kind, {"model_id": model, "seq_id": seq, "path": "x"})
                await client.result(saved["request_id"])
            versions = {"0.25.0": 1, "0.27.2": 1, "0.28.0": 2, "0.38.0": 2, "1.0.0": 2}
            for version, count in versions.items():
                for path in ("checkpoints", f"training_runs/{model}/checkpoints"):
                    agent = {"User-Agent": f"AsyncTinker/Python {version}"}
                    found = (await client.http.get(f"/api/v1/{path}", headers=agent)).json()
                    assert len(found["checkpoints"]) == count, (version, path)
            assert len((await client.get("checkpoints"))["checkpoints"]) == 2, "another program sees all"

    asyncio.run(run())
