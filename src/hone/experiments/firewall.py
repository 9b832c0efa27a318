"""Test sets that nobody sees before the end, and the record of everybody who did.

A `Sealed` test set tells its size and its fingerprint, and compares training rows with itself. Its rows come out
through `open` alone, which first writes into the `Ledger` who looks, when, why and for which arms, and refuses when
the experiment has looked as often as it may. This is a fence against mistakes and self-deception, not against somebody
who reads the files.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from hone.errors import UserError
from hone.experiments.config import BenchmarkConfig, DataConfig, Spec
from hone.experiments.data.fingerprint import fingerprint
from hone.experiments.data.load import RowSource, held_out_rows, load_sides, rows_behind_the_seal
from hone.experiments.data.rows import StandardRow, TaskRow
from hone.experiments.kinds.contract import RawRow
from hone.experiments.kinds.sources.files import matching
from hone.experiments.overlap import OverlapReport, find_overlap, question_text
from hone.experiments.records import Opening

BASELINE = "baseline"
"""The model as it was before training. It takes no part in any choice, so asking it costs no opening."""


class Ledger:
    """A file of openings, one JSON object in each line; only ever added to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def openings(self) -> Sequence[Opening]:
        """All so far, the oldest first.

        Raises:
            UserError: a line is damaged. One that was cut off while it was written opened nothing, and is left out.
        """
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        found = []
        for number, line in enumerate(lines[:-1], 1):
            try:
                found.append(Opening.model_validate_json(line))
            except ValueError as error:
                raise UserError(f"{self.path}:{number} is no record of an opening: {error}; restore the file") from None
        return found

    def record(self, opening: Opening, allowed: int) -> None:
        """Write it down, on disk before this returns; nothing is written if it would be one too many.

        An arm and a state of the test set count once, however often they are opened: an evaluation that was cut off is
        done again. An arm that is trained anew under another configuration is another arm, and has another name here.

        Raises:
            UserError: the experiment has used its openings.
        """
        with self._locked() as file:
            before = {pair for one in self.openings if one.benchmark == opening.benchmark for pair in _pairs(one)}
            after = before | _pairs(opening)
            if len(after) > allowed:
                arms = ", ".join(sorted({arm for arm, _ in before})) or "nothing yet"
                raise UserError(
                    f"the test set {opening.benchmark!r} may be opened {_times(allowed)} in this experiment, and was "
                    f"for {arms}; {', '.join(opening.arms)} would be more. Raise `openings` if more looks are worth a "
                    "result that may be luck, or take a fresh test set"
                )
            file.seek(0)
            written = file.read()
            if not written.endswith(b"\n"):  # cut off while it was written, so nothing was handed out
                file.truncate(written.rfind(b"\n") + 1)
            file.write(opening.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        """The file, for one process at a time."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        created = not self.path.exists()
        with self.path.open("a+b") as file:
            if created:
                _sync_directory(self.path.parent)
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file


class Sealed:
    """A test set before it is opened."""

    def __init__(self, benchmark: BenchmarkConfig, home: Path, *, split: RowSource | None = None) -> None:
        """Nothing is read yet.

        Args:
            home: Relative paths start here.
            split: The test side of a division, in place of what the benchmark names.
        """
        self.benchmark = benchmark
        self._home = home
        self._split = split
        self.__rows: list[TaskRow] | None = None

    @classmethod
    def of_split(cls, data: DataConfig, home: Path) -> Sealed | None:
        """The test side of a split, as a benchmark named `test`; none if the split has no test side.

        Answers are graded where the data names a verifier; else it is measured how likely right answers are.
        """
        if data.split is None or data.split.test == 0:
            return None
        side = load_sides(data, home).test
        first = next(rows_behind_the_seal(side), None)
        graded = data.verifier is not None or (first is not None and first.value.get("verifier") is not None)
        benchmark = BenchmarkConfig(
            name="test",
            source=data.source or data.mixture[0].source,
            verifier=data.verifier,
            metrics=["mean_reward" if graded else "nll"],
        )
        return cls(benchmark, home, split=side)

    def __len__(self) -> int:
        """Tasks in it."""
        return len(self._tasks())

    def fingerprint(self) -> str:
        """Of its tasks: what is asked, what is right and what grades."""
        return fingerprint(RawRow(task.place, _content(task)) for task in self._tasks())

    def check_overlap(self, training: Iterable[StandardRow]) -> OverlapReport:
        """What training (or validation) rows give away of it."""
        return find_overlap(training, self._tasks(), self.benchmark.overlap)

    async def check_graders(self) -> list[str]:
        """Tasks that cannot tell right from wrong, by place: a gold answer that does not pass, an empty one that does,
        and a verifier that gives no grade. Tasks without a gold answer are tried with the empty one alone."""
        from hone.algorithms.graders import GradingError
        from hone.algorithms.graders.grade import Task
        from hone.experiments.kinds import plugins

        problems = []
        for row in self._tasks():
            choice = row.verifier or self.benchmark.verifier
            if choice is None:
                problems.append(f"{row.place}: it has no verifier, and the benchmark names none")
                continue
            try:
                grader = plugins.verifiers.make(choice.kind, choice.params).grader()
                task = Task(question_text(row.prompt), row.gold, row.facts)
                if row.gold and not (await grader(task, row.gold)).right:
                    problems.append(f"{row.place}: its gold answer does not pass")
                if (await grader(task, "")).right:
                    problems.append(f"{row.place}: an empty answer passes")
            except (UserError, GradingError) as error:
                problems.append(f"{row.place}: no grade: {error}")
        return problems

    def open(self, ledger: Ledger, who: str, why: str, arms: Sequence[str]) -> Sequence[TaskRow]:
        """The tasks, after it is on disk who looks at them.

        Args:
            who: A person, or the program that acts for one.
            arms: What is tested on them. Each arm is one of the benchmark's `openings`; the baseline is none.

        Raises:
            UserError: nobody or nothing is named, there are no openings left, or the tasks cannot be read.
        """
        if not who.strip() or not why.strip() or not arms:
            raise UserError("a test set is opened by somebody, for a reason, for arms; name all three")
        tasks = self._tasks()
        opening = Opening(
            benchmark=self.benchmark.name,
            who=who,
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            why=why,
            arms=list(arms),
            fingerprint=self.fingerprint(),
            overlap_waiver=self.benchmark.overlap.waiver,
        )
        ledger.record(opening, self.benchmark.openings)
        return tuple(tasks)

    def _tasks(self) -> list[TaskRow]:
        if self.__rows is None:
            rows = held_out_rows(map(_as_task, self._read()), "task", limit=self.benchmark.limit)
            self.__rows = [row for row in rows if isinstance(row, TaskRow)]
        return self.__rows

    def _read(self) -> Iterator[RawRow]:
        if self._split is not None:
            return rows_behind_the_seal(self._split)
        from hone.experiments.kinds import plugins

        spec = self.benchmark.source or _source_of(self.benchmark.path or "", self._home)
        return plugins.sources.make(spec.kind, spec.params).read(self._home)


def _source_of(path: str, home: Path) -> Spec:
    """What reads a benchmark's `path`: JSON Lines, or a directory of Harbor tasks."""
    directory = home / Path(path).expanduser()
    if directory.is_dir():
        suite = directory / "tasks.jsonl"
        if suite.is_file():
            return Spec(kind="jsonl", params={"path": str(suite)})
        return Spec(kind="harbor", params={"path": path})
    matching(path, home)
    return Spec(kind="jsonl", params={"path": path})


def _as_task(row: RawRow) -> RawRow:
    """A row as a task: of a conversation, the last answer is the gold one."""
    value = row.value
    messages = value.get("messages")
    answered = isinstance(messages, list) and bool(messages) and _role(messages[-1]) == "assistant"
    if not answered and not {"completion", "response", "comparison"} & set(value) and "chosen" not in value:
        return row
    from hone.experiments.kinds.transforms.to_task import ToTask, ToTaskParams

    return next(ToTask(ToTaskParams()).apply(iter([row])))


def _role(message: Any) -> object:
    return message.get("role") if isinstance(message, dict) else None


def _content(task: TaskRow) -> dict[str, Any]:
    verifier = task.verifier.kind if task.verifier else None
    return {"id": task.id, "prompt": list(task.prompt), "gold": task.gold, "verifier": verifier}


def _pairs(opening: Opening) -> set[tuple[str, str]]:
    return {(arm, opening.fingerprint) for arm in opening.arms if arm != BASELINE}


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
