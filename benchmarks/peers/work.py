"""What every system is asked to do. Plain data, so that it can be sent to any Python with any packages.

The numbers of a piece of work determine its tokens, so every system computes on the same ones.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

VOCABULARY = 2048
FIRST_TOKEN = 16
"""The ids below stand for nothing in some tokenizers."""


@dataclass(frozen=True)
class Setting:
    """How a system is started: as large as the work needs and no larger, since some reserve what they may need."""

    rank: int = 8
    tenants: int = 1
    """Adapters that exist at once."""
    sampled_together: int = 0
    """Sequences that systems with fixed batches pad to; 0: whatever comes."""


@dataclass(frozen=True)
class Train:
    """One forward and backward pass and one optimizer step for each of the first `tenants` adapters."""

    sequences: int
    length: int
    tenants: int = 1

    @property
    def tokens(self) -> int:
        return self.tenants * self.sequences * self.length

    def batch(self, tenant: int) -> np.ndarray:
        """[sequences, length + 1]: inputs and, one further, targets."""
        rng = np.random.default_rng([tenant, self.sequences, self.length])
        return rng.integers(FIRST_TOKEN, VOCABULARY, (self.sequences, self.length + 1))


@dataclass(frozen=True)
class Sample:
    """Draw `group` continuations of `new` tokens for each of `requests` prompts, sent at once; prompt i is for adapter
    i modulo `tenants`."""

    requests: int
    group: int
    prompt: int
    new: int
    tenants: int = 1

    @property
    def tokens(self) -> int:
        return self.requests * self.group * self.new

    def prompts(self, seed: int) -> np.ndarray:
        """[requests, prompt], new ones for every seed: nobody is to answer from a cache."""
        rng = np.random.default_rng([seed, self.requests, self.prompt])
        return rng.integers(FIRST_TOKEN, VOCABULARY, (self.requests, self.prompt))


@dataclass(frozen=True)
class Publish:
    """After a training step: from wanting to sample the new weights to having their first token."""

    prompt: int = 8


Work = Train | Sample | Publish
KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Train, Sample, Publish)}


def dumps(work: Work) -> str:
    return json.dumps({"kind": type(work).__name__, **asdict(work)})


def loads(text: str) -> Work:
    fields = json.loads(text)
    work: Work = KINDS[fields.pop("kind")](**fields)
    return work
