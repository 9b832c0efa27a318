"""Where every LoRA matrix of an adapter lies in its flat vector.

Geometry (the hosted service's, checked against its parameter counts): every projection is a site of its own with its
own A; the head has LoRA under `train_unembed`, also when embeddings are tied; embeddings, norms and routers have
none. Experts use shared-outer LoRA: gate and up share A over the experts, down shares B. `W' = W + (alpha / rank) B
A`.

Sites that read the same input form a group. A group's A matrices lie stacked, so that one product serves all its sites.

Legend: R rank, E experts, I inputs and O outputs of a site, S sites of a group.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from torch import Tensor

from hone.engine.models.config import ModelConfig, ModuleShape
from hone.protocol.types import LoraConfig

ALPHA = 32.0
"""The protocol has no alpha; 32 is the documented default of the hosted service's adapters."""


@dataclass(frozen=True)
class Site:
    """One projection of the base model that gets a LoRA pair."""

    name: str
    """Module path in the Hugging Face checkpoint."""
    inputs: int
    outputs: int


@dataclass(frozen=True)
class SiteGroup:
    """Sites with one common input."""

    name: str
    sites: tuple[Site, ...]
    a_experts: int = 0
    """0: A is shared (or the group is dense); else every expert has its own."""
    b_experts: int = 0

    @property
    def inputs(self) -> int:
        return self.sites[0].inputs


@dataclass(frozen=True)
class GroupWeights:
    """One adapter's matrices for one group, as views."""

    a: Tensor
    """[S*R, I], or [E, S*R, I]"""
    b: tuple[Tensor, ...]
    """per site [O, R], or [E, O, R]"""

    def expert(self, e: int) -> "GroupWeights":
        return GroupWeights(
            self.a[e] if self.a.ndim == 3 else self.a, tuple(b[e] if b.ndim == 3 else b for b in self.b)
        )


def site_groups(config: ModelConfig, lora: LoraConfig) -> tuple[SiteGroup, ...]:
    """The groups that an adapter of this kind trains, in the order of the flat vector."""
    hidden, groups = config.hidden_size, list[SiteGroup]()
    for module in config.modules:
        if lora.train_mlp if module.mlp else lora.train_attn:
            groups += _module_groups(module)
    q_size, kv_size = config.heads * config.head_dim, config.kv_heads * config.head_dim
    for i in range(0 if config.modules else config.layers):
        layer = f"model.layers.{i}"
        if lora.train_attn:
            attention = f"{layer}.self_attn"
            qkv = (("q_proj", q_size), ("k_proj", kv_size), ("v_proj", kv_size))
            groups.append(SiteGroup(f"{layer}.qkv", tuple(Site(f"{attention}.{n}", hidden, size) for n, size in qkv)))
            groups.append(SiteGroup(f"{layer}.o", (Site(f"{attention}.o_proj", q_size, hidden),)))
        if lora.train_mlp and config.is_moe(i):
            size, experts, mlp = config.expert_intermediate_size, config.experts, f"{layer}.mlp.experts"
            gate_up = (Site(f"{mlp}.w1", hidden, size), Site(f"{mlp}.w3", hidden, size))
            groups.append(SiteGroup(f"{layer}.gate_up", gate_up, b_experts=experts))
            groups.append(SiteGroup(f"{layer}.down", (Site(f"{mlp}.w2", size, hidden),), a_experts=experts))
        elif lora.train_mlp:
            size, mlp = config.intermediate_size, f"{layer}.mlp"
            gate_up = (Site(f"{mlp}.gate_proj", hidden, size), Site(f"{mlp}.up_proj", hidden, size))
            groups.append(SiteGroup(f"{layer}.gate_up", gate_up))
            groups.append(SiteGroup(f"{layer}.down", (Site(f"{mlp}.down_proj", size, hidden),)))
    if lora.train_unembed:
        groups.append(SiteGroup("head", (Site("model.unembed_tokens", hidden, config.vocab_size),)))
    return tuple(groups)


def _module_groups(module: ModuleShape) -> tuple[SiteGroup, ...]:
    """Of a model that transformers runs: every projection is a group of its own."""
    name, inputs, size, experts = module.name, module.inputs, module.outputs, module.experts
    if not experts:
        return (SiteGroup(name, (Site(name, inputs, size),)),)
    first = tuple(Site(f"{name}.{w}", inputs, size) for w in (("w1", "w3") if module.gated else ("w1",)))
    return (
        SiteGroup(f"{name}.gate_up", first, b_experts=experts),
        SiteGroup(f"{name}.down", (Site(f"{name}.w2", size, inputs),), a_experts=experts),
    )


