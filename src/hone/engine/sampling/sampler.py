"""Generates for many requests and adapters at once on one base model.

Every `step` computes a chunk of the prompts that are under way (prefill), then advances all running sequences by one
token. Sequences take blocks of the cache as they grow; when none are left, some give theirs up and are computed again
later. What a sequence draws depends on its request alone: not on the batch it happens to be in, nor on when it joined,
nor on how often it was preempted.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import torch
from torch import Tensor

from hone.engine.attention import BLOCK, KeyValueCache
from hone.engine.backends.backend import Rows
from hone.engine.contract import Sample, SamplePart
from hone.engine.head import CHUNK_ELEMENTS
from hone.engine.models.decoder import Decoder
from hone.engine.models.load import LoadedModel
from hone.engine.sampling.draw import DrawSettings, draw, draw_settings
from hone.engine.sampling.image_names import ImageNames
from hone.engine.sampling.prefill import Chunk, Prefill
from hone.engine.sampling.prefixes import PrefixIndex
from hone.engine.sampling.prompt import PromptScores
from hone.engine.sampling.request import RunningSequence, SampleRequest, check_sample
from hone.engine.sampling.rows import head_logits
from hone.engine.sampling.shared_rows import Sharing
from hone.engine.sampling.stops import StopRule
from hone.engine.sampling.streams import uniform_stream
from hone.engine.sampling.turns import Standings, WaitingLine, divide, gets_tokens
from hone.engine.sampling.version import AdapterVersion
from hone.protocol.types import SampleResult


class Sampler:
    def __init__(
        self, model: LoadedModel, max_rows: int, cache_bytes: int, prefill_tokens: int, threads: int = 1
    ) -> None:
        """`max_rows` sequences run at once, in `cache_bytes` of keys and values; `prefill_tokens` of prompts are
        computed between two tokens of theirs, so that they do not wait longer. Where there are rows enough, `threads`
        of a CPU decode them."""
        config = model.config
        self._model, self._max_rows, self._prefill_tokens = model, max_rows, prefill_tokens
        per_block = KeyValueCache.block_bytes(config.layers, config.kv_heads, config.head_dim, model.backend.dtype)
        blocks = 1 + cache_bytes // per_block
        self._prefixes = PrefixIndex(blocks)
        self._images = ImageNames()
        self._pool = self._prefixes.pool
        shape = (config.kv_heads, config.head_dim) if config.cached else (0, 0)  # blocks are still counted
        self._cache = model.backend.cache(config.layers, blocks, *shape)
        own = isinstance(model.decoder, Decoder) and model.backend.device.type == "cpu"
        passes = model.backend.sampling(model, self._cache, max_rows)
        self._run_chunks, self._lay_out = passes.run_chunks, Sharing(passes.lay_out, threads if own else 1)
        self._numbers = count()
        self._waiting: WaitingLine[Prefill] = WaitingLine()
        self._filling: list[Prefill] = []
        """Under way, in the order in which they began."""
        self._ready: list[Prefill] = []
        """In the cache, until rows are free for all that comes out of them."""
        self._running: list[RunningSequence] = []
        self._rows: Rows | None = None
        self._parts: list[tuple[int, SamplePart]] = []
        self.prefilled_tokens = 0
        """Computed so far, other than by drawing them."""
        self.preemptions = 0

    def __bool__(self) -> bool:
        return bool(self._waiting or self._filling or self._ready or self._running)

    def close(self) -> None:
        self._lay_out.close()

    def add(self, ticket: int, op: Sample, version: AdapterVersion | None) -> None:
        """Queue a request; `UserError` if it can never be served."""
        max_tokens = check_sample(op, self._model, self._pool.size * BLOCK)
        strings = any(isinstance(s, str) for s in op.params.stop or ())
        stop = StopRule(op.params.stop, self._model.config.eos_token_ids, self._model.tokenizer if strings else None)
        op = replace(op, prompt=self._images.fill(op.prompt, op.images))
        waiting = list(reversed(range(op.num_samples)))
        request = SampleRequest(ticket, next(self._numbers), op, version, stop, max_tokens, waiting)
        self._waiting.add(Prefill(request))

    def cancel(self, ticket: int) -> None:
        """Forget a request; fine if it is finished or unknown."""
        for one in [p for p in (*self._filling, *self._ready) if p.request.ticket == ticket]:
            self._give_up(one)
        for leader in self._filling:
            leader.followers = [(shared, p) for shared, p in leader.followers if p.request.ticket != ticket]
        for one in [p for p in self._waiting if p.request.ticket == ticket]:
            self._waiting.remove(one)
        for sequence in [s for s in self._running if s.request.ticket == ticket]:
            self._leave(sequence)

    @torch.inference_mode()
    def step(self) -> list[tuple[int, SampleResult]]:
        """Compute one chunk of what is on its way into the cache, and advance everything that runs by one token; the
        requests that this finished, by ticket."""
        self._begin()
        self._fill()
        done = [*self._start(), *self._decode()]
        return [(request.ticket, request.result()) for request in done]

    def take_parts(self) -> list[tuple[int, SamplePart]]:
        """What the last steps drew for the requests that want every token at once, by ticket."""
        parts, self._parts = self._parts, []
        return parts

    # --- into the cache ---------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Give blocks to those whose turn it is and that will be computed in this step."""
        while self._waiting:
            standings = Standings(self._holders())
            for one in self._candidates(standings):
                if not self._may_have_rows(one, standings):
                    return
                found = self._cached_beginning(one)
                if gets_tokens(self._filling, one.left - len(found) * BLOCK, self._prefill_tokens):
                    break
                self._pool.release(found)
            else:
                return
            if self._follow(one, len(found) * BLOCK):
                self._pool.release(found)
                continue
            wanted = _blocks(len(one.tokens)) - len(found)
            if not self._make_room(one, wanted, standings):
                self._pool.release(found)
                return
            self._waiting.remove(one)
            one.blocks, one.done = found + self._pool.take(wanted), len(found) * BLOCK
            if not (self._model.config.cached or one.is_read):
                one.done = len(one.tokens)  # every token is computed from all before it; nothing is kept
            if one.request.cached is None:
                one.request.cached = one.done
            (self._filling if one.left else self._ready).append(one)

    def _candidates(self, standings: Standings) -> Iterator[Prefill]:
        """Whose turn it is; if that is a long prompt for which there are no tokens, it holds up none of the short."""
        yield standings.first(self._waiting.heads())
        yield self._waiting.shortest()

    def _cached_beginning(self, one: Prefill) -> list[int]:
        """Blocks with leading tokens that need not be computed; they have one user more."""
        return self._prefixes.find(one.request.weights, one.tokens[: one.reusable]) if self._model.config.cached else []

    def _follow(self, one: Prefill, cached: int) -> bool:
        """Let `one` wait if what it would compute next is just being computed; whether it does."""
        if not self._model.config.cached:
            return False
        shared, leader = max(((one.shared_with(p), p) for p in self._filling), key=lambda s: s[0], default=(0, one))
        if shared <= cached:
            return False
        self._waiting.remove(one)
        leader.followers.append((shared, one))
        return True

    def _may_have_rows(self, one: Prefill, standings: Standings) -> bool:
        """Nothing is computed long before a row is free for it."""
        taken = len(self._running) + sum(p.samples for p in (*self._filling, *self._ready))
        return taken < self._max_rows or any(standings.gives_way(s, one) for s in self._running)

    def _make_room(self, one: Prefill, blocks: int, standings: Standings) -> bool:
        """Whether so many blocks are free for `one`, after those have been preempted that give way to it, and one more
        for each running sequence, so that it is not preempted at once."""
        while self._pool.free < blocks + len(self._running):
            holders = [h for h in self._holders() if h is not one]
            last = standings.last(holders) if holders else None
            if last is None or not standings.gives_way(last, one):
                return False
            self._preempt(last)
            standings.remove(last)
        return True

    def _fill(self) -> None:
        if not self._filling:
            return
        if self._model.config.cached:
            goals = divide(self._filling, self._prefill_tokens, BLOCK)
        else:
            goals = {one: len(one.tokens) for one in self._filling}
        for chunk, hidden_Th in self._run_chunks([Chunk(*goal) for goal in goals.items()]):
            self._read(chunk, hidden_Th)
            one = chunk.prefill
            self.prefilled_tokens += chunk.stop - chunk.start
            one.done = chunk.stop
            self._prefixes.keep(one.request.weights, one.tokens[: one.done], one.blocks)
            self._release_followers(one)
            if not one.left:
                self._filling.remove(one)
                self._ready.append(one)

    def _read(self, chunk: Chunk, hidden_Th: Tensor) -> None:
        """Score a prompt's own tokens if that was asked, and keep the logits after it."""
        one, request = chunk.prefill, chunk.prefill.request
        if not one.is_read:
            return
        lora = self._model.backend.sampling_lora([request.version], [0, len(hidden_Th)])
        if one.is_scored:
            if not chunk.start or request.scores is None:
                request.scores = PromptScores(request.operation)
            size = max(1, CHUNK_ELEMENTS * self._model.backend.head_room // self._model.config.vocab_size)
            for start in range(0, len(hidden_Th), size):
                logits_CV = head_logits(self._model, hidden_Th[start : start + size], lora)
                request.scores.add(chunk.start + start, logits_CV)
        if chunk.stop == len(one.tokens):
            request.first_logits_1V = head_logits(self._model, hidden_Th[-1:], lora)

    def _release_followers(self, one: Prefill, all_of_them: bool = False) -> None:
        """Those whose beginning is in the cache now may go on."""
        staying = []
        for shared, follower in one.followers:
            if shared <= one.done or all_of_them:
                self._waiting.add(follower)
            else:
                staying.append((shared, follower))
        one.followers = staying

    # --- out of the cache -------------------------------------------------------------------------------------------

    def _start(self) -> Iterator[SampleRequest]:
        """Let what is in the cache join the batch: samples with their first token, preempted ones where they were."""
        begun: list[RunningSequence] = []
        while self._ready:
            standings = Standings(self._running)
            one = standings.first(self._ready)
            full = len(self._running) >= self._max_rows
            if begun and (full or self._pool.free <= len(self._running)):
                break  # what has drawn nothing yet is not preempted
            if full:
                last = standings.last(self._running)
                if not standings.gives_way(last, one):
                    break
                self._preempt(last)
                standings.remove(last)
            if self._running and not self._make_room(one, 1, standings):
                break
            if one.sequence is not None:
                self._ready.remove(one)
                one.sequence.blocks = one.blocks
                self._join(one.sequence)
                continue
            index = one.request.waiting.pop()
            sequence = RunningSequence(one.request, index, [], uniform_stream(one.request.operation.seed, index))
            sequence.blocks = self._fork(one)
            self._join(sequence)
            begun.append(sequence)
        if begun:
            logits = [s.request.first_logits_1V for s in begun if s.request.first_logits_1V is not None]
            yield from self._extend(begun, torch.cat(logits))

    def _fork(self, one: Prefill) -> list[int]:
        """The prompt's blocks for one sample. Full ones are shared with those that follow; one that will be written to
        is copied for each but the last."""
        full = one.request.prompt_length // BLOCK
        rest = one.blocks[full:]
        if not one.samples or (rest and not self._pool.free):
            self._ready.remove(one)
            blocks, one.blocks, one.done = one.blocks, [], 0
            if one.samples:  # the prompt's end has to be computed again for the others
                self._waiting.add(one)
            return blocks
        self._pool.share(one.blocks[:full])
        own = self._pool.take(len(rest))
        for source, target in zip(rest, own, strict=True):
            self._cache.copy_block(source, target)
        return one.blocks[:full] + own

    def _join(self, sequence: RunningSequence) -> None:
        self._running.append(sequence)
        self._rows = None

    # --- running ----------------------------------------------------------------------------------------------------

    def _decode(self) -> Iterator[SampleRequest]:
        self._grow()
        if not self._running:
            return
        rows = self._rows = self._rows or self._lay_out(self._running)
        yield from self._extend(rows.sequences, rows.logits(), rows.settings)

    def _grow(self) -> None:
        """A block for every sequence whose newest token needs one; where there is none, who is last gives way."""
        for sequence in [s for s in self._running if s.position >= len(s.blocks) * BLOCK]:
            while sequence.blocks and not self._pool.free:
                holders = [*self._holders()]
                self._preempt(Standings(holders).last(holders))
            if sequence.blocks:
                sequence.blocks += self._pool.take(1)
                if self._rows and not self._rows.grow(sequence):
                    self._rows = None

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
                best = draws.logprobs_V(row).topk(k)
                sequence.topk.append((best.indices.tolist(), best.values.tolist()))
            reason = sequence.stop_reason()
            if sequence.request.operation.parts:
                self._parts.append((sequence.request.ticket, sequence.newest(reason)))
            if reason is not None:
                sequence.finish(reason)
                self._leave(sequence)
                if sequence.request.complete:
                    yield sequence.request

    # --- giving blocks back -----------------------------------------------------------------------------------------

    def _holders(self) -> Iterator[Prefill | RunningSequence]:
        """Everything that has blocks."""
        yield from self._running
        yield from self._filling
        yield from self._ready

    def _preempt(self, holder: Prefill | RunningSequence) -> None:
        """Take the blocks of `holder`, which waits from now on. What it computed is found again while nobody needs the
        room, and computed again, to the same bits, otherwise."""
        self.preemptions += 1
        if isinstance(holder, RunningSequence):
            self._leave(holder)
            self._waiting.add(Prefill(holder.request, holder))
        else:
            self._give_up(holder)
            self._waiting.add(holder)

    def _give_up(self, one: Prefill) -> None:
        (self._filling if one in self._filling else self._ready).remove(one)
        self._release_followers(one, all_of_them=True)
        self._pool.release(one.blocks)
        one.blocks, one.done = [], 0

    def _leave(self, sequence: RunningSequence) -> None:
        self._running.remove(sequence)
        self._prefixes.keep(sequence.request.weights, sequence.fed_tokens(), sequence.blocks)
        self._pool.release(sequence.blocks)
        sequence.blocks = []
        self._rows = None


def _blocks(tokens: int) -> int:
    return -(-tokens // BLOCK)


def _settings(sequences: list[RunningSequence]) -> DrawSettings:
    return draw_settings([s.request.operation.params for s in sequences])
