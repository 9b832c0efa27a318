"""Organisations hold projects and users; an API key lets a user work in a project.

Everything here takes a connection, so the server and the command line use the same functions, also at the same time.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, update

from hone.errors import NotFoundError, UserError
from hone.identity import audit
from hone.identity.keys import check_shape, digest, new_key
from hone.storage.tables import api_keys, organizations, projects, users

LOCAL = "local"
"""The organisation and the user of the server's own key."""
DEFAULT_PROJECT = "default"
SERVER_KEY_ID = 1

SCOPES = ("read", "sample", "train", "admin")
"""`admin` reaches all projects of the organisation and its audit log; the others reach the key's own project."""
DEFAULT_SCOPES = ("read", "sample", "train")

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")


@dataclass(frozen=True)
class Project:
    id: str
    organization_id: str
    created_at: float
    budget_usd: float | None


@dataclass(frozen=True)
class Key:
    id: int
    name: str
    note: str
    project_id: str
    user_id: str
    scopes: tuple[str, ...]
    models: tuple[str, ...] | None
    """None is every model."""
    spend_limit_usd: float | None
    created_at: float
    expires_at: float | None
    revoked_at: float | None

    def live(self, now: float) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True)
class Caller:
    """Whoever sent a request: its key, and what that reaches."""

    key: Key
    organization_id: str
    email: str
    projects: frozenset[str]
    single_user: bool
    """While there is no second key, a project is made by naming it."""

    @property
    def owner(self) -> str:
        return owner_urn(self.key.user_id)

    def may_use(self, model: str) -> bool:
        return self.key.models is None or model in self.key.models


def owner_urn(user_id: str) -> str:
    return f"tml:organization_user:{user_id}"


def set_server_key(connection: Connection, key: str) -> None:
    """Make this the key of the server; the one before it is no longer known."""
    known = connection.execute(select(api_keys.c.id).where(api_keys.c.digest == digest(key))).scalar()
    if known == SERVER_KEY_ID:
        return
    if known is not None:
        raise UserError(f"HONE_API_KEY is key {known} of `hone key list`; the server needs one of its own")
    changed = connection.execute(
        update(api_keys).where(api_keys.c.id == SERVER_KEY_ID).values(digest=digest(key), revoked_at=None)
    )
    if not changed.rowcount:
        _insert_key(connection, SERVER_KEY_ID, key, "server", "made on first start", DEFAULT_PROJECT, LOCAL, SCOPES)
    audit.record(connection, "key_create", LOCAL, DEFAULT_PROJECT, {"key_id": SERVER_KEY_ID, "name": "server"})


def create_project(
    connection: Connection, project_id: str, organization_id: str = LOCAL, budget_usd: float | None = None
) -> Project:
    """A new project; its organisation is made if there is none of that name."""
    _check_id("project", project_id)
    _check_id("organization", organization_id)
    now = time.time()
    if connection.execute(select(projects.c.id).where(projects.c.id == project_id)).scalar() is not None:
        raise UserError(f"project {project_id!r} exists; see `hone project list`")
    if connection.execute(select(organizations.c.id).where(organizations.c.id == organization_id)).scalar() is None:
        connection.execute(organizations.insert(), {"id": organization_id, "created_at": now})
        audit.record(connection, "organization_create", organization_id, None, {})
    made = Project(project_id, organization_id, now, budget_usd)
    connection.execute(projects.insert(), vars(made))
    audit.record(connection, "project_create", organization_id, project_id, {"budget_usd": budget_usd})
    return made


def list_projects(connection: Connection) -> list[Project]:
    return [_project(row) for row in connection.execute(select(projects).order_by(projects.c.id))]


def project(connection: Connection, project_id: str) -> Project:
    row = connection.execute(select(projects).where(projects.c.id == project_id)).first()
    if row is None:
        raise NotFoundError(f"project {project_id!r} does not exist; `hone project create {project_id}` makes it")
    return _project(row)


def set_budget(connection: Connection, project_id: str, budget_usd: float | None) -> Project:
    """The new limit of a project; work that waits for it goes on within seconds."""
    organization_id = project(connection, project_id).organization_id
    connection.execute(update(projects).where(projects.c.id == project_id).values(budget_usd=budget_usd))
    audit.record(connection, "project_budget_set", organization_id, project_id, {"budget_usd": budget_usd})
    return project(connection, project_id)


def create_key(
    connection: Connection,
    name: str,
    project_id: str = DEFAULT_PROJECT,
    user_id: str = LOCAL,
    scopes: Sequence[str] = DEFAULT_SCOPES,
    models: Sequence[str] | None = None,
    expires_at: float | None = None,
    spend_limit_usd: float | None = None,
    note: str = "",
) -> tuple[Key, str]:
    """A new key, and its text: this is the only time that anybody sees it."""
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        raise UserError(f"scope {unknown[0]!r} is unknown; the scopes are {', '.join(SCOPES)}")
    organization_id = project(connection, project_id).organization_id
    _ensure_user(connection, user_id, organization_id)
    key_id = 1 + max(SERVER_KEY_ID, connection.execute(select(func.max(api_keys.c.id))).scalar() or 0)
    text = new_key()
    _insert_key(connection, key_id, text, name, note, project_id, user_id, scopes, models, expires_at, spend_limit_usd)
    details = {"key_id": key_id, "name": name, "user_id": user_id, "scopes": list(scopes)}
    audit.record(connection, "key_create", organization_id, project_id, details)
    return key(connection, key_id), text


