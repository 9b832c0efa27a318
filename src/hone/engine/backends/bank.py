"""Adapters side by side in the base model's precision, so that one grouped product serves all of them.

A bank's slots have one shape: all groups of projections that any of its adapters trains, with one rank, zeros where an
adapter has none or less. They are filled from the adapters' flat float32 vectors, by one copy where the shape is the
adapter's own. So there is no second copy of an adapter to keep up to date, and one pass costs one copy of each.

Legend: S slots, R the bank's rank, n sites of a group, I inputs, O outputs of a site, T rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hone.engine.backends.grouped import RANK_STEP, Groups, grouped_outer, grouped_product, make_groups
from hone.engine.backends.products import Products
from hone.engine.lora.batch import LoraBatch, LoraSpan
from hone.engine.lora.layout import GroupWeights, LoraLayout


@lru_cache(maxsize=64)
def bank_layout(layouts: frozenset[LoraLayout]) -> LoraLayout:
    """The shape of slots that hold adapters of these shapes."""
    rank = max(layout.rank for layout in layouts)
    rank += -rank % RANK_STEP
    widest = max(layouts, key=lambda layout: (len(layout.groups), layout.rank))
    groups = {name: group for layout in (widest, *layouts) for name, group in layout.groups.items()}
    if rank == widest.rank and len(groups) == len(widest.groups):
        return widest
    return LoraLayout.of_groups(groups.values(), rank)


class Bank:
    def __init__(self, layout: LoraLayout, flat_SN: Tensor) -> None:
        """`flat_SN` holds a vector of `layout` for each slot; zeros are no adapter."""
        self.layout, self.flat_SN = layout, flat_SN
        self._groups: dict[str, GroupWeights] = {}

    def __contains__(self, group: str) -> bool:
        return group in self.layout.groups

    def group(self, name: str) -> GroupWeights:
        """The matrices of all slots: A [S, n*R, I] and per site B [S, O, R]."""
        found = self._groups.get(name)
        if found is None:
            found = self._groups[name] = self.layout.group(self.flat_SN, name)
        return found

    def put(self, slot: int, layout: LoraLayout, flat: Tensor) -> None:
        """Fill a slot; `flat` may be on another device and of another precision."""
        if layout is self.layout:
            self.flat_SN[slot].copy_(flat, non_blocking=True)
            return
        row = self.flat_SN[slot].zero_()
        for name in layout.groups:
            there, own = self.layout.group(row, name), layout.group(flat, name)
            _sites(there.a, self.layout.rank)[..., : layout.rank, :].copy_(_sites(own.a, layout.rank))
            for wide, b in zip(there.b, own.b, strict=True):
                wide[..., : layout.rank].copy_(b)

    def clear(self, slot: int) -> None:
        self.flat_SN[slot].zero_()

    def part(self, slots: slice) -> "Bank":
        return Bank(self.layout, self.flat_SN[slots])


def _sites(a: Tensor, rank: int) -> Tensor:
    """[..., n*R, I] as [..., n, R, I]"""
    sites: Tensor = a.unflatten(-2, (-1, rank))
    return sites


class SlotWeights(Mapping[str, GroupWeights]):
    """One adapter's matrices in a bank, with its own rank."""

    def __init__(self, bank: Bank, slot: int, layout: LoraLayout) -> None:
        self._bank, self._slot, self._layout = bank, slot, layout

    def __getitem__(self, name: str) -> GroupWeights:
        if name not in self._layout.groups:
            raise KeyError(name)
        rank, group = self._layout.rank, self._bank.group(name)
        a = _sites(group.a[self._slot], self._bank.layout.rank)[..., :rank, :]
        return GroupWeights(a.flatten(-3, -2), tuple(b[self._slot][..., :rank] for b in group.b))

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout.groups)

    def __len__(self) -> int:
        return len(self._layout.groups)


@dataclass(frozen=True)
class Tenant:
    """An adapter and its rows `start:stop`; without `gradients` it is only read."""

    start: int
    stop: int
    layout: LoraLayout
    flat: Tensor
    gradients: Mapping[str, GroupWeights] | None = None


