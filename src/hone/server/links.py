"""Links that the client can follow."""

from starlette.requests import Request


def absolute(request: Request, path: str) -> str:
    """It begins as the client reached us, unless the operator says how others do."""
    base = request.app.state.service.settings.public_url or f"{request.url.scheme}://{request.url.netloc}"
    return f"{base.rstrip('/')}{path}"
