"""Errors in the shape that each client reads: the protocol's own, OpenAI's, Anthropic's.

Every error has a body of known length: the official client takes a 400 without one for a broken proxy.
"""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from hone.errors import Category

OPENAI, ANTHROPIC = "/oai/api/v1", "/anthropic/api"
"""Where the compatible routes lie."""

_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


def failure(path: str, status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """What a request to `path` gets that failed."""
    category: Category = "user" if status < 500 else "server"
    body: dict[str, Any] = {"detail": detail, "category": category}
    if path.startswith(OPENAI):
        body = openai_error(category, detail, status)
    elif path.startswith(ANTHROPIC):
        body = anthropic_error(category, detail, status)
    return JSONResponse(body, status_code=status, headers=headers)


def openai_error(category: Category, message: str, status: int = 0) -> dict[str, Any]:
    kind = "invalid_request_error" if category == "user" else "server_error"
    code = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded"}.get(status)
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic_error(category: Category, message: str, status: int = 0) -> dict[str, Any]:
    usual = "invalid_request_error" if category == "user" else "api_error"
    return {"type": "error", "error": {"type": _ANTHROPIC_TYPES.get(status, usual), "message": message}}
