"""Passes over packed batches: gradients against autograd and PEFT, and tenants that never touch each other."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import peft
import pytest
import torch
from torch import Tensor

from hone.engine.batch import Piece, cut
from hone.engine.contract import ForwardBackward
from hone.engine.lora.state import AdapterState
from hone.engine.models.load import LoadedModel
from hone.engine.trainer import PieceResult, run_pieces
from hone.protocol.types import Datum, LoraConfig
from tests.unit.engine.material import (
    FAMILIES,
    forward_backward,
    random_datum,
    reference_logprobs,
    reference_model,
    relative_error,
    trained_adapter,
)

LENGTHS = (5, 17, 1, 2, 17, 30)
Sites = dict[str, tuple[Tensor, Tensor]]


def data_of(lengths: Sequence[int] = LENGTHS, loss_fn: str = "cross_entropy", seed: int = 0) -> tuple[Datum, ...]:
    rng = np.random.default_rng(seed)
    return tuple(random_datum(rng, n, loss_fn) for n in lengths)


def cross_entropy(forward: Callable[[Tensor], Tensor], data: Sequence[Datum]) -> Tensor:
    """The loss, sequence by sequence, from a function that gives logits [1, N, V]."""
    total = torch.zeros(())
    for d in data:
        logprobs = torch.log_softmax(forward(torch.from_numpy(d.tokens.astype(np.int64))[None])[0].float(), -1)
        chosen = logprobs.gather(1, torch.from_numpy(d.loss_inputs["target_tokens"])[:, None])[:, 0]
        total = total - (torch.from_numpy(d.loss_inputs["weights"]) * chosen).sum()
    return total


def merged_weights(model: LoadedModel, sites: Sites, scale: float) -> dict[str, Tensor]:
    """transformers' parameters with W + scale * B A, as functions of the matrices in `sites`."""
    merged: dict[str, Tensor] = {}
    plain = dict(reference_model_of(model).named_parameters(remove_duplicate=False))
    for name, (a, b) in sites.items():
        if name == "model.unembed_tokens":
            merged["lm_head.weight"] = plain["lm_head.weight"] + scale * b @ a
        elif name.endswith("experts.w1"):
            experts = name.removesuffix(".w1")
            up_a, up_b = sites[f"{experts}.w3"]
            delta = torch.cat([b @ a, up_b @ up_a], dim=1)  # gate rows above up rows, per expert
            merged[f"{experts}.gate_up_proj"] = plain[f"{experts}.gate_up_proj"] + scale * delta
        elif name.endswith("experts.w2"):
            key = f"{name.removesuffix('.w2')}.down_proj"
            merged[key] = plain[key] + scale * b @ a
        elif not name.endswith("experts.w3"):
            merged[f"{name}.weight"] = plain[f"{name}.weight"] + scale * b @ a
    return merged


def reference_model_of(model: LoadedModel) -> Any:
    return reference_model(model.directory.name)


def leaves(state: AdapterState) -> Sites:
    return {
        name: (a.clone().requires_grad_(), b.clone().requires_grad_())
        for name, (a, b) in state.layout.site_views(state.weights).items()
    }


def assert_gradients(state: AdapterState, wanted: Sites) -> None:
    assert state.gradient is not None
    found = state.layout.site_views(state.gradient)
    assert set(found) == set(wanted)
    for name, (a, b) in wanted.items():
        assert relative_error(found[name][0], a) < 1e-4, f"{name} A"
        assert relative_error(found[name][1], b) < 1e-4, f"{name} B"


