"""What an adapter is while it trains: one flat fp32 vector per role."""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from hone.engine import lasting
from hone.engine.lora.layout import GroupWeights, lora_layout
from hone.engine.models.config import ModelConfig
from hone.protocol.types import LoraConfig


class AdapterState:
    """Weights, moments, step count and the gradient gathered so far, of one adapter.

    `gradient` is None while nothing has been gathered: an idle adapter holds no buffer.
    """

    def __init__(self, model_config: ModelConfig, lora: LoraConfig) -> None:
        self.lora = lora
        self.layout = lora_layout(model_config, replace(lora, seed=None))
        self.weights, self.moment1, self.moment2 = lasting.zeros(3, self.layout.size)
        self.steps = 0
        self.gradient: Tensor | None = None
        self._gradient_views: Mapping[str, GroupWeights] | None = None

    @cached_property
    def weight_views(self) -> Mapping[str, GroupWeights]:
        """The weights by group."""
        return self.layout.views(self.weights)

    def gradient_views(self) -> Mapping[str, GroupWeights]:
        """The gradient by group, zeros if none was gathered yet."""
        if self.gradient is None:
            self.gradient = torch.zeros_like(self.weights)
            self._gradient_views = None
        if self._gradient_views is None:
            self._gradient_views = self.layout.views(self.gradient)
        return self._gradient_views

    def beside(self) -> "AdapterState":
        """The same weights and a gradient of its own, for a thread that computes at the same time."""
        other = copy.copy(self)
        other.gradient, other._gradient_views = None, None
        return other

    def set_gradient(self, gradient: Tensor | None) -> None:
        """Another one, or none; it comes to where the weights are."""
        gradient = None if gradient is None else gradient.to(self.weights.device)
        self.gradient, self._gradient_views = gradient, None
        if gradient is None:  # at rest: of a small adapter the views take half as much as itself
            self.__dict__.pop("weight_views", None)

    def tensors(self) -> list[Tensor]:
        """All that it holds."""
        return [x for x in (self.weights, self.moment1, self.moment2, self.gradient) if x is not None]

    def move(self, device: torch.device) -> None:
        """Keep everything on `device` from now on; what comes back from a GPU is pinned, so that it returns quickly.
        Between a GPU and pinned memory this returns before the copies are there: they are in the current stream."""
        if self.weights.device == device:
            return
        self.weights, self.moment1, self.moment2 = (
            _moved(x, device) for x in (self.weights, self.moment1, self.moment2)
        )
        self.set_gradient(None if self.gradient is None else _moved(self.gradient, device))
        self.__dict__.pop("weight_views", None)


def _moved(x: Tensor, device: torch.device) -> Tensor:
    if x.is_cuda and device.type == "cpu":
        return torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x, non_blocking=True)
    return x.to(device, non_blocking=True)


def new_adapter(model_config: ModelConfig, lora: LoraConfig) -> AdapterState:
    """A fresh adapter: A ~ U(-1/sqrt(inputs), 1/sqrt(inputs)), B = 0 (Hu et al. 2021; bounds as PEFT's default).

    Every site draws from a generator keyed by (seed, site), so the values do not depend on rank order, flags or other
    sites.
    """
    state = AdapterState(model_config, lora)
    for site, (a, _) in state.layout.site_views(state.weights).items():
        key = hashlib.blake2b(f"{lora.seed}:{site}".encode(), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key, "big"))
        bound = a.shape[-1] ** -0.5
        a.uniform_(-bound, bound, generator=generator)
    return state
