"""Section 10: numbers, arrival order, duplicates, gaps; by hand, because the SDK sends them in order."""

from typing import Any

import httpx
import numpy as np
import pytest
import tinker
from tinker.proto import tinker_public_pb2 as pb

from tests.contract.material import Material


class ByHand:
    """A model whose requests are numbered by the test."""

    def __init__(self, wire: httpx.Client, base_model: str) -> None:
        self.wire = wire
        self.session_id = wire.post("create_session", json={"tags": []}).json()["session_id"]
        self.creation = {
            "session_id": self.session_id,
            "model_seq_id": 0,
            "base_model": base_model,
            "lora_config": {"rank": 4, "seed": 7},
        }
        self.id = self.wait(wire.post("create_model", json=self.creation))["model_id"]

    def gradient(self, seq: int, *sequences: list[int], **fields: Any) -> httpx.Response:
        message = pb.ForwardBackwardRequest(model_id=self.id, seq_id=seq, loss_fn="cross_entropy", **fields)
        for tokens in sequences:
            datum = message.data.add()
            datum.model_input.add().encoded_text.tokens = np.array(tokens[:-1], np.int32).tobytes()
            tensor = datum.loss_fn_inputs["target_tokens"]
            tensor.dense, tensor.dtype = np.array(tokens[1:], np.int64).tobytes(), pb.DTYPE_INT64
        return self.wire.post(
            "forward_backward",
            content=message.SerializeToString(),
            headers={"Content-Type": "application/x-protobuf"},
        )

    def step(self, seq: int, learning_rate: float = 1e-2) -> httpx.Response:
        body = {"model_id": self.id, "seq_id": seq, "adam_params": {"learning_rate": learning_rate}}
        return self.wire.post("optim_step", json=body)

    def wait(self, accepted: httpx.Response) -> Any:
        """The answer: a message or an object."""
        assert accepted.status_code == 200, accepted.text
        body = {"request_id": accepted.json()["request_id"], "allow_metadata_only": False}
        while (answer := self.wire.post("retrieve_future", json=body)).status_code == 408:
            pass
        if answer.headers["content-type"] == "application/json":
            return answer.json()
        return pb.ForwardBackwardOutput.FromString(answer.content)

    def loss(self, accepted: httpx.Response) -> float:
        return float(self.wait(accepted).metrics["loss:sum"])


@pytest.fixture
def model(wire: httpx.Client, base_model: str) -> ByHand:
    return ByHand(wire, base_model)


@pytest.fixture
def twin(wire: httpx.Client, base_model: str) -> ByHand:
    return ByHand(wire, base_model)


# 10.2 order


def test_numbers_decide_and_not_the_arrival(model: ByHand, twin: ByHand, material: Material) -> None:
    tokens = material.sequence()
    in_order = [twin.gradient(1, tokens), twin.step(2), twin.gradient(3, tokens)]
    late = model.gradient(3, tokens)
    second = model.step(2)
    mixed = [model.gradient(1, tokens), second, late]
    assert [model.loss(mixed[n]) for n in (0, 2)] == [twin.loss(in_order[n]) for n in (0, 2)]
    assert model.loss(late) < model.loss(mixed[0])


def test_what_waits_for_a_number_is_accepted_at_once(model: ByHand, material: Material) -> None:
    early = model.gradient(5, material.sequence())
    assert early.status_code == 200
    body = {"request_id": early.json()["request_id"], "allow_metadata_only": False}
    with pytest.raises(httpx.ReadTimeout):
        model.wire.post("retrieve_future", json=body, timeout=0.3)
    for seq in (1, 2, 3, 4):
        model.gradient(seq, material.sequence(), forward_only=True)
    assert model.loss(early) > 0


def test_a_large_batch_is_accepted_before_it_is_computed(model: ByHand, material: Material) -> None:
    accepted = model.gradient(1, *[material.sequence(number) for number in range(1000)])
    request = accepted.elapsed.total_seconds()
    model.wait(accepted)
    assert request < 1.0