def gradient_of(x: Tensor) -> Tensor:
    assert x.grad is not None
    return x.grad


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_autograds_through_merged_weights(family: str, models: dict[str, LoadedModel]) -> None:
    """transformers' forward pass over W + scale * B A, with every A and B a leaf; experts and tied heads included."""
    model = models[family]
    state, data = trained_adapter(model.config, LoraConfig(4, 1)), data_of()
    sites, reference = leaves(state), reference_model(family)
    merged = merged_weights(model, sites, state.layout.scale)

    def forward(tokens: Tensor) -> Tensor:
        logits: Tensor = torch.func.functional_call(
            reference, merged, (tokens,), {"use_cache": False}, tie_weights=False
        ).logits
        return logits

    loss = cross_entropy(forward, data)
    loss.backward()
    (result,) = forward_backward(model.decoder, state, data)
    assert result.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    assert_gradients(state, {name: (gradient_of(a), gradient_of(b)) for name, (a, b) in sites.items()})


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_gradients_are_those_of_peft(family: str, models: dict[str, LoadedModel]) -> None:
    model = models[family]
    state, data = trained_adapter(model.config, LoraConfig(4, 1)), data_of()
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]
    config = peft.LoraConfig(r=4, lora_alpha=32, target_modules=names, task_type="CAUSAL_LM")
    theirs = peft.get_peft_model(copy.deepcopy(reference_model(family)), config)
    parameters = dict(theirs.named_parameters())

    def of_peft(site: str) -> tuple[Tensor, Tensor]:
        module = "lm_head" if site == "model.unembed_tokens" else site
        a, b = (parameters[f"base_model.model.{module}.lora_{side}.default.weight"] for side in "AB")
        return a, b

    sites = state.layout.site_views(state.weights)
    with torch.no_grad():
        for site, (a, b) in sites.items():
            for target, source in zip(of_peft(site), (a, b), strict=True):
                target.copy_(source)
    loss = cross_entropy(lambda tokens: theirs(tokens, use_cache=False).logits, data)
    loss.backward()
    (result,) = forward_backward(model.decoder, state, data)
    assert result.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    assert_gradients(state, {site: tuple(gradient_of(x) for x in of_peft(site)) for site in sites})  # type: ignore[misc]


@pytest.mark.parametrize("flag", ["train_attn", "train_mlp", "train_unembed"])
def test_a_partial_adapter_gets_its_part_of_the_gradient(flag: str, qwen3: LoadedModel) -> None:
    flags = {"train_attn": False, "train_mlp": False, "train_unembed": False, flag: True}
    model, data = qwen3, data_of()
    state = trained_adapter(model.config, LoraConfig(4, 1, **flags))
    sites, reference = leaves(state), reference_model("qwen3")
    merged = merged_weights(model, sites, state.layout.scale)
    cross_entropy(
        lambda t: torch.func.functional_call(reference, merged, (t,), {"use_cache": False}).logits, data
    ).backward()
    forward_backward(model.decoder, state, data)
    assert_gradients(state, {name: (gradient_of(a), gradient_of(b)) for name, (a, b) in sites.items()})


def test_an_untrained_adapter_is_the_base_model(qwen3: LoadedModel) -> None:
    data = data_of()
    state = trained_adapter(qwen3.config, LoraConfig(4, 1), size=0.0)
    (result,) = forward_backward(qwen3.decoder, state, data)
    by_length = sorted(data, key=lambda d: len(d.tokens))  # a piece is sorted by length
    for d, found in zip(by_length, result.logprobs, strict=True):
        wanted = reference_logprobs(reference_model("qwen3"), d.tokens, d.loss_inputs["target_tokens"])
        assert np.abs(found - wanted).max() < 1e-5


def test_a_pass_over_targets_of_two_dimensions(qwen3: LoadedModel) -> None:
    """K targets with weights are K passes with one target each, added up."""
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, 199, 12).astype(np.int32)
    targets, weights = rng.integers(0, 199, (12, 3)), rng.normal(size=(12, 3)).astype(np.float32)
    state = trained_adapter(qwen3.config, LoraConfig(4, 1))
    (together,) = forward_backward(
        qwen3.decoder, state, [Datum(tokens, {"target_tokens": targets, "weights": weights})]
    )
    gradient = state.gradient
    assert gradient is not None
    assert together.logprobs[0].shape == (12, 3)
    state.set_gradient(None)
    loss = 0.0
    for k in range(3):
        one = Datum(tokens, {"target_tokens": targets[:, k], "weights": weights[:, k]})
        (result,) = forward_backward(qwen3.decoder, state, [one])
        np.testing.assert_array_equal(result.logprobs[0], together.logprobs[0][:, k])
        loss += result.loss
    assert state.gradient is not None
    assert together.loss == pytest.approx(loss, rel=1e-5)
    assert relative_error(gradient, state.gradient) < 1e-5


