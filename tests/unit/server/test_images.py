"""Images on their way: accepted, kept, repeated after a crash, counted."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinker

from hone.client.connect import service_client
from hone.engine import contract
from hone.protocol.proto import tinker_public_pb2 as wire
from hone.protocol.types import Image, PlacedImage
from tests.support.databases import Databases
from tests.support.service import (
    KEY,
    MODEL,
    Client,
    LiveServer,
    crash,
    datum_message,
    forward_backward,
    make_service,
    serving,
    window,
)
from tests.support.uniform_engine import UniformEngine

pytestmark = pytest.mark.usefixtures("any_database")

FILE = bytes(range(5))
"""Takes five tokens of the engine that stands in here."""
WEIGHTS = {"weights": [1] * 8, "target_tokens": [2, 0, 0, 0, 0, 0, 3, 4]}


def pictured(file: bytes = FILE) -> wire.Datum:
    """Two tokens, an image, a token."""
    datum = datum_message([1, 2], **WEIGHTS)
    datum.model_input.add().image.CopyFrom(wire.ImageChunk(data=file, format="jpeg", expected_tokens=5))
    datum.model_input.add().encoded_text.tokens = np.array([3], np.int32).tobytes()
    return datum


def prompt(expected_tokens: int | None = None) -> dict[str, Any]:
    image = {"type": "image", "data": base64.b64encode(FILE).decode(), "format": "png"}
    image |= {} if expected_tokens is None else {"expected_tokens": expected_tokens}
    return {"chunks": [{"type": "encoded_text", "tokens": [1, 2]}, image, {"type": "encoded_text", "tokens": [3]}]}


async def states(client: Client, model: str, files: list[bytes]) -> list[float]:
    found = []
    for i, file in enumerate(files):
        await client.output(await client.send(forward_backward(model, 2 * i + 1, pictured(file))))
        found.append((await client.result(await client.step(model, 2 * i + 2)))["metrics"]["state"])
    return found


def test_training_with_images_survives_a_killed_server(tmp_path: Path) -> None:
    files = [FILE, b"other", FILE, b"third"]

    async def run() -> None:
        async with serving(tmp_path / "a") as client:
            expected = await states(client, await client.model(await client.session()), files)
            assert len({*expected}) == len(files)
        engine = UniformEngine()
        service = make_service(tmp_path / "b", engine)
        await service.start()
        before = Client(service, engine)
        async with before.http:
            model = await before.model(await before.session())
            assert await states(before, model, files[:2]) == expected[:2]
            await crash(service)
        async with serving(tmp_path / "b") as client:
            assert await states(client, model, files) == expected  # the first two come from the journal

    asyncio.run(run())


def test_the_engine_gets_the_bytes_as_they_were_sent(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            await states(client, await client.model(session), [FILE])
            body = {"session_id": session, "sampling_session_seq_id": 0, "base_model": MODEL}
            sampler = (await client.post("create_sampling_session", body))["sampling_session_id"]
            for seq, expected in enumerate((5, None)):
                asked = {"sampling_session_id": sampler, "seq_id": seq, "prompt": prompt(expected)}
                sent = await client.post("asample", asked | {"sampling_params": {"max_tokens": 2}})
                assert isinstance(await client.result(sent["request_id"]), bytes)
            (passed,) = (op for op in client.engine.submitted if isinstance(op, contract.ForwardBackward))
            (datum,) = passed.data
            assert datum.tokens.tolist() == [1, 2, -1, -1, -1, -1, -1, 3]
            assert datum.images == (PlacedImage(2, 5, Image(FILE, "jpeg")),)
            samples = [op for op in client.engine.submitted if isinstance(op, contract.Sample)]
            assert len(samples) == 2
            for op in samples:
                assert op.prompt.tolist() == [1, 2, -1, -1, -1, -1, -1, 3]
                assert op.images == (PlacedImage(2, 5, Image(FILE, "png")),)

    asyncio.run(run())


def test_a_sample_with_an_image_survives_the_loss_of_the_engine(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            body = {"session_id": await client.session(), "sampling_session_seq_id": 0, "base_model": MODEL}
            sampler = (await client.post("create_sampling_session", body))["sampling_session_id"]
            answers = []
            for seq, lost in enumerate((None, contract.CountImageTokens, contract.Sample)):
                client.engine.lose_on = None if lost is None else lambda op, kind=lost: isinstance(op, kind)
                params = {"max_tokens": 4, "stop": [], "seed": 3}
                asked = {"sampling_session_id": sampler, "seq_id": seq, "prompt": prompt(), "sampling_params": params}
                sent = await client.post("asample", asked)
                answers.append(await client.result(sent["request_id"]))
            assert client.engine.restarts == 2
            assert answers[0] == answers[1] == answers[2]

    asyncio.run(run())


def test_images_are_billed_by_their_tokens(
    any_database: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONE_DATABASE_URL", any_database.url(tmp_path))
    chunks = [
        tinker.EncodedTextChunk(tokens=[1, 2]),
        tinker.types.ImageChunk(data=FILE, format="png", expected_tokens=5),
        tinker.EncodedTextChunk(tokens=[3]),
    ]
    inputs = {"target_tokens": WEIGHTS["target_tokens"], "weights": [1.0] * 8}
    datum = tinker.Datum(model_input=tinker.ModelInput(chunks=chunks), loss_fn_inputs=inputs)
    with (
        LiveServer(tmp_path) as server,
        service_client(server.url, KEY) as client,
    ):
        training = client.create_lora_training_client(MODEL, rank=4, seed=1).result()
        training.forward_backward([datum, datum], "cross_entropy").result()
        sampler = client.create_sampling_client(base_model=MODEL).result()
        params = tinker.SamplingParams(max_tokens=4, stop=[])
        sampler.sample(tinker.ModelInput(chunks=chunks), 2, params).result()
        bill = tinker.AdminClient(base_url=server.url, api_key=KEY).get_billing_usage(*window()).result()
    amounts = {event.event_info.type: event.event_info.token_count for event in bill.data}
    assert amounts == {"training": 2 * 8, "sampling_prefill": 8, "sampling_sample": 2 * 4}
