"""Samples under way. They have no order among each other; each is drawn with the seed that its acceptance recorded."""

import asyncio
import json
import logging
from dataclasses import dataclass, replace

import numpy as np

from hone.engine import contract
from hone.errors import EngineLostError, HoneError, UserError
from hone.protocol import codec, requests
from hone.protocol.futures import PROTOBUF, Outcome, failure_of
from hone.protocol.types import SampleResult, TopkLogprobs
from hone.server import ids
from hone.server.futures import Futures
from hone.server.journal import Entry, Journal
from hone.server.recovery import EngineKeeper
from hone.server.store import Sampler, Store
from hone.server.versions import Versions

log = logging.getLogger(__name__)

ATTEMPTS = 8
"""Engines that a sample may lose before it is taken for the cause."""

MASKED_LOGPROB = -99999.0
"""In a top-k cell that was not computed, beside token 0."""


@dataclass(frozen=True)
class Samples:
    store: Store
    journal: Journal
    futures: Futures
    keeper: EngineKeeper
    versions: Versions
    under_way: dict[str, "asyncio.Task[None]"]
    samplers: dict[str, Sampler]

    async def sampler(self, sampler_id: str) -> Sampler:
        """A sampling session; they never change, so they are remembered."""
        if sampler_id not in self.samplers:
            self.samplers[sampler_id] = await self.store.sampler(sampler_id)
        return self.samplers[sampler_id]

    async def submit(self, entry: Entry) -> list[str]:
        """Accept a sample; returns the names of its sequences, the same for the same submission."""
        await self.sampler(entry.lane)
        await asyncio.shield(self._accept(entry))
        return ids.sequence_ids(entry.request_id, entry.samples)

    async def _accept(self, entry: Entry) -> None:
        if await self.journal.accept(entry):
            self.futures.expect(entry.request_id)
            self.start(entry)

    def start(self, entry: Entry) -> None:
        task = asyncio.create_task(self._see_through(entry))
        self.under_way[entry.request_id] = task
        task.add_done_callback(lambda _: self.under_way.pop(entry.request_id, None))

    async def finish(self, session_id: str) -> None:
        """Wait for the samples of a session."""
        of_session = [task for request, task in self.under_way.items() if request.startswith(f"{session_id}:sample:")]
        await asyncio.gather(*of_session, return_exceptions=True)

    async def stop(self) -> None:
        """Drop everything under way; the journal has it."""
        tasks = list(self.under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _see_through(self, entry: Entry) -> None:
        try:
            outcome = await self._outcome(entry)
        except Exception as error:
            if not isinstance(error, HoneError):
                log.exception("%s failed", entry.request_id)
            outcome = failure_of(error)
        stored = self.journal.finish(entry, outcome)
        self.futures.resolve(entry.request_id, outcome, stored)

    async def _outcome(self, entry: Entry) -> Outcome:
        body = requests.parse(requests.Sample, json.loads(entry.payload))
        sampler = await self.sampler(entry.lane)
        operation = _operation(body, sampler, entry.seed)
        for _ in range(ATTEMPTS):
            await self.keeper.running()
            generation = self.keeper.generation
            try:
                result = await self._draw(operation, sampler)
            except EngineLostError as error:
                self.keeper.lost(generation)
                lost = error
            else:
                return Outcome(codec.encode_sample(_only_last(result, body.prompt_logprobs_last_n)), PROTOBUF)
        raise lost

    async def _draw(self, operation: contract.Sample, sampler: Sampler) -> SampleResult:
        if sampler.version is None:
            result: SampleResult = await self.keeper.submit(operation)
            return result
        async with self.versions.hold(sampler.version, sampler.base_model):
            result = await self.keeper.submit(operation)
            return result


def _operation(body: requests.Sample, sampler: Sampler, seed: int) -> contract.Sample:
    if body.target_prompt_logprobs is not None or body.prompt_alt_tokens_k:
        raise UserError(
            "target_prompt_logprobs and prompt_alt_tokens_k are not supported by this server; leave them out"
        )
    prompt = _prompt(body.prompt)
    last = body.prompt_logprobs_last_n
    if last is not None and not (body.prompt_logprobs and last < len(prompt)):
        raise UserError(
            f"prompt_logprobs_last_n is {last}; it needs prompt_logprobs and, for this prompt, "
            f"must be in 1..{len(prompt) - 1}"
        )
    return contract.Sample(
        base_model=sampler.base_model,
        version=sampler.version,
        prompt=prompt,
        num_samples=body.num_samples,
        params=body.sampling_params.to_types(),
        seed=seed,
        prompt_logprobs=bool(body.prompt_logprobs),
        topk_prompt_logprobs=body.topk_prompt_logprobs,
        topk_sample_logprobs=body.topk_sample_logprobs,
    )


def _prompt(prompt: requests.ModelInput) -> np.ndarray:
    for i, chunk in enumerate(prompt.chunks):
        if chunk.type != "encoded_text":
            raise codec.text_only(f"prompt.chunks[{i}]", chunk.type)
    if len(prompt.chunks) == 1:
        return np.asarray(prompt.chunks[0].tokens, np.int32)
    return np.concatenate([np.empty(0, np.int32), *(np.asarray(chunk.tokens, np.int32) for chunk in prompt.chunks)])


def _only_last(result: SampleResult, count: int | None) -> SampleResult:
    """Without the prompt scores before the last `count` tokens, which the client insists on not getting."""
    if count is None or result.prompt_logprobs is None:
        return result
    scored = result.prompt_logprobs.copy()
    scored[:-count] = np.nan
    topk = result.topk_prompt_logprobs
    if topk is not None:
        topk = TopkLogprobs(topk.token_ids.copy(), topk.logprobs.copy())
        topk.token_ids[:-count], topk.logprobs[:-count] = 0, MASKED_LOGPROB
    return replace(result, prompt_logprobs=scored, topk_prompt_logprobs=topk)
