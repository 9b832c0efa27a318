"""Whose things are whose. A request names things by their session's id, so one look at the names decides.

`guarded` wraps every route and `read_json` every body: a new route cannot forget to ask.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import Connection, select
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from hone.errors import ForbiddenError, NotFoundError, UserError
from hone.identity import accounts
from hone.identity.accounts import Caller
from hone.protocol.uris import SCHEME
from hone.storage.database import Database
from hone.storage.tables import checkpoints, sessions

NAMES = ("session_id", "model_id", "run_id", "sampler_id", "sampling_session_id", "request_id")
"""Fields and path parameters that start with the id of a session."""
PATHS = ("path", "model_path", "tinker_path", "source_path", "model")
"""Fields that may name a checkpoint."""
LENT = ("path", "source_path")
"""Those that the credential of somebody else may open."""
MODELS = ("base_model", "model")
"""Fields that may name a base model."""


class Access:
    def __init__(self, database: Database, look_again: Callable[[], None]) -> None:
        """`look_again` is called when what callers may reach has changed."""
        self._database = database
        self._look_again = look_again
        self._projects: dict[str, str] = {}
        """Of sessions, as they were last seen."""

    async def check(self, caller: Caller, name: str) -> None:
        """Raise `NotFoundError` if this names something of somebody else. What does not exist passes."""
        if not await self.reaches(caller, name):
            raise NotFoundError(f"{name!r} does not exist on this server")

    async def reaches(self, caller: Caller, name: str) -> bool:
        project = await self.project_of(name.partition(":")[0])
        return project is None or project in caller.projects

    async def project_of(self, session_id: str) -> str | None:
        """None if there is no such session."""
        if session_id not in self._projects:
            query = select(sessions.c.project_id).where(sessions.c.id == session_id)
            project: str | None = await self._database.run(lambda connection: connection.execute(query).scalar())
            if project is None:
                return None
            self._projects[session_id] = project
        return self._projects[session_id]

    async def check_checkpoint(self, caller: Caller, path: str, lender: Caller | None = None) -> None:
        """The same for a checkpoint; those that were published are everybody's to read, and a `lender` lends theirs."""
        query = select(checkpoints.c.public, checkpoints.c.base_model).where(checkpoints.c.path == path)
        row = await self._database.run(lambda connection: connection.execute(query).first())
        if row is None or not row.public:
            readers = [caller] if lender is None else [caller, lender]
            if not any([await self.reaches(reader, path.removeprefix(SCHEME)) for reader in readers]):
                raise NotFoundError(f"checkpoint {path} does not exist on this server")
        if row is not None:
            check_model(caller, row.base_model)

    async def check_fields(self, caller: Caller, fields: Mapping[str, Any], lender: Caller | None = None) -> None:
        """All names in a body; a `lender` lends what is copied or loaded."""
        for field in NAMES:
            if isinstance(fields.get(field), str):
                await self.check(caller, fields[field])
        for field in PATHS:
            if isinstance(fields.get(field), str):
                path = fields[field].rpartition(";")[2]  # `<base model>;<path>` is one way to name a model
                if path.startswith(SCHEME):
                    await self.check_checkpoint(caller, path, lender if field in LENT else None)
        for field in MODELS:
            if isinstance(fields.get(field), str) and SCHEME not in fields[field]:
                check_model(caller, fields[field])
        if isinstance(fields.get("target"), dict):
            await self.check_fields(caller, fields["target"])

    async def project_for(self, caller: Caller, wanted: str | None) -> str:
        """The project that something new belongs to."""
        if not wanted:
            return caller.key.project_id
        if wanted in caller.projects:
            return wanted
        if not caller.single_user:
            raise NotFoundError(f"project {wanted!r} does not exist for this key; see `hone project list`")

        def make(connection: Connection) -> None:
            if wanted not in {project.id for project in accounts.list_projects(connection)}:
                accounts.create_project(connection, wanted, caller.organization_id)

        await self._database.run(make)
        self._look_again()
        return wanted

    def moved(self, session_id: str) -> None:
        self._projects.pop(session_id, None)


async def check_body(request: Request, fields: dict[str, Any]) -> None:
    """All names in a body. Whoever copies or loads may bring along the credential of somebody who may read the source;
    it is taken out of the body, so that nothing writes it down."""
    service = request.app.state.service
    token = fields.pop("weights_access_token", None) or request.headers.get("x-tinker-weights-access-token")
    if token is not None and not isinstance(token, str):
        raise UserError(
            "weights_access_token must be a text: the API key or token of an account that may read the path"
        )
    lender = None if token is None else await service.keys.caller(token)
    await service.access.check_fields(caller_of(request), fields, lender)


def check_model(caller: Caller, model: str) -> None:
    if not caller.may_use(model):
        raise ForbiddenError(f"key {caller.key.id} is not for base model {model!r}; see `hone key list`")


def guarded(routes: list[Route]) -> list[BaseRoute]:
    """The routes, each with a look at the names in its path."""
    return [
        Route(route.path, _guard(route.endpoint), methods=list(route.methods or ()), name=route.name)
        for route in routes
    ]


def _guard(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def guard(request: Request) -> Response:
        caller: Caller | None = getattr(request.state, "caller", None)
        if caller is not None:
            await _check_path(request, caller, request.app.state.service.access)
        return await endpoint(request)

    return guard


async def _check_path(request: Request, caller: Caller, access: Access) -> None:
    named = request.path_params
    if request.method == "GET" and "kind" in named and "run_id" in named and "name" in named:
        await access.check_checkpoint(caller, f"{SCHEME}{named['run_id']}/{named['kind']}/{named['name']}")
        return
    for field in NAMES:
        if field in named:
            await access.check(caller, named[field])


def caller_of(request: Request) -> Caller:
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None:
        raise UserError("this path needs no key, so nobody is known to ask")
    return caller


def visible_projects(request: Request) -> frozenset[str]:
    """The projects whose things a list shows: all that the key reaches, or the one that is asked for."""
    caller = caller_of(request)
    wanted = request.query_params.get("project_id")
    if wanted is None:
        return caller.projects
    if wanted not in caller.projects:
        raise NotFoundError(f"project {wanted!r} does not exist for this key")
    return frozenset({wanted})
