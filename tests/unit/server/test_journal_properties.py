"""The journal against a dictionary: repeats, conflicts, answers, snapshots and restarts in any order."""

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hone.errors import NotFoundError, UserError
from hone.protocol.futures import Outcome, failure, success
from hone.server.journal import Entry, Journal
from hone.storage.database import Database
from hone.storage.tables import runs, sessions
from tests.support.effort import effort

LANES = ("s:train:0", "s:train:1")


@dataclass
class Known:
    entry: Entry
    outcome: Outcome | None = None
    covered: bool = False
    forgotten: bool = False


@cache
def fresh() -> Path:
    """A database with a session and its models, to copy: making the tables takes longer than most examples."""
    file = Path(tempfile.mkdtemp()) / "fresh.sqlite"
    database = Database(f"sqlite:///{file}")

    async def fill() -> None:
        session = {"id": "s", "created_at": 0.0, "tags": [], "sdk_version": ""}
        await database.run(lambda c: c.execute(sessions.insert(), session))
        for lane in LANES:
            run = {"id": lane, "session_id": "s", "base_model": "m", "lora": {}, "created_at": 0.0}
            await database.run(lambda c, run=run: c.execute(runs.insert(), run))

    asyncio.run(fill())
    database.close()
    return file


class Journals(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name) / "hone.sqlite"
        shutil.copy(fresh(), self.file)
        self.runner = asyncio.Runner()
        self.known: dict[tuple[str, int], Known] = {}
        self.covered = dict.fromkeys(LANES, -1)
        self.finished: list[str] = []
        self.open()

    def open(self) -> None:
        self.database = Database(f"sqlite:///{self.file}")
        self.journal = Journal(self.database)

    def run(self, work: Any) -> Any:
        async def wait() -> Any:
            return await work

        return self.runner.run(wait())

    @rule(lane=st.sampled_from(LANES), seq=st.integers(0, 6), payload=st.sampled_from([b"a", b"b"]))
    def accept(self, lane: str, seq: int, payload: bytes) -> None:
        entry = Entry(lane, seq, "optim_step", payload, seed=len(self.known))
        known = self.known.get((lane, seq))
        if known is None:
            assert self.run(self.journal.accept(entry))
            self.known[lane, seq] = Known(entry)
        elif known.entry.payload == payload:
            assert not self.run(self.journal.accept(entry))
        else:
            with pytest.raises(UserError, match="another request"):
                self.run(self.journal.accept(entry))

    @precondition(lambda self: self.known)
    @rule(data=st.data(), failed=st.booleans())
    def finish(self, data: st.DataObject, failed: bool) -> None:
        known = self.known[data.draw(st.sampled_from(sorted(self.known)))]
        if known.outcome is not None:
            return
        known.outcome = failure("no", "user") if failed else success({"n": len(self.finished)})

        async def both() -> None:
            await self.journal.finish(known.entry, known.outcome)

        self.runner.run(both())
        self.finished.append(known.entry.request_id)

    @rule(lane=st.sampled_from(LANES), ahead=st.integers(0, 3))
    def cover(self, lane: str, ahead: int) -> None:
        before = self.covered[lane]
        self.covered[lane] += ahead
        for known in self.known.values():
            known.covered |= known.entry.lane == lane and before < known.entry.seq_id <= self.covered[lane]
        self.run(self.journal.cover(lane, self.covered[lane], "snapshots/x"))

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        lane, seq = data.draw(st.sampled_from(sorted(self.known)))
        other = data.draw(st.sampled_from(LANES))
        self.run(self.journal.forget(other, [self.known[lane, seq].entry.request_id]))
        if other == lane and self.known[lane, seq].outcome is not None:
            self.known[lane, seq].forgotten = True

    @rule()
    def restart(self) -> None:
        self.database.close()
        self.open()

    @invariant()
    def answers_are_kept(self) -> None:
        for known in self.known.values():
            if known.forgotten:
                with pytest.raises(NotFoundError, match="no longer kept"):
                    self.run(self.journal.outcome(known.entry.request_id))
            else:
                assert self.run(self.journal.outcome(known.entry.request_id)) == known.outcome

    @invariant()
    def what_a_replay_needs_is_kept(self) -> None:
        def seen(one: Known) -> Entry:
            return replace(one.entry, payload=b"") if one.covered else one.entry

        expected = [known for _, known in sorted(self.known.items())]
        assert self.run(self.journal.unfinished()) == [seen(one) for one in expected if one.outcome is None]
        for lane in LANES:
            mine = [one for one in expected if one.entry.lane == lane]
            past = self.run(self.journal.history(lane, -1, 100))
            assert [(one.entry, one.failed) for one in past] == [
                (seen(one), None if one.outcome is None else one.outcome.failed) for one in mine
            ]
            numbers = [one.entry.seq_id for one in mine if one.outcome is not None]
            assert self.run(self.journal.last_finished(lane)) == max(numbers, default=-1)

    @invariant()
    def completions_come_in_the_order_of_the_answers(self) -> None:
        for lane in LANES:
            kept = [one.entry.request_id for one in self.known.values() if one.entry.lane == lane and not one.forgotten]
            seen = self.run(self.journal.completions(lane, 0, 100, 0, 100))
            assert [one.request_id for one in seen] == [request for request in self.finished if request in kept]
            if seen:
                middle = len(seen) // 2
                later = self.run(self.journal.completions(lane, 0, 100, seen[middle].number, 100))
                assert later == seen[middle + 1 :]

    def teardown(self) -> None:
        self.database.close()
        self.runner.close()
        self.folder.cleanup()


TestJournals = Journals.TestCase
TestJournals.settings = effort(12, steps=25)
