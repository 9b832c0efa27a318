"""Files of checkpoints: links to them, and the files behind the links."""

import time
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from hone.errors import AuthenticationError, NotFoundError, UserError
from hone.protocol import responses
from hone.protocol.uris import parse_path
from hone.server.archive import archive, archive_size, public_files
from hone.server.links import absolute
from hone.server.routes.checkpoints import ONE, checkpoint_path
from hone.server.service import Service
from hone.server.store import Checkpoint

LINK_SECONDS = 3600
"""Clients ask for new links when less than five minutes are left."""
PURPOSE = "download"

ARCHIVE = "archive.tar"
"""Made while it is read; no checkpoint has a file of this name."""


async def links(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    path = checkpoint_path(request)
    if path.kind != "external_weights":
        raise UserError(f"checkpoint {path} is not for download; use save_weights_external and the path it returns")
    checkpoint = await service.store.checkpoint(path)
    expires = int(time.time()) + LINK_SECONDS
    urls = {file.name: _link(request, checkpoint, file.name) for file in await _files(service, checkpoint)}
    return JSONResponse({"urls": urls, "expires": responses.timestamp(expires)})


async def link_to_archive(request: Request) -> Response:
    """A redirect that says in its body what it says in its headers, for clients that read either."""
    service: Service = request.app.state.service
    checkpoint = await service.store.checkpoint(checkpoint_path(request))
    if not await service.blobs.fetch(checkpoint.directory):
        raise HTTPException(503, "the checkpoint is still being written; ask again", headers={"Retry-After": "1"})
    expires = int(time.time()) + LINK_SECONDS
    url = _link(request, checkpoint, ARCHIVE)
    when = format_datetime(datetime.fromtimestamp(expires, UTC), usegmt=True)
    return JSONResponse(
        {"url": url, "expires": responses.timestamp(expires)},
        status_code=302,
        headers={"Location": url, "Expires": when},
    )


async def download(request: Request) -> Response:
    service: Service = request.app.state.service
    file = request.path_params["file"]
    try:
        claims = service.signer.open(PURPOSE, request.path_params["token"])
        if claims["file"] != file:
            raise AuthenticationError("the token was made for another file")
    except AuthenticationError as error:
        raise HTTPException(403, str(error)) from None
    # We named this file ourselves; its checkpoint may have gone since.
    checkpoint = await service.store.checkpoint(parse_path(claims["checkpoint"]))
    if checkpoint.directory != claims["directory"]:
        raise NotFoundError(f"checkpoint {checkpoint.path} was saved again since; ask for its links again")
    files = await _files(service, checkpoint)
    if file == ARCHIVE:
        headers = {"Content-Length": str(archive_size(files))}
        return StreamingResponse(archive(files), media_type="application/x-tar", headers=headers)
    chosen = next((one for one in files if one.name == file), None)
    if chosen is None:
        raise NotFoundError(f"checkpoint {checkpoint.path} has no file {file!r}")
    return FileResponse(chosen, media_type="application/octet-stream")


async def _files(service: Service, checkpoint: Checkpoint) -> list[Path]:
    if not await service.blobs.fetch(checkpoint.directory):
        raise NotFoundError(f"checkpoint {checkpoint.path} is listed, but its files are gone")
    return public_files(service.blobs.path(checkpoint.directory))


def _link(request: Request, checkpoint: Checkpoint, file: str) -> str:
    """A URL that needs no key: whoever has it may read this one file, until it expires."""
    service: Service = request.app.state.service
    claims = {"checkpoint": str(checkpoint.path), "directory": checkpoint.directory, "file": file}
    token = service.signer.sign(PURPOSE, claims, LINK_SECONDS)
    return absolute(request, f"/api/v1/downloads/{token}/{quote(file)}")


routes = [
    Route(ONE + "/external_weights_urls", links),
    Route(ONE + "/archive", link_to_archive),
    Route("/downloads/{token}/{file}", download),
]
