"""Pieces of a rendered conversation to tokens: control tokens come from the format only, never from what people wrote.

Neighbouring text is encoded together, as a tokenizer does with a whole rendered text, so the tokens are those that
`apply_chat_template` gives, except where a `cut` is asked for: between a prompt and the answer sampled from it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import tinker
from tinker.types import ImageChunk


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer."""

    chat_template: Any
    bos_token: Any
    eos_token: Any
    is_fast: bool

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]: ...

    def __call__(self, text: str, **options: Any) -> Mapping[str, Any]: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str: ...


@dataclass(frozen=True)
class Markup:
    """Text of the format itself: control tokens in it are meant."""

    text: str


@dataclass(frozen=True)
class Content:
    """Text that somebody wrote, which must stay text."""

    text: str


@dataclass(frozen=True)
class Image:
    chunk: ImageChunk


Piece = Markup | Content | Image


@dataclass(frozen=True)
class Span:
    """A piece in its place."""

    piece: Piece
    trained: bool = False
    cut: bool = False
    """No token reaches over the beginning of this piece."""


class Encoder:
    """A tokenizer with its control tokens told apart: the special ones, and those of `markers` that it has."""

    def __init__(self, tokenizer: Tokenizer, markers: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        added = {str(token.content): (id, bool(token.special)) for id, token in tokenizer.added_tokens_decoder.items()}
        self.controls = {text: id for text, (id, special) in added.items() if special or text in markers}
        self._control_ids = frozenset(self.controls.values())
        longest_first = sorted(self.controls, key=len, reverse=True)
        self._pattern = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if longest_first else None

    def encode(self, spans: Sequence[Span]) -> tuple[list[tinker.ModelInputChunk], list[bool]]:
        """Chunks, and for each position whether it is trained; an image never is."""
        chunks: list[tinker.ModelInputChunk] = []
        trained: list[bool] = []
        tokens: list[int] = []
        for token, span in self._tokens(spans):
            if isinstance(token, int):
                tokens.append(token)
                trained.append(spans[span].trained)
                continue
            if tokens:
                chunks.append(tinker.EncodedTextChunk(tokens=tokens))
                tokens = []
            chunks.append(token)
            trained += [False] * token.length
        if tokens:
            chunks.append(tinker.EncodedTextChunk(tokens=tokens))
        return chunks, trained

    def decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=False)

    def _tokens(self, spans: Sequence[Span]) -> Iterator[tuple[int | ImageChunk, int]]:
        """Tokens and images in order, each with the index of the span it begins in."""
        run: list[tuple[str, int]] = []
        for index, span in enumerate(spans):
            if span.cut:
                yield from self._plain_run(run)
                run = []
            if isinstance(span.piece, Content):
                run.append((span.piece.text, index))
                continue
            parts = [span.piece.chunk] if isinstance(span.piece, Image) else self.split(span.piece.text)
            for part in parts:
                if isinstance(part, str) and part not in self.controls:
                    run.append((part, index))
                    continue
                yield from self._plain_run(run)
                run = []
                yield self.controls[part] if isinstance(part, str) else part, index
        yield from self._plain_run(run)

    def split(self, text: str) -> list[str]:
        """Control tokens and what is between them, in order."""
        parts = [text] if self._pattern is None else self._pattern.split(text)
        return [part for part in parts if part]

    def _plain_run(self, run: Sequence[tuple[str, int]]) -> Iterator[tuple[int, int]]:
        """Neighbouring texts encoded as one; each token belongs to the text in which it begins."""
        if not self._tokenizer.is_fast:  # such a tokenizer does not say where its tokens begin
            for text, index in run:
                yield from ((token, index) for token, _ in self._plain(text))
            return
        ends = list(accumulate(len(text) for text, _ in run))
        for token, start in self._plain("".join(text for text, _ in run)):
            yield token, run[min(bisect_right(ends, start), len(run) - 1)][1]

    def _plain(self, text: str) -> Iterator[tuple[int, int]]:
        """Tokens of text that must stay text, each with the character at which it begins.

        Where the tokenizer sees a control token, the text is cut after that token's first character."""
        if not text:
            return
        tokens, starts = self._encode(text)
        forged = [start + 1 for token, start in zip(tokens, starts, strict=True) if token in self._control_ids]
        if not forged or len(text) == 1:
            yield from zip(tokens, starts, strict=True)
            return
        for start, end in zip([0, *forged], [*forged, len(text)], strict=True):
            for token, offset in self._plain(text[start:end]):
                yield token, start + offset

    def _encode(self, text: str) -> tuple[list[int], list[int]]:
        if self._tokenizer.is_fast:
            encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            return encoded["input_ids"], [start for start, _ in encoded["offset_mapping"]]
        tokens: list[int] = []
        starts: list[int] = []
        at = 0
        for part in [text] if self._pattern is None else self._pattern.split(text):
            new = self._tokenizer.encode(part, add_special_tokens=False) if part else []
            tokens += new
            starts += [at] * len(new)
            at += len(part)
        return tokens, starts
