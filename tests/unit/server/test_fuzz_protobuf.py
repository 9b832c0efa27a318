"""Training requests in every broken form: valid messages with bits and fields changed, random messages, random bytes.

Never a 500, always the caller's fault, and the next request works. TEST_EFFORT multiplies the number of examples.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import zstandard
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import example, given
from hypothesis import strategies as st

from hone.protocol.proto import tinker_public_pb2 as wire
from tests.support.effort import effort
from tests.support.service import Client, crash, datum_message, forward_backward, make_service
from tests.support.uniform_engine import UniformEngine

LOSSES = (
    "cross_entropy",
    "importance_sampling",
    "ppo",
    "cispo",
    "dro",
    "gspo",
    "stable_reinforce",
    "custom",
    "nothing",
)


class World:
    """A model that the requests are meant for, in a loop that only turns while somebody asks."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.seq = 0
        self.runner.run(self._begin())

    async def _begin(self) -> None:
        engine = UniformEngine()
        self.service = make_service(Path(self.folder.name), engine, gap_seconds=0.0, long_poll_seconds=5.0)
        await self.service.start()
        self.client = Client(self.service, engine)
        self.model = await self.new_model()

    async def new_model(self) -> str:
        return await self.client.model(await self.client.session())

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def send(self, content: bytes, **headers: str) -> None:
        self.runner.run(self._send(content, headers))

    async def _send(self, content: bytes, headers: dict[str, str]) -> None:
        answer = await self.client.http.post("/api/v1/forward_backward", content=content, headers=headers)
        check(answer)
        if answer.status_code == 200:
            polled = {"request_id": answer.json()["request_id"]}
            outcome = await self.client.http.post("/api/v1/retrieve_future", json=polled)
            check(outcome)
            if outcome.headers["content-type"] == "application/json":
                assert outcome.json()["category"] == "user", outcome.text[:1000]

    def works(self) -> None:
        async def work() -> None:
            model = await self.new_model()
            done = await self.client.output(await self.client.send(forward_backward(model, 1)))
            assert done.metrics["loss:sum"] > 0

        self.runner.run(work())

    def close(self) -> None:
        async def end() -> None:
            await self.client.http.aclose()
            await crash(self.service)

        self.runner.run(end())
        self.runner.close()
        self.folder.cleanup()


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text[:1000]
    if answer.status_code >= 400:
        assert answer.json()["detail"]
        assert answer.json()["category"] == "user"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def valid(model: str, seq: int, loss_fn: str) -> wire.ForwardBackwardRequest:
    inputs: dict[str, Any] = {"weights": [1, 0, 1]}
    inputs |= {"logprobs": [-1, -1, -1], "advantages": [1, 0, -1], "sequence_ratio_mask": [1, 1, 0]}
    message = forward_backward(
        model, seq, datum_message([1, 2, 3], **inputs), datum_message([4, 5], weights=[1, 1]), loss_fn=loss_fn
    )
    message.data[0].model_input_spans.add().prompt_tokens.length = 3
    sparse = message.data[1].loss_fn_inputs["weights"]
    sparse.sparse_csr.values = np.ones(1, np.float32).tobytes()
    sparse.sparse_csr.crow_indices = np.array([0, 0, 1], np.int64).tobytes()
    sparse.sparse_csr.col_indices = np.zeros(1, np.int64).tobytes()
    sparse.shape[:] = [2, 1]
    message.loss_fn_config_v2["clip_low_threshold"].number = 0.5
    return message


NUMBERS = st.sampled_from([0, 1, -1, 2, 7, 2**31 - 1, -(2**31), 2**62, 2**63 - 1, -(2**63)])
FLOATS = st.sampled_from([0.0, -1.0, 1e300, float("nan"), float("inf")])
BYTES = st.one_of(
    st.binary(max_size=16),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4).map(lambda values: np.array(values, np.int64).tobytes()),
    st.lists(st.floats(width=32), max_size=4).map(lambda values: np.array(values, np.float32).tobytes()),
)
TEXTS = st.sampled_from(["", "\0", "x" * 300, "weights", "target_tokens", "custom", "é", "s:train:0"])


