"""Training runs, with what lists show of them."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from hone.errors import NotFoundError
from hone.identity import accounts
from hone.identity.prices import Prices
from hone.protocol.types import LoraConfig
from hone.server.store.checkpoints import Checkpoint, live, read_checkpoint
from hone.server.usage import Filter, spent
from hone.storage.database import Database
from hone.storage.tables import api_keys, checkpoints, operations, runs, sessions


@dataclass(frozen=True)
class Run:
    id: str
    session_id: str
    base_model: str
    lora: LoraConfig
    user_metadata: dict[str, str] | None
    created_at: float
    snapshot_seq: int
    """-1 while there is no snapshot."""
    snapshot_directory: str | None
    copied_from: str | None = None
    """What this run holds a copy of; such a run cannot be trained."""

    @property
    def is_over(self) -> bool:
        """Whether it was unloaded or its session ended: then nothing is kept to go on from."""
        return self.snapshot_seq >= 0 and self.snapshot_directory is None


@dataclass(frozen=True)
class RunSummary:
    """A training run as lists show it."""

    run: Run
    last_request_at: float
    last_checkpoint: Checkpoint | None
    last_sampler_checkpoint: Checkpoint | None
    user_id: str
    """Of the key that opened the session."""
    cost_usd: float


class RunStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, run_id: str) -> Run:
        row = await self._database.run(
            lambda connection: connection.execute(select(runs).where(runs.c.id == run_id)).first()
        )
        if row is None:
            raise NotFoundError(f"training run {run_id!r} does not exist")
        return _run(row)

    async def run_summary(self, run_id: str, prices: Prices) -> RunSummary:
        run = await self.run(run_id)
        return await self._database.run(lambda connection: _summary(connection, run, prices))

    async def run_summaries(
        self, offset: int, limit: int, projects: Collection[str], prices: Prices
    ) -> tuple[list[RunSummary], int]:
        """One page of the projects' training runs, newest first, and how many there are."""
        mine = select(runs).join(sessions).where(sessions.c.project_id.in_(projects))

        def work(connection: Connection) -> tuple[list[RunSummary], int]:
            total = connection.execute(select(func.count()).select_from(mine.subquery())).scalar_one()
            page = mine.order_by(runs.c.created_at.desc(), runs.c.id).offset(offset).limit(limit)
            return [_summary(connection, _run(row), prices) for row in connection.execute(page).all()], total

        return await self._database.run(work)

    async def trained_run_ids(self, session_id: str) -> list[str]:
        """Those that were not unloaded."""
        query = (
            select(runs)
            .where(runs.c.session_id == session_id, runs.c.copied_from.is_(None))
            .order_by(runs.c.created_at, runs.c.id)
        )
        found = await self._database.run(lambda connection: [_run(row) for row in connection.execute(query)])
        return [run.id for run in found if not run.is_over]

    async def snapshot_directories(self) -> set[str]:
        query = select(runs.c.snapshot_directory).where(runs.c.snapshot_directory.is_not(None))
        return await self._database.run(lambda connection: set(connection.execute(query).scalars()))


def insert_run(connection: Connection, run: Run) -> None:
    connection.execute(
        runs.insert(),
        {
            "id": run.id,
            "session_id": run.session_id,
            "base_model": run.base_model,
            "lora": vars(run.lora),
            "user_metadata": run.user_metadata,
            "created_at": run.created_at,
        },
    )


def change_run_lora(connection: Connection, run_id: str, lora: LoraConfig) -> None:
    connection.execute(update(runs).where(runs.c.id == run_id).values(lora=vars(lora)))


def _summary(connection: Connection, run: Run, prices: Prices) -> RunSummary:
    owner = connection.execute(
        select(sessions.c.project_id, api_keys.c.user_id)
        .outerjoin(api_keys, sessions.c.key_id == api_keys.c.id)
        .where(sessions.c.id == run.session_id)
    ).first()
    assert owner is not None
    newest = (
        select(operations.c.accepted_at)
        .where(operations.c.lane == run.id)
        .order_by(operations.c.seq_id.desc())
        .limit(1)
    )
    last = connection.execute(newest).scalar()
    return RunSummary(
        run,
        run.created_at if last is None else last,
        _newest_checkpoint(connection, run.id, "weights"),
        _newest_checkpoint(connection, run.id, "sampler_weights"),
        owner.user_id or accounts.LOCAL,
        # what others pay for sampling a published checkpoint is theirs
        spent(connection, prices, Filter([owner.project_id], run_id=run.id)) if prices.table else 0.0,
    )


def _newest_checkpoint(connection: Connection, run_id: str, kind: str) -> Checkpoint | None:
    query = (
        select(checkpoints)
        .where(checkpoints.c.run_id == run_id, checkpoints.c.kind == kind, live())
        .order_by(checkpoints.c.created_at.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None else read_checkpoint(row)


def _run(row: Row[Any]) -> Run:
    return Run(
        row.id,
        row.session_id,
        row.base_model,
        LoraConfig(**row.lora),
        row.user_metadata,
        row.created_at,
        -1 if row.snapshot_seq is None else row.snapshot_seq,
        row.snapshot_directory,
        row.copied_from,
    )
