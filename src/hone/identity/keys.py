"""The server's API key: made on first start, kept readable by its owner only."""

import hmac
import re
import secrets
from pathlib import Path

from hone.errors import AuthenticationError, UserError
from hone.storage.atomic import write_text

PREFIX = "tml-"
"""The official client refuses any key that starts otherwise, before it sends anything."""


def server_key(path: Path, given: str | None) -> str:
    """The key that was `given`, else the one kept at `path`, else a new one, kept there."""
    if given is not None:
        return check_shape(given)
    if path.exists():
        return check_shape(path.read_text(encoding="utf-8").strip())
    key = f"{PREFIX}{secrets.token_urlsafe(32)}"
    write_text(path, f"{key}\n", mode=0o600)
    return key


def check_shape(key: str) -> str:
    if not re.fullmatch(re.escape(PREFIX) + r"[!-~]+", key):
        raise UserError(
            f"the API key (--api-key, HONE_API_KEY, TINKER_API_KEY or the file api_key) must be {PREFIX!r} followed by "
            "letters, digits and signs without spaces, or the official client cannot send it"
        )
    return key


def authenticate(presented: str | None, expected: str) -> None:
    """Raise unless the presented key is the right one; takes the same time however wrong it is."""
    if presented is None:
        raise AuthenticationError("no API key: send it in the header X-API-Key (with the client, set TINKER_API_KEY)")
    if not hmac.compare_digest(presented.encode(), expected.encode()):
        raise AuthenticationError(
            "the API key in X-API-Key is not one of this server; see the lines that `hone serve` prints"
        )
