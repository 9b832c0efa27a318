"""How likely a model finds the targets of training data."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import tinker

from hone.algorithms.datums import Floats, unshifted


async def target_logprobs(
    sampler: tinker.SamplingClient, data_D: Sequence[tinker.Datum], slots: asyncio.Semaphore
) -> list[Floats]:
    """Log-probabilities `[T]` of each datum's targets, 0 where there is none: within an image."""

    async def one(datum: tinker.Datum) -> Floats:
        async with slots:
            logprobs = await sampler.compute_logprobs(unshifted(datum))
        return np.array([logprob or 0.0 for logprob in logprobs[1:]], dtype=np.float32)

    return await asyncio.gather(*(one(datum) for datum in data_D))
