import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hone.errors import NotFoundError, UserError
from hone.protocol.futures import failure, success
from hone.server.journal import Entry, Journal, canonical
from hone.storage.database import Database
from tests.support import databases

pytestmark = pytest.mark.usefixtures("any_database")

ENTRY = Entry("s:train:0", 1, "optim_step", b"{}", seed=5)


def with_journal(path: Path, test: Callable[[Journal], Awaitable[None]], url: str | None = None) -> None:
    async def run() -> None:
        database = Database(url or databases.current.url(path))
        try:
            await test(Journal(database))
        finally:
            database.close()

    asyncio.run(run())


def test_the_same_entry_is_accepted_once_and_another_under_its_number_never(tmp_path: Path) -> None:
    async def test(journal: Journal) -> None:
        assert await asyncio.gather(journal.accept(ENTRY), journal.accept(ENTRY)) == [True, False]
        for other in (replace(ENTRY, payload=b"{ }"), replace(ENTRY, kind="save_weights")):
            with pytest.raises(UserError, match=r"seq_id 1 .* another request"):
                await journal.accept(other)
        assert await journal.unfinished() == [ENTRY]

    with_journal(tmp_path, test)


def test_a_retry_with_another_drawn_seed_is_the_same_entry_and_keeps_the_first_seed(tmp_path: Path) -> None:
    async def test(journal: Journal) -> None:
        await journal.accept(ENTRY)
        assert not await journal.accept(replace(ENTRY, seed=6))
        assert (await journal.unfinished())[0].seed == 5

    with_journal(tmp_path, test)


def test_answers_are_kept_as_they_were_given(tmp_path: Path) -> None:
    async def test(journal: Journal) -> None:
        await journal.accept(ENTRY)
        assert await journal.outcome(ENTRY.request_id) is None
        await journal.finish(ENTRY, failure("no", "user"))
        assert await journal.outcome(ENTRY.request_id) == failure("no", "user")
        assert await journal.unfinished() == []
        with pytest.raises(NotFoundError, match="request_id 'x' is unknown"):
            await journal.outcome("x")

    with_journal(tmp_path, test)


def test_an_answer_whose_side_effect_fails_is_not_kept(tmp_path: Path) -> None:
    def write(_: object) -> list[str]:
        raise UserError("in use")

    async def test(journal: Journal) -> None:
        await journal.accept(ENTRY)
        with pytest.raises(UserError, match="in use"):
            await journal.finish(ENTRY, success({}), write)
        assert await journal.unfinished() == [ENTRY]

    with_journal(tmp_path, test)


def test_old_answers_are_forgotten_but_not_that_they_were_given(tmp_path: Path) -> None:
    async def test(journal: Journal) -> None:
        await journal.accept(ENTRY)
        await journal.finish(ENTRY, success({}))
        await journal.prune(finished_before=0)
        assert await journal.outcome(ENTRY.request_id) == success({})
        await journal.prune(finished_before=2e12)
        with pytest.raises(NotFoundError, match="no longer kept"):
            await journal.outcome(ENTRY.request_id)
        assert not await journal.accept(ENTRY)

    with_journal(tmp_path, test)


def test_a_snapshot_drops_the_requests_it_covers_and_no_others(tmp_path: Path) -> None:
    async def test(journal: Journal) -> None:
        for seq in (1, 2, 3):
            await journal.accept(replace(ENTRY, seq_id=seq))
        await journal.finish(ENTRY, success({}))
        await journal.cover(ENTRY.lane, 2, "snapshots/x")
        history = await journal.history(ENTRY.lane, 0, 3)
        assert [(past.entry.seq_id, past.entry.payload, past.failed) for past in history] == [
            (1, b"", False),
            (2, b"", None),
            (3, b"{}", None),
        ]
        assert await journal.last_finished(ENTRY.lane) == 1
        assert await journal.last_finished("nobody") == -1

    with_journal(tmp_path, test)


def test_canonical_form_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical({"a": 1, "b": {"d": 2, "c": 3}}) == canonical({"b": {"c": 3, "d": 2}, "a": 1})


def test_an_answer_waits_for_room_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hone.server.journal.ROOM_SECONDS", 0.01)

    async def test(journal: Journal) -> None:
        await journal.accept(ENTRY)
        pages = await journal._database.run(lambda c: int(c.exec_driver_sql("PRAGMA page_count").scalar() or 0))
        await journal._database.run(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count = {pages}").scalar())
        answer = success({"text": "x" * 100_000})
        kept = journal.finish(ENTRY, answer)
        await asyncio.sleep(0.1)
        assert not kept.done()
        assert await journal.outcome(ENTRY.request_id) is None
        await journal._database.run(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 100000").scalar())
        await kept
        assert await journal.outcome(ENTRY.request_id) == answer

    with_journal(tmp_path, test, f"sqlite:///{tmp_path}/hone.db")  # which can be told how large it may be
