"""Checked against the official client's own encoder and decoder, which share no code with ours."""

import numpy as np
import pytest
import tinker
import torch
import zstandard
from tinker.proto.request_conv import forward_backward_request_to_proto
from tinker.proto.response_conv import deserialize_proto_response
from tinker.types.forward_backward_input import ForwardBackwardInput
from tinker.types.forward_backward_request import ForwardBackwardRequest

from hone.errors import UserError
from hone.protocol import codec
from hone.protocol.proto import tinker_public_pb2 as wire
from hone.protocol.types import (
    ForwardBackwardResult,
    Image,
    PlacedImage,
    ProvenanceSpan,
    SampledSequence,
    SampleResult,
    TopkLogprobs,
)


def encoded(data: list[tinker.Datum], loss_fn: str = "cross_entropy", config: dict | None = None) -> bytes:
    request = ForwardBackwardRequest(
        forward_backward_input=ForwardBackwardInput(data=data, loss_fn=loss_fn, loss_fn_config=config),
        model_id="m:train:0",
        seq_id=3,
    )
    return forward_backward_request_to_proto(request).SerializeToString()


def decoded(body: bytes) -> codec.ForwardBackwardBody:
    return codec.decode_forward_backward(codec.parse_forward_backward(body))


def test_tokens_tensors_and_settings_arrive_as_the_client_sent_them() -> None:
    chunks = [tinker.EncodedTextChunk(tokens=[5, 6]), tinker.EncodedTextChunk(tokens=[7])]
    datum = tinker.Datum(
        model_input=tinker.ModelInput(chunks=chunks),
        loss_fn_inputs={"target_tokens": [6, 7, 8], "logprobs": [-0.5, -1.5, -2.5], "advantages": [0.0, 1.0, -1.0]},
    )
    message = codec.parse_forward_backward(encoded([datum], "ppo", {"clip_low_threshold": 0.7}))
    assert (message.model_id, message.seq_id) == ("m:train:0", 3)
    body = codec.decode_forward_backward(message)
    assert (body.loss_fn, body.loss_config, body.forward_only) == ("ppo", {"clip_low_threshold": 0.7}, False)
    (got,) = body.data
    assert got.tokens.dtype == np.int32
    assert got.tokens.tolist() == [5, 6, 7]
    assert got.loss_inputs["target_tokens"].dtype == np.int64
    assert got.loss_inputs["target_tokens"].tolist() == [6, 7, 8]
    assert got.loss_inputs["logprobs"].dtype == np.float32
    assert got.loss_inputs["advantages"].tolist() == [0.0, 1.0, -1.0]


def test_sparse_tensors_become_dense_each_with_its_own_pattern() -> None:
    targets, weights = torch.zeros(6, 20, dtype=torch.int64), torch.zeros(6, 20)
    targets[0, 3], targets[2, 0], targets[5, 19] = 11, 12, 13
    weights[0, 3], weights[4, 1] = 0.25, -2.0
    datum = tinker.Datum(
        model_input=tinker.ModelInput.from_ints([1] * 6), loss_fn_inputs={"target_tokens": targets, "weights": weights}
    )
    message = codec.parse_forward_backward(encoded([datum]))
    assert message.data[0].loss_fn_inputs["weights"].WhichOneof("encoding") == "sparse_csr"
    inputs = codec.decode_forward_backward(message).data[0].loss_inputs
    np.testing.assert_array_equal(inputs["target_tokens"], targets.numpy())
    np.testing.assert_array_equal(inputs["weights"], weights.numpy())


def test_narrow_types_are_widened() -> None:
    message = wire.ForwardBackwardRequest(loss_fn="cross_entropy")
    datum = message.data.add()
    datum.model_input.add().encoded_text.tokens = np.array([1, 2], "<i4").tobytes()
    datum.loss_fn_inputs["target_tokens"].dense = np.array([2, 3], "<i4").tobytes()
    datum.loss_fn_inputs["target_tokens"].dtype = wire.DTYPE_INT32
    halves = torch.tensor([0.15625, -3.0], dtype=torch.bfloat16)
    datum.loss_fn_inputs["weights"].dense = halves.view(torch.int16).numpy().tobytes()
    datum.loss_fn_inputs["weights"].dtype = wire.DTYPE_BFLOAT16
    inputs = decoded(message.SerializeToString()).data[0].loss_inputs
    assert inputs["target_tokens"].dtype == np.int64
    assert inputs["weights"].dtype == np.float32
    assert inputs["weights"].tolist() == [0.15625, -3.0]


