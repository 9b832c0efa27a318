"""A new adapter's numbers: bounds, distribution, and what they do and do not depend on."""

import numpy as np
import pytest
import torch
from torch import Tensor

from hone.engine.lora.state import AdapterState, new_adapter
from hone.engine.models.load import LoadedModel
from hone.protocol.types import LoraConfig


def sites(state: AdapterState) -> dict[str, tuple[Tensor, Tensor]]:
    return state.layout.site_views(state.weights)


def test_equal_seeds_give_equal_adapters_and_others_do_not(qwen3: LoadedModel) -> None:
    first, again, other = (new_adapter(qwen3.config, LoraConfig(8, seed)) for seed in (1, 1, 2))
    assert torch.equal(first.weights, again.weights)
    for (a, _), (b, _) in zip(sites(first).values(), sites(other).values(), strict=True):
        assert not torch.equal(a, b)


def test_the_global_generator_is_neither_read_nor_moved(qwen3: LoadedModel) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = new_adapter(qwen3.config, LoraConfig(8, 1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(first.weights, new_adapter(qwen3.config, LoraConfig(8, 1)).weights)


@pytest.mark.parametrize("family", ["qwen3", "qwen3_moe"])
def test_a_site_does_not_depend_on_which_others_are_trained(family: str, models: dict[str, LoadedModel]) -> None:
    config = models[family].config
    everything = sites(new_adapter(config, LoraConfig(4, 7)))
    for flag in ("train_attn", "train_mlp", "train_unembed"):
        off = {"train_attn": False, "train_mlp": False, "train_unembed": False}
        some = sites(new_adapter(config, LoraConfig(4, 7, **{**off, flag: True})))
        assert some
        for name, (a, _) in some.items():
            assert torch.equal(a, everything[name][0]), name


def test_sites_differ_from_each_other(qwen3: LoadedModel) -> None:
    found = [a for a, _ in sites(new_adapter(qwen3.config, LoraConfig(4, 7))).values()]
    same_shape = [a.flatten()[:64] for a in found]
    assert len({tuple(a.tolist()) for a in same_shape}) == len(found)


@pytest.mark.parametrize("family", ["qwen3", "qwen3_moe"])
def test_a_is_uniform_within_its_bounds_and_b_is_zero(family: str, models: dict[str, LoadedModel]) -> None:
    for name, (a, b) in sites(new_adapter(models[family].config, LoraConfig(64, 3))).items():
        bound = a.shape[-1] ** -0.5
        values = a.flatten().double().numpy() / bound
        assert np.abs(values).max() <= 1, name
        assert np.abs(values).max() > 0.99, name
        # Kolmogorov-Smirnov distance to the uniform distribution; 1.95 / sqrt(n) is its 0.1 % point
        ordered = (np.sort(values) + 1) / 2
        distance = np.abs(ordered - (np.arange(len(ordered)) + 0.5) / len(ordered)).max()
        assert distance < 1.95 / np.sqrt(len(ordered)), name
        assert not b.any(), name


def test_optimizer_state_starts_at_zero_and_without_gradient(qwen3: LoadedModel) -> None:
    state = new_adapter(qwen3.config, LoraConfig(4, 7))
    assert not state.moment1.any()
    assert not state.moment2.any()
    assert state.steps == 0
    assert state.gradient is None


def test_gradient_views_are_windows_on_the_gradient(qwen3: LoadedModel) -> None:
    state = new_adapter(qwen3.config, LoraConfig(4, 7))
    state.gradient_views()["head"].a.fill_(3.0)
    assert state.gradient is not None
    assert float(state.gradient.sum()) == 3.0 * state.layout.views(state.weights)["head"].a.numel()
    state.set_gradient(None)
    assert not state.gradient_views()["head"].a.any()  # a new window, not the old one


def test_weight_views_follow_the_weights(qwen3: LoadedModel) -> None:
    state = new_adapter(qwen3.config, LoraConfig(4, 7))
    state.weights.fill_(2.0)
    assert all(bool((g.a == 2).all()) for g in state.weight_views.values())
