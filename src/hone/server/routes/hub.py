"""What `huggingface_hub` asks of a hub, read-only, under `/hf`. Paths, headers and error codes are the hub's own."""

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from hone.errors import AuthenticationError, ForbiddenError, NotFoundError
from hone.protocol.uris import CheckpointPath
from hone.server.auth import check_scope, presented
from hone.server.hub import Repository, export_path, export_repository
from hone.server.service import Service


async def model_info(request: Request) -> Response:
    found = await _find(request)
    if isinstance(found, Response):
        return found
    siblings = [{"rfilename": name} for name in found.files]
    described = {"id": found.id, "modelId": found.id, "sha": found.commit, "private": found.private, "gated": False}
    return JSONResponse(described | {"disabled": False, "tags": [], "siblings": siblings})


async def tree(request: Request) -> Response:
    """The top folder is the only one."""
    found = await _find(request)
    if isinstance(found, Response):
        return found
    if request.path_params.get("folder", "").strip("/"):
        return _absent("EntryNotFound", "this repository has no folders", found)
    files = [
        {"type": "file", "path": name, "size": file.size, "oid": file.digest} for name, file in found.files.items()
    ]
    return JSONResponse(files)


async def resolve(request: Request) -> Response:
    found = await _find(request)
    if isinstance(found, Response):
        return found
    file = found.files.get(request.path_params["file"])
    if file is None:
        return _absent("EntryNotFound", f"{found.id} has no such file; weights are not offered", found)
    headers = {"ETag": f'"{file.digest}"', "X-Repo-Commit": found.commit}
    return FileResponse(file.path, media_type="application/octet-stream", headers=headers)


async def _find(request: Request) -> Repository | Response:
    service: Service = request.app.state.service
    named = request.path_params
    hub_id = "/".join(named[part] for part in ("organization", "name") if part in named)
    repository = service.hub.repository(hub_id)
    try:
        if repository is None and (path := export_path(hub_id)) is not None:
            repository = await _export(request, service, hub_id, path)
    except AuthenticationError as error:
        return _absent("RepoNotFound", f"{error}; here, HF_TOKEN", status=401)
    except ForbiddenError as error:
        return _absent("GatedRepo", str(error), status=403)
    except NotFoundError as error:
        return _absent("RepoNotFound", str(error))
    if repository is None:
        return _absent("RepoNotFound", f"{hub_id} is not served here")
    if not repository.has_revision(named.get("revision", repository.commit)):
        return _absent("RevisionNotFound", f"{hub_id} has one revision, main", repository)
    return repository


async def _export(request: Request, service: Service, hub_id: str, path: CheckpointPath) -> Repository:
    caller = await service.keys.caller(presented(request.headers))
    check_scope(caller, "GET", request.url.path)
    await service.access.check_checkpoint(caller, str(path))
    export = await service.store.checkpoint(path)
    await service.blobs.fetch(export.directory)
    return export_repository(hub_id, export, service.blobs.path(export.directory))


def _absent(code: str, message: str, repository: Repository | None = None, status: int = 404) -> Response:
    # It may quote the path, which may hold anything; a header may not.
    shown = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in message)
    headers = {"X-Error-Code": code, "X-Error-Message": shown}
    if repository is not None:
        headers["X-Repo-Commit"] = repository.commit  # with it, the library remembers that the file is absent
    return JSONResponse({"error": message}, status_code=status, headers=headers)


def _of_repository(path: str) -> list[str]:
    """Ids have an organisation or not."""
    return [path.replace("{id}", shown) for shown in ("{organization}/{name}", "{name}")]


routes = [
    Route(path, endpoint)
    for shape, endpoint in (
        ("/api/models/{id}/revision/{revision}", model_info),
        ("/api/models/{id}/tree/{revision}", tree),
        ("/api/models/{id}/tree/{revision}/{folder:path}", tree),
        ("/api/models/{id}", model_info),
        ("/{id}/resolve/{revision}/{file:path}", resolve),
    )
    for path in _of_repository(shape)
]
