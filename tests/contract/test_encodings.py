"""Section 11: how data travel, and what is said of data that make no sense."""

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
import tinker
import torch
from tinker import types
from tinker.proto import tinker_public_pb2 as pb

from tests.contract.material import Material, datum, floats, forward, integers, logprobs
from tests.contract.test_ordering import ByHand

# 11.1 messages


@pytest.fixture
def model(wire: httpx.Client, base_model: str) -> ByHand:
    return ByHand(wire, base_model)


def send(model: ByHand, seq: int, inputs: dict[str, pb.Tensor], tokens: list[int], **fields: Any) -> Any:
    message = pb.ForwardBackwardRequest(
        model_id=model.id, seq_id=seq, loss_fn="cross_entropy", forward_only=True, **fields
    )
    one = message.data.add()
    one.model_input.add().encoded_text.tokens = np.array(tokens, np.int32).tobytes()
    for name, tensor in inputs.items():
        one.loss_fn_inputs[name].CopyFrom(tensor)
    return model.wait(model.wire.post("forward_backward", content=message.SerializeToString()))


def dense(values: np.ndarray, dtype: int, *shape: int) -> pb.Tensor:
    return pb.Tensor(dense=values.tobytes(), dtype=dtype, shape=shape)  # type: ignore[arg-type]


def test_every_type_of_number_is_read(model: ByHand, material: Material) -> None:
    tokens = material.sequence()
    targets, weights = np.array(tokens[1:]), np.array([1.0, 0.5] * len(tokens), np.float32)[: len(tokens) - 1]
    halves = (weights.view(np.uint32) >> 16).astype(np.uint16)  # exact: 1 and 0.5 fit
    losses = [
        send(
            model,
            seq,
            {"target_tokens": dense(targets.astype(integer), of_integer), "weights": dense(real, of_real, *shape)},
            tokens[:-1],
        ).metrics["loss:sum"]
        for seq, (integer, of_integer, real, of_real, shape) in enumerate(
            [
                (np.int64, pb.DTYPE_INT64, weights, pb.DTYPE_FLOAT32, (len(weights),)),
                (np.int32, pb.DTYPE_INT32, weights, pb.DTYPE_FLOAT32, ()),
                (np.int64, pb.DTYPE_INT64, halves, pb.DTYPE_BFLOAT16, ()),
            ],
            start=1,
        )
    ]
    assert losses[0] == losses[1] == losses[2] != 0


def test_fields_of_newer_messages_are_ignored(model: ByHand, material: Material) -> None:
    message = pb.ForwardBackwardRequest(model_id=model.id, seq_id=1, loss_fn="cross_entropy", forward_only=True)
    one = message.data.add()
    one.model_input.add().encoded_text.tokens = np.array([1, 2], np.int32).tobytes()
    one.loss_fn_inputs["target_tokens"].CopyFrom(dense(np.array([2, 3]), pb.DTYPE_INT64))
    unknown = bytes([0xFA, 0x3F, 3]) + b"new"  # field 1023, three bytes
    answer = model.wait(model.wire.post("forward_backward", content=message.SerializeToString() + unknown))
    assert answer.metrics["loss:sum"] > 0


# 11.2 results


def test_ragged_targets_come_back_in_their_shapes(training: tinker.TrainingClient, material: Material) -> None:
    tokens = material.sequence()
    data = []
    for width in (0, 2, 2, 3, 0):
        targets = torch.tensor(tokens[1:])
        targets = targets if not width else targets[:, None].repeat(1, width)
        inputs = {name: tinker.TensorData.from_torch(t) for name, t in wide(targets).items()}
        data.append(tinker.Datum(model_input=tinker.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs))
    found = logprobs(training.forward(data, "cross_entropy").result())
    n = len(tokens) - 1
    assert [tuple(one.shape) for one in found] == [(n,), (n, 2), (n, 2), (n, 3), (n,)]
    for one in found:
        columns = one if one.ndim == 2 else one[:, None]
        assert all(torch.equal(columns[:, k], found[0]) for k in range(columns.shape[1]))


def wide(targets: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"target_tokens": targets, "weights": torch.ones(targets.shape)}


# 11.4 meaning


def test_text_may_come_in_many_pieces(training: tinker.TrainingClient, material: Material) -> None:
    tokens = material.sequence()
    whole = datum(tokens)
    pieces = tinker.ModelInput(chunks=[types.EncodedTextChunk(tokens=[token]) for token in tokens[:-1]])
    split = tinker.Datum(model_input=pieces, loss_fn_inputs=whole.loss_fn_inputs)
    assert torch.equal(forward(training, [split]), forward(training, [whole]))


def test_sparse_targets_and_weights_have_patterns_of_their_own(
    training: tinker.TrainingClient, material: Material
) -> None:
    """Token 0 is dropped from the one, weight 0 from the other; unlisted cells are 0."""
    tokens = material.sequence()
    targets = torch.zeros((len(tokens) - 1, 60), dtype=torch.int64)
    weights = torch.zeros(targets.shape)
    targets[:, 0], targets[::2, 7] = torch.tensor(tokens[1:]), 0
    weights[:, 7], weights[1::3, 0] = 0.25, -1.5
    found = []
    for convert in (tinker.TensorData.from_torch, tinker.TensorData.from_torch_sparse):
        inputs = {"target_tokens": convert(targets), "weights": convert(weights)}
        one = tinker.Datum(model_input=tinker.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)
        found.append(training.forward([one], "cross_entropy").result())
    assert inputs["target_tokens"].sparse_crow_indices is not None
    assert found[0].metrics["loss:sum"] == found[1].metrics["loss:sum"]
    assert torch.equal(*(logprobs(one)[0] for one in found))


