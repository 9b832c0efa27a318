"""A data set as an arm would see it: how many rows, which cannot be used, how long they are in tokens.

Nothing here opens a backend. Where the tokenizer of a model is not on this machine, lengths are guessed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hone.errors import UserError
from hone.experiments.config import RunConfig
from hone.experiments.estimate import CHARACTERS_PER_TOKEN
from hone.experiments.hashing import content_hash
from hone.experiments.kinds import plugins
from hone.experiments.kinds.contract import Foresight, RowSizes

if TYPE_CHECKING:
    from hone.algorithms.renderers import Renderer
    from hone.experiments.data.load import RowSource
    from hone.experiments.data.rows import RowKind, StandardRow

TOKENISED = 32
"""Rows that are rendered and tokenised."""
READ = 200_000
"""Rows that are looked at; of a larger data set the first."""
NAMED = 5
"""Bad rows that a message names."""


class Speakers:
    """Base models and their chat formats, as far as they are known without opening a backend."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._foresights: dict[str, Foresight] = {}
        self._tokenizers: dict[Path, Any] = {}

    def foresight(self, run: RunConfig) -> Foresight:
        """Of the run's backend."""
        key = content_hash([run.backend.kind, run.backend.params])
        if key not in self._foresights:
            backend = plugins.backends.make(run.backend.kind, run.backend.params)
            self._foresights[key] = backend.foresee(self._home)
        return self._foresights[key]

    def model(self, run: RunConfig) -> str | None:
        """The base model; None where only the open backend knows."""
        return run.model.name or next(iter(self.foresight(run).models), None)

    def renderer(self, run: RunConfig) -> tuple[Renderer, Any] | None:
        """As the arm would have it, with its tokenizer; None where there is no tokenizer to ask.

        Raises:
            UserError: there is no such renderer, or it does not fit the tokenizer.
        """
        from hone.algorithms.renderers import get_renderer, recommended_renderer

        model = self.model(run)
        if model is None:
            return None
        try:
            tokenizer = self._tokenizer(model, self.foresight(run))
        except (OSError, ValueError):
            return None
        name = run.model.renderer or recommended_renderer(model, tokenizer)
        return get_renderer(name, tokenizer), tokenizer

    def _tokenizer(self, model: str, foresight: Foresight) -> Any:
        from transformers import AutoTokenizer

        folder = foresight.tokenizers.get(model, Path(model))
        if folder not in self._tokenizers:
            self._tokenizers[folder] = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return self._tokenizers[folder]


@dataclass
class Preview:
    """What was found."""

    rows: int = 0
    """That can be used."""
    unusable: int = 0
    errors: list[str] = field(default_factory=list)
    """The first of them, each with its place."""
    partly_read: bool = False
    """There are more rows than were looked at."""
    lengths: list[int] = field(default_factory=list)
    """Tokens of the rows that were tokenised."""
    sizes: RowSizes | None = None
    """Their means."""
    example: str | None = None
    """One of them as the model sees it."""

    def refuse(self, why: str) -> None:
        self.unusable += 1
        if len(self.errors) < NAMED:
            self.errors.append(why)

    def reason(self, kind: RowKind) -> str | None:
        """Why no arm could learn from these rows."""
        if self.unusable:
            more = self.unusable - len(self.errors)
            rows = "1 row" if self.unusable == 1 else f"{self.unusable} rows"
            listed = [*self.errors, *([f"... and {more} more"] if more else [])]
            return "\n  ".join([f"{rows} cannot be used as {kind} rows:", *listed])
        if not self.rows:
            return "there are no training rows: the source is empty, or all rows are filtered out or held out"
        return None


def preview(side: RowSource, kind: RowKind, *, wants_verifier: bool, speaker: tuple[Renderer, Any] | None) -> Preview:
    """Read a data set.

    Args:
        wants_verifier: Each row has to name one.
        speaker: A renderer and its tokenizer; without them lengths are guessed from characters.

    Raises:
        UserError: the data cannot be read.
    """
    found = Preview()
    for row in _kept(side, kind, wants_verifier, found):
        _measure(row, speaker, found)
    return found


class UsableRows:
    """The rows of a side that are of a kind, read anew each time."""

    def __init__(self, side: RowSource, kind: RowKind) -> None:
        self._side, self._kind = side, kind

    def __iter__(self) -> Iterator[StandardRow]:
        from hone.experiments.data.parse import RowError, parse

        for raw in self._side:
            try:
                yield parse(raw, self._kind)
            except RowError:
                continue


def _kept(side: RowSource, kind: RowKind, wants_verifier: bool, found: Preview) -> list[StandardRow]:
    """Some rows, chosen by their content, of all that are read."""
    from hone.experiments.data.parse import RowError, parse
    from hone.experiments.data.rows import TaskRow

    kept: list[tuple[str, int, StandardRow]] = []
    for number, raw in enumerate(side):
        if number == READ:
            found.partly_read = True
            break
        try:
            row = parse(raw, kind)
            if wants_verifier and isinstance(row, TaskRow) and row.verifier is None:
                raise RowError(raw.place, "it has no verifier, and `data.verifier` names none for all rows")
        except RowError as error:
            found.refuse(str(error))
            continue
        found.rows += 1
        entry = (content_hash(row.id), number, row)
        if len(kept) < TOKENISED:
            heapq.heappush(kept, entry)
        else:
            heapq.heappushpop(kept, entry)
    return [row for _, _, row in sorted(kept)]


def _measure(row: StandardRow, speaker: tuple[Renderer, Any] | None, found: Preview) -> None:
    prompt, conversations = _parts(row)
    if speaker is None:
        asked = _guessed(prompt)
        whole = sum(map(_guessed, conversations)) or asked
    else:
        renderer, tokenizer = speaker
        try:
            begun = renderer.build_generation_prompt(prompt)
            learned = [renderer.build_supervised_example(one)[0] for one in conversations]
        except UserError as error:
            found.refuse(f"{row.place}: it cannot be rendered: {error}")
            return
        asked = begun.length
        whole = sum(one.length for one in learned) or asked
        found.example = found.example or _text(learned[0] if learned else begun, tokenizer)
    before = len(found.lengths)
    found.lengths.append(whole)
    old = found.sizes.prompt * before if found.sizes else 0.0
    found.sizes = RowSizes((old + asked) / (before + 1), sum(found.lengths) / (before + 1))


def _parts(row: StandardRow) -> tuple[Sequence[Any], list[Sequence[Any]]]:
    """The prompt of a row, and the conversations that are learned from it."""
    from hone.experiments.data.rows import PreferenceRow, TaskRow

    if isinstance(row, PreferenceRow):
        return row.prompt, [[*row.prompt, *row.chosen], [*row.prompt, *row.rejected]]
    if isinstance(row, TaskRow):
        return row.prompt, []
    return row.messages[:-1], [row.messages]


def _guessed(messages: Sequence[Mapping[str, Any]]) -> int:
    return round(sum(len(str(one["content"])) for one in messages) / CHARACTERS_PER_TOKEN)


def _text(sequence: Any, tokenizer: Any) -> str | None:
    """None if there are images in it."""
    if any(getattr(chunk, "tokens", None) is None for chunk in sequence.chunks):
        return None
    return str(tokenizer.decode(sequence.to_ints()))
