"""Which training rows are too close to test rows. The test side is an index in memory; training rows stream past it.

A test question is what its messages other than the system's say; of a training row, every message and the question as a
whole are compared with it, so a shared system prompt shows nothing. There are three kinds of finding:

    exact       the same text.
    normalised  the same words: case, punctuation, layout, forms of Unicode and English endings do not count. Or nearly
                the same set of words: order and words such as "the" do not count either, while numbers, single letters
                and signs must be equal and in order ("3 - 2" is not "2 - 3"). Nearly: Jaccard at least `near`, without
                words that many rows have, and only if chance does not explain it: `_surprising`.
    ngram       at least `share` of the test question's runs of `ngram` words stand in the row (a shorter question:
                all of it), not counting runs that many rows have, such as those of a template. A long gold answer is
                looked for in the same way.

A question to which test rows have several answers leaks only together with one of them. A paraphrase in other words is
not found.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from hone.algorithms.config import Config
from hone.algorithms.messages import Message, is_system, text_of
from hone.experiments.config import OverlapConfig
from hone.experiments.data.rows import ChatRow, PreferenceRow, StandardRow, TaskRow
from hone.experiments.words import STOP_WORDS, is_anchor, stem, words

Kind = Literal["exact", "normalised", "ngram"]
Ids = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
_Key = tuple[int, ...] | str

SHORTEST = 5
"""Words of the shortest question that is looked for inside other texts."""
COMMON_RUN = 0.01
"""Share of rows, on either side, from which a run of words belongs to their form and not to their content."""
COMMON_WORD = 0.02
"""The same for words of a question compared as a set."""
FEW_TEST, FEW_TRAIN = 2, 20
"""What so many rows have, or fewer, is never common."""
CHANCE_BITS = 3.0
"""A match must be likelier a leak than chance by 2 to this, over all pairs of rows."""
BATCH_WORDS = 200_000
KEPT = 50
"""Candidates kept for one test row, and findings that a report lists."""
_BASE = np.uint64(0x9E3779B97F4A7C15)


class Finding(Config):
    """A training row that gives a test row away. It names places, not what stands there: the test set stays sealed."""

    kind: Kind
    train: str
    test: str
    share: float
    """Of the test row's words, or runs of words, that the training row has."""

    def __str__(self) -> str:
        return f"{self.train} ~ {self.test} ({self.kind}, {self.share:.0%})"


class OverlapReport(Config):
    """What a comparison found."""

    train_rows: int
    test_rows: int
    findings: list[Finding]
    """The first of them, at most one for each pair of rows."""
    counts: dict[Kind, int]
    """All of them, by kind."""
    leaked: int
    """Test rows that are given away."""
    waiver: str | None = None
    """Why that is right here, in the words of the experiment file."""

    @property
    def failed(self) -> bool:
        return bool(self.findings) and self.waiver is None

    def as_text(self) -> str:
        if not self.findings:
            return f"none of {self.test_rows} test rows is among {self.train_rows} training rows"
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        lines = [f"{self.leaked} of {self.test_rows} test rows are given away by training rows ({kinds}):"]
        lines += [f"  {finding}" for finding in self.findings[:10]]
        more = sum(self.counts.values()) - len(self.findings[:10])
        lines += [f"  ... and {more} more"] if more else []
        end = "remove them from the training data, or say in `overlap.waiver` why they may stay"
        return "\n".join([*lines, end if self.waiver is None else f"waived: {self.waiver}"])


def find_overlap(training: Iterable[StandardRow], test: Sequence[TaskRow], config: OverlapConfig) -> OverlapReport:
    """Every pair of rows that is too close. Takes memory for the test rows only."""
    return _Search(test, config).through(training)


@dataclass(frozen=True)
class _TestText:
    """A question or a long answer of the test side."""

    row: int
    length: int
    """Of its runs: `ngram` words, or all of a shorter text."""
    runs: frozenset[int]
    """Their hashes."""
    ids: tuple[int, ...]


@dataclass
class _Near:
    """A training text that has nearly the words of a test question."""

    row: int
    place: str
    content: frozenset[str]


@dataclass
class _Shared:
    """A training row that has runs of a test text."""

    text: int
    place: str
    runs: frozenset[int]


