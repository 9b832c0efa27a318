"""What the losses of one pack of data read besides the log-probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hone.protocol.losses import LOSSES
from hone.protocol.types import Datum


@dataclass(frozen=True)
class LossInputs:
    """Per-position inputs of all data, concatenated: [T] or [T, K]."""

    values: dict[str, Tensor]
    """float32, by the protocol's names"""
    datum_T: Tensor
    """int64 [T], which datum a position belongs to"""
    data: int
    """How many data there are."""

    def to(self, device: torch.device | str) -> "LossInputs":
        values = {name: value.to(device) for name, value in self.values.items()}
        return LossInputs(values, self.datum_T.to(device), self.data)

    def __getitem__(self, name: str) -> Tensor:
        return self.values[name]


def gather_inputs(loss_fn: str, data: Sequence[Datum]) -> LossInputs:
    # the targets themselves go to the head, and custom losses read their data themselves
    names = LOSSES[loss_fn].inputs[1:] if loss_fn in LOSSES else ()
    values = {
        name: torch.from_numpy(np.concatenate([d.loss_inputs[name] for d in data]).astype(np.float32, copy=False))
        for name in names
    }
    datum_T = np.repeat(np.arange(len(data)), [len(d.tokens) for d in data])
    return LossInputs(values, torch.from_numpy(datum_T), len(data))
