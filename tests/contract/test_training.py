"""Section 5: losses are sums, gradients add up, and operations take effect in the order of the calls."""

import pytest
import tinker
import torch

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo
from tests.contract.material import (
    PROPORTIONAL_STEP,
    STEP,
    TOLERANCE,
    Material,
    datum,
    forward,
    logprobs,
    policy_datum,
)


@pytest.fixture
def twin(service: tinker.ServiceClient, base_model: str) -> tinker.TrainingClient:
    """Equal to `training`."""
    return service.create_lora_training_client(base_model, rank=4, seed=7).result()


def test_the_loss_is_a_plain_sum(training: tinker.TrainingClient, material: Material) -> None:
    weights = [(-1.0) ** position * position / 7 for position in range(len(material.sequence(1)) - 1)]
    data = [datum(material.sequence(0)), datum(material.sequence(1), weights)]
    output = training.forward(data, "cross_entropy").result()
    plain, weighted = logprobs(output)
    expected = -plain.sum() - (weighted * torch.tensor(weights)).sum()
    assert output.metrics["loss:sum"] == pytest.approx(expected.item(), abs=1e-3)


def test_two_calls_accumulate_like_one(
    training: tinker.TrainingClient, twin: tinker.TrainingClient, material: Material
) -> None:
    data = [datum(material.sequence(number)) for number in range(4)]
    training.forward_backward(data, "cross_entropy")
    for one in data:
        twin.forward_backward([one], "cross_entropy")
    training.optim_step(PROPORTIONAL_STEP)
    twin.optim_step(PROPORTIONAL_STEP)
    together, apart = forward(training, data), forward(twin, data)
    assert (together - apart).abs().max() < TOLERANCE


def test_forward_adds_no_gradient(
    training: tinker.TrainingClient, twin: tinker.TrainingClient, material: Material
) -> None:
    data, other = [datum(material.sequence(0))], [datum(material.sequence(1))]
    training.forward_backward(data, "cross_entropy")
    training.forward(other, "cross_entropy")
    twin.forward_backward(data, "cross_entropy")
    training.optim_step(PROPORTIONAL_STEP)
    twin.optim_step(PROPORTIONAL_STEP)
    assert torch.equal(forward(training, data), forward(twin, data))


def test_operations_sent_without_waiting_take_effect_in_order(
    training: tinker.TrainingClient, material: Material
) -> None:
    data = [datum(material.sequence(0))]
    submitted = []
    for _ in range(3):
        submitted.append(training.forward_backward(data, "cross_entropy"))
        training.optim_step(STEP)
    losses = [future.result().metrics["loss:sum"] for future in submitted]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[1] > losses[2], "each must have seen the step before it"


def test_a_step_clears_the_gradients(training: tinker.TrainingClient, material: Material) -> None:
    data = [datum(material.sequence(0))]
    training.forward_backward(data, "cross_entropy")
    training.optim_step(STEP)
    before = forward(training, data)
    training.optim_step(STEP).result()
    assert torch.equal(before, forward(training, data)), "a step without gradients changes nothing"


@pytest.mark.parametrize("loss_fn", ["importance_sampling", "ppo", "cispo"])
def test_policy_losses_raise_what_was_rewarded(
    training: tinker.TrainingClient, material: Material, loss_fn: str
) -> None:
    sampler = training.save_weights_and_get_sampling_client().result()
    response = sampler.sample(material.prompt(), 2, tinker.SamplingParams(max_tokens=6, seed=1)).result()
    good, bad = response.sequences
    prompt = material.question()
    data = [policy_datum(prompt, good, 1.0), policy_datum(prompt, bad, -1.0)]
    output = training.forward_backward(data, loss_fn).result()
    training.optim_step(tinker.AdamParams(learning_rate=1e-3)).result()
    after = logprobs(training.forward(data, loss_fn).result())
    before = logprobs(output)
    start = len(prompt) - 1
    if good.tokens != bad.tokens:
        gain = (after[0][start:].sum() - before[0][start:].sum()) - (after[1][start:].sum() - before[1][start:].sum())
        assert gain > 0
    recorded = data[0].loss_fn_inputs["logprobs"].to_torch()[start:]
    assert (before[0][start:] - recorded).abs().max() < TOLERANCE, "on policy, the ratio is one"


