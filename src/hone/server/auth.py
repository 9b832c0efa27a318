"""Every request but those to the open paths shows a key, and the key must be allowed to do such a thing."""

import asyncio
import time
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from hone.errors import AuthenticationError, ForbiddenError
from hone.identity import accounts
from hone.identity.accounts import Caller
from hone.identity.tokens import Signer
from hone.server.failures import failure
from hone.storage.database import Database

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/api/v1/healthz"})
OPEN_PREFIXES = ("/hf/", "/api/v1/traces/", "/api/v1/downloads/")
"""What is under these is named by a signed link, or is everybody's; the hub looks at the keys for exports itself."""

KEY_SECONDS = 2.0
"""How long a key is taken for good without looking again: so soon a revoked one ends."""
TOKEN_SECONDS = 3600.0
TOKEN_PURPOSE = "credential"

SCOPE_OF = {
    "create_model": "train",
    "forward_backward": "train",
    "forward": "train",
    "optim_step": "train",
    "create_custom_loss": "train",
    "save_weights": "train",
    "save_weights_for_sampler": "train",
    "save_weights_external": "train",
    "load_weights": "train",
    "copy_weights": "train",
    "asample": "sample",
    "create_sampling_session": "sample",
    "join_sampling_session": "sample",
    "oai": "sample",
    "anthropic": "sample",
    "audit": "admin",
    "engine": "admin",
    "metrics": "admin",
}
"""By the first word of a path after `/api/v1`. Whatever else changes something needs `train`, and the rest `read`."""
HARMLESS = frozenset(
    "client create_session session_heartbeat telemetry retrieve_future retrieve_futures cancel_future auth get_info "
    "get_server_capabilities weights_info".split()
)
"""POST requests that any key may send: what every client does to start, to wait and to look."""


class Keys:
    """The callers behind keys, remembered for a moment."""

    def __init__(self, database: Database, signer: Signer, tokens: bool) -> None:
        self._database = database
        self._signer = signer
        self._tokens = tokens
        self._known: dict[str | int, tuple[float, Caller]] = {}

    async def caller(self, presented: str | None) -> Caller:
        """Who sends this key, or this token made from one."""
        if presented is None:
            raise AuthenticationError(
                "no API key: send it in the header X-API-Key (with the client, set TINKER_API_KEY)"
            )
        if self._tokens and presented.startswith("eyJ"):
            found = await self.by_id(self._signer.open(TOKEN_PURPOSE, presented)["key_id"])
        else:
            found = await self._find(presented)
        if found is None:
            raise AuthenticationError(
                "the API key in X-API-Key is not one of this server, or it has expired or was revoked; "
                "see the lines that `hone serve` prints, and `hone key list`"
            )
        return found

    async def by_id(self, key_id: int) -> Caller | None:
        return await self._find(key_id)

    def token(self, caller: Caller) -> str:
        """A short-lived credential that stands for the caller's key."""
        claims = {
            "sub": caller.owner,
            "org_id": caller.organization_id,
            "email": caller.email,
            "key_id": caller.key.id,
        }
        return self._signer.sign(TOKEN_PURPOSE, claims, TOKEN_SECONDS)

    def forget(self) -> None:
        """Look again at every key: one of them has changed."""
        self._known.clear()

    async def _find(self, name: str | int) -> Caller | None:
        until, caller = self._known.get(name, (0.0, None))
        if caller is not None and time.monotonic() < until:
            return caller
        find: Any = accounts.find_caller if isinstance(name, str) else accounts.find_caller_by_id
        found: Caller | None = await asyncio.shield(self._database.run(lambda connection: find(connection, name)))
        if found is None:
            self._known.pop(name, None)
        else:
            self._known[name] = time.monotonic() + KEY_SECONDS, found
        return found


class Authentication:
    """Puts the caller into the request's state."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope["path"]):
            try:
                caller = await self._keys.caller(presented(Headers(scope=scope)))
                check_scope(caller, scope["method"], scope["path"])
            except AuthenticationError as error:
                # The client gets itself a new token when it reads this.
                headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
                await failure(scope["path"], 401, str(error), headers)(scope, receive, send)
                return
            except ForbiddenError as error:
                await failure(scope["path"], 403, str(error))(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)


def check_scope(caller: Caller, method: str, path: str) -> None:
    needed = required_scope(method, path)
    if needed is not None and needed not in caller.key.scopes and "admin" not in caller.key.scopes:
        raise ForbiddenError(
            f"{method} {path} needs a key with the scope {needed!r}; key {caller.key.id} ({caller.key.name}) "
            f"has {', '.join(caller.key.scopes)}"
        )


def required_scope(method: str, path: str) -> str | None:
    words = path.removeprefix("/api/v1").strip("/").split("/")
    if words[0] in SCOPE_OF:
        return SCOPE_OF[words[0]]
    if words[0] in HARMLESS or (method == "POST" and words[0] == "sessions" and words[-1] in ("finish", "search")):
        return None
    return "read" if method in ("GET", "HEAD") else "train"


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)


def presented(headers: Headers) -> str | None:
    """X-API-Key, as the official client and Anthropic's send it, or else a bearer, as OpenAI's does."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else None)
