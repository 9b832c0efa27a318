"""What was used, counted once: in the transaction that keeps an operation's answer, and for storage as time goes by.

An operation that is repeated after a crash is answered once, so it is counted once.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, bindparam, func, or_, select, update

from hone.identity.prices import STORAGE, Prices
from hone.paths import DataDirectory
from hone.server.ids import session_of
from hone.storage.atomic import tree_size
from hone.storage.tables import api_keys, checkpoints, runs, samplers, sessions, usage, users

HOUR = 3600
Kind = Literal["training", "prefill", "cached_prefill", "sample", "checkpoint", "storage"]


@dataclass(frozen=True)
class Amounts:
    """What one operation used, in tokens; checkpoints are counted."""

    training: int = 0
    prefill: int = 0
    cached_prefill: int = 0
    sample: int = 0
    checkpoint: int = 0


NOTHING = Amounts()

_PROJECT = func.coalesce(sessions.c.project_id, api_keys.c.project_id)
"""What has no session belongs to the key's project."""


_SUM_OF = ("hour", "session_id", "run_id", "key_id", "base_model", "kind")
"""What all that one row of `usage` counts has in common."""

# Made once: these run with every operation, and making a statement costs several times what running it does.
_RUN_MODEL = select(runs.c.base_model).where(runs.c.id == bindparam("lane"))
_SAMPLER_MODEL = select(samplers.c.base_model, samplers.c.version).where(samplers.c.id == bindparam("lane"))
_ADD = (
    update(usage)
    .where(*(usage.c[name] == bindparam(f"same_{name}") for name in _SUM_OF))
    .values(quantity=usage.c.quantity + bindparam("more"))
)


@dataclass(frozen=True)
class Used:
    """A sum over one hour."""

    hour: int
    session_id: str
    run_id: str
    key_id: int
    base_model: str
    kind: Kind
    quantity: int
    project_id: str | None
    user_id: str | None

    def cost(self, prices: Prices) -> float | None:
        return prices.cost(self.base_model, self.kind, self.quantity)


@dataclass(frozen=True)
class Filter:
    """Which sums; None and the infinities leave a field open."""

    projects: Iterable[str] | None = None
    run_id: str | None = None
    session_id: str | None = None
    key_id: int | None = None
    since_hour: float = -math.inf
    before_hour: float = math.inf
    kinds: tuple[str, ...] = field(default=())


def record(connection: Connection, lane: str, key_id: int | None, amounts: Amounts) -> None:
    """Count a finished operation of a model or a sampling session."""
    if amounts == NOTHING:
        return
    run_id, base_model = _run_and_model(connection, lane)
    hour = int(time.time()) // HOUR
    for kind, quantity in vars(amounts).items():
        if quantity:
            _add(connection, hour, session_of(lane), run_id, key_id or 0, base_model, kind, quantity)


