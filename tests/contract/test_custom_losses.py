"""Section 5.4: losses that the client traces and the server computes, with the steps that the client would make."""

import pytest
import tinker
import torch

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo
from tests.contract.material import PROPORTIONAL_STEP, TOLERANCE, Material, datum, forward, logprobs


def weighted(logprobs: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    loss = -(torch.sigmoid(logprobs) * weights).sum()
    return loss, {"custom/tokens:sum": weights.sum(), "custom/confidence:mean": logprobs.exp().mean()}


def data(material: Material) -> list[tinker.Datum]:
    return [datum(material.sequence(number)) for number in range(3)]


@pytest.fixture(scope="module")
def uploaded(service: tinker.ServiceClient) -> tinker.LossHandle:
    """Once: the SDK refuses to upload one loss twice in a session."""
    return service.create_custom_loss(weighted, {"logprobs": 1, "weights": 1}).result()


def test_the_server_computes_what_the_client_would(
    service: tinker.ServiceClient, uploaded: tinker.LossHandle, base_model: str, material: Material
) -> None:
    assert uploaded.loss_id is not None

    def in_the_client(data: list[tinker.Datum], values: list[torch.Tensor]) -> tuple[torch.Tensor, dict[str, float]]:
        parts = [
            weighted(lp, one.loss_fn_inputs["weights"].to_torch())[0] for one, lp in zip(data, values, strict=True)
        ]
        return torch.stack(parts).sum(), {}

    after = []
    for loss in (uploaded, in_the_client):
        training = service.create_lora_training_client(base_model, rank=4, seed=7).result()
        output = training.forward_backward_custom(data(material), loss).result()
        training.optim_step(PROPORTIONAL_STEP).result()
        after.append((output, forward(training, data(material))))
    (there, moved_there), (_, moved_here) = after
    values = logprobs(there)
    computed = [weighted(lp, torch.ones_like(lp)) for lp in values]
    assert there.metrics["loss:sum"] == pytest.approx(float(sum(loss for loss, _ in computed)), rel=1e-5)
    assert there.metrics["custom/tokens:sum"] == sum(len(lp) for lp in values)
    mean = sum(float(metrics["custom/confidence:mean"]) for _, metrics in computed) / 3
    assert there.metrics["custom/confidence:mean"] == pytest.approx(mean, rel=1e-4)
    torch.testing.assert_close(moved_there, moved_here, atol=TOLERANCE, rtol=0)


def test_what_the_server_does_not_allow_is_said_when_the_loss_is_made(service: tinker.ServiceClient) -> None:
    def random(logprobs: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return (logprobs * torch.rand_like(logprobs)).sum(), {}

    with pytest.raises(tinker.RequestFailedError, match=r"torch\.rand_like.*not on this server's list") as refusal:
        service.create_custom_loss(random, {"logprobs": 1}).result()
    assert refusal.value.category == "user"


def test_a_loss_belongs_to_its_session(
    server: ServerInfo, uploaded: tinker.LossHandle, base_model: str, material: Material
) -> None:
    assert uploaded.loss_id is not None
    with service_client(server.url, server.api_key) as other:
        training = other.create_lora_training_client(base_model, rank=4).result()
        with pytest.raises(tinker.RequestFailedError, match="no custom loss of this session"):
            training.forward_backward(data(material), "custom", {"loss_id": uploaded.loss_id}).result()


def test_an_input_that_is_not_sent_is_named(
    service: tinker.ServiceClient, uploaded: tinker.LossHandle, base_model: str, material: Material
) -> None:
    training = service.create_lora_training_client(base_model, rank=4).result()
    (one, *_) = data(material)
    bare = tinker.Datum(
        model_input=one.model_input, loss_fn_inputs={"target_tokens": one.loss_fn_inputs["target_tokens"]}
    )
    with pytest.raises((tinker.RequestFailedError, ValueError), match="weights"):
        training.forward_backward_custom([bare], uploaded).result()
