"""Training requests in JSON, the way clients before 0.25 send them, as the protobuf message that later ones send."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from hone.errors import UserError
from hone.protocol.model_input import decode_base64, unreadable
from hone.protocol.proto import tinker_public_pb2 as wire
from hone.protocol.requests import Body, Int64, OperationAddress, parse


class _Chunk(Body):
    type: str = "encoded_text"
    tokens: list[Int64] = Field(default=[])
    data: str = ""
    format: str = ""
    expected_tokens: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None


class _ModelInput(Body):
    chunks: list[_Chunk]


class _Tensor(Body):
    shape: list[Int64] | None = None
    sparse_crow_indices: list[Int64] | None = None
    sparse_col_indices: list[Int64] | None = None


class _Integers(_Tensor):
    dtype: Literal["int64"]
    data: list[Int64]


class _Floats(_Tensor):
    dtype: Literal["float32"]
    data: list[float]


class _Datum(Body):
    model_input: _ModelInput
    loss_fn_inputs: dict[str, Annotated[_Integers | _Floats, Field(discriminator="dtype")]]


class _Input(Body):
    data: list[_Datum]
    loss_fn: str
    loss_fn_config: dict[str, float] | None = None


class _ForwardBackward(OperationAddress):
    seq_id: int = Field(ge=1, lt=2**31)
    forward_backward_input: _Input


class _Forward(OperationAddress):
    seq_id: int = Field(ge=1, lt=2**31)
    forward_input: _Input


def parse_training(fields: dict[str, Any], forward_only: bool) -> wire.ForwardBackwardRequest:
    """The body of `/forward_backward`, or with `forward_only` that of `/forward`."""
    body: _Forward | _ForwardBackward
    if forward_only:
        body, where = parse(_Forward, fields), "forward_input"
        asked = body.forward_input
    else:
        body, where = parse(_ForwardBackward, fields), "forward_backward_input"
        asked = body.forward_backward_input
    return wire.ForwardBackwardRequest(
        model_id=body.model_id,
        seq_id=body.seq_id,
        data=[_datum(datum, f"{where}.data[{i}]") for i, datum in enumerate(asked.data)],
        loss_fn=asked.loss_fn,
        loss_fn_config=asked.loss_fn_config,
        forward_only=forward_only,
    )


def _datum(datum: _Datum, where: str) -> wire.Datum:
    message = wire.Datum()
    for i, chunk in enumerate(datum.model_input.chunks):
        place = f"{where}.model_input.chunks[{i}]"
        if chunk.type == "image":
            image = message.model_input.add().image
            image.data, image.format = decode_base64(chunk.data, place), chunk.format
            if chunk.expected_tokens is not None:
                image.expected_tokens = chunk.expected_tokens
            continue
        if chunk.type != "encoded_text":
            raise unreadable(place, chunk.type)
        try:
            tokens = np.array(chunk.tokens, "<i4")
        except OverflowError:
            raise UserError(f"{place}.tokens holds numbers that are no tokens of any model") from None
        message.model_input.add().encoded_text.tokens = tokens.tobytes()
    for name, tensor in datum.loss_fn_inputs.items():
        message.loss_fn_inputs[name].CopyFrom(_tensor(tensor))
    return message


def _tensor(tensor: _Integers | _Floats) -> wire.Tensor:
    if isinstance(tensor, _Integers):
        dtype, values = wire.DTYPE_INT64, np.array(tensor.data, "<i8")
    else:
        with np.errstate(over="ignore"):  # too large for a float32 is infinite, and refused as that
            dtype, values = wire.DTYPE_FLOAT32, np.array(tensor.data, "<f4")
    message = wire.Tensor(dtype=dtype, shape=tensor.shape)
    if tensor.sparse_crow_indices is None:
        message.dense = values.tobytes()
    else:
        message.sparse_csr.values = values.tobytes()
        message.sparse_csr.crow_indices = np.array(tensor.sparse_crow_indices, "<i8").tobytes()
        message.sparse_csr.col_indices = np.array(tensor.sparse_col_indices or [], "<i8").tobytes()
    return message