@dataclass
class _Batch:
    """The words of some training rows, one after another; 0 between texts."""

    ids: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    places: list[str] = field(default_factory=list)


class _Vocabulary(dict[str, int]):
    """A number for each stem of the test side, from 1, looked up by word; 0 for all other words."""

    LONGEST = 1_000_000

    def __init__(self) -> None:
        super().__init__()
        self.stems: dict[str, int] = {}

    def learn(self, texts: Iterable[Sequence[str]]) -> None:
        for text in texts:
            for word in text:
                self.stems.setdefault(stem(word), len(self.stems) + 1)

    def __missing__(self, word: str) -> int:
        if len(self) > self.LONGEST:
            self.clear()
        number = self[word] = self.stems.get(stem(word), 0)
        return number


class _Search:
    def __init__(self, test: Sequence[TaskRow], config: OverlapConfig) -> None:
        self._config = config
        self._places = [row.place for row in test]
        self._asked = [question_text(row.prompt).strip() for row in test]
        self._questions = [words(text) for text in self._asked]
        golds = [words(row.gold) for row in test]
        self._vocabulary = _Vocabulary()
        self._vocabulary.learn([*self._questions, *golds])
        self._golds = [self._key(gold, row.gold) for gold, row in zip(golds, test, strict=True)]

        self._same_words: dict[_Key, list[int]] = defaultdict(list)
        for number, text in enumerate(self._asked):
            if text:
                self._same_words[self._key(self._questions[number], text)].append(number)
        alone = [
            number
            for numbers in self._same_words.values()
            if len({self._golds[one] for one in numbers}) == 1
            for number in numbers
        ]

        self._content = {number: _content(self._questions[number]) for number in alone}
        self._index_words()
        self._texts = [
            text
            for number in range(len(test))
            for text in (
                self._text(number, self._questions[number], SHORTEST) if number in self._content else None,
                self._text(number, golds[number], config.ngram),
            )
            if text is not None
        ]
        self._index_runs()

        self._train_rows = 0
        self._word_rows = np.zeros(len(self._vocabulary.stems) + 1, dtype=np.int64)
        self._run_rows: Counter[int] = Counter()
        self._near: dict[int, list[_Near]] = defaultdict(list)
        self._shared: dict[int, list[_Shared]] = defaultdict(list)
        self._found: dict[tuple[str, int], tuple[Kind, float]] = {}

    # The test side.

    def _index_words(self) -> None:
        """By its rarest words, every question that shares enough words with a text must share one of these."""
        rows = Counter(word for content in self._content.values() for word in content)
        self._test_word_rows = rows
        limit = max(FEW_TEST, COMMON_WORD * len(self._places))
        self._common = {word for word, count in rows.items() if count > limit}
        self._by_word: dict[int, list[int]] = defaultdict(list)
        self._rare: dict[int, frozenset[int]] = {}
        for number, content in self._content.items():
            rare = sorted(content - self._common, key=lambda word: (rows[word], word))
            self._rare[number] = frozenset(self._vocabulary.stems[word] for word in rare)
            enough = math.ceil(self._config.near * len(rare))
            for word in rare[: len(rare) - enough + 1]:
                self._by_word[self._vocabulary.stems[word]].append(number)

    def _text(self, row: int, tokens: Sequence[str], shortest: int) -> _TestText | None:
        if len(tokens) < shortest:
            return None
        ids = self._numbers(tokens)
        length = min(self._config.ngram, len(ids))
        runs = frozenset(int(one) for one in _hashes(np.array(ids, dtype=np.int64), length))
        return _TestText(row, length, runs, ids)

    def _index_runs(self) -> None:
        texts_of: dict[int, list[int]] = defaultdict(list)
        for number, text in enumerate(self._texts):
            for run in text.runs:
                texts_of[run].append(number)
        limit = max(FEW_TEST, COMMON_RUN * len(self._texts))
        self._form = {run for run, numbers in texts_of.items() if len(numbers) > limit}
        """Runs that many test rows have."""
        self._texts_of = {run: numbers for run, numbers in texts_of.items() if run not in self._form}
        lengths = sorted({text.length for text in self._texts})
        self._runs_of_length = {
            length: np.array(
                sorted(r for text in self._texts if text.length == length for r in text.runs - self._form),
                dtype=np.uint64,
            )
            for length in lengths
        }
        self._begins = {length: np.zeros(len(self._vocabulary.stems) + 1, dtype=bool) for length in lengths}
        for text in self._texts:
            self._begins[text.length][list(text.ids[: len(text.ids) - text.length + 1])] = True

    # The training side.

    def through(self, training: Iterable[StandardRow]) -> OverlapReport:
        batch = _Batch()
        for row in training:
            self._train_rows += 1
            batch.starts.append(len(batch.ids))
            batch.places.append(row.place)
            self._look_at(row, batch.ids)
            if len(batch.ids) > BATCH_WORDS:
                self._look_for_runs(batch)
                batch = _Batch()
        self._look_for_runs(batch)
        self._decide()
        return self._report()

    def _look_at(self, row: StandardRow, ids: list[int]) -> None:
        asked, said = _texts_of(row)
        answers = {self._key(words(text), text) for text in said} if self._has_shared_questions else set()
        for text in dict.fromkeys([*asked, *said]):
            tokens = words(text)
            here = self._numbers(tokens)
            ids.extend(here)
            ids.append(0)
            for number in self._same_words.get(here or text.strip(), ()):
                if number in self._content or self._golds[number] in ("", *answers):
                    exact = text.strip() == self._asked[number]
                    self._note(row.place, number, "exact" if exact else "normalised", 1.0)
            if not self._by_word.keys().isdisjoint(here):
                self._look_for_words(row.place, tokens, set(here))

    def _numbers(self, tokens: Iterable[str]) -> tuple[int, ...]:
        return tuple(map(self._vocabulary.__getitem__, tokens))

    def _key(self, tokens: Sequence[str], text: str) -> _Key:
        """What is equal for texts of the same words; for a text without words it is the text."""
        return self._numbers(tokens) or text.strip()

    @property
    def _has_shared_questions(self) -> bool:
        return len(self._content) < len(self._places)

    def _look_for_words(self, place: str, tokens: list[str], ids: set[int]) -> None:
        candidates = {number for word in ids & self._by_word.keys() for number in self._by_word[word]}
        # Cheap and necessary; few texts pass.
        candidates = {
            one for one in candidates if len(ids & self._rare[one]) >= self._config.near * len(self._rare[one])
        }
        if not candidates:
            return
        content, anchors = _content(tokens), _anchors(tokens)
        for number in sorted(candidates):
            alike = _jaccard(content - self._common, self._content[number] - self._common)
            same = anchors == _anchors(self._questions[number])
            if same and alike >= self._config.near and len(self._near[number]) < KEPT:
                self._near[number].append(_Near(number, place, content))

    def _look_for_runs(self, batch: _Batch) -> None:
        if not batch.ids:
            return
        ids = np.array(batch.ids, dtype=np.int64)
        starts = np.array(batch.starts, dtype=np.int64)
        row_of = np.searchsorted(starts, np.arange(len(ids)), side="right") - 1
        width = len(self._word_rows)
        self._word_rows += np.bincount(np.unique(row_of * width + ids) % width, minlength=width)
        found: dict[tuple[int, int], set[int]] = defaultdict(set)
        for position, run in self._runs_in(ids):
            row = int(row_of[position])
            for number in self._texts_of[run]:
                found[row, number].add(run)
        self._run_rows.update(run for _, run in {(row, run) for (row, _), runs in found.items() for run in runs})
        for (row, number), runs in found.items():
            text = self._texts[number]
            if len(runs) >= self._config.share * len(text.runs - self._form) and len(self._shared[number]) < KEPT:
                self._shared[number].append(_Shared(number, batch.places[row], frozenset(runs)))

    def _runs_in(self, ids: Ids) -> Iterator[tuple[int, int]]:
        """Where which run of the test side stands."""
        for length, runs in self._runs_of_length.items():
            if len(ids) < length or not len(runs):
                continue
            positions = np.flatnonzero(self._begins[length][ids[: len(ids) - length + 1]])
            hashes = _hashes(ids, length)[positions]
            at = np.minimum(np.searchsorted(runs, hashes), len(runs) - 1)
            hits = runs[at] == hashes
            limit = max(FEW_TRAIN, COMMON_RUN * self._train_rows)
            for position, run in zip(positions[hits].tolist(), hashes[hits].tolist(), strict=True):
                if self._run_rows[run] <= limit:
                    yield position, run

    # What counts.

    def _decide(self) -> None:
        """Sorts out what only now is known to be common."""
        limit = max(FEW_TRAIN, COMMON_WORD * self._train_rows)
        numbers = self._vocabulary.stems
        common = self._common | {word for word, number in numbers.items() if self._word_rows[number] > limit}
        for number, candidates in self._near.items():
            wanted = self._content[number] - common
            for one in candidates:
                alike = _jaccard(one.content - common, wanted)
                shared = [*(one.content & wanted), *_anchors(self._questions[number])]
                if len(wanted) > 1 and alike >= self._config.near and self._surprising(shared):
                    self._note(one.place, number, "normalised", alike)
        run_limit = max(FEW_TRAIN, COMMON_RUN * self._train_rows)
        for number, shares in self._shared.items():
            text = self._texts[number]
            wanted_runs = {run for run in text.runs - self._form if self._run_rows[run] <= run_limit}
            for found in shares:
                share = len(found.runs & wanted_runs) / max(1, len(wanted_runs))
                whole = text.length == self._config.ngram
                if share >= self._config.share and (whole or self._surprising(map(stem, self._questions[text.row]))):
                    self._note(found.place, text.row, "ngram", share)

    def _surprising(self, stems: Iterable[str]) -> bool:
        """Whether, if words came independently and as often as they do in all rows, no pair of rows would be expected
        to share these."""
        rows = self._train_rows + len(self._places)
        numbers = self._vocabulary.stems
        seen = ((self._word_rows[numbers[one]] if one in numbers else 0) + self._test_word_rows[one] for one in stems)
        bits = sum(math.log2(rows / min(rows, max(1, int(count)))) for count in seen)
        return bits >= math.log2(max(1, self._train_rows) * max(1, len(self._places))) + CHANCE_BITS

    def _note(self, place: str, number: int, kind: Kind, share: float) -> None:
        order: tuple[Kind, ...] = ("exact", "normalised", "ngram")
        before = self._found.get((place, number))
        if before is None or order.index(kind) < order.index(before[0]):
            self._found[place, number] = (kind, min(1.0, share))

    def _report(self) -> OverlapReport:
        findings = [
            Finding(kind=kind, train=place, test=self._places[number], share=share)
            for (place, number), (kind, share) in self._found.items()
        ]
        return OverlapReport(
            train_rows=self._train_rows,
            test_rows=len(self._places),
            findings=findings[:KEPT],
            counts=dict(Counter(finding.kind for finding in findings)),
            leaked=len({number for _, number in self._found}),
            waiver=self._config.waiver,
        )