# 10.3 duplicates, gaps, rejections


def test_the_same_request_again_is_the_same_request(model: ByHand, material: Material) -> None:
    tokens = material.sequence()
    first, again = model.gradient(1, tokens), model.gradient(1, tokens)
    assert first.json() == again.json()
    steps = [model.step(2), model.step(2)]
    assert steps[0].json() == steps[1].json()
    assert model.wait(steps[0])["metrics"]["optimizer/steps"] == 1.0
    assert model.step(2).json() == steps[0].json(), "also when it is done"
    assert model.wait(model.step(4 - 1))["metrics"]["optimizer/skipped"] == 1.0, "its gradient ran once"


def test_another_request_under_a_used_number_is_400(model: ByHand, material: Material) -> None:
    model.step(1)
    for other in (model.step(1, learning_rate=0.5), model.gradient(1, material.sequence())):
        assert other.status_code == 400, "never 409: the SDK would repeat it for minutes"
        assert "seq_id 1" in other.json()["detail"]


def test_a_model_is_made_once(model: ByHand, wire: httpx.Client) -> None:
    assert model.wait(wire.post("create_model", json=model.creation))["model_id"] == model.id
    other = wire.post("create_model", json=model.creation | {"lora_config": {"rank": 8}})
    assert other.status_code == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("save_weights", {"path": "once"}),
        ("save_weights_for_sampler", {"path": "once"}),
        ("save_weights_for_sampler", {"sampling_session_seq_id": 0}),
        ("save_weights_external", {"path": "once"}),
    ],
)
def test_a_repeated_save_is_one_save(model: ByHand, wire: httpx.Client, path: str, body: dict[str, Any]) -> None:
    numbered = {"model_id": model.id, "seq_id": 1, **body}
    first = wire.post(path, json=numbered)
    answer = model.wait(first)
    assert "error" not in answer
    again = wire.post(path, json=numbered)
    assert again.json() == first.json()
    assert model.wait(again) == answer


REFUSED_LATER: dict[str, tuple[str, dict[str, Any]]] = {
    "optim_step": ("optim_step", {"adam_params": {"learning_rate": "fast"}}),
    "save_weights": ("save_weights", {"path": "a/b"}),
    "save_weights_for_sampler": ("save_weights_for_sampler", {}),
    "save_weights_external": ("save_weights_external", {"path": "x", "ttl_seconds": 1}),
    "load_weights": ("load_weights", {"path": "nowhere", "optimizer": True}),
}


@pytest.mark.parametrize("kind", REFUSED_LATER)
def test_a_wrong_request_leaves_no_hole(model: ByHand, wire: httpx.Client, material: Material, kind: str) -> None:
    """It is accepted, and its future says what is wrong: the SDK goes on with the next number in any case."""
    path, body = REFUSED_LATER[kind]
    answer = model.wait(wire.post(path, json={"model_id": model.id, "seq_id": 1} | body))
    assert answer["category"] == "user"
    assert model.loss(model.gradient(2, material.sequence())) > 0


def test_requests_of_an_unknown_model_are_404(wire: httpx.Client) -> None:
    for path in ("optim_step", "save_weights", "load_weights"):
        response = wire.post(path, json={"model_id": "nobody:train:0", "seq_id": 1, "path": "x", "optimizer": False})
        assert response.status_code == 404
        assert "nobody" in response.json()["detail"]


# 10.4 what the client repeats


def test_the_sdk_goes_on_through_many_operations_at_once(training: tinker.TrainingClient, material: Material) -> None:
    data = [tinker.Datum(model_input=material.prompt(), loss_fn_inputs={"target_tokens": material.question()})]
    futures: list[Any] = []
    for _ in range(20):
        futures.append(training.forward_backward(data, "cross_entropy"))
        futures.append(training.optim_step(tinker.AdamParams(learning_rate=1e-3)))
    results = [future.result() for future in futures]
    assert results[-1].metrics["optimizer/steps"] == 20.0
