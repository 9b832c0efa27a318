"""When a sequence ends: end-of-sequence tokens, stop tokens, stop strings."""

from collections.abc import Sequence
from typing import Protocol


class Decodes(Protocol):
    def decode(self, ids: Sequence[int], skip_special_tokens: bool = ...) -> str: ...


class StopRule:
    """No `stop`: the model's end-of-sequence tokens. An empty one: nothing. Otherwise these and the end-of-sequence
    tokens."""

    def __init__(
        self, stop: tuple[str, ...] | tuple[int, ...] | None, eos: Sequence[int], tokenizer: Decodes | None
    ) -> None:
        self._tokens = frozenset(() if stop == () else eos) | {s for s in stop or () if isinstance(s, int)}
        self._strings = tuple(s for s in stop or () if isinstance(s, str))
        self._tokenizer = tokenizer
        # a token is at least one byte, so no stop string reaches further back; a few more complete a cut character
        self._window = max((len(s.encode()) for s in self._strings), default=0) + 4

    def ends(self, tokens: Sequence[int]) -> bool:
        """Whether the last of the generated `tokens` ends the sequence; asked after every token."""
        if tokens[-1] in self._tokens:
            return True
        if not self._strings or self._tokenizer is None:
            return False
        text = self._tokenizer.decode(tokens[-self._window :], skip_special_tokens=False)
        return any(s in text for s in self._strings)