def test_missing_weights_are_ones() -> None:
    datum = tinker.Datum(model_input=tinker.ModelInput.from_ints([1, 2]), loss_fn_inputs={"target_tokens": [2, 3]})
    assert decoded(encoded([datum])).data[0].loss_inputs["weights"].tolist() == [1.0, 1.0]
    assert "weights" not in decoded(encoded([datum], "ppo")).data[0].loss_inputs


def test_spans() -> None:
    prompt = tinker.PromptProvenanceSpan(sequence_id="s:sample:0:1:0", length=2)
    sampled = tinker.SampledProvenanceSpan(sequence_id="s:sample:0:1:0", offset=1, length=1)
    datum = tinker.Datum(
        model_input=tinker.ModelInput.from_ints([1, 2, 3]), loss_fn_inputs={"target_tokens": [2, 3, 4]}
    ).with_provenance([prompt, sampled], [prompt, sampled])
    got = decoded(encoded([datum])).data[0]
    expected = (ProvenanceSpan("prompt", "s:sample:0:1:0", 0, 2), ProvenanceSpan("sampled", "s:sample:0:1:0", 1, 1))
    assert got.model_input_spans == got.loss_input_spans == expected


def with_tensor(**fields: object) -> bytes:
    message = wire.ForwardBackwardRequest(loss_fn="cross_entropy")
    datum = message.data.add()
    datum.model_input.add().encoded_text.tokens = np.array([1, 2], "<i4").tobytes()
    datum.loss_fn_inputs["target_tokens"].CopyFrom(wire.Tensor(**fields))  # type: ignore[arg-type]
    return message.SerializeToString()


def csr(values: list[int], crow: list[int], cols: list[int]) -> wire.SparseCsr:
    return wire.SparseCsr(
        values=np.array(values, "<i8").tobytes(),
        crow_indices=np.array(crow, "<i8").tobytes(),
        col_indices=np.array(cols, "<i8").tobytes(),
    )


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\xff\xff\xff", "not a ForwardBackwardRequest"),
        (wire.ForwardBackwardRequest(loss_fn="ppo").SerializeToString(), "data is empty"),
        (with_tensor(dense=b"12345678", dtype=0), r"loss_fn_inputs\['target_tokens'\].dtype is 0; allowed are float32"),
        (with_tensor(dense=b"1234", dtype=2), "4 bytes, not a multiple of the 8"),
        (with_tensor(dense=b"12345678", dtype=2, shape=[3]), r"shape is \[3\] but 1 values came"),
        (with_tensor(dense=b"12345678", dtype=2, shape=[-1]), "cannot be negative"),
        (with_tensor(dtype=2), "neither dense nor sparse_csr"),
        (with_tensor(sparse_csr=csr([1], [0, 1, 1], [0]), dtype=2, shape=[2]), "needs two sizes"),
        (with_tensor(sparse_csr=csr([1], [0, 1], [0]), dtype=2, shape=[2, 2]), "crow_indices must rise from 0 to 1"),
        (with_tensor(sparse_csr=csr([1], [0, 2, 1], [0]), dtype=2, shape=[2, 2]), "crow_indices must rise"),
        (with_tensor(sparse_csr=csr([1], [0, 1, 1], [2]), dtype=2, shape=[2, 2]), r"numbers in 0\.\.1"),
        (with_tensor(sparse_csr=csr([], [0], []), dtype=2, shape=[1 << 20, 1 << 20]), "more than"),
    ],
)
def test_unreadable_content_is_named(body: bytes, says: str) -> None:
    with pytest.raises(UserError, match=says):
        decoded(body)


def picture(data: bytes = b"x", format: str = "png", expected_tokens: int | None = 2) -> wire.Chunk:
    return wire.Chunk(image=wire.ImageChunk(data=data, format=format, expected_tokens=expected_tokens))


