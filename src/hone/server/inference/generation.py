"""Samples straight from the engine: nothing is journalled, and whoever hangs up gets nothing.

An engine that ends meanwhile is waited for, and the same sample drawn again: its seed makes it the same.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hone.engine.contract import BaseModel, Sample, SamplePart
from hone.errors import EngineLostError, ForbiddenError, NotFoundError, UserError
from hone.observe import metrics
from hone.protocol.model_input import ImageChunk, ModelInput
from hone.protocol.types import Image, SampleResult
from hone.protocol.uris import SCHEME, parse_path
from hone.server import usage
from hone.server.bases import check_base
from hone.server.budgets import Budgets
from hone.server.inference.tokenizer import TextTokenizer
from hone.server.prompts import Chunks, join_prompt
from hone.server.recovery import ATTEMPTS, EngineKeeper
from hone.server.shares import Shares
from hone.server.store import Store
from hone.server.versions import Versions
from hone.storage.database import Database

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """What a request's `model` means."""

    base_model: str
    version: str | None


class Generation:
    def __init__(
        self,
        models: dict[str, BaseModel],
        database: Database,
        store: Store,
        keeper: EngineKeeper,
        versions: Versions,
        budgets: Budgets,
        shares: Shares,
    ) -> None:
        self._models, self._database, self._store = models, database, store
        self._keeper, self._versions, self._budgets, self._shares = keeper, versions, budgets, shares
        self._tokenizers: dict[str, asyncio.Task[TextTokenizer]] = {}

    async def target(self, name: str) -> Target:
        """`name` is a base model, a checkpoint's path, or `<base model>;<path>`."""
        base_model, _, path_text = name.rpartition(";")
        if not path_text.startswith(SCHEME):
            return Target(self._served(name), None)
        path = parse_path(path_text)
        if path.kind == "external_weights":
            raise UserError(f"model {name} is an export; sample from .../sampler_weights/...")
        checkpoint = await self._store.checkpoint(path)
        trained_on = self._served(checkpoint.base_model)
        base_model = self._served(base_model or trained_on)
        check_base(checkpoint, base_model, self._models)
        return Target(base_model, checkpoint.directory)

    async def tokenizer(self, base_model: str) -> TextTokenizer:
        """Loaded once, beside the event loop."""
        directory = self._models[base_model].directory
        if directory not in self._tokenizers:
            loading = asyncio.create_task(asyncio.to_thread(TextTokenizer, Path(directory)))
            self._tokenizers[directory] = loading
        return await asyncio.shield(self._tokenizers[directory])

    async def conversation(
        self, base_model: str, messages: list[dict[str, Any]], images: Sequence[Image], *how: Any, **more: Any
    ) -> ModelInput:
        """The prompt, as `TextTokenizer.encode_chat` makes it, with the images in their places."""
        tokenizer = await self.tokenizer(base_model)
        if images and tokenizer.image_token is None:
            raise UserError(f"messages hold {len(images)} images, and {base_model} reads text only")
        tokens = await asyncio.to_thread(tokenizer.encode_chat, messages, *how, **more)
        if tokenizer.image_token is None or not images:
            return ModelInput(np.asarray(tokens, np.int32), ())
        return await join_prompt(place_images(tokens, images, tokenizer.image_token), base_model, self._keeper)

    async def draw(self, operation: Sample, key_id: int) -> SampleResult:
        """The whole result, on this key's account; cancelling it stops the sampling."""
        await self._check_budget(key_id)
        operation = replace(operation, share=await self._shares.of_key(key_id))
        for _ in range(ATTEMPTS):
            async with self._engine(operation) as lost:
                result: SampleResult = await self._keeper.submit(operation)
                drawn = sum(len(sequence.tokens) for sequence in result.sequences)
                self._count(operation, key_id, drawn, result.prompt_cache_hit_tokens)
                return result
        raise lost[-1]

    async def stream(self, operation: Sample, key_id: int) -> AsyncGenerator[SamplePart | SampleResult, None]:
        """Every token once, then the result; closing it stops the sampling."""
        await self._check_budget(key_id)
        operation = replace(operation, share=await self._shares.of_key(key_id))
        told: Counter[int] = Counter()
        cached = 0
        try:
            for _ in range(ATTEMPTS):
                repeated = told.copy()
                async with self._engine(operation) as lost, aclosing(self._keeper.engine.stream(operation)) as parts:
                    async for part in parts:
                        if isinstance(part, SampleResult):
                            cached = part.prompt_cache_hit_tokens
                            yield part
                            return
                        if repeated[part.index]:
                            repeated[part.index] -= 1
                            continue
                        told[part.index] += 1
                        yield part
            raise lost[-1]
        finally:
            if told:  # also of a stream that was left half-way
                self._count(operation, key_id, told.total(), cached)

    async def _check_budget(self, key_id: int) -> None:
        """There is no queue to wait in here, so a limit that is reached is an error."""
        reason = await self._budgets.reached("", key_id)
        if reason is not None:
            raise ForbiddenError(reason)

    def _count(self, operation: Sample, key_id: int, drawn: int, cached: int) -> None:
        cached = min(cached, len(operation.prompt))
        amounts = usage.Amounts(prefill=len(operation.prompt) - cached, cached_prefill=cached, sample=drawn)
        metrics.count_operation("direct_sample", False, vars(amounts))
        counting = asyncio.ensure_future(
            self._database.run(
                lambda connection: usage.record_direct(
                    connection, key_id, operation.base_model, operation.version, amounts
                )
            )
        )
        counting.add_done_callback(_log_failure)

    @asynccontextmanager
    async def _engine(self, operation: Sample) -> AsyncIterator[list[EngineLostError]]:
        """An engine that has the weights; its loss ends the block, and is noted in the list."""
        await self._keeper.running()
        generation = self._keeper.generation
        lost: list[EngineLostError] = []
        try:
            if operation.version is None:
                yield lost
            else:
                async with self._versions.hold(operation.version, operation.base_model):
                    yield lost
        except EngineLostError as error:
            self._keeper.lost(generation)
            lost.append(error)

    def _served(self, name: str) -> str:
        if name not in self._models:
            raise NotFoundError(f"model {name!r} is not served here; this server has {', '.join(self._models)}")
        return name