# --- several tenants -------------------------------------------------------------------------------------------------


class Tenants:
    """Adapters of different kinds, and one operation of each."""

    def __init__(self, model: LoadedModel, lengths: dict[str, Sequence[int]]) -> None:
        kinds: dict[str, tuple[LoraConfig, str]] = {
            "a": (LoraConfig(8, 1), "cross_entropy"),
            "b": (LoraConfig(3, 2), "ppo"),
            "c": (LoraConfig(16, 3, train_mlp=False), "importance_sampling"),
            "d": (LoraConfig(2, 4, train_attn=False, train_unembed=False), "gspo"),
            "e": (LoraConfig(1, 5, train_mlp=False, train_attn=False), "cispo"),
        }
        self.model = model
        self.states = {name: trained_adapter(model.config, kinds[name][0]) for name in lengths}
        self.pieces: dict[str, list[Piece]] = {}
        for seed, (name, own) in enumerate(lengths.items()):
            loss_fn = kinds[name][1]
            data = data_of(own, loss_fn, seed)
            self.pieces[name] = cut(ForwardBackward(name, data, loss_fn, {}), 64)

    def alone(self) -> tuple[dict[str, list[PieceResult]], dict[str, Tensor]]:
        results = {
            name: [run_pieces(self.model.decoder, [p], self.states)[0] for p in pieces]
            for name, pieces in self.pieces.items()
        }
        return results, self.take_gradients()

    def together(self, order: Sequence[str]) -> tuple[dict[str, list[PieceResult]], dict[str, Tensor]]:
        """In micro-batches of one piece per adapter, as the scheduler forms them."""
        results: dict[str, list[PieceResult]] = {name: [] for name in self.pieces}
        for turn in range(max(len(p) for p in self.pieces.values())):
            batch = [self.pieces[name][turn] for name in order if turn < len(self.pieces[name])]
            for piece, result in zip(batch, run_pieces(self.model.decoder, batch, self.states), strict=True):
                results[piece.adapter].append(result)
        return results, self.take_gradients()

    def take_gradients(self) -> dict[str, Tensor]:
        gradients = {}
        for name, state in self.states.items():
            assert state.gradient is not None
            gradients[name] = state.gradient
            state.set_gradient(None)
        return gradients


MIXES: dict[str, dict[str, Sequence[int]]] = {
    "one token each": {"a": (1,), "b": (1,), "c": (1,), "d": (1,), "e": (1,)},
    "small beside large": {"b": (3,), "a": (64, 64, 20, 20, 20), "d": (2, 2)},
    "all lengths": {"a": (17, 40, 1, 5, 40, 2), "c": (7, 3, 33, 40), "b": (17, 16, 15), "d": (31,), "e": (5, 5, 9)},
    "long": {"a": (200, 250), "c": (200,), "b": (250, 3)},
    "two alike": {"b": (20, 20, 20), "c": (20, 20, 20)},
}


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("family", ["qwen3", "qwen3_tied", "llama_rope", "qwen3_moe", "qwen3_moe_dense_layer"])
def test_tenants_together_get_bit_for_bit_what_they_get_alone(
    family: str, mix: str, models: dict[str, LoadedModel]
) -> None:
    tenants = Tenants(models[family], MIXES[mix])
    results, gradients = tenants.alone()
    for order in (list(MIXES[mix]), list(reversed(MIXES[mix]))):
        mixed_results, mixed_gradients = tenants.together(order)
        for name in MIXES[mix]:
            for solo, mixed in zip(results[name], mixed_results[name], strict=True):
                assert solo.loss == mixed.loss
                for one, other in zip(solo.logprobs, mixed.logprobs, strict=True):
                    np.testing.assert_array_equal(one, other, err_msg=name)
            assert torch.equal(gradients[name], mixed_gradients[name]), name


