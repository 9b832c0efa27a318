"""What crosses to the engine process comes out as it went in."""

import dataclasses
from typing import Any

import msgpack
import numpy as np
import pytest

from hone import errors
from hone.engine import contract as c
from hone.engine import wire
from hone.protocol import types as t

ARRAY = np.arange(6, dtype=np.int32)
DATUM = t.Datum(
    ARRAY,
    {"target_tokens": np.arange(12, dtype=np.int64).reshape(6, 2), "weights": np.ones((6, 2), np.float32)},
    (t.ProvenanceSpan("prompt", "sequence", 0, 2),),
    (t.ProvenanceSpan("sampled", "sequence", 2, 4),),
)
IMAGE = t.Image(bytes(range(256)), "png")
PLACED = t.PlacedImage(2, 3, IMAGE)
LORA, ADAM = t.LoraConfig(8, 2**63 - 1, train_mlp=False), t.AdamParams(1e-3, grad_clip_norm=1.0)
PARAMS = t.SamplingParams(max_tokens=5, stop=("a", "é\n"), temperature=0.5)
TOPK = t.TopkLogprobs(np.zeros((2, 3), np.int32), np.full((2, 3), -99999.0, np.float32))
SEQUENCE = t.SampledSequence(ARRAY, np.zeros(6, np.float32), "stop", TOPK)
LOSS = t.CustomLoss("mine", (("logprobs", 1), ("advantages", 1)), '{"format": 1, "nodes": []}')
TARGETS = t.PromptTargets(np.array([0, 2]), np.array([5, -1]))
ALTERNATIVES = t.PromptAltTokens(np.zeros((2, 4), np.int32), np.zeros((2, 4), np.float32))

MESSAGES: list[Any] = [
    c.BaseModel("name", "/dir", "qwen3", 4096, 1000, 12345678901),
    c.CreateAdapter("a", "m", LORA),
    c.LoadAdapter("a", "m", "/dir", True),
    c.AdapterInfo(LORA, 10, 3),
    c.ForwardBackward("a", (DATUM, DATUM), "ppo", {"clip_low_threshold": 0.5, "loss_id": "text"}, True),
    c.ForwardBackward("a", (DATUM,), "custom", {"loss_id": "s:custom:loss:0"}, False, LOSS),
    c.CheckLoss(LOSS),
    c.CountImageTokens("m", (IMAGE, IMAGE)),
    c.ForwardBackward("a", (t.Datum(ARRAY, {}, images=(PLACED,)),), "cross_entropy", {}),
    c.Sample("m", None, ARRAY, 1, PARAMS, 1, images=(PLACED,)),
    c.OptimStep("a", ADAM),
    c.Snapshot("a", "/dir"),
    c.SaveAdapter("a", "/dir", False),
    c.ExportAdapter("a", "/d", ("age1x", "ssh-ed25519 AAAA")),
    c.Publish("a", "v", "/dir"),
    c.Publish("a", "v", "/dir", durable=True),
    c.LoadVersion("v", "m", "/dir"),
    c.DropAdapter("a"),
    c.DropVersion("v"),
    c.Sample("m", None, ARRAY, 3, PARAMS, 2**40, True, 5, 2),
    c.Sample("m", "v", ARRAY, 1, PARAMS, 1, target_prompt_logprobs=TARGETS, prompt_alt_tokens=4),
    t.SamplingParams(stop=(1, 2)),
    t.SamplingParams(stop=()),
    t.SamplingParams(stop=None),
    SEQUENCE,
    c.SamplePart(1, 7, -0.5, ((7, -0.5), (3, -2.0)), "stop"),
    t.SampleResult((SEQUENCE,), np.array([np.nan, -1.0], np.float32), TOPK, 3),
    t.SampleResult((), None, None, 0, np.zeros(2, np.float32), ALTERNATIVES),
    t.ForwardBackwardResult((np.zeros((2, 3), np.float32), np.zeros(0, np.float32)), {"loss:sum": float("inf")}),
]


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and bool(a == b)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_round_trip(message: Any) -> None:
    ticket, found = wire.decode(wire.encode((7, message)))
    assert ticket == 7
    assert equal(message, found), found


def test_every_class_of_the_contract_is_tried_above() -> None:
    def inside(value: Any) -> set[str]:
        if dataclasses.is_dataclass(value):
            parts = [getattr(value, f.name) for f in dataclasses.fields(value)]
            return {type(value).__name__}.union(*(inside(p) for p in parts))
        return set().union(*(inside(p) for p in value)) if isinstance(value, tuple) else set()

    as_text = (c.ModelSource, c.Device)
    wanted = {
        cls.__name__
        for module in (c, t)
        for cls in vars(module).values()
        if isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls not in as_text
    }
    assert wanted - set().union(*(inside(m) for m in MESSAGES)) == set()


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "float16", "float32", "float64", "bool", ">i4"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (0, 4), (2, 1, 3)], ids=str)
def test_arrays_of_any_kind(dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(dtype)
    found = wire.decode(wire.encode(array))
    assert equal(array, found)


def test_a_view_arrives_as_its_values() -> None:
    array = np.arange(20).reshape(4, 5)[::2, 1:4]
    assert equal(np.ascontiguousarray(array), wire.decode(wire.encode(array)))


def test_numbers_of_numpy_become_plain() -> None:
    found = wire.decode(wire.encode({"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True)}))
    assert equal(found, {"a": 0.5, "b": 3, "c": True})


@pytest.mark.parametrize(
    "name", [n for n, e in vars(errors).items() if isinstance(e, type) and issubclass(e, Exception)]
)
def test_errors_keep_class_message_and_category(name: str) -> None:
    cls = getattr(errors, name)
    found = wire.decode(wire.encode(cls("what, where and “why”")))
    assert type(found) is cls
    assert str(found) == "what, where and “why”"
    assert found.category == cls.category


@pytest.mark.parametrize("key", ["@", "@error", "fields", "", "é"])
def test_no_key_of_a_client_means_anything_to_the_wire(key: str) -> None:
    """A loss's settings come from clients as they are; a name that is unknown is refused later, by name."""
    message = c.ForwardBackward("a", (), "ppo", {key: 1.0})
    assert equal(message, wire.decode(wire.encode(message)))


def test_what_cannot_cross_says_so() -> None:
    with pytest.raises(TypeError, match="object cannot cross"):
        wire.encode({"x": object()})


def test_an_unknown_extension_is_refused() -> None:
    with pytest.raises(ValueError, match="extension 9"):
        wire.decode(msgpack.packb(msgpack.ExtType(9, b"")))