def place_images(tokens: list[int], images: Sequence[Image], image_token: int) -> Chunks:
    places = [place for place, token in enumerate(tokens) if token == image_token]
    if len(places) != len(images):
        raise UserError(
            f"the model's chat template leaves {len(places)} places for {len(images)} images; text must not hold the "
            "token that stands for one"
        )
    chunks: list[np.ndarray | ImageChunk] = []
    start = 0
    for place, image in zip(places, images, strict=True):
        chunks += [np.asarray(tokens[start:place], np.int32), ImageChunk(image, None)]
        start = place + 1
    return [*chunks, np.asarray(tokens[start:], np.int32)]


def parts_of(index: int, result: SampleResult) -> list[SamplePart]:
    """A finished sequence as the parts that a stream of it would have had."""
    sequence = result.sequences[index]
    logprobs, last = sequence.logprobs.tolist(), len(sequence.tokens) - 1
    topk: list[tuple[tuple[int, float], ...]] = [()] * len(logprobs)
    if sequence.topk is not None:
        rows = zip(sequence.topk.token_ids.tolist(), sequence.topk.logprobs.tolist(), strict=True)
        topk = [tuple(zip(*row, strict=True)) for row in rows]
    return [
        SamplePart(index, token, logprobs[i], topk[i], sequence.stop_reason if i == last else None)
        for i, token in enumerate(sequence.tokens.tolist())
    ]


def without_tokens(result: SampleResult) -> SampleResult:
    """Only what it says about the prompt."""
    empty = [replace(one, tokens=one.tokens[:0], logprobs=one.logprobs[:0], topk=None) for one in result.sequences]
    return replace(result, sequences=tuple(empty))


def _log_failure(counting: "asyncio.Future[None]") -> None:
    if not counting.cancelled() and (error := counting.exception()) is not None:
        log.error("the use of a sample could not be counted: %s", error)