def test_several_targets_per_position(training: tinker.TrainingClient, material: Material) -> None:
    """[N, K] targets are a soft distribution: column 0 repeats the 1-D case, column 1 has weight zero."""
    tokens = material.sequence(3)
    targets = torch.stack([torch.tensor(tokens[1:]), torch.full((len(tokens) - 1,), 5)], dim=1)
    weights = torch.tensor([[1.0, 0.0]]).repeat(len(tokens) - 1, 1)
    wide = tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": tinker.TensorData.from_torch(targets),
            "weights": tinker.TensorData.from_torch(weights),
        },
    )
    output = training.forward([wide], "cross_entropy").result()
    plain = training.forward([datum(tokens)], "cross_entropy").result()
    assert logprobs(output)[0].shape == targets.shape
    assert torch.equal(logprobs(output)[0][:, 0], logprobs(plain)[0])
    assert output.metrics["loss:sum"] == pytest.approx(plain.metrics["loss:sum"], abs=1e-3)


def test_a_custom_loss_steps_like_the_weights_that_autograd_gives(
    training: tinker.TrainingClient, twin: tinker.TrainingClient, material: Material
) -> None:
    data = [datum(material.sequence(number)) for number in range(3)]

    def squares(_: list[tinker.Datum], lps: list[torch.Tensor]) -> tuple[torch.Tensor, dict[str, float]]:
        loss = torch.stack([(lp**2).sum() for lp in lps]).sum()
        return loss, {"squares:sum": loss.item()}

    output = training.forward_backward_custom(data, squares).result()
    training.optim_step(PROPORTIONAL_STEP)

    leaves = [lp.clone().requires_grad_() for lp in logprobs(twin.forward(data, "cross_entropy").result())]
    loss, _ = squares(data, leaves)
    gradients = torch.autograd.grad(loss, leaves)
    by_hand = [datum(material.sequence(n), (-gradient).tolist()) for n, gradient in enumerate(gradients)]
    twin.forward_backward(by_hand, "cross_entropy")
    twin.optim_step(PROPORTIONAL_STEP)

    assert output.metrics["squares:sum"] == pytest.approx(loss.item(), rel=1e-5)
    before = torch.cat([leaf.detach() for leaf in leaves])
    after = forward(training, data)
    assert torch.equal(after, forward(twin, data))
    assert (after**2).sum() < (before**2).sum(), "the step must lower the custom loss"


def test_a_custom_loss_of_several_targets_gets_them_in_their_shape(
    training: tinker.TrainingClient, twin: tinker.TrainingClient, material: Material
) -> None:
    """Mostly empty columns travel in sparse form."""
    tokens = material.sequence(2)
    targets = torch.zeros((len(tokens) - 1, 40), dtype=torch.int64)
    targets[:, 0], targets[:, 3] = torch.tensor(tokens[1:]), 5
    asked = tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": tinker.TensorData.from_torch_sparse(targets),
            "weights": tinker.TensorData.from_torch(torch.zeros(targets.shape)),
        },
    )

    def contrast(_: list[tinker.Datum], lps: list[torch.Tensor]) -> tuple[torch.Tensor, dict[str, float]]:
        assert lps[0].shape == targets.shape
        return (lps[0][:, 3] - 2 * lps[0][:, 0]).sum(), {}

    output = training.forward_backward_custom([asked], contrast).result()
    assert "surrogate_loss:sum" in output.metrics
    weights = torch.zeros(targets.shape)
    weights[:, 0], weights[:, 3] = 2.0, -1.0
    by_hand = tinker.Datum(
        model_input=asked.model_input,
        loss_fn_inputs={
            "target_tokens": tinker.TensorData.from_torch(targets),
            "weights": tinker.TensorData.from_torch(weights),
        },
    )
    twin.forward_backward([by_hand], "cross_entropy")
    after = []
    for one in (training, twin):
        one.optim_step(PROPORTIONAL_STEP)
        after.append(forward(one, [datum(tokens)]))
    assert torch.equal(*after)


