"""An evaluator that ends a training run the way a crash would: between two steps, with work under way."""

from collections.abc import Mapping
from dataclasses import dataclass

import tinker


class Crash(Exception):
    pass


@dataclass
class CrashAt:
    """Raises when it is asked for the `evaluation`-th time, counted from 1."""

    evaluation: int
    seen: int = 0

    async def __call__(self, sampler: tinker.SamplingClient) -> Mapping[str, float]:
        self.seen += 1
        if self.seen == self.evaluation:
            raise Crash
        return {}
