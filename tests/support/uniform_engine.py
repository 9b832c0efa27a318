"""An engine without a network: every token is equally likely, but adapters, versions, order and crashes are real.

An adapter's whole state is one number that each `forward_backward` and each step change, so a test can see which
operations took effect, in which order, and how often. An image takes as many tokens as it has bytes.
"""

import asyncio
import json
import math
import os
import shutil
from collections import defaultdict, deque
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hone.engine import contract
from hone.errors import EngineLostError, UserError
from hone.protocol.lora import check_lora
from hone.protocol.losses import check_datum, loss_settings
from hone.protocol.types import (
    ForwardBackwardResult,
    LoraConfig,
    PromptAltTokens,
    SampledSequence,
    SampleResult,
    TopkLogprobs,
)

VOCABULARY = 50
EOS = 0
LOGPROB = -math.log(VOCABULARY)
MODULUS = 1_000_003


@dataclass
class Adapter:
    lora: LoraConfig
    state: int
    """Fingerprint of everything that ever took effect, in order."""
    gathered: int = 0
    """Tokens whose gradient waits for a step."""
    steps: int = 0

    def note(self, value: int) -> None:
        self.state = (self.state * 31 + value) % MODULUS


@dataclass
class UniformEngine:
    """`slow` delays every result by that many seconds. `die` ends the process; what is under way is lost."""

    models: dict[str, contract.BaseModel] = field(default_factory=dict)
    slow: float = 0.0
    pid: int = field(default_factory=os.getpid)
    submitted: list[contract.Operation] = field(default_factory=list)
    restarts: int = 0
    alive: bool = True
    streaming: int = 0
    fail_next: list[Exception] = field(default_factory=list)
    """Raised by the next operations instead of running them."""
    lose_on: Any = None
    """A predicate on operations: the process ends when one that it holds for is submitted; used up by that."""

    def __post_init__(self) -> None:
        self.models = self.models or {
            "hone/uniform": contract.BaseModel(
                "hone/uniform", "/models/uniform", "Uniform", 256, VOCABULARY, 0, 0, (10, 10, 10)
            )
        }
        self.adapters: dict[str, Adapter] = {}
        self.versions: dict[str, int] = {}
        self._under_way: set[asyncio.Future[Any]] = set()
        self._queues: dict[str, deque[tuple[contract.Operation, asyncio.Future[Any]]]] = defaultdict(deque)

    def submit(self, operation: contract.Operation) -> "asyncio.Future[Any]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self.submitted.append(operation)
        if self.lose_on is not None and self.lose_on(operation):
            self.lose_on = None
            self.die()
        if not self.alive:
            future.set_exception(EngineLostError("the engine process ended"))
            return future
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        queue = self._queues[getattr(operation, "adapter", "")]
        queue.append((operation, future))
        if len(queue) == 1:
            loop.call_later(self.slow, self._work, queue)
        return future

    async def stream(self, operation: contract.Sample) -> AsyncGenerator[contract.SamplePart | SampleResult, None]:
        """One part at each turn of the event loop; `streaming` counts the generators that are open."""
        self.streaming += 1
        try:
            result: SampleResult = await self.submit(replace(operation, parts=True))
            longest = max(len(sequence.tokens) for sequence in result.sequences)
            for place in range(longest):
                for index, sequence in enumerate(result.sequences):
                    if place < len(sequence.tokens):
                        await asyncio.sleep(self.slow)
                        if not self.alive:
                            raise EngineLostError("the engine process ended")
                        yield _part(index, sequence, place)
            yield result
        finally:
            self.streaming -= 1

    def die(self) -> None:
        self.alive = False
        self.adapters.clear()
        self.versions.clear()
        self._queues.clear()
        for future in list(self._under_way):
            if not future.done():
                future.set_exception(EngineLostError("the engine process ended"))

    async def compute_seconds(self) -> float:
        return 0.0

    async def restart(self) -> None:
        await asyncio.sleep(0.01)
        self.alive = True
        self.restarts += 1

    async def close(self) -> None:
        self.alive = False
        for future in list(self._under_way):
            future.cancel()

    def _work(self, queue: "deque[tuple[contract.Operation, asyncio.Future[Any]]]") -> None:
        if not queue or not self.alive:
            return
        operation, future = queue.popleft()
        if not future.done():
            try:
                if self.fail_next:
                    raise self.fail_next.pop(0)
                future.set_result(self._run(operation))
            except Exception as error:
                future.set_exception(error)
        if queue:
            asyncio.get_running_loop().call_later(self.slow, self._work, queue)

    def _adapter(self, name: str) -> Adapter:
        if name not in self.adapters:
            raise UserError(f"adapter {name!r} is not in the engine")
        return self.adapters[name]

    def _run(self, operation: contract.Operation) -> Any:
        match operation:
            case contract.CreateAdapter(name, _, lora):
                check_lora(lora)
                assert lora.seed is not None
                self.adapters[name] = Adapter(lora, lora.seed % MODULUS)
            case contract.LoadAdapter(name, _, directory, with_optimizer):
                kept = json.loads((Path(directory) / "state.json").read_text())
                adapter = Adapter(LoraConfig(**kept.pop("lora")), **kept)
                self.adapters[name] = adapter if with_optimizer else replace(adapter, gathered=0, steps=0)
                return contract.AdapterInfo(adapter.lora, 0, adapter.steps)
            case contract.ForwardBackward():
                return self._forward_backward(operation)
            case contract.OptimStep(name, params):
                return self._step(self._adapter(name), params.learning_rate)
            case contract.Snapshot(name, directory) | contract.SaveAdapter(name, directory, _):
                assert not Path(directory).exists()
                return _write(Path(directory), asdict(self._adapter(name)))
            case contract.ExportAdapter(name, directory, recipients):
                suffix = ".age" if recipients else ""
                return _write(Path(directory), asdict(self._adapter(name)), f"adapter_model.safetensors{suffix}")
            case contract.Publish(name, version, directory, durable):
                self.versions[version] = self._adapter(name).state
                size = _write(Path(directory), asdict(self._adapter(name)))
                return size if durable else None
            case contract.LoadVersion(version, _, directory):
                self.versions[version] = json.loads((Path(directory) / "state.json").read_text())["state"]
            case contract.DropAdapter(name):
                self.adapters.pop(name, None)
            case contract.DropVersion(version):
                self.versions.pop(version, None)
            case contract.CountImageTokens(_, images):
                return tuple(len(image.data) for image in images)
            case contract.Sample():
                return self._sample(operation)
        return None

    def _forward_backward(self, operation: contract.ForwardBackward) -> ForwardBackwardResult:
        adapter = self._adapter(operation.adapter)
        for i, datum in enumerate(operation.data):
            if operation.custom is None:
                loss_settings(operation.loss_fn, operation.loss_config)
                check_datum(operation.loss_fn, datum, i, VOCABULARY)
        tokens = sum(len(datum.tokens) for datum in operation.data)
        if not operation.forward_only:
            adapter.gathered += tokens
            adapter.note(sum(int(datum.tokens.sum()) for datum in operation.data) + tokens)
            for placed in (placed for datum in operation.data for placed in datum.images):
                adapter.note(int.from_bytes(placed.image.digest[:4]) + placed.start)
        logprobs = tuple(
            np.full(datum.loss_inputs["target_tokens"].shape, LOGPROB, np.float32) for datum in operation.data
        )
        loss = -sum(
            float((array * datum.loss_inputs.get("weights", np.ones_like(array))).sum())
            for array, datum in zip(logprobs, operation.data, strict=True)
        )
        return ForwardBackwardResult(logprobs, {"loss:sum": loss, "state:max": float(adapter.state)})

    def _step(self, adapter: Adapter, learning_rate: float) -> dict[str, float]:
        if not adapter.gathered:
            return {"skipped": 1.0}
        adapter.note(round(learning_rate * 1e6))
        adapter.gathered, adapter.steps = 0, adapter.steps + 1
        return {"state": float(adapter.state), "steps": float(adapter.steps)}

    def _sample(self, operation: contract.Sample) -> SampleResult:
        if operation.version is not None and operation.version not in self.versions:
            raise UserError(f"version {operation.version!r} is not in the engine")
        context = self.models[operation.base_model].max_context
        limit = operation.params.max_tokens
        limit = context - len(operation.prompt) if limit is None else limit
        if len(operation.prompt) + limit > context:
            raise UserError(
                f"prompt has {len(operation.prompt)} tokens and max_tokens is {limit}; the context window is {context}"
            )
        sequences = tuple(self._sequence(operation, i, limit) for i in range(operation.num_samples))
        prompt_logprobs = topk = None
        if operation.prompt_logprobs:
            prompt_logprobs = np.full(len(operation.prompt), LOGPROB, np.float32)
            prompt_logprobs[:1] = np.nan
        if k := operation.topk_prompt_logprobs:
            topk = TopkLogprobs(
                np.tile(np.arange(k, dtype=np.int32), (len(operation.prompt), 1)),
                np.full((len(operation.prompt), k), LOGPROB, np.float32),
            )
            topk.token_ids[0], topk.logprobs[0] = 0, -99999.0
        targets, alternatives = operation.target_prompt_logprobs, None
        if k := operation.prompt_alt_tokens:
            shape = (len(operation.prompt) - 1, k)
            drawn = np.random.default_rng([operation.seed, 2**32]).integers(0, VOCABULARY, shape).astype(np.int32)
            alternatives = PromptAltTokens(drawn, np.full(shape, LOGPROB, np.float32))
        return SampleResult(
            sequences,
            prompt_logprobs,
            topk,
            target_prompt_logprobs=None if targets is None else np.where(targets.tokens < 0, 0.0, LOGPROB),
            prompt_alt_tokens=alternatives,
        )

    def _sequence(self, operation: contract.Sample, index: int, limit: int) -> SampledSequence:
        """The version's state is part of the stream, so a test can see which weights a sample came from."""
        state = 0 if operation.version is None else self.versions[operation.version]
        drawn = np.random.default_rng([operation.seed, index, state]).integers(0, VOCABULARY, limit).astype(np.int32)
        stops = operation.params.stop
        ends = {EOS} if stops is None else {stop for stop in stops if isinstance(stop, int)}
        found = [i for i, token in enumerate(drawn) if int(token) in ends]
        tokens = drawn[: found[0] + 1] if found else drawn
        topk = None
        if k := operation.topk_sample_logprobs:
            ids = np.tile(np.arange(k, dtype=np.int32), (len(tokens), 1))
            topk = TopkLogprobs(ids, np.full(ids.shape, LOGPROB, np.float32))
        return SampledSequence(tokens, np.full(len(tokens), LOGPROB, np.float32), "stop" if found else "length", topk)


def _part(index: int, sequence: SampledSequence, place: int) -> contract.SamplePart:
    topk = (
        () if sequence.topk is None else zip(sequence.topk.token_ids[place], sequence.topk.logprobs[place], strict=True)
    )
    return contract.SamplePart(
        index,
        int(sequence.tokens[place]),
        float(sequence.logprobs[place]),
        tuple((int(token), float(logprob)) for token, logprob in topk),
        sequence.stop_reason if place == len(sequence.tokens) - 1 else None,
    )


def _write(directory: Path, state: dict[str, Any], name: str = "state.json") -> int:
    draft = directory.with_name(f"{directory.name}.draft")
    draft.mkdir(parents=True)
    text = json.dumps(state)
    (draft / name).write_text(text)
    shutil.move(draft, directory)
    return len(text)