@pytest.mark.parametrize("together", [True, False])
def test_chunks_arrive_in_any_order_and_mean_the_same(
    server: ServerInfo, base_model: str, material: Material, together: bool
) -> None:
    """Sent together, the first chunk comes last."""
    with service_client(server.url, server.api_key) as client:
        changed = {"fwdbwd_max_chunk_len": 2, "parallel_fwdbwd_chunks": together}
        client.holder._client_config = client.holder._client_config.model_copy(update=changed)
        training = client.create_lora_training_client(base_model, rank=4, seed=7).result()
        data = [datum(material.sequence(number)) for number in range(7)]
        output = training.forward_backward(data, "cross_entropy").result()
        alone = [logprobs(training.forward([one], "cross_entropy").result())[0] for one in data]
        assert all(torch.equal(one, other) for one, other in zip(logprobs(output), alone, strict=True))
        assert output.metrics["loss:sum"] == pytest.approx(-sum(lp.sum().item() for lp in alone), rel=1e-5)
        assert all(name.count(":") == 1 for name in output.metrics)


def test_a_bad_datum_in_one_chunk_fails_the_call_and_nothing_else(
    server: ServerInfo, base_model: str, material: Material
) -> None:
    with service_client(server.url, server.api_key) as client:
        config = client.holder._client_config
        client.holder._client_config = config.model_copy(update={"fwdbwd_max_chunk_len": 2})
        training = client.create_lora_training_client(base_model, rank=4, seed=7).result()
        data = [datum(material.sequence(number)) for number in range(5)]
        spoiled = [*data[:3], datum([1, 10_000_000, 2]), data[4]]
        with pytest.raises(tinker.RequestFailedError, match="10000000"):
            training.forward_backward(spoiled, "cross_entropy").result()
        assert len(training.forward_backward(data, "cross_entropy").result().loss_fn_outputs) == 5


def test_a_failed_gradient_leaves_the_adapter_alone(training: tinker.TrainingClient, material: Material) -> None:
    good = [datum(material.sequence())]
    before = forward(training, good)
    with pytest.raises(tinker.RequestFailedError):
        training.forward_backward([datum([1, 10_000_000, 2])], "cross_entropy").result()
    training.optim_step(STEP).result()
    assert torch.equal(forward(training, good), before)


def test_models_do_not_see_each_other(
    training: tinker.TrainingClient, twin: tinker.TrainingClient, material: Material
) -> None:
    data = [datum(material.sequence(0))]
    before = forward(twin, data)
    training.forward_backward(data, "cross_entropy")
    training.optim_step(STEP).result()
    assert torch.equal(forward(twin, data), before)


@pytest.mark.slow
def test_a_call_of_three_chunks_answers_in_order(training: tinker.TrainingClient, material: Material) -> None:
    """The SDK sends at most 1,024 data per request, chunk 1 last."""
    sequences = [[*material.question(number)[-6:], 3 + number % 50] for number in range(2500)]
    data = [datum(tokens) for tokens in sequences]
    output = training.forward(data, "cross_entropy").result()
    assert len(output.loss_fn_outputs) == 2500
    assert output.metrics["loss:sum"] == pytest.approx(-sum(lp.sum().item() for lp in logprobs(output)), rel=1e-4)
    for number in (0, 1023, 1024, 2047, 2048, 2499):
        (alone,) = logprobs(training.forward([data[number]], "cross_entropy").result())
        assert torch.equal(alone, logprobs(output)[number]), number
