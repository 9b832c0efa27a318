"""The four kinds of standard rows. They carry data only: how it is learned belongs to the algorithm.

chat        messages that end with an answer
preference  two ways on from a prompt, the better one first
task        a prompt, and what is known of its right answers
trajectory  a recorded episode with its reward
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hone.algorithms.messages import Message, ToolSpec

RowKind = Literal["chat", "preference", "task", "trajectory"]


@dataclass(frozen=True)
class ChatRow:
    id: str
    """Of the content that its source has: the same wherever and whenever it is read, and in every arm."""
    place: str
    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The other columns."""


@dataclass(frozen=True)
class PreferenceRow:
    id: str
    place: str
    prompt: Sequence[Message]
    chosen: Sequence[Message]
    rejected: Sequence[Message]
    tie: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class VerifierChoice:
    """A verifier that a row names for itself."""

    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskRow:
    id: str
    place: str
    prompt: Sequence[Message]
    gold: str = ""
    verifier: VerifierChoice | None = None
    cluster: str = ""
    """Tasks that are not independent share it; empty: the task stands alone."""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrajectoryRow:
    id: str
    place: str
    messages: Sequence[Message]
    reward: float
    tools: Sequence[ToolSpec] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


StandardRow = ChatRow | PreferenceRow | TaskRow | TrajectoryRow