@pytest.mark.parametrize(
    ("chunk", "says"),
    [
        (wire.Chunk(dmel=wire.DmelChunk(dmel=b"x")), "is of kind 'dmel'; models read encoded_text"),
        (wire.Chunk(), "is of kind 'unknown'"),
        (picture(format="gif"), "format is 'gif'; allowed are png and jpeg"),
        (picture(b""), "data is empty"),
        (picture(expected_tokens=None), "image without expected_tokens"),
        (picture(expected_tokens=0), "expected_tokens is 0"),
        (picture(expected_tokens=-5), "expected_tokens is -5"),
        (picture(expected_tokens=2**31 - 1), "may take 1048576 together"),
    ],
)
def test_what_no_model_reads_is_refused_as_such(chunk: wire.Chunk, says: str) -> None:
    message = wire.ForwardBackwardRequest(data=[wire.Datum(model_input=[chunk])])
    with pytest.raises(UserError, match=r"data\[0\].model_input.chunks\[0\].*" + says):
        codec.decode_forward_backward(message)


def test_images_arrive_at_their_places_as_the_client_sent_them() -> None:
    data = bytes(range(256))
    chunks = [
        tinker.EncodedTextChunk(tokens=[5, 6]),
        tinker.types.ImageChunk(data=data, format="jpeg", expected_tokens=3),
        tinker.types.ImageChunk(data=b"other", format="png", expected_tokens=1),
        tinker.EncodedTextChunk(tokens=[7]),
    ]
    datum = tinker.Datum(
        model_input=tinker.ModelInput(chunks=chunks),
        loss_fn_inputs={"target_tokens": [6, 0, 0, 0, 0, 7, 8], "weights": [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]},
    )
    (got,) = decoded(encoded([datum])).data
    assert got.tokens.dtype == np.int32
    assert got.tokens.tolist() == [5, 6, -1, -1, -1, -1, 7]
    assert got.images == (PlacedImage(2, 3, Image(data, "jpeg")), PlacedImage(5, 1, Image(b"other", "png")))


def test_outputs_read_back_in_the_client_also_when_shapes_differ() -> None:
    arrays = (
        np.array([-1.0, -2.0], np.float32),
        np.array([], np.float32),
        np.array([[-1.0, -2.0, -3.0]] * 4, np.float32),
        np.array([-4.0], np.float32),
    )
    content = codec.encode_forward_backward(ForwardBackwardResult(arrays, {"loss:sum": 1.5}))
    result = deserialize_proto_response(content, tinker.ForwardBackwardOutput)
    assert result.metrics == {"loss:sum": 1.5}
    for got, expected in zip(result.loss_fn_outputs, arrays, strict=True):
        assert got["logprobs"].shape == list(expected.shape)
        np.testing.assert_array_equal(got["logprobs"].to_numpy(), expected)


def test_samples_read_back_in_the_client() -> None:
    topk = TopkLogprobs(np.array([[0, 0], [4, 5]], np.int32), np.array([[-99999, -99999], [-1, -2]], np.float32))
    sequences = (
        SampledSequence(np.array([3, 4], np.int32), np.array([-1, -2], np.float32), "stop", topk),
        SampledSequence(np.array([], np.int32), np.array([], np.float32), "length"),
    )
    prompt = np.array([np.nan, -0.5], np.float32)
    got = deserialize_proto_response(
        codec.encode_sample(SampleResult(sequences, prompt, topk, prompt_cache_hit_tokens=7)), tinker.SampleResponse
    )
    assert [list(sequence.tokens) for sequence in got.sequences] == [[3, 4], []]
    assert [sequence.stop_reason for sequence in got.sequences] == ["stop", "length"]
    assert list(got.sequences[0].logprobs or []) == [-1.0, -2.0]
    assert got.prompt_logprobs == [None, -0.5]
    assert got.topk_prompt_logprobs == [None, [(4, -1.0), (5, -2.0)]]
    assert got.prompt_cache_hit_tokens == 7


def test_a_compressed_body_is_unpacked_up_to_the_limit_and_no_further() -> None:
    content = b"a" * 10_000
    assert codec.decompress(zstandard.compress(content), 10_000) == content
    with pytest.raises(UserError, match="more than 9999 bytes"):
        codec.decompress(zstandard.compress(content), 9999)
    undeclared = zstandard.ZstdCompressor().compressobj()
    with pytest.raises(UserError, match="more than 9999 bytes"):
        codec.decompress(undeclared.compress(content) + undeclared.flush(), 9999)
    with pytest.raises(UserError, match="not readable zstd"):
        codec.decompress(b"nonsense", 100)
