"""A model that acts: a sampler with its settings. It takes and gives tokens, so nothing is ever tokenised twice."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import tinker

from hone.algorithms.types import Observation, SampledTokens
from hone.errors import UserError

Place = tuple[int | str, ...]
"""Where in a run something is sampled: its seed, the purpose, then step, group, member, turn as far as they go."""


def sample_seed(*place: int | str) -> int:
    """The seed of one sample. The same place has the same seed in every run of the program, on every machine."""
    digest = hashlib.blake2b(repr(place).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 2**31


@dataclass(frozen=True)
class Policy:
    sampler: tinker.SamplingClient
    max_tokens: int
    temperature: float = 1.0
    context_limit: int | None = None
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(256))
    """Bounds the requests under way; shared by all policies of a run."""

    def room(self, prompt_length: int) -> int:
        """Tokens an answer to a prompt of this length may have; 0 or less if there is no room for one."""
        if self.context_limit is None:
            return self.max_tokens
        return min(self.max_tokens, self.context_limit - prompt_length)

    async def act(self, observation: Observation, seed: int, *, max_tokens: int | None = None) -> SampledTokens:
        (answer,) = await self.answers(observation, 1, seed, max_tokens=max_tokens)
        return answer

    async def answers(
        self, observation: Observation, count: int, seed: int, *, max_tokens: int | None = None
    ) -> Sequence[SampledTokens]:
        """`count` independent answers to one prompt.

        Raises:
            UserError: the prompt leaves no room for one.
        """
        room = min(self.room(observation.prompt.length), max_tokens or self.max_tokens)
        if room < 1:
            raise UserError(
                f"a prompt of {observation.prompt.length} tokens leaves no room in a context of {self.context_limit}; "
                "raise `context_limit`, or have the history compacted earlier"
            )
        params = tinker.SamplingParams(
            max_tokens=room, temperature=self.temperature, stop=observation.stop, seed=seed % 2**31
        )
        async with self.slots:
            response = await self.sampler.sample(observation.prompt, count, params)
        return [
            SampledTokens(
                tokens=sequence.tokens,
                logprobs=_logprobs(sequence),
                stop_reason=sequence.stop_reason,
                sequence_id=sequence.sequence_id,
                # The response counts the first; the prompt of the others is the first's, and billed as cached.
                prompt_cache_hit_tokens=observation.prompt.length if index else response.prompt_cache_hit_tokens,
            )
            for index, sequence in enumerate(response.sequences)
        ]


def _logprobs(sequence: tinker.SampledSequence) -> list[float]:
    if sequence.logprobs is None:
        raise UserError("the service sampled without log-probabilities, which training needs")
    return sequence.logprobs