@lru_cache(maxsize=256)
def lora_layout(config: ModelConfig, lora: LoraConfig) -> "LoraLayout":
    """One object for all adapters of a kind."""
    return LoraLayout(config, lora)


@dataclass(frozen=True)
class _Block:
    offset: int
    shape: tuple[int, ...]

    def of(self, flat: Tensor) -> Tensor:
        """In `flat` [..., size]"""
        part = flat[..., self.offset : self.offset + math.prod(self.shape)]
        return part.view(*flat.shape[:-1], *self.shape)


class LoraLayout:
    """Maps an adapter's flat vector to matrices. Equal configurations have equal layouts."""

    def __init__(self, config: ModelConfig, lora: LoraConfig) -> None:
        self.stacked_experts = all(module.stacked for module in config.modules if module.experts)
        self._lay_out(site_groups(config, lora), lora.rank)
        self.inner = sum(
            len(group.sites) * lora.rank * (config.experts_per_token or 1 if group.a_experts or group.b_experts else 1)
            for group in self.groups.values()
            if group.name != "head"
        )
        """How many numbers the A matrices make of a token, which the backward pass wants again."""

    @classmethod
    def of_groups(cls, groups: Iterable[SiteGroup], rank: int) -> "LoraLayout":
        """Of any groups, for vectors that are never saved."""
        layout = cls.__new__(cls)
        layout.stacked_experts, layout.inner = True, 0
        layout._lay_out(groups, rank)
        return layout

    def _lay_out(self, groups: Iterable[SiteGroup], rank: int) -> None:
        self.rank = rank
        self.scale = ALPHA / rank
        self.groups = {group.name: group for group in groups}
        self._a: dict[str, _Block] = {}
        self._b: dict[str, tuple[_Block, ...]] = {}
        offset = 0
        for group in self.groups.values():
            experts = (group.a_experts,) if group.a_experts else ()
            block = _Block(offset, (*experts, len(group.sites) * rank, group.inputs))
            offset += math.prod(block.shape)
            self._a[group.name], blocks = block, []
            for site in group.sites:
                experts = (group.b_experts,) if group.b_experts else ()
                blocks.append(_Block(offset, (*experts, site.outputs, rank)))
                offset += math.prod(blocks[-1].shape)
            self._b[group.name] = tuple(blocks)
        self.size = offset

    def views(self, flat: Tensor) -> "Mapping[str, GroupWeights]":
        """The matrices in `flat` [size], by group; they share its memory."""
        return _Views(self, flat)

    def offsets(self, name: str) -> tuple[int, tuple[int, ...]]:
        """Where a group's A, and the B of each of its sites, begin in the flat vector."""
        return self._a[name].offset, tuple(block.offset for block in self._b[name])

    def group(self, flat: Tensor, name: str) -> GroupWeights:
        """Those of one group, in `flat` [..., size], with its leading dimensions in front of theirs."""
        return GroupWeights(self._a[name].of(flat), tuple(block.of(flat) for block in self._b[name]))

    def site_views(self, flat: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The matrices in `flat` by site name: A [R, I] or [E, R, I], and B [O, R] or [E, O, R]."""
        sites = {}
        for name, weights in self.views(flat).items():
            parts = weights.a.split(self.rank, dim=-2)
            for site, a, b in zip(self.groups[name].sites, parts, weights.b, strict=True):
                sites[site.name] = (a, b)
        return sites

    @cached_property
    def site_names(self) -> tuple[str, ...]:
        return tuple(site.name for group in self.groups.values() for site in group.sites)


class _Views(Mapping[str, GroupWeights]):
    """Made when they are asked for: a small adapter has its views made anew in each step, and C needs none."""

    def __init__(self, layout: LoraLayout, flat: Tensor) -> None:
        self._layout, self._flat = layout, flat
        self._made: dict[str, GroupWeights] = {}

    def __getitem__(self, name: str) -> GroupWeights:
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = self._layout.group(self._flat, name)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._layout.groups

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout.groups)

    def __len__(self) -> int:
        return len(self._layout.groups)