def record_direct(connection: Connection, key_id: int, base_model: str, version: str | None, amounts: Amounts) -> None:
    """Count a sample that was drawn without a session."""
    for kind, quantity in vars(amounts).items():
        if quantity:
            _add(connection, int(time.time()) // HOUR, "", _run_of(version), key_id, base_model, kind, quantity)


def _run_of(version: str | None) -> str:
    """A version is `checkpoints/<run>/...`."""
    return version.split("/")[1] if version else ""


def _run_and_model(connection: Connection, lane: str) -> tuple[str, str]:
    """A sample counts for the run whose weights it is drawn from."""
    base_model = connection.execute(_RUN_MODEL, {"lane": lane}).scalar()
    if base_model is not None:
        return lane, base_model
    sampler = connection.execute(_SAMPLER_MODEL, {"lane": lane}).first()
    if sampler is None:
        return "", ""
    return _run_of(sampler.version), sampler.base_model


def _add(
    connection: Connection,
    hour: int,
    session_id: str,
    run_id: str,
    key_id: int,
    base_model: str,
    kind: str,
    quantity: int,
) -> None:
    same = (hour, session_id, run_id, key_id, base_model, kind)
    added = {f"same_{name}": value for name, value in zip(_SUM_OF, same, strict=True)} | {"more": quantity}
    if not connection.execute(_ADD, added).rowcount:
        connection.execute(usage.insert(), {**dict(zip(_SUM_OF, same, strict=True)), "quantity": quantity})


def measure(connection: Connection, data: DataDirectory) -> None:
    """Note the sizes of checkpoints that were still being written when they were saved."""
    query = select(checkpoints.c.path, checkpoints.c.directory).where(checkpoints.c.size_bytes.is_(None))
    for row in connection.execute(query).all():
        size = tree_size(data.resolve(row.directory))
        if size is not None:
            connection.execute(update(checkpoints).where(checkpoints.c.path == row.path).values(size_bytes=size))


def meter_storage(connection: Connection, now: float, path: str | None = None) -> None:
    """Count the storage of all checkpoints, or of one that is about to go, from where it was last counted until now."""
    query = select(checkpoints, sessions.c.key_id, sessions.c.id.label("session_id")).join(
        runs, checkpoints.c.run_id == runs.c.id
    )
    query = query.join(sessions, runs.c.session_id == sessions.c.id).where(checkpoints.c.size_bytes.is_not(None))
    if path is not None:
        query = query.where(checkpoints.c.path == path)
    for row in connection.execute(query).all():
        start = row.created_at if row.metered_until is None else row.metered_until
        end = now if row.expires_at is None else min(now, row.expires_at)
        if end <= start:
            continue
        for hour, seconds in _by_hour(start, end):
            quantity = round(row.size_bytes * seconds)
            _add(connection, hour, row.session_id, row.run_id, row.key_id or 0, row.base_model, STORAGE, quantity)
        connection.execute(update(checkpoints).where(checkpoints.c.path == row.path).values(metered_until=end))


def _by_hour(start: float, end: float) -> Iterable[tuple[int, float]]:
    while start < end:
        hour = int(start // HOUR)
        stop = min(end, (hour + 1) * HOUR)
        yield hour, stop - start
        start = stop


def used(connection: Connection, chosen: Filter) -> list[Used]:
    """The sums, hour by hour, larger ones first."""
    query = (
        select(usage, _PROJECT.label("project_id"), api_keys.c.user_id)
        .outerjoin(sessions, usage.c.session_id == sessions.c.id)
        .outerjoin(api_keys, usage.c.key_id == api_keys.c.id)
        .where(*_conditions(chosen))
        .order_by(usage.c.hour, usage.c.quantity.desc(), usage.c.session_id, usage.c.run_id, usage.c.kind)
    )
    return [_used(row) for row in connection.execute(query)]


def _conditions(chosen: Filter) -> list[ColumnElement[bool]]:
    named = {"run_id": chosen.run_id, "session_id": chosen.session_id, "key_id": chosen.key_id}
    wanted: list[ColumnElement[bool]] = [usage.c[name] == value for name, value in named.items() if value is not None]
    if chosen.projects is not None:
        wanted.append(_PROJECT.in_(list(chosen.projects)))
    if chosen.since_hour > -math.inf:
        wanted.append(usage.c.hour >= chosen.since_hour)
    if chosen.before_hour < math.inf:
        wanted.append(usage.c.hour < chosen.before_hour)
    if chosen.kinds:
        wanted.append(usage.c.kind.in_(chosen.kinds))
    return wanted


def _used(row: Row[Any]) -> Used:
    return Used(
        row.hour,
        row.session_id,
        row.run_id,
        row.key_id,
        row.base_model,
        row.kind,
        row.quantity,
        row.project_id,
        row.user_id,
    )


def spent(connection: Connection, prices: Prices, chosen: Filter) -> float:
    """US dollars; what has no price adds nothing."""
    query = (
        select(usage.c.base_model, usage.c.kind, func.sum(usage.c.quantity).label("quantity"))
        .outerjoin(sessions, usage.c.session_id == sessions.c.id)
        .outerjoin(api_keys, usage.c.key_id == api_keys.c.id)
        .where(*_conditions(chosen))
        .group_by(usage.c.base_model, usage.c.kind)
    )
    costs = [prices.cost(row.base_model, row.kind, int(row.quantity)) for row in connection.execute(query)]
    return math.fsum(cost for cost in costs if cost is not None)


@dataclass(frozen=True)
class Stored:
    """The checkpoints of one user in one project, as they are now."""

    project_id: str | None
    user_id: str | None
    email: str | None
    checkpoint_count: int
    size_bytes: int


def stored(connection: Connection, projects: Iterable[str], now: float) -> list[Stored]:
    query = (
        select(
            sessions.c.project_id,
            api_keys.c.user_id,
            users.c.email,
            func.count().label("checkpoint_count"),
            func.coalesce(func.sum(checkpoints.c.size_bytes), 0).label("size_bytes"),
        )
        .select_from(checkpoints)
        .join(runs, checkpoints.c.run_id == runs.c.id)
        .join(sessions, runs.c.session_id == sessions.c.id)
        .outerjoin(api_keys, sessions.c.key_id == api_keys.c.id)
        .outerjoin(users, api_keys.c.user_id == users.c.id)
        .where(
            sessions.c.project_id.in_(list(projects)),
            or_(checkpoints.c.expires_at.is_(None), checkpoints.c.expires_at > now),
        )
        .group_by(sessions.c.project_id, api_keys.c.user_id, users.c.email)
        .order_by(sessions.c.project_id, api_keys.c.user_id)
    )
    return [
        Stored(row.project_id, row.user_id, row.email, row.checkpoint_count, int(row.size_bytes))
        for row in connection.execute(query)
    ]