def test_without_weights_every_position_counts(training: tinker.TrainingClient, material: Material) -> None:
    whole = datum(material.sequence())
    bare = tinker.Datum(
        model_input=whole.model_input, loss_fn_inputs={"target_tokens": whole.loss_fn_inputs["target_tokens"]}
    )
    losses = [training.forward([one], "cross_entropy").result().metrics["loss:sum"] for one in (whole, bare)]
    assert losses[0] == losses[1]


def test_inputs_that_a_loss_does_not_need_are_ignored(training: tinker.TrainingClient, material: Material) -> None:
    whole = datum(material.sequence())
    inputs = whole.loss_fn_inputs | {"mask": floats([1.0] * (len(material.sequence()) - 1))}
    more = tinker.Datum(model_input=whole.model_input, loss_fn_inputs=inputs)
    assert torch.equal(forward(training, [more]), forward(training, [whole]))


@pytest.mark.parametrize("loss_fn", ["importance_sampling", "ppo"])
def test_provenance_is_accepted_by_every_loss(
    training: tinker.TrainingClient, material: Material, loss_fn: Any
) -> None:
    tokens = material.sequence()
    n = len(tokens) - 1
    one = tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": integers(tokens[1:]),
            "logprobs": floats([-1.0] * n),
            "advantages": floats([1.0] * n),
        },
    )
    spans: Any = [
        types.PromptProvenanceSpan(sequence_id="anything", length=3),
        types.SampledProvenanceSpan(sequence_id="anything", length=n - 3),
    ]
    named = one.with_provenance(model_input=spans, loss_fn_inputs=spans)
    losses = [training.forward([each], loss_fn).result().metrics["loss:sum"] for each in (one, named)]
    assert losses[0] == losses[1]


BAD_TOKEN = 10_000_000


def wrong_token(tokens: list[int]) -> tinker.Datum:
    return datum([*tokens[:3], BAD_TOKEN, *tokens[3:]])


def negative_token(tokens: list[int]) -> tinker.Datum:
    return datum([*tokens[:3], -1, *tokens[3:]])


def wrong_length(tokens: list[int]) -> tinker.Datum:
    inputs = {"target_tokens": integers(tokens[2:]), "weights": floats([1.0] * (len(tokens) - 2))}
    return tinker.Datum(model_input=tinker.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)


def wrong_shape(tokens: list[int]) -> tinker.Datum:
    inputs = {"target_tokens": integers(tokens[1:]), "weights": floats([1.0])}
    return tinker.Datum(model_input=tinker.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)


def missing_targets(tokens: list[int]) -> tinker.Datum:
    inputs = {"weights": floats([1.0] * (len(tokens) - 1))}
    return tinker.Datum(model_input=tinker.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)


def not_a_number(tokens: list[int]) -> tinker.Datum:
    return datum(tokens, [float("nan")] * (len(tokens) - 1))


def infinite(tokens: list[int]) -> tinker.Datum:
    return datum(tokens, [float("-inf")] * (len(tokens) - 1))


def empty(tokens: list[int]) -> tinker.Datum:
    return datum(tokens[:1])


def too_long(tokens: list[int]) -> tinker.Datum:
    return datum(tokens * 1000)


def picture(tokens: list[int]) -> tinker.Datum:
    image = types.ImageChunk(data=b"no image", format="png", expected_tokens=1)
    return tinker.Datum(
        model_input=tinker.ModelInput(chunks=[image]),
        loss_fn_inputs={"target_tokens": integers([1]), "weights": floats([1.0])},
    )


def sound(tokens: list[int]) -> tinker.Datum:
    return tinker.Datum(
        model_input=tinker.ModelInput(chunks=[types.DmelChunk(dmel=bytes([0, 1, 1, 0, 0, 0, 0]))]),
        loss_fn_inputs={"target_tokens": integers([1]), "weights": floats([1.0])},
    )


BAD_DATA: dict[str, tuple[Callable[[list[int]], tinker.Datum], str]] = {
    "token": (wrong_token, str(BAD_TOKEN)),
    "negative token": (negative_token, "-1"),
    "length": (wrong_length, "target_tokens"),
    "shape": (wrong_shape, "weights"),
    "no targets": (missing_targets, "target_tokens"),
    "not a number": (not_a_number, "NonFiniteInTensor"),
    "infinite": (infinite, "NonFiniteInTensor"),
    "empty": (empty, "empty"),
    "too long": (too_long, "context"),
    "image": (picture, "reads text only"),
    "audio": (sound, "models read encoded_text"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_a_bad_datum_names_its_field(training: tinker.TrainingClient, material: Material, case: str) -> None:
    spoil, named = BAD_DATA[case]
    tokens = material.sequence()
    with pytest.raises(tinker.RequestFailedError, match=named) as refusal:
        training.forward_backward([datum(tokens), spoil(tokens)], "cross_entropy").result()
    assert refusal.value.category == "user"
    assert "data[1]" in str(refusal.value)
    assert np.isfinite(forward(training, [datum(tokens)]).numpy()).all()
