"""Generates for many requests and adapters at once on one base model.

Every `step` lets waiting work join (prefill), then advances all running sequences by one token. What a sequence draws
depends on its request alone: not on the batch it happens to be in, nor on when it joined.
"""

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from hone.engine.attention import BLOCK, Continuation
from hone.engine.backends.backend import Rows
from hone.engine.contract import Sample, SamplePart
from hone.engine.head import CHUNK_ELEMENTS
from hone.engine.lora.batch import LoraBatch
from hone.engine.models.load import LoadedModel
from hone.engine.sampling.draw import DrawSettings, draw, draw_settings
from hone.engine.sampling.prefixes import PrefixIndex
from hone.engine.sampling.prompt import PromptScores
from hone.engine.sampling.request import RunningSequence, SampleRequest, check_sample
from hone.engine.sampling.rows import head_logits
from hone.engine.sampling.stops import StopRule
from hone.engine.sampling.streams import uniform_stream
from hone.engine.sampling.version import AdapterVersion
from hone.protocol.types import SampleResult


class Sampler:
    def __init__(self, model: LoadedModel, max_rows: int, cache_tokens: int, prefill_tokens: int) -> None:
        """`max_rows` sequences run at once; `prefill_tokens` bounds the prompts that join in one step, so that the
        running sequences do not wait longer."""
        config = model.config
        self._model, self._max_rows, self._prefill_tokens = model, max_rows, prefill_tokens
        blocks = cache_tokens // BLOCK + 1
        self._prefixes = PrefixIndex(blocks)
        self._pool = self._prefixes.pool
        shape = (config.kv_heads, config.head_dim) if config.cached else (0, 0)  # blocks are still counted
        self._cache = model.backend.cache(config.layers, blocks, *shape)
        self._lay_out = model.backend.decoding(model, self._cache, max_rows)
        self._waiting: deque[SampleRequest] = deque()
        self._started: deque[SampleRequest] = deque()
        self._running: list[RunningSequence] = []
        self._rows: Rows | None = None
        self._parts: list[tuple[int, SamplePart]] = []

    def __bool__(self) -> bool:
        return bool(self._waiting or self._started or self._running)

    def add(self, ticket: int, op: Sample, version: AdapterVersion | None) -> None:
        """Queue a request; `UserError` if it can never be served."""
        # one block less than there is: a prompt's last, part-filled block is copied before its samples write to it
        max_tokens = check_sample(op, self._model, (self._pool.size - 1) * BLOCK)
        strings = any(isinstance(s, str) for s in op.params.stop or ())
        stop = StopRule(op.params.stop, self._model.config.eos_token_ids, self._model.tokenizer if strings else None)
        waiting = list(reversed(range(op.num_samples)))
        self._waiting.append(SampleRequest(ticket, op, version, stop, max_tokens, waiting))

    def cancel(self, ticket: int) -> None:
        """Forget a request; fine if it is finished or unknown."""
        for queue in (self._waiting, self._started):
            for request in [r for r in queue if r.ticket == ticket]:
                self._pool.release(request.prompt_blocks)
                queue.remove(request)
        for sequence in [s for s in self._running if s.request.ticket == ticket]:
            self._leave(sequence)

    @torch.inference_mode()
    def step(self) -> list[tuple[int, SampleResult]]:
        """Advance everything by one token; the requests that this finished, by ticket."""
        self._prefill()
        done = [*self._start(), *self._decode()]
        return [(request.ticket, request.result()) for request in done]

    def take_parts(self) -> list[tuple[int, SamplePart]]:
        """What the last steps drew for the requests that want every token at once, by ticket."""
        parts, self._parts = self._parts, []
        return parts

    # --- joining ----------------------------------------------------------------------------------------------------

    def _prefill(self) -> None:
        """Run the prompts of waiting requests while rows, cache and `prefill_tokens` allow."""
        joining: list[SampleRequest] = []
        room, rows = self._prefill_tokens, self._max_rows - len(self._running)
        # prompts that joined earlier start all their samples first, and every prompt joins only with blocks
        # for one sample of each left over: so whoever is next can always start once the running sequences
        # have ended
        reserved = 0
        while self._waiting and not self._started and rows > 0:
            request = self._waiting[0]
            reserved += self._blocks_per_sample(request)
            if reserved > self._pool.free:
                break  # whatever is cached; a request may wait here for many steps
            shared = self._cached_beginning(request)
            request.cached = len(shared) * BLOCK
            if any(_will_compute(other, request) for other in joining):
                self._pool.release(shared)
                break  # the next step finds more of it in the cache
            wanted = self._prompt_blocks(request) - len(shared)
            if wanted + reserved > self._pool.free or (joining and request.to_compute > room):
                self._pool.release(shared)
                break
            self._waiting.popleft()
            request.prompt_blocks = shared + self._pool.take(wanted)
            joining.append(request)
            room -= request.to_compute
            rows -= request.operation.num_samples
        if joining:
            # whole prompts before continued ones; one adapter side by side, equal lengths side by side: fewer and
            # larger products
            joining.sort(key=lambda r: (r.cached > 0, r.weights, r.to_compute))
            self._run_prompts(joining)
            self._started.extend(joining)

    def _cached_beginning(self, request: SampleRequest) -> list[int]:
        """Blocks of the prompt that need not be computed; its last token must be, and all are if they are scored."""
        if PromptScores.wanted(request.operation) or not self._model.config.cached:
            return []
        return self._prefixes.find(request.weights, request.operation.prompt[:-1])

    def _run_prompts(self, requests: list[SampleRequest]) -> None:
        starts = np.cumsum([0, *(r.to_compute for r in requests)]).tolist()
        tokens_T = np.concatenate([r.operation.prompt[r.cached :] for r in requests]).astype(np.int64)
        positions_T = np.concatenate([np.arange(r.cached, r.prompt_length) for r in requests])
        slots_T = np.concatenate([_slots(r.prompt_blocks, r.cached, r.prompt_length) for r in requests])
        whole = [r.prompt_length for r in requests if not r.cached]
        continued = [
            Continuation(start, r.to_compute, r.cached, torch.tensor(r.prompt_blocks))
            for r, start in zip(requests, starts, strict=False)
            if r.cached
        ]
        backend = self._model.backend
        tokens, positions, slots = (torch.from_numpy(x).to(backend.device) for x in (tokens_T, positions_T, slots_T))
        lora = backend.sampling_lora([r.version for r in requests], starts)
        attend = backend.prefill(whole, self._cache, slots, continued)
        hidden_Th = self._model.decoder.forward(tokens, positions, attend, lora)
        for request, start, stop in zip(requests, starts, starts[1:], strict=False):
            self._read_prompt(request, hidden_Th[start:stop], lora.part(start, stop))
            self._prefixes.keep(request.weights, request.operation.prompt, request.prompt_blocks)

    def _read_prompt(self, request: SampleRequest, hidden_Ph: Tensor, lora: LoraBatch) -> None:
        """Keep the logits after the prompt, and score the prompt itself if that was asked."""
        if PromptScores.wanted(request.operation):
            request.scores = PromptScores(request.operation)
            size = max(1, CHUNK_ELEMENTS * self._model.backend.head_room // self._model.config.vocab_size)
            for start in range(0, len(hidden_Ph), size):
                chunk_Ch = hidden_Ph[start : start + size]
                request.scores.add(start, head_logits(self._model, chunk_Ch, lora))
        request.first_logits_1V = head_logits(self._model, hidden_Ph[-1:], lora)

    def _start(self) -> Iterator[SampleRequest]:
        """Let the samples of prefilled requests draw their first token and join the batch."""
        while self._started and len(self._running) < self._max_rows:
            request = self._started[0]
            if self._blocks_per_sample(request) > self._pool.free:
                break
            index = request.waiting.pop()
            sequence = RunningSequence(request, index, [], uniform_stream(request.operation.seed, index))
            if request.waiting:
                sequence.blocks = self._fork_prompt(request)
            else:  # nobody else will need the prompt's blocks
                sequence.blocks = request.prompt_blocks + self._pool.take(self._blocks_to_come(request))
                self._started.popleft()
            self._running.append(sequence)
            self._rows = None
            assert request.first_logits_1V is not None
            yield from self._extend([sequence], request.first_logits_1V)

    def _fork_prompt(self, request: SampleRequest) -> list[int]:
        """Full blocks of the prompt are shared; the one that will be written to is copied."""
        full = request.prompt_length // BLOCK
        shared, own = request.prompt_blocks[:full], self._pool.take(self._blocks_per_sample(request))
        self._pool.share(shared)
        if request.prompt_length % BLOCK:
            self._cache.copy_block(request.prompt_blocks[full], own[0])
        return shared + own

    # --- running ----------------------------------------------------------------------------------------------------

    def _decode(self) -> Iterator[SampleRequest]:
        if not self._running:
            return
        rows = self._rows = self._rows or self._lay_out(self._running)
        yield from self._extend(rows.sequences, rows.logits(), rows.settings)

    def _extend(
        self, sequences: list[RunningSequence], logits_BV: Tensor, settings: DrawSettings | None = None
    ) -> Iterator[SampleRequest]:
        """Draw one token for each sequence; those that end leave the batch."""
        uniforms_B = torch.tensor([s.uniforms.random() for s in sequences], dtype=torch.float64)
        draws = draw(logits_BV, settings or _settings(sequences), uniforms_B)
        for row, sequence in enumerate(sequences):
            sequence.tokens.append(draws.tokens[row])
            sequence.logprobs.append(draws.logprobs[row])
            if k := sequence.request.operation.topk_sample_logprobs:
                best = draws.logprobs_BV[row].topk(k)
                sequence.topk.append((best.indices.tolist(), best.values.tolist()))
            reason = sequence.stop_reason()
            if sequence.request.operation.parts:
                self._parts.append((sequence.request.ticket, sequence.newest(reason)))
            if reason is not None:
                sequence.finish(reason)
                self._leave(sequence)
                if sequence.request.complete:
                    yield sequence.request

    def _leave(self, sequence: RunningSequence) -> None:
        self._running.remove(sequence)
        self._prefixes.keep(sequence.request.weights, sequence.fed_tokens(), sequence.blocks)
        self._pool.release(sequence.blocks)
        self._rows = None

    # --- sizes ------------------------------------------------------------------------------------------------------

    def _prompt_blocks(self, request: SampleRequest) -> int:
        return -(-request.prompt_length // BLOCK)

    def _blocks_per_sample(self, request: SampleRequest) -> int:
        """Beyond the prompt's full blocks, for the longest that the sample may get: so no sequence ever runs out."""
        return self._blocks_at_most(request) - request.prompt_length // BLOCK

    def _blocks_to_come(self, request: SampleRequest) -> int:
        """Beyond all of the prompt's blocks."""
        return self._blocks_at_most(request) - self._prompt_blocks(request)

    def _blocks_at_most(self, request: SampleRequest) -> int:
        return -(-(request.prompt_length + request.max_tokens) // BLOCK)


def _will_compute(other: SampleRequest, request: SampleRequest) -> bool:
    """Whether `other` joins with the very block that `request` would have to compute next."""
    stop = request.cached + BLOCK
    if PromptScores.wanted(request.operation) or stop >= request.prompt_length or request.weights != other.weights:
        return False
    return np.array_equal(other.operation.prompt[:stop], request.operation.prompt[:stop])


def _slots(blocks: list[int], start: int, stop: int) -> np.ndarray:
    positions = np.arange(start, stop)
    slots: np.ndarray = np.array(blocks)[positions // BLOCK] * BLOCK + positions % BLOCK
    return slots


def _settings(sequences: list[RunningSequence]) -> DrawSettings:
    return draw_settings([s.request.operation.params for s in sequences])
