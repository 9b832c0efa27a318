"""Whatever a client sends wrong: it is told what is allowed, it is its own fault, and the next request works."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from hone.protocol.proto import tinker_public_pb2 as wire
from tests.support.service import MODEL, Client, datum_message, forward_backward, serving

pytestmark = pytest.mark.usefixtures("any_database")


def image(model: str) -> wire.ForwardBackwardRequest:
    message = forward_backward(model, 1)
    message.data[0].model_input.add().image.format = "gif"
    return message


def odd_bytes(model: str) -> wire.ForwardBackwardRequest:
    message = forward_backward(model, 1)
    message.data[0].model_input[0].encoded_text.tokens = b"123"
    return message


def training(*data: wire.Datum, **fields: Any) -> Callable[[str], wire.ForwardBackwardRequest]:
    return lambda model: forward_backward(model, 1, *data, **fields)


POLICY = {"logprobs": [0, 0, 0], "advantages": [1, 1, 1]}

TRAINING = {
    "token": (training(datum_message([1, 99, 3], weights=[1, 1, 1])), r"data\[0\].model_input holds token 99.*0\.\.49"),
    "target": (training(datum_message([1, 2, 3], target_tokens=[1, -1, 2])), r"target_tokens holds token -1"),
    "empty datum": (training(datum_message([], target_tokens=[])), r"data\[0\].model_input is empty"),
    "lengths": (training(datum_message([1, 2, 3], target_tokens=[1, 2])), r"2 rows but model_input has 3 tokens"),
    "shape": (training(datum_message([1, 2, 3], weights=[1, 1])), r"weights has shape \[2\]; it must equal.*\[3\]"),
    "missing input": (training(loss_fn="ppo"), r"lacks 'logprobs'; 'ppo' needs target_tokens, logprobs, advantages"),
    "not finite": (
        training(datum_message([1, 2], weights=[1, float("nan")])),
        "weights holds a value that is not finite",
    ),
    "loss": (training(loss_fn="invented"), "loss_fn 'invented' is unknown; this server has cispo, cross_entropy"),
    "loss setting": (
        training(datum_message([1, 2, 3], **POLICY), loss_fn="ppo", loss_fn_config={"clip": 1}),
        "loss_fn_config key 'clip' is unknown to 'ppo'; it has clip_low_threshold, clip_high_threshold",
    ),
    "image": (image, r"chunks\[1\].format is 'gif'; allowed are png and jpeg"),
    "odd bytes": (odd_bytes, r"tokens has 3 bytes, not a multiple of the 4"),
    "no provenance": (
        training(datum_message([1, 2, 3], **POLICY), loss_fn="stable_reinforce"),
        "model_input_spans cover 0 positions of 3",
    ),
}


@pytest.mark.parametrize("case", TRAINING)
def test_training_data(tmp_path: Path, case: str) -> None:
    make, says = TRAINING[case]

    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            failed = await client.result(await client.send(make(model)))
            assert failed["category"] == "user"
            assert_says(failed["error"], says)
            assert (await client.output(await client.send(forward_backward(model, 2)))).metrics["loss:sum"] > 0

    asyncio.run(run())


OPERATIONS = {
    "no parameters": ("optim_step", {}, "adam_params is missing"),
    "learning rate": ("optim_step", {"adam_params": {"learning_rate": "x"}}, "adam_params.learning_rate: .*found 'x'"),
    "another optimizer": ("optim_step", {"optimizer_params": {"type": "dimuon"}}, "'dimuon' do not fit.*adam_params"),
    "save without a name": ("save_weights", {}, "path is missing"),
    "name that escapes": ("save_weights", {"path": "../../etc"}, "'../../etc' is not a checkpoint name"),
    "name in use": ("save_weights", {"path": "taken"}, "path 'taken' is in use.*delete it first"),
    "sampler name in use": ("save_weights_for_sampler", {"path": "taken"}, "path 'taken' is in use"),
    "short life": ("save_weights", {"path": "a", "ttl_seconds": 5}, "ttl_seconds: .*3600, found 5"),
    "neither named nor numbered": ("save_weights_for_sampler", {}, "either path.*or sampling_session_seq_id"),
    "load of nothing": ("load_weights", {"path": "tinker://x/weights/y", "optimizer": True}, "y does not exist"),
    "load of no path": ("load_weights", {"path": "y", "optimizer": True}, "'y' is not a checkpoint; expected tinker://"),
    "load of a sampler": (
        "load_weights",
        {"path": "tinker://x/sampler_weights/y", "optimizer": True},
        r"is a sampler checkpoint; only .../weights/",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OPERATIONS)
def test_operations(tmp_path: Path, case: str) -> None:
    endpoint, fields, says = OPERATIONS[case]

    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            for seq, kind in ((1, "save_weights"), (2, "save_weights_for_sampler")):
                saved = await client.post(kind, {"model_id": model, "seq_id": seq, "path": "taken"})
                assert "path" in await client.result(saved["request_id"])
            request = await client.post(endpoint, {"model_id": model, "seq_id": 3} | fields)
            failed = await client.result(request["request_id"])
            assert failed["category"] == "user"
            assert_says(failed["error"], says)
            assert (await client.output(await client.send(forward_backward(model, 4)))).metrics["loss:sum"] > 0

    asyncio.run(run())


CREATIONS = {
    "base model": ({"base_model": "no/such"}, f"base_model 'no/such' is not served here; this server has {MODEL}"),
    "no base model": ({"base_model": None}, "base_model: .*string, found None"),
    "optimizer": ({"optimizer_config": {"type": "dimuon", "version": 1}}, "optimizer_config.type 'dimuon'.*adamw"),
    "rank": ({"lora_config": {"rank": 0}}, "lora_config.rank: .*greater than or equal to 1, found 0"),
    "nothing to train": (
        {"lora_config": {"rank": 8, "train_mlp": False, "train_attn": False, "train_unembed": False}},
        "lora_config trains nothing",
    ),
}


@pytest.mark.parametrize("case", CREATIONS)
def test_creations(tmp_path: Path, case: str) -> None:
    fields, says = CREATIONS[case]

    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            body = {"session_id": session, "model_seq_id": 0, "base_model": MODEL} | fields
            failed = await client.result((await client.post("create_model", body))["request_id"])
            assert failed["category"] == "user"
            assert_says(failed["error"], says)
            assert await client.model(session, 1)

    asyncio.run(run())


SAMPLES = {
    "prompt too long": ({"prompt": [1] * 300}, "prompt has 300 tokens.*context window is 256"),
    "temperature": ({"sampling_params": {"temperature": -1}}, "sampling_params.temperature: .*found -1"),
    "top_p": ({"sampling_params": {"top_p": 2}}, "sampling_params.top_p: .*less than or equal to 1, found 2"),
    "last n": ({"prompt_logprobs": True, "prompt_logprobs_last_n": 3}, r"prompt_logprobs_last_n is 3.*1\.\.2"),
    "alternatives": ({"prompt_alt_tokens_k": 2000}, "prompt_alt_tokens_k: .*less than or equal to 1024, found 2000"),
    "targets": ({"target_prompt_logprobs": {"data": [1], "dtype": "int64", "shape": [1, 1]}}, "target_prompt_logprobs"),
    "image": ({"prompt": None}, r"prompt.chunks\[0\].data is empty; send the bytes of a png file"),
}


@pytest.mark.parametrize("case", SAMPLES)
def test_samples(tmp_path: Path, case: str) -> None:
    fields, says = SAMPLES[case]

    async def run() -> None:
        async with serving(tmp_path) as client:
            sampler = await open_sampler(client)
            failed = await client.result(
                (await client.post("asample", sample(sampler, 0) | prompted(fields)))["request_id"]
            )
            assert failed["category"] == "user"
            assert_says(failed["error"], says)
            assert isinstance(
                await client.result((await client.post("asample", sample(sampler, 1)))["request_id"]), bytes
            )

    asyncio.run(run())


async def open_sampler(client: Client) -> str:
    body = {"session_id": await client.session(), "sampling_session_seq_id": 0, "base_model": MODEL}
    return str((await client.post("create_sampling_session", body))["sampling_session_id"])


def sample(sampler: str, seq: int) -> dict[str, Any]:
    text = {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]}
    return {"sampling_session_id": sampler, "seq_id": seq, "prompt": text, "sampling_params": {"max_tokens": 4}}


def prompted(fields: dict[str, Any]) -> dict[str, Any]:
    if "prompt" not in fields:
        return fields
    tokens = fields["prompt"]
    chunk = {"type": "encoded_text", "tokens": tokens} if tokens else {"type": "image", "data": "", "format": "png"}
    return fields | {"prompt": {"chunks": [chunk]}}


REFUSED: dict[str, tuple[str, Any, int, str]] = {
    "not JSON": ("optim_step", b"{", 400, "the body is not JSON"),
    "not an object": ("optim_step", b"[]", 400, "must be a JSON object, found list"),
    "no address": ("optim_step", {"seq_id": 1}, 400, "model_id is missing"),
    "number": ("optim_step", {"model_id": "{model}", "seq_id": 0}, 400, "seq_id: .*found 0"),
    "unknown session": ("optim_step", {"model_id": "s:train:0", "seq_id": 1}, 404, "session_id 's' is unknown"),
    "unknown model": (
        "optim_step",
        {"model_id": "{session}:train:9", "seq_id": 1},
        404,
        "model_id '.*:train:9' is unknown",
    ),
    "unknown info": ("get_info", {"model_id": "x"}, 404, "training run 'x' does not exist"),
    "unknown future": ("retrieve_future", {"request_id": "x"}, 404, "request_id 'x' is unknown"),
    "unknown sampler": (
        "asample",
        {"sampling_session_id": "{session}:sample:5", "seq_id": 0},
        404,
        "sample:5' is unknown",
    ),
    "unknown weights": ("weights_info", {"tinker_path": "tinker://x/weights/y"}, 404, "does not exist"),
    "no protobuf": ("forward_backward", b"\xff\xff", 400, "not a ForwardBackwardRequest in protobuf"),
    "protobuf without a model": ("forward_backward", b"\x10\x01", 400, "model_id is missing"),
    "sampling from nothing": (
        "create_sampling_session",
        {"session_id": "{session}", "sampling_session_seq_id": 0},
        400,
        "base_model and model_path are both missing",
    ),
    "sampling from a bad path": (
        "create_sampling_session",
        {"session_id": "{session}", "sampling_session_seq_id": 0, "model_path": "tinker://x"},
        400,
        "'tinker://x' is not a checkpoint",
    ),
    "sampling from an unknown model": (
        "create_sampling_session",
        {"session_id": "{session}", "sampling_session_seq_id": 0, "base_model": "no/such"},
        404,
        "base_model 'no/such' is not served here",
    ),
    "unknown endpoint": ("invented", {}, 404, "POST /api/v1/invented is no endpoint"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_at_once(tmp_path: Path, case: str) -> None:
    endpoint, body, status, says = REFUSED[case]

    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            model = await client.model(session)
            if isinstance(body, dict):
                names = {"{session}": session, "{model}": model}
                filled = {key: fill(value, names) for key, value in body.items()}
                response = await client.http.post(f"/api/v1/{endpoint}", json=filled)
            else:
                response = await client.http.post(f"/api/v1/{endpoint}", content=body)
            assert response.status_code == status, response.text
            assert_says(response.json()["detail"], says)
            assert int(response.headers["content-length"]) > 0
            assert (await client.output(await client.send(forward_backward(model, 1)))).metrics["loss:sum"] > 0

    asyncio.run(run())


def fill(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        for name, meaning in names.items():
            value = value.replace(name, meaning)
    return value


@pytest.mark.parametrize("key", [None, "tml-wrong", "tml-tes", "wrong"])
def test_keys(tmp_path: Path, key: str | None) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            client.http.headers.pop("X-API-Key")
            headers = {} if key is None else {"X-API-Key": key}
            response = await client.http.post("/api/v1/client/config", json={}, headers=headers)
            assert response.status_code == 401
            assert "API key" in response.json()["detail"]
            assert (await client.http.get("/healthz")).status_code == 200

    asyncio.run(run())


def test_what_no_database_holds_is_the_askers_mistake(tmp_path: Path) -> None:
    """Lone surrogates, numbers beyond 64 bits, and in Postgres NUL: refused or kept, never our failure."""

    async def run() -> None:
        async with serving(tmp_path) as client:
            lone = await client.http.post("/api/v1/create_session", content=rb'{"sdk_version": "\ud800"}')
            assert (lone.status_code, lone.json()["category"]) == (400, "user")
            model = await client.model(await client.session())
            step = {"adam_params": {"learning_rate": 1.0}}
            refused = await client.post("optim_step", {"model_id": model, "seq_id": 2**63, **step}, 400)
            assert refused["category"] == "user"
            for path, body in (
                ("create_session", {"tags": [], "sdk_version": "\0"}),
                ("optim_step", {"model_id": f"{model}\0", "seq_id": 1, **step}),
                ("weights_info", {"tinker_path": f"tinker://{model}/weights/a\0"}),
                ("retrieve_future", {"request_id": "\0"}),
            ):
                response = await client.http.post(f"/api/v1/{path}", json=body)
                assert response.status_code in (200, 400, 404), (path, response.text)

    asyncio.run(run())


def test_bodies_are_bounded_packed_or_not(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, max_body_bytes=10_000) as client:
            model = await client.model(await client.session())
            big = forward_backward(model, 1, datum_message(list(np.ones(5000, int)))).SerializeToString()
            plain = await client.http.post("/api/v1/forward_backward", content=big)
            assert plain.status_code == 413
            zstd = {"Content-Encoding": "zstd"}
            packed = await client.http.post("/api/v1/forward_backward", content=zstandard.compress(big), headers=zstd)
            assert packed.status_code == 400
            assert "more than 10000 bytes" in packed.json()["detail"]
            small = zstandard.compress(forward_backward(model, 1).SerializeToString())
            good = await client.http.post("/api/v1/forward_backward", content=small, headers=zstd)
            assert (await client.output(good.json()["request_id"])).metrics["loss:sum"] > 0
            other = await client.http.post(
                "/api/v1/forward_backward", content=small, headers={"Content-Encoding": "br"}
            )
            assert other.status_code == 415

    asyncio.run(run())


def assert_says(text: str, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        raise ValueError(text)
