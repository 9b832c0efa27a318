"""Signed texts: links that need no key, and short-lived credentials in the form of JSON Web Tokens.

The secret is made on first use, kept beside the database, and never sent.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from pathlib import Path
from typing import Any

from hone.errors import AuthenticationError
from hone.storage.atomic import write_text

_HEADER = {"alg": "HS256", "typ": "JWT"}


class Signer:
    def __init__(self, file: Path) -> None:
        if not file.exists():
            write_text(file, f"{secrets.token_hex(32)}\n", mode=0o600)
        self._secret = bytes.fromhex(file.read_text(encoding="utf-8").strip())

    def sign(self, purpose: str, claims: dict[str, Any], seconds: float) -> str:
        """A token for one purpose, good for so long."""
        now = int(time.time())
        body = {**claims, "purpose": purpose, "iat": now, "exp": now + int(seconds)}
        signed = f"{_pack(json.dumps(_HEADER).encode())}.{_pack(json.dumps(body).encode())}"
        return f"{signed}.{_pack(self._signature(signed))}"

    def open(self, purpose: str, token: str) -> dict[str, Any]:
        """The claims of a token that this server signed for this purpose and whose time is not over."""
        signed, _, signature = token.rpartition(".")
        try:
            if not hmac.compare_digest(_unpack(signature), self._signature(signed)):
                raise ValueError
            claims: dict[str, Any] = json.loads(_unpack(signed.partition(".")[2]))
        except ValueError:
            raise AuthenticationError("the token was not signed by this server") from None
        if claims["purpose"] != purpose:
            raise AuthenticationError("the token was made for something else")
        if claims["exp"] <= time.time():
            raise AuthenticationError("the token has expired; ask for a new one")
        return claims

    def _signature(self, signed: str) -> bytes:
        return hmac.new(self._secret, signed.encode(), hashlib.sha256).digest()


def _pack(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _unpack(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
