"""A JSON body becomes the very message that later clients send, so everything behind it is the same."""

import base64
from typing import Any

import numpy as np
import pytest

from hone.errors import UserError
from hone.protocol import codec
from hone.protocol.proto import tinker_public_pb2 as wire
from hone.protocol.training_json import parse_training
from hone.protocol.types import Image, PlacedImage


def body(key: str = "forward_backward_input", **changed: Any) -> dict[str, Any]:
    datum = {
        "model_input": {
            "chunks": [{"type": "encoded_text", "tokens": [1, 2]}, {"type": "encoded_text", "tokens": [3]}]
        },
        "loss_fn_inputs": {
            "target_tokens": {"data": [2, 3, 4], "dtype": "int64", "shape": [3]},
            "weights": {"data": [0.1, 1, -2.5], "dtype": "float32"},
        },
    }
    asked = {"data": [datum], "loss_fn": "ppo", "loss_fn_config": {"clip_low_threshold": 0.5}} | changed
    return {"model_id": "s:train:0", "seq_id": 3, key: asked}


def test_every_field_arrives() -> None:
    message = parse_training(body(), forward_only=False)
    assert (message.model_id, message.seq_id, message.forward_only) == ("s:train:0", 3, False)
    decoded = codec.decode_forward_backward(message)
    assert (decoded.loss_fn, decoded.loss_config) == ("ppo", {"clip_low_threshold": 0.5})
    (datum,) = decoded.data
    assert datum.tokens.tolist() == [1, 2, 3]
    assert datum.loss_inputs["target_tokens"].tolist() == [2, 3, 4]
    np.testing.assert_array_equal(datum.loss_inputs["weights"], np.array([0.1, 1, -2.5], np.float32))


def test_forward_reads_its_own_field_and_adds_no_gradient() -> None:
    assert parse_training(body("forward_input"), forward_only=True).forward_only
    with pytest.raises(UserError, match="forward_input is missing"):
        parse_training(body(), forward_only=True)


def test_sparse_tensors_unfold_to_the_same_cells() -> None:
    asked = body()
    inputs = asked["forward_backward_input"]["data"][0]["loss_fn_inputs"]
    rows = {"shape": [3, 4], "sparse_crow_indices": [0, 1, 1, 3], "sparse_col_indices": [2, 0, 3]}
    inputs["target_tokens"] = {"data": [7, 8, 9], "dtype": "int64", **rows}
    (datum,) = codec.decode_forward_backward(parse_training(asked, forward_only=False)).data
    assert datum.loss_inputs["target_tokens"].tolist() == [[0, 0, 7, 0], [0, 0, 0, 0], [8, 0, 0, 9]]


def test_images_arrive_as_their_bytes() -> None:
    asked, file = body(), bytes(range(200))
    chunks = asked["forward_backward_input"]["data"][0]["model_input"]["chunks"]
    chunks[1] = {
        "type": "image",
        "data": base64.b64encode(file).decode(),
        "format": "jpeg",
        "expected_tokens": 1,
    }
    (datum,) = codec.decode_forward_backward(parse_training(asked, forward_only=False)).data
    assert datum.tokens.tolist() == [1, 2, -1]
    assert datum.images == (PlacedImage(2, 1, Image(file, "jpeg")),)


def chunk(**fields: Any) -> dict[str, Any]:
    return {"model_input": {"chunks": [fields]}, "loss_fn_inputs": {}}


def tensor(**fields: Any) -> dict[str, Any]:
    return chunk(type="encoded_text", tokens=[1]) | {"loss_fn_inputs": {"weights": fields}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "audio": (chunk(type="dmel", dmel="AAAA"), r"data\[0\].*chunks\[0\] is of kind 'dmel'"),
    "pointer": (
        chunk(type="image_asset_pointer", location="x"),
        r"data\[0\].*chunks\[0\].*this server fetches nothing",
    ),
    "image": (chunk(type="image", data="A,A", format="png"), r"data\[0\].*chunks\[0\].data is no base64"),
    "large token": (chunk(type="encoded_text", tokens=[2**31]), "no tokens of any model"),
    "huge token": (chunk(type="encoded_text", tokens=[2**70]), "tokens.0"),
    "fraction": (tensor(data=[1.5], dtype="int64"), "weights.int64.data.0"),
    "type": (tensor(data=[1], dtype="float64"), "weights.*'float64'"),
    "text": (tensor(data=["a"], dtype="float32"), "weights.float32.data.0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_training_request_is_named(case: str) -> None:
    datum, says = REFUSED[case]
    with pytest.raises(UserError, match=says):
        parse_training(body(data=[datum]), forward_only=False)


def test_too_large_for_a_float_is_infinite_as_in_later_clients() -> None:
    message = parse_training(body(data=[tensor(data=[1e300], dtype="float32")]), forward_only=False)
    assert np.isinf(np.frombuffer(message.data[0].loss_fn_inputs["weights"].dense, np.float32)).all()
    assert message.data[0].loss_fn_inputs["weights"].dtype == wire.DTYPE_FLOAT32
