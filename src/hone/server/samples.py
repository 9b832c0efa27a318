"""Samples under way. They have no order among each other; each is drawn with the seed that its acceptance recorded."""

import asyncio
import json
import logging
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hone.engine import contract
from hone.errors import BusyError, EngineLostError, HoneError, UserError
from hone.observe import spans
from hone.protocol import codec, requests
from hone.protocol.futures import PROTOBUF, Outcome, failure, failure_of
from hone.protocol.model_input import ModelInput
from hone.protocol.prompt_targets import Layout, read_targets
from hone.protocol.types import MASKED_LOGPROB, SampleResult, TopkLogprobs
from hone.server import ids
from hone.server.budgets import Budgets
from hone.server.futures import Futures
from hone.server.journal import Entry, Journal
from hone.server.prompts import join_prompt, read_chunks
from hone.server.recovery import ATTEMPTS, EngineKeeper
from hone.server.shares import Shares
from hone.server.store import Sampler, Store
from hone.server.usage import NOTHING, Amounts
from hone.server.versions import Versions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UnderWay:
    entry: Entry
    task: "asyncio.Task[None]"


@dataclass(frozen=True)
class Samples:
    store: Store
    journal: Journal
    futures: Futures
    keeper: EngineKeeper
    versions: Versions
    budgets: Budgets
    shares: Shares
    max_waiting: int
    """Requests under way, above which the clients are asked to hold back."""
    under_way: dict[str, UnderWay] = field(default_factory=dict)
    samplers: dict[str, Sampler] = field(default_factory=dict)

    async def sampler(self, sampler_id: str) -> Sampler:
        """A sampling session; only inflight ones ever change, so all others are remembered."""
        if sampler_id in self.samplers:
            return self.samplers[sampler_id]
        sampler = await self.store.sampler(sampler_id)
        if sampler.inflight is None:
            self.samplers[sampler_id] = sampler
        return sampler

    async def submit(self, entry: Entry, fields: dict[str, Any]) -> list[str]:
        """Accept a sample; returns the names of its sequences, the same for the same submission.

        `fields` are what the entry's payload says, so that it is not parsed again.
        """
        await self.sampler(entry.lane)
        if len(self.under_way) >= self.max_waiting and entry.request_id not in self.under_way:
            raise BusyError(f"{len(self.under_way)} samples are under way; send this one again in a moment")
        await asyncio.shield(self._accept(entry, fields))
        return ids.sequence_ids(entry.request_id, entry.samples)

    async def _accept(self, entry: Entry, fields: dict[str, Any]) -> None:
        if await self.journal.accept(entry):
            spans.accepted(entry.request_id, entry.kind)
            self.futures.expect(entry.request_id)
            self.start(entry, fields)

    def start(self, entry: Entry, fields: dict[str, Any] | None = None) -> None:
        task = asyncio.create_task(self._see_through(entry, fields))
        self.under_way[entry.request_id] = UnderWay(entry, task)
        task.add_done_callback(lambda _: self.under_way.pop(entry.request_id, None))

    def cancel(self, request_id: str) -> None:
        """Stop a sample that nobody wants any more; fine if it is finished or unknown."""
        found = self.under_way.pop(request_id, None)
        if found is not None and found.task.cancel():
            self._conclude(found.entry, failure("the client cancelled this sample", "user"))

    def oldest(self, lane: str, clone: int) -> str | None:
        """The first request under way of one client of a sampling session."""
        first, end = ids.clone_range(clone)
        entries = (one.entry for one in self.under_way.values())
        return next((one.request_id for one in entries if one.lane == lane and first <= one.seq_id < end), None)

    async def finish(self, session_id: str) -> None:
        """Wait for the samples of a session."""
        mine = f"{session_id}:sample:"
        of_session = [one.task for request, one in self.under_way.items() if request.startswith(mine)]
        await asyncio.gather(*of_session, return_exceptions=True)

    async def stop(self) -> None:
        """Drop everything under way; the journal has it."""
        tasks = [one.task for one in self.under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _see_through(self, entry: Entry, fields: dict[str, Any] | None) -> None:
        used = NOTHING
        try:
            body = requests.parse(requests.Sample, json.loads(entry.payload) if fields is None else fields)
            del fields  # prompts are long and samples wait in thousands
            outcome, used = await self._outcome(entry, body)
        except Exception as error:
            if not isinstance(error, HoneError):
                log.exception("%s failed", entry.request_id)
            outcome = failure_of(error)
        self._conclude(entry, outcome, used)

    def _conclude(self, entry: Entry, outcome: Outcome, used: Amounts = NOTHING) -> None:
        stored = self.journal.finish(entry, outcome, amounts=used)
        self.futures.resolve(entry.request_id, outcome, stored)

    async def _outcome(self, entry: Entry, body: requests.Sample) -> tuple[Outcome, Amounts]:
        sampler = await self.sampler(entry.lane)
        prompt = await join_prompt(read_chunks(body.prompt), sampler.base_model, self.keeper)
        operation, layout = _operation(body, prompt, sampler, entry.seed)
        await self.budgets.room(entry.lane, entry.key_id)
        for _ in range(ATTEMPTS):
            await self.keeper.running()
            generation = self.keeper.generation
            spans.submitted(entry.request_id)
            try:
                result = await self._draw(operation, entry.lane)
            except EngineLostError as error:
                self.keeper.lost(generation)
                lost = error
            else:
                spans.computed(entry.request_id)
                wanted = _only_last(result, body.prompt_logprobs_last_n)
                return Outcome(codec.encode_sample(wanted, layout), PROTOBUF), _used(operation, result)
        raise lost

    async def _draw(self, operation: contract.Sample, sampler_id: str) -> SampleResult:
        sampler = await self.sampler(sampler_id)  # at the last moment: inflight weights move on
        share = await self.shares.of_session(sampler.session_id)
        operation = replace(operation, version=sampler.version, share=share)
        if sampler.version is None:
            result: SampleResult = await self.keeper.submit(operation)
            return result
        async with self.versions.hold(sampler.version, sampler.base_model):
            result = await self.keeper.submit(operation)
            return result


def _used(operation: contract.Sample, result: SampleResult) -> Amounts:
    """The prompt is computed once, however many sequences are drawn."""
    cached = min(result.prompt_cache_hit_tokens, len(operation.prompt))
    drawn = sum(len(sequence.tokens) for sequence in result.sequences)
    return Amounts(prefill=len(operation.prompt) - cached, cached_prefill=cached, sample=drawn)


def _operation(
    body: requests.Sample, prompt: ModelInput, sampler: Sampler, seed: int
) -> tuple[contract.Sample, Layout | None]:
    """What the engine is asked, and how the scores of target tokens are laid out in the answer."""
    length = len(prompt.tokens)
    targets, layout = None, None
    if body.target_prompt_logprobs is not None:
        targets, layout = read_targets(body.target_prompt_logprobs, length)
    last = body.prompt_logprobs_last_n
    if last is not None and not (body.prompt_logprobs and last < length):
        raise UserError(
            f"prompt_logprobs_last_n is {last}; it needs prompt_logprobs and, for this prompt, "
            f"must be in 1..{length - 1}"
        )
    operation = contract.Sample(
        base_model=sampler.base_model,
        version=sampler.version,
        prompt=prompt.tokens,
        num_samples=body.num_samples,
        params=body.sampling_params.to_types(),
        seed=seed,
        prompt_logprobs=bool(body.prompt_logprobs),
        topk_prompt_logprobs=body.topk_prompt_logprobs,
        topk_sample_logprobs=body.topk_sample_logprobs,
        target_prompt_logprobs=targets,
        prompt_alt_tokens=body.prompt_alt_tokens_k,
        images=prompt.images,
    )
    return operation, layout


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
