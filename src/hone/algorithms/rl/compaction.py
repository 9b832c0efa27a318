"""Long episodes in short contexts: when what the model would see passes a limit, its beginning is replaced.

The environment knows nothing of it. It goes on giving its whole history, and the model is shown the compacted beginning
and what came after it, token for token. As the history no longer extends what was shown before, training data begin
anew there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import tinker

from hone.algorithms.datums import flatten, joined
from hone.algorithms.rl.policy import Place, Policy, sample_seed
from hone.algorithms.types import Observation, StopCondition, Transition

Elements = list[int | tinker.ModelInputChunk]


class Compactor(Protocol):
    """Shortens histories."""

    @property
    def limit(self) -> int:
        """Histories of more tokens are compacted before the model acts on them."""
        ...

    async def compact(self, history: Elements, policy: Policy, place: Place) -> tuple[Elements, list[Transition]]:
        """The shorter history, and what the model said to get it: actions which are learned from like any other."""
        ...


@dataclass
class View:
    """What the model sees of one episode."""

    compactor: Compactor | None
    _covered: Elements = field(default_factory=list)
    """The environment's history up to where it was last compacted..."""
    _short: Elements = field(default_factory=list)
    """...and what stands in its place."""

    async def of(
        self, observation: tinker.ModelInput, policy: Policy, place: Place
    ) -> tuple[tinker.ModelInput, list[Transition]]:
        if self.compactor is None:
            return observation, []
        history = flatten(observation)
        if history[: len(self._covered)] == self._covered:
            shown = self._short + history[len(self._covered) :]
        else:  # the environment rewrote its history itself
            shown = history
        transitions: list[Transition] = []
        if joined(shown).length > self.compactor.limit:
            shown, transitions = await self.compactor.compact(shown, policy, place)
            self._covered, self._short = history, shown
        return joined(shown), transitions


@dataclass(frozen=True)
class DropMiddle:
    """Keeps the beginning (the task) and the newest tokens, and drops what is between."""

    limit: int
    first: int
    """Tokens kept of the beginning."""
    last: int
    """Tokens kept of the end, at most."""
    turn_start: int | None = None
    """A token that begins each turn: the kept end then begins with one, so that no turn is cut in two."""

    async def compact(self, history: Elements, policy: Policy, place: Place) -> tuple[Elements, list[Transition]]:
        begin = max(self.first, len(history) - self.last)
        if self.turn_start is not None:
            starts = [at for at in range(begin, len(history)) if history[at] == self.turn_start]
            begin = starts[0] if starts else begin
        return history[: self.first] + history[begin:], []


@dataclass(frozen=True)
class Summarise:
    """The model itself writes what is kept. Its summary extends the history, so it is part of the training data that
    end there, with the advantage of the episode: good summaries are learned."""

    limit: int
    first: int
    """Tokens kept of the beginning."""
    request: tuple[int, ...]
    """Asks for the summary, and opens the model's turn."""
    before: tuple[int, ...]
    """Stands between the beginning and the summary..."""
    after: tuple[int, ...]
    """...and this behind it, where the model takes its next turn."""
    max_tokens: int
    stop: StopCondition

    async def compact(self, history: Elements, policy: Policy, place: Place) -> tuple[Elements, list[Transition]]:
        asked = joined([*history, *self.request])
        summary = await policy.act(
            Observation(asked, self.stop), sample_seed(*place, "summary"), max_tokens=self.max_tokens
        )
        short = [*history[: self.first], *self.before, *summary.tokens, *self.after]
        return short, [Transition(asked, summary, 0.0, {"summary_tokens": len(summary.tokens)})]