def question_text(prompt: Sequence[Message]) -> str:
    """What is asked, without what the system says."""
    return "\n".join(text_of(message) for message in prompt if not is_system(message))


def _texts_of(row: StandardRow) -> tuple[list[str], list[str]]:
    """What is asked in a training row, whole and by message, and what is answered."""
    if isinstance(row, TaskRow):
        prompt, answers = list(row.prompt), [row.gold] if row.gold else []
    elif isinstance(row, PreferenceRow):
        prompt, answers = list(row.prompt), [text_of(message) for message in (*row.chosen, *row.rejected)]
    else:
        messages = list(row.messages)
        last = messages[-1:] if isinstance(row, ChatRow) or messages[-1]["role"] == "assistant" else []
        prompt, answers = messages[: len(messages) - len(last)], [text_of(message) for message in last]
    said = [message for message in prompt if not is_system(message)]
    return [question_text(said), *(text_of(message) for message in said)], answers


def _content(tokens: Iterable[str]) -> frozenset[str]:
    return frozenset(stem(word) for word in tokens if word not in STOP_WORDS and not is_anchor(word))


def _anchors(tokens: Iterable[str]) -> list[str]:
    return [stem(word) for word in tokens if is_anchor(word)]


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    union = len(one | other)
    return len(one & other) / union if union else 0.0


def _hashes(ids: Ids, length: int) -> Hashes:
    """One number for each run of so many words, by where it begins: a polynomial of the words, modulo 2^64."""
    values = ids.astype(np.uint64)
    total = np.zeros(len(ids) - length + 1, dtype=np.uint64)
    for offset in range(length):
        total = total * _BASE + values[offset : offset + len(total)]
    return total