class BankedLora(LoraBatch):
    """The adapters of one pass; group s of the rows is slot s of the bank."""

    def __init__(
        self,
        products: Products,
        bank: Bank | None,
        owners: Sequence[LoraSpan | None],
        groups: Groups,
        scale_T1: Tensor,
    ) -> None:
        """`owners` by slot, None where the base model is alone; a `bank` of None: it is so everywhere. `scale_T1` is
        what each row's adapter is multiplied by, in float32."""
        super().__init__([owner for owner in owners if owner is not None])
        self._products, self._bank, self._owners = products, bank, owners
        self._groups, self._scale_T1 = groups, scale_T1

    @classmethod
    def of(
        cls, products: Products, tenants: Sequence[Tenant], rows: int, device: torch.device, dtype: torch.dtype
    ) -> "BankedLora":
        """`tenants` in row order; the rows of none, up to `rows`, use the base model alone."""
        slots = list(_covering(tenants, rows))
        stops = [stop for stop, _ in slots]
        groups = make_groups(stops, device)
        if not tenants:
            return cls(products, None, [None] * len(slots), groups, torch.ones(rows, 1, device=device))
        layout = bank_layout(frozenset(tenant.layout for tenant in tenants))
        bank = Bank(layout, torch.empty(len(slots), layout.size, dtype=dtype, device=device))
        owners: list[LoraSpan | None] = []
        for slot, (_, tenant) in enumerate(slots):
            if tenant is None:
                bank.clear(slot)
                owners.append(None)
                continue
            bank.put(slot, tenant.layout, tenant.flat)
            own = SlotWeights(bank, slot, tenant.layout)
            owners.append(LoraSpan(tenant.start, tenant.stop, own, tenant.gradients, tenant.layout.scale))
        scales = np.array([1.0 if owner is None else owner.scale for owner in owners], np.float32)
        scale_T = torch.from_numpy(np.repeat(scales, np.diff([0, *stops])))
        return cls(products, bank, owners, groups, scale_T[:, None].to(device))

    def part(self, start: int, stop: int) -> "BankedLora":
        overlapping = [s for s, rows in enumerate(self._groups.slices()) if rows.start < stop and rows.stop > start]
        assert overlapping
        assert self._groups.stops is not None
        slots = slice(overlapping[0], overlapping[-1] + 1)
        owners = [None if owner is None else owner.part(start, stop) for owner in self._owners[slots]]
        stops = [min(s, stop) - start for s in self._groups.stops[slots]]
        bank = None if self._bank is None else self._bank.part(slots)
        groups = make_groups(stops, self._groups.stops_G.device)
        return BankedLora(self._products, bank, owners, groups, self._scale_T1[start:stop])

    def project(self, group: str, x_TI: Tensor, weight_OI: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x_TI.requires_grad:
            out: Tensor = _Projection.apply(x_TI, weight_OI, self, group)  # type: ignore[no-untyped-call]
            return out
        return self.forward(group, x_TI, weight_OI)[0]

    def forward(self, group: str, x_TI: Tensor, weight_OI: Tensor) -> tuple[Tensor, Tensor | None]:
        """[T, O], and scale * x @ A.T [T, n*R] if there are adapters."""
        out_TO = self._products.linear(x_TI, weight_OI)
        if self._bank is None or group not in self._bank:
            return out_TO, None
        weights, groups = self._bank.group(group), self._of_rows(x_TI)
        rows = len(x_TI) if groups.stops is None else groups.stops[-1]
        inner = self._products.grouped(x_TI[:rows], weights.a, groups).mul_(self._scale_T1[:rows])
        for columns, part, b in _columns(weights):
            out_TO[:rows, columns] += self._products.grouped(inner[:, part], b, groups)
        return out_TO, inner

    def backward(self, group: str, dout_TO: Tensor, x_TI: Tensor, weight_OI: Tensor, inner: Tensor | None) -> Tensor:
        """d loss / d x; the adapters' gradients are added to theirs."""
        dout_TO = dout_TO.contiguous()  # the kernel takes no expanded ones
        dx_TI = dout_TO @ weight_OI
        if self._bank is None or inner is None:
            return dx_TI
        weights, groups, rows = self._bank.group(group), self._of_rows(x_TI), len(inner)
        dout_TO, x_TI = dout_TO[:rows], x_TI[:rows]
        dinner = torch.empty_like(inner)
        for columns, part, b in _columns(weights):
            dinner[:, part] = grouped_product(dout_TO[:, columns], b.transpose(1, 2), groups)
        dinner.mul_(self._scale_T1[:rows])
        dx_TI[:rows] += grouped_product(dinner, weights.a.transpose(1, 2), groups)
        if any(owner is not None and owner.gradients is not None for owner in self._owners):
            da = grouped_outer(dinner, x_TI, groups)
            db = [grouped_outer(dout_TO[:, c], inner[:, part], groups) for c, part, _ in _columns(weights)]
            self._gather(group, GroupWeights(da, tuple(db)))
        return dx_TI

    def _gather(self, group: str, gradients: GroupWeights) -> None:
        assert self._bank is not None
        wide_a, wide_b = gradients.a.float(), [b.float() for b in gradients.b]
        own: list[Tensor] = []
        new: list[Tensor] = []
        for slot, owner in enumerate(self._owners):
            if owner is None or owner.gradients is None or group not in owner.gradients:
                continue
            theirs = owner.gradients[group]
            rank = theirs.b[0].shape[-1]
            own += [_sites(theirs.a, rank), *theirs.b]
            new += [_sites(wide_a[slot], self._bank.layout.rank)[:, :rank], *(b[slot, :, :rank] for b in wide_b)]
        torch._foreach_add_(own, new)  # one call for all adapters

    def _of_rows(self, x_TI: Tensor) -> Groups:
        """Where the groups of `x` stop: of fewer rows than there are, all belong to the only group."""
        stops = self._groups.stops
        if stops is None or len(x_TI) >= stops[-1]:
            return self._groups
        assert len(stops) == 1
        return make_groups([len(x_TI)], x_TI.device)


class _Projection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TI: Tensor, weight_OI: Tensor, lora: BankedLora, group: str) -> Tensor:
        out_TO, inner = lora.forward(group, x_TI, weight_OI)
        ctx.lora, ctx.group = lora, group
        ctx.save_for_backward(x_TI, weight_OI, *([] if inner is None else [inner]))
        return out_TO

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        x_TI, weight_OI, *inner = ctx.saved_tensors
        return ctx.lora.backward(ctx.group, grads[0], x_TI, weight_OI, inner[0] if inner else None), None, None, None


def _columns(weights: GroupWeights) -> Iterator[tuple[slice, slice, Tensor]]:
    """For each site its outputs, its part of the inner numbers, and B of all slots [S, O, R]."""
    column = 0
    for i, b in enumerate(weights.b):
        outputs, rank = b.shape[-2:]
        yield slice(column, column + outputs), slice(i * rank, (i + 1) * rank), b
        column += outputs


def _covering(tenants: Sequence[Tenant], rows: int) -> Iterator[tuple[int, Tenant | None]]:
    """All rows, in order: where each part stops, and whose it is."""
    row = 0
    for tenant in tenants:
        if tenant.start > row:
            yield tenant.start, None
        yield tenant.stop, tenant
        row = tenant.stop
    if row < rows or not tenants:
        yield rows, None
