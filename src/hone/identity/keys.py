"""What API keys look like, and the server's own: made on first start, kept readable by its owner only."""

import hashlib
import re
import secrets
from pathlib import Path

from hone.errors import UserError
from hone.storage.atomic import write_text

PREFIX = "tml-"
"""The official client refuses any key that starts otherwise, before it sends anything."""


def server_key(path: Path, given: str | None) -> str:
    """The key that was `given`, else the one kept at `path`, else a new one, kept there."""
    if given is not None:
        return check_shape(given)
    if path.exists():
        return check_shape(path.read_text(encoding="utf-8").strip())
    key = new_key()
    write_text(path, f"{key}\n", mode=0o600)
    return key


def check_shape(key: str) -> str:
    if not re.fullmatch(re.escape(PREFIX) + r"[!-~]+", key):
        raise UserError(
            f"the API key (--api-key, HONE_API_KEY, TINKER_API_KEY or the file api_key) must be {PREFIX!r} followed by "
            "letters, digits and signs without spaces, or the official client cannot send it"
        )
    return key


def new_key() -> str:
    return f"{PREFIX}{secrets.token_urlsafe(32)}"


def digest(key: str) -> str:
    """What is kept of a key. A key is random and long, so one round of a plain hash cannot be undone by guessing."""
    return hashlib.sha256(key.encode()).hexdigest()
