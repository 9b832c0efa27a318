"""Between protobuf bytes and arrays. Token and tensor data never become Python lists.

Shape legend: N tokens of one datum, K targets per token.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import zstandard
from google.protobuf.message import DecodeError

from hone.errors import UserError
from hone.protocol.model_input import ImageChunk, image_chunk, join_chunks, unreadable
from hone.protocol.prompt_targets import Layout
from hone.protocol.proto import tinker_public_pb2 as wire
from hone.protocol.types import Datum, ForwardBackwardResult, ProvenanceSpan, SampleResult, TopkLogprobs

MAX_DENSE_CELLS = 1 << 27
"""Largest tensor that a sparse one may unfold to: a few bytes can claim any shape."""

_FLOAT32, _INT64, _INT32 = np.dtype("<f4"), np.dtype("<i8"), np.dtype("<i4")
_DTYPES: dict[int, np.dtype[Any]] = {
    wire.DTYPE_FLOAT32: _FLOAT32,
    wire.DTYPE_INT64: _INT64,
    wire.DTYPE_INT32: _INT32,
    wire.DTYPE_BFLOAT16: np.dtype("<u2"),
}


@dataclass(frozen=True)
class ForwardBackwardBody:
    data: tuple[Datum, ...]
    loss_fn: str
    loss_config: dict[str, float | str]
    forward_only: bool


def decompress(body: bytes, limit: int) -> bytes:
    """Unpack one zstd frame, never holding more than `limit` bytes, whatever size the frame declares."""
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(body) as reader:
            content = reader.read(limit + 1)
    except zstandard.ZstdError as error:
        raise UserError(f"the body is not readable zstd: {error}") from None
    if len(content) > limit:
        raise UserError(f"the body unpacks to more than {limit} bytes; send fewer data in one request")
    return content


def parse_forward_backward(body: bytes) -> wire.ForwardBackwardRequest:
    try:
        return wire.ForwardBackwardRequest.FromString(body)
    except DecodeError:
        raise UserError("the body is not a ForwardBackwardRequest in protobuf") from None


def decode_forward_backward(message: wire.ForwardBackwardRequest) -> ForwardBackwardBody:
    if not message.data:
        raise UserError("data is empty; send at least one datum")
    given = message.loss_fn_config_v2
    config: dict[str, float | str] = (
        {key: value.text if value.HasField("text") else value.number for key, value in given.items()}
        if given
        else dict(message.loss_fn_config)
    )
    data = tuple(_datum(datum, f"data[{i}]", message.loss_fn) for i, datum in enumerate(message.data))
    return ForwardBackwardBody(data, message.loss_fn, config, message.forward_only)


def _datum(message: wire.Datum, where: str, loss_fn: str) -> Datum:
    model_input = join_chunks(_chunks(message.model_input, f"{where}.model_input"), f"{where}.model_input")
    inputs = {
        name: _tensor(tensor, f"{where}.loss_fn_inputs[{name!r}]") for name, tensor in message.loss_fn_inputs.items()
    }
    if loss_fn == "cross_entropy" and "weights" not in inputs and "target_tokens" in inputs:
        # The public documents do not say what a missing weight means; every position counts the same here.
        inputs["weights"] = np.ones(inputs["target_tokens"].shape, _FLOAT32)
    return Datum(
        model_input.tokens,
        inputs,
        model_input_spans=_spans(message.model_input_spans, f"{where}.model_input_spans"),
        loss_input_spans=_spans(message.loss_fn_input_spans, f"{where}.loss_fn_input_spans"),
        images=model_input.images,
    )


def _chunks(chunks: Sequence[wire.Chunk], where: str) -> list[np.ndarray | ImageChunk]:
    parts: list[np.ndarray | ImageChunk] = []
    for i, chunk in enumerate(chunks):
        kind, place = chunk.WhichOneof("chunk"), f"{where}.chunks[{i}]"
        if kind == "encoded_text":
            parts.append(_array(chunk.encoded_text.tokens, _INT32, f"{place}.tokens"))
        elif kind == "image":
            expected = chunk.image.expected_tokens if chunk.image.HasField("expected_tokens") else None
            parts.append(image_chunk(chunk.image.data, chunk.image.format, expected, place))
        else:
            raise unreadable(place, kind)
    return parts


def _tensor(message: wire.Tensor, where: str) -> np.ndarray:
    dtype = _DTYPES.get(message.dtype)
    if dtype is None:
        raise UserError(f"{where}.dtype is {message.dtype}; allowed are float32, int64, int32 and bfloat16")
    kind = message.WhichOneof("encoding")
    if kind is None:
        raise UserError(f"{where} holds neither dense nor sparse_csr data")
    shape = tuple(message.shape)
    if any(size < 0 for size in shape):
        raise UserError(f"{where}.shape is {list(shape)}; sizes cannot be negative")
    if kind == "sparse_csr":
        return _densify(message.sparse_csr, message.dtype, shape, where)
    values = _widen(_array(message.dense, dtype, where), message.dtype)
    if not shape:
        return values
    if math.prod(shape) != values.size:
        raise UserError(f"{where}.shape is {list(shape)} but {values.size} values came")
    return values.reshape(shape)


def _densify(csr: wire.SparseCsr, dtype: int, shape: tuple[int, ...], where: str) -> np.ndarray:
    """CSR as a dense [N, K]; unlisted cells are 0."""
    if len(shape) != 2:
        raise UserError(f"{where}.shape is {list(shape)}; a sparse tensor needs two sizes, [N, K]")
    rows, columns = shape
    if rows * columns > MAX_DENSE_CELLS:
        raise UserError(f"{where}.shape is {list(shape)}, more than {MAX_DENSE_CELLS} cells")
    values = _widen(_array(csr.values, _DTYPES[dtype], f"{where}.values"), dtype)
    crow = _array(csr.crow_indices, _INT64, f"{where}.crow_indices")
    cols = _array(csr.col_indices, _INT64, f"{where}.col_indices")
    counts = np.diff(crow)
    if len(crow) != rows + 1 or crow[0] != 0 or crow[-1] != len(values) or (counts < 0).any():
        raise UserError(f"{where}.crow_indices must rise from 0 to {len(values)} in {rows + 1} steps")
    if len(cols) != len(values) or (len(cols) and (cols.min() < 0 or cols.max() >= columns)):
        raise UserError(f"{where}.col_indices must be {len(values)} numbers in 0..{columns - 1}")
    dense = np.zeros(shape, values.dtype)
    dense[np.repeat(np.arange(rows), counts), cols] = values
    return dense


def _array(content: bytes, dtype: np.dtype, where: str) -> np.ndarray:
    if len(content) % dtype.itemsize:
        raise UserError(f"{where} has {len(content)} bytes, not a multiple of the {dtype.itemsize} of one {dtype.name}")
    return np.frombuffer(content, dtype)


def _widen(values: np.ndarray, dtype: int) -> np.ndarray:
    if dtype == wire.DTYPE_BFLOAT16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(_INT64) if dtype == wire.DTYPE_INT32 else values


def _spans(messages: Iterable[wire.ProvenanceSpan], where: str) -> tuple[ProvenanceSpan, ...]:
    spans = []
    for i, message in enumerate(messages):
        kind = message.WhichOneof("span")
        if kind is None:
            raise UserError(f"{where}[{i}] is neither prompt_tokens nor sampled_tokens")
        run = message.prompt_tokens if kind == "prompt_tokens" else message.sampled_tokens
        if run.length < 0 or run.offset < 0:
            raise UserError(f"{where}[{i}] has offset {run.offset} and length {run.length}; neither may be negative")
        source = "prompt" if kind == "prompt_tokens" else "sampled"
        spans.append(ProvenanceSpan(source, run.sequence_id, run.offset, run.length))  # type: ignore[arg-type]
    return tuple(spans)


def encode_forward_backward(result: ForwardBackwardResult) -> bytes:
    """One array record for each run of data whose log-probabilities have the same trailing shape."""
    message = wire.ForwardBackwardOutput(loss_fn_output_type="ArrayRecord", metrics=result.metrics)
    for trailing, group in groupby(result.logprobs, key=lambda array: array.shape[1:]):
        arrays = [np.ascontiguousarray(array, _FLOAT32) for array in group]
        ends = np.cumsum([0, *(array.nbytes for array in arrays)], dtype=_INT64)
        record = message.loss_fn_outputs.add(type_tag="ArrayRecord", num_datums=len(arrays))
        field = record.fields["logprobs"]
        field.data = b"".join(array.tobytes() for array in arrays)
        field.offsets = ends.tobytes()
        field.dtype = wire.DTYPE_FLOAT32
        field.trailing_shape.extend(trailing)
    return message.SerializeToString()


def encode_sample(result: SampleResult, targets: Layout | None = None) -> bytes:
    """`targets` is the layout in which the client asked for target log-probabilities."""
    message = wire.SampleResponse(prompt_cache_hit_tokens=result.prompt_cache_hit_tokens)
    for sequence in result.sequences:
        reason = wire.STOP_REASON_STOP if sequence.stop_reason == "stop" else wire.STOP_REASON_LENGTH
        added = message.sequences.add(
            stop_reason=reason,
            tokens=np.ascontiguousarray(sequence.tokens, _INT32).tobytes(),
            logprobs=np.ascontiguousarray(sequence.logprobs, _FLOAT32).tobytes(),
        )
        if sequence.topk is not None:
            added.topk_sampled_logprobs.CopyFrom(_topk(sequence.topk))
    if result.prompt_logprobs is not None:
        message.prompt_logprobs = np.ascontiguousarray(result.prompt_logprobs, _FLOAT32).tobytes()
    if result.topk_prompt_logprobs is not None:
        message.topk_prompt_logprobs.CopyFrom(_topk(result.topk_prompt_logprobs))
    if result.target_prompt_logprobs is not None:
        assert targets is not None
        message.target_prompt_logprobs.CopyFrom(_scores(result.target_prompt_logprobs, targets))
    if (drawn := result.prompt_alt_tokens) is not None:
        message.prompt_alt_tokens.tokens.CopyFrom(_dense(drawn.tokens, wire.DTYPE_INT32))
        message.prompt_alt_tokens.logprobs.CopyFrom(_dense(drawn.logprobs, wire.DTYPE_FLOAT32))
    return message.SerializeToString()


def _scores(cells: np.ndarray, layout: Layout) -> wire.Tensor:
    if layout.csr is None:
        return _dense(cells.reshape(layout.shape), wire.DTYPE_FLOAT32)
    csr = wire.SparseCsr(
        values=np.ascontiguousarray(cells, _FLOAT32).tobytes(),
        crow_indices=np.ascontiguousarray(layout.csr.crow_indices, _INT64).tobytes(),
        col_indices=np.ascontiguousarray(layout.csr.col_indices, _INT64).tobytes(),
    )
    return wire.Tensor(sparse_csr=csr, dtype=wire.DTYPE_FLOAT32, shape=layout.shape)


def _dense(values: np.ndarray, dtype: int) -> wire.Tensor:
    return wire.Tensor(
        dense=np.ascontiguousarray(values, _DTYPES[dtype]).tobytes(),
        dtype=dtype,  # type: ignore[arg-type]  # the generated stub takes names of the enum only
        shape=values.shape,
    )


def _topk(topk: TopkLogprobs) -> wire.TopkLogprobs:
    length, k = topk.token_ids.shape
    return wire.TopkLogprobs(
        token_ids=np.ascontiguousarray(topk.token_ids, _INT32).tobytes(),
        logprobs=np.ascontiguousarray(topk.logprobs, _FLOAT32).tobytes(),
        k=k,
        length=length,
    )
