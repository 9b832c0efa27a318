"""Sizes that the engine works with."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hone.engine.models.load import LoadedModel
from hone.memory import MemoryShares

LEAST_TOKENS = 64
"""Of a micro-batch, for want of memory."""
CORE_TOKENS, CORE_ROWS, MOST_TOKENS = 1024, 16, 8192
"""Of a micro-batch and of the running samples, for every core; and at the most, because one long sequence is one
core's work."""


@dataclass(frozen=True)
class Limits:
    """Sizes that trade speed against waiting and memory."""

    micro_batch_tokens: int = 2048
    """Of one training pass. Larger feeds the device better and makes other tenants wait longer."""
    training_threads: int = 1
    """Of a CPU, each with one thread of the math library; see `workers.py`."""
    sample_rows: int = 64
    """Sequences generated at once on one base model."""
    prefill_tokens: int = 512
    """Prompt tokens computed between two tokens of the running batch. Larger makes these wait longer; on a CPU it gains
    nothing from here on."""
    activation_bytes: int = 1 << 30
    """Of one training pass. Layers are computed again where it would take more, which costs time; see
    `recompute.py`."""
    cache_bytes: int = 1 << 30
    """Key-value cache of one base model; memory is only used as it fills. When it is full, some sequences wait and are
    computed again later."""
    cache_tokens: int = 1 << 17
    """The same in tokens, but always room for one whole context: small models would otherwise keep far more than
    anybody asks for again."""
    adapter_bytes: int = 1 << 62
    """Adapters in training on a GPU, with moments and gradients; the others wait in pinned memory of the host."""
    checked_parameters: int = 2_000_000_000
    """Exports of larger base models are not compared with transformers, which loads the model once more."""

    @classmethod
    def of_cores(cls, cores: int) -> "Limits":
        """Those for a CPU with so many threads: each has as much to do in a pass as with two, and everybody waits as
        long."""
        tokens = min(max(cls.micro_batch_tokens, CORE_TOKENS * cores), MOST_TOKENS)
        return cls(tokens, cores, max(cls.sample_rows, CORE_ROWS * cores))

    @classmethod
    def within(cls, shares: MemoryShares, models: Mapping[str, LoadedModel], preferred: "Limits") -> "Limits":
        """Those that keep to the shares of memory, and otherwise are the preferred ones. A micro-batch is never so
        small that it would be mostly overhead."""
        fitting = min(model.memory.most_tokens(shares.passes, preferred.training_threads) for model in models.values())
        tokens = max(LEAST_TOKENS, min(preferred.micro_batch_tokens, fitting))
        memory = {
            "activation_bytes": shares.passes,
            "cache_bytes": shares.cache // len(models),
            "adapter_bytes": shares.adapters,
        }
        return replace(preferred, micro_batch_tokens=tokens, **memory)