def list_keys(connection: Connection) -> list[Key]:
    return [_key(row) for row in connection.execute(select(api_keys).order_by(api_keys.c.id))]


def key(connection: Connection, key_id: int) -> Key:
    row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).first()
    if row is None:
        raise NotFoundError(f"key {key_id} does not exist; see `hone key list`")
    return _key(row)


def revoke_key(connection: Connection, key_id: int, by: int | None = None) -> Key:
    """End a key, at once for new connections and within seconds for a running server. Twice is fine."""
    found = key(connection, key_id)
    if found.id == SERVER_KEY_ID:
        raise UserError("key 1 is the server's own; remove the file `api_key` or change HONE_API_KEY, then restart it")
    if found.revoked_at is None:
        connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=time.time()))
        organization_id = project(connection, found.project_id).organization_id
        details = {"key_id": key_id, "name": found.name, "by_key_id": by}
        audit.record(connection, "key_revoke", organization_id, found.project_id, details)
    return key(connection, key_id)


def set_spend_limit(connection: Connection, key_id: int, limit_usd: float | None) -> Key:
    found = key(connection, key_id)
    connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(spend_limit_usd=limit_usd))
    organization_id = project(connection, found.project_id).organization_id
    details = {"key_id": key_id, "spend_limit_usd": limit_usd}
    audit.record(connection, "key_limit_set", organization_id, found.project_id, details)
    return key(connection, key_id)


def find_caller(connection: Connection, text: str) -> Caller | None:
    """Who sends this key; None if nobody does (any more)."""
    return _caller(connection, select(api_keys).where(api_keys.c.digest == digest(text)))


def find_caller_by_id(connection: Connection, key_id: int) -> Caller | None:
    return _caller(connection, select(api_keys).where(api_keys.c.id == key_id))


def _caller(connection: Connection, query: "Select[Any]") -> Caller | None:
    row = connection.execute(query).first()
    if row is None or not (found := _key(row)).live(time.time()):
        return None
    organization_id = project(connection, found.project_id).organization_id
    reached = {found.project_id}
    if "admin" in found.scopes:
        of_organization = select(projects.c.id).where(projects.c.organization_id == organization_id)
        reached |= set(connection.execute(of_organization).scalars())
    email = connection.execute(select(users.c.email).where(users.c.id == found.user_id)).scalar_one()
    others = connection.execute(select(api_keys.c.id).where(api_keys.c.id != SERVER_KEY_ID).limit(1)).first()
    return Caller(found, organization_id, email, frozenset(reached), single_user=others is None)


def _insert_key(
    connection: Connection,
    key_id: int,
    text: str,
    name: str,
    note: str,
    project_id: str,
    user_id: str,
    scopes: Sequence[str],
    models: Sequence[str] | None = None,
    expires_at: float | None = None,
    spend_limit_usd: float | None = None,
) -> None:
    row = {
        "id": key_id,
        "digest": digest(check_shape(text)),
        "name": name,
        "note": note,
        "project_id": project_id,
        "user_id": user_id,
        "scopes": list(scopes),
        "models": None if models is None else list(models),
        "spend_limit_usd": spend_limit_usd,
        "created_at": time.time(),
        "expires_at": expires_at,
    }
    connection.execute(api_keys.insert(), row)


def _ensure_user(connection: Connection, user_id: str, organization_id: str) -> None:
    """A user is made by the first key; one with an address gets mail there."""
    _check_id("user", user_id)
    of = connection.execute(select(users.c.organization_id).where(users.c.id == user_id)).scalar()
    if of is None:
        email = user_id if "@" in user_id else f"{user_id}@localhost"
        row = {"id": user_id, "organization_id": organization_id, "email": email, "created_at": time.time()}
        connection.execute(users.insert(), row)
        audit.record(connection, "user_create", organization_id, None, {"user_id": user_id})
    elif of != organization_id:
        raise UserError(f"user {user_id!r} belongs to organization {of!r}, the project to {organization_id!r}")


def _check_id(what: str, text: str) -> None:
    if not _ID.fullmatch(text):
        raise UserError(f"{what} {text!r} is not a name; use at most 100 letters, digits and . _ @ + -")


def _project(row: Row[Any]) -> Project:
    return Project(row.id, row.organization_id, row.created_at, row.budget_usd)


def _key(row: Row[Any]) -> Key:
    return Key(
        row.id,
        row.name,
        row.note,
        row.project_id,
        row.user_id,
        tuple(row.scopes),
        None if row.models is None else tuple(row.models),
        row.spend_limit_usd,
        row.created_at,
        row.expires_at,
        row.revoked_at,
    )
