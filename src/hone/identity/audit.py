"""Who did what to keys, projects and checkpoints. Entries are written in the transaction of the deed itself."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from hone.storage.tables import audit

RESOURCES = {
    "all": None,
    "checkpoints": ("checkpoint",),
    "projects": ("project", "session"),
    "teams": ("user",),
    "organizations": ("organization", "key"),
}
"""What clients can ask for, and the first words of the events that this is."""


@dataclass(frozen=True)
class AuditEntry:
    at: float
    event: str
    details: dict[str, Any]


def record(
    connection: Connection, event: str, organization_id: str, project_id: str | None, details: dict[str, Any]
) -> None:
    row = {
        "at": time.time(),
        "event": event,
        "organization_id": organization_id,
        "project_id": project_id,
        "details": details,
    }
    connection.execute(audit.insert(), row)


def entries(
    connection: Connection, organization_id: str, resources: tuple[str, ...] | None, since: float, before: float
) -> list[AuditEntry]:
    """What happened in `since` <= time < `before`, in order; `resources` are the first words of events."""
    query = (
        select(audit)
        .where(audit.c.organization_id == organization_id, audit.c.at >= since, audit.c.at < before)
        .order_by(audit.c.at, audit.c.id)
    )
    return [
        AuditEntry(row.at, row.event, {"project_id": row.project_id, **row.details})
        for row in connection.execute(query)
        if resources is None or row.event.split("_")[0] in resources
    ]