def test_a_pass_touches_nothing_but_the_gradient_of_its_own_adapter(moe: LoadedModel) -> None:
    tenants = Tenants(moe, MIXES["all lengths"])
    bystander = trained_adapter(moe.config, LoraConfig(8, 9))
    bystander.set_gradient(torch.randn(bystander.layout.size))
    everyone = {**tenants.states, "bystander": bystander}
    before = {name: [x.clone() for x in (s.weights, s.moment1, s.moment2)] for name, s in everyone.items()}
    gradient = bystander.gradient.clone() if bystander.gradient is not None else None
    base = copy.deepcopy(moe.decoder.weights)
    run_pieces(moe.decoder, [tenants.pieces["a"][0]], everyone)
    assert gradient is not None
    assert bystander.gradient is not None
    assert torch.equal(bystander.gradient, gradient)
    assert tenants.states["a"].gradient is not None
    assert all(tenants.states[name].gradient is None for name in "bcde")
    for name, old in before.items():
        for x, y in zip(old, (everyone[name].weights, everyone[name].moment1, everyone[name].moment2), strict=True):
            assert torch.equal(x, y), name
    assert torch.equal(base.head, moe.decoder.weights.head)
    for then, now in zip(base.layers, moe.decoder.weights.layers, strict=True):
        assert torch.equal(then.qkv, now.qkv)
        assert torch.equal(then.mlp.gate_up, now.mlp.gate_up)


def test_forward_only_gives_the_same_results_and_gathers_nothing(qwen3: LoadedModel) -> None:
    data = data_of(loss_fn="ppo")
    state = trained_adapter(qwen3.config, LoraConfig(4, 1))
    (piece,) = cut(ForwardBackward("x", data, "ppo", {}, forward_only=True), 4096)
    (forward,) = run_pieces(qwen3.decoder, [piece], {"x": state})
    assert state.gradient is None
    (both,) = forward_backward(qwen3.decoder, state, data, "ppo")
    assert forward.loss == both.loss
    for one, other in zip(forward.logprobs, both.logprobs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_forward_only_leaves_a_gathered_gradient_alone(qwen3: LoadedModel) -> None:
    data = data_of()
    state = trained_adapter(qwen3.config, LoraConfig(4, 1))
    forward_backward(qwen3.decoder, state, data)
    assert state.gradient is not None
    before = state.gradient.clone()
    (piece,) = cut(ForwardBackward("x", data, "cross_entropy", {}, forward_only=True), 4096)
    run_pieces(qwen3.decoder, [piece], {"x": state})
    assert torch.equal(state.gradient, before)


@pytest.mark.parametrize("family", ["qwen3", "qwen3_moe"])
def test_two_passes_add_up(family: str, models: dict[str, LoadedModel]) -> None:
    decoder = models[family].decoder
    state = trained_adapter(models[family].config, LoraConfig(4, 1))
    first, second = data_of(seed=1), data_of(seed=2)
    alone = []
    for data in (first, second):
        forward_backward(decoder, state, data)
        assert state.gradient is not None
        alone.append(state.gradient)
        state.set_gradient(None)
    forward_backward(decoder, state, first)
    forward_backward(decoder, state, second)
    assert state.gradient is not None
    assert relative_error(state.gradient, alone[0] + alone[1]) < 1e-6


def test_cutting_changes_the_gradient_by_rounding_only(qwen3: LoadedModel) -> None:
    state, gradients, losses = trained_adapter(qwen3.config, LoraConfig(4, 1)), [], []
    for max_tokens in (4096, 20, 1):
        results = forward_backward(qwen3.decoder, state, data_of(), max_tokens=max_tokens)
        assert state.gradient is not None
        gradients.append(state.gradient)
        losses.append(sum(r.loss for r in results))
        state.set_gradient(None)
    for gradient, loss in zip(gradients[1:], losses[1:], strict=True):
        assert relative_error(gradient, gradients[0]) < 1e-6
        assert loss == pytest.approx(losses[0], rel=1e-6)


def test_the_same_pass_twice_gives_the_same_bits(moe: LoadedModel) -> None:
    state = trained_adapter(moe.config, LoraConfig(4, 1))
    gradients = []
    for _ in range(2):
        forward_backward(moe.decoder, state, data_of())
        gradients.append(state.gradient)
        state.set_gradient(None)
    assert gradients[0] is not None
    assert gradients[1] is not None
    assert torch.equal(gradients[0], gradients[1])