def value(draw: st.DrawFn, field: FieldDescriptor) -> Any:
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return draw(FLOATS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return draw(BYTES)
    if field.type == FieldDescriptor.TYPE_STRING:
        return draw(TEXTS)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return draw(st.booleans())
    number = draw(NUMBERS)
    small = field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM)
    unsigned = field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64)
    if small or field.type == FieldDescriptor.TYPE_UINT32:
        number = max(-(2**31), min(2**31 - 1, number))
    return abs(number) if unsigned else number


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def spoil(draw: st.DrawFn, message: Message) -> None:
    """Change, add or clear one field, here or further down."""
    field = draw(st.sampled_from(list(message.DESCRIPTOR.fields)))
    where = getattr(message, field.name)
    if draw(st.integers(0, 4)) == 0:
        message.ClearField(field.name)
    elif is_map(field):
        key = draw(st.sampled_from([*where, "logprobs", "new"]))
        of_values = field.message_type.fields_by_name["value"]
        if of_values.message_type is None:
            where[key] = value(draw, of_values)
        else:
            spoil(draw, where[key])
    elif field.is_repeated:
        if field.message_type is None:
            where.append(value(draw, field))
        else:
            spoil(draw, where[draw(st.integers(0, len(where) - 1))] if where and draw(st.booleans()) else where.add())
    elif field.message_type is not None:
        where.SetInParent()
        spoil(draw, where)
    else:
        setattr(message, field.name, value(draw, field))


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[wire.ForwardBackwardRequest, bool]:
    """A message with up to four places changed, and whether it keeps its address."""
    message = valid("", 1, draw(st.sampled_from(LOSSES)))
    for _ in range(draw(st.integers(0, 4))):
        spoil(draw, message)
    return message, draw(st.integers(0, 5)) > 0


@st.composite
def invented(draw: st.DrawFn) -> tuple[wire.ForwardBackwardRequest, bool]:
    message = wire.ForwardBackwardRequest(loss_fn=draw(st.sampled_from(LOSSES)))
    for _ in range(draw(st.integers(1, 12))):
        spoil(draw, message)
    return message, True


def test_messages_with_changed_fields(world: World) -> None:
    @effort(250, shrink=False)
    @given(made=st.one_of(spoiled(), invented()))
    def ask(made: tuple[wire.ForwardBackwardRequest, bool]) -> None:
        message, addressed = made
        if addressed:
            message.model_id, message.seq_id = world.model, world.next_seq()
        world.send(message.SerializeToString())

    ask()
    world.works()


def test_messages_with_changed_bytes(world: World) -> None:
    change = st.tuples(st.integers(0, 10**6), st.integers(0, 255), st.sampled_from(["put", "insert", "cut"]))

    @effort(150, shrink=False)
    @given(loss=st.sampled_from(LOSSES), changes=st.lists(change, min_size=1, max_size=4), packed=st.booleans())
    def ask(loss: str, changes: list[tuple[int, int, str]], packed: bool) -> None:
        content = bytearray(valid(world.model, world.next_seq(), loss).SerializeToString())
        for place, byte, how in changes:
            at = place % len(content)
            content[at : at + (how != "insert")] = bytes([byte] if how != "cut" else [])
        if packed:
            content = bytearray(zstandard.compress(bytes(content)))
            at = changes[0][0] % len(content)
            content[at] ^= changes[0][1] & 1
        world.send(bytes(content), **({"Content-Encoding": "zstd"} if packed else {}))

    ask()
    world.works()


def test_any_bytes(world: World) -> None:
    @effort(60, shrink=False)
    @given(content=st.binary(max_size=60))
    @example(content=b"\x0a" * 50)
    @example(content=b"\x0a\xff\xff\xff\xff\x7f")
    def ask(content: bytes) -> None:
        world.send(content)

    ask()
    world.works()


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss not in ("stable_reinforce", "custom", "nothing")])
def test_the_message_that_is_spoiled_is_nearly_good(world: World, loss: str) -> None:
    """Otherwise every one of them would be refused for the same reason."""
    model = world.runner.run(world.new_model())
    message = valid(model, 1, loss)
    del message.data[1:]
    del message.loss_fn_config_v2["clip_low_threshold"]
    request = world.runner.run(world.client.send(message))
    assert isinstance(world.runner.run(world.client.result(request)), bytes)
