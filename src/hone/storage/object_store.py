"""Directories in an object store: S3 and what speaks its protocol. Blocking; whoever uses it has threads.

A directory is there when its list of files is, which is written last and removed first.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from hone.errors import ServerError, UserError

if TYPE_CHECKING:
    import obstore.store

LIST = ".complete"
"""The list of a directory's files and their sizes."""

SCHEMES = ("s3", "gs", "az", "file")


class ObjectStore:
    def __init__(self, url: str) -> None:
        """`url` may carry the library's settings, such as `?endpoint_url=http://127.0.0.1:9000&region=eu-west-1`."""
        self._store = _open(url)
        try:
            self.names("")
        except ServerError as error:
            raise UserError(f"HONE_BLOBS_URL {_shown(url)} cannot be used: {error}") from error

    def put(self, name: str, directory: Path) -> None:
        """Returns when all files of `directory` are safe under `name`."""
        import obstore

        files = sorted(file for file in directory.iterdir() if file.is_file())
        with _attributed(f"write {name}"):
            for file in files:
                obstore.put(self._store, f"{name}/{file.name}", file)
            sizes = {file.name: file.stat().st_size for file in files}
            obstore.put(self._store, f"{name}/{LIST}", json.dumps(sizes, indent=1).encode())

    def get(self, name: str, directory: Path) -> bool:
        """Write the files under `name` into an empty directory, durably; False if they are not (all) there."""
        import obstore

        sizes = self.sizes(name)
        if sizes is None:
            return False
        with _attributed(f"read {name}"):
            for file, size in sizes.items():
                try:
                    chunks = obstore.get(self._store, f"{name}/{file}").stream()
                except FileNotFoundError:
                    return False  # it is being removed
                with (directory / file).open("xb") as target:
                    for chunk in chunks:
                        target.write(chunk)
                    target.flush()
                    os.fsync(target.fileno())
                    if target.tell() != size:
                        raise ServerError(f"{name}/{file} has {target.tell()} bytes in the object store, not {size}")
        return True

    def sizes(self, name: str) -> dict[str, int] | None:
        """The files under `name`; None if there is no complete directory."""
        import obstore

        with _attributed(f"read {name}"):
            try:
                content = bytes(obstore.get(self._store, f"{name}/{LIST}").bytes())
            except FileNotFoundError:
                return None
        found: dict[str, int] = json.loads(content)
        return found

    def remove(self, name: str) -> None:
        """Fine if there is nothing, or only a part."""
        import obstore

        with _attributed(f"remove {name}"):
            with suppress(FileNotFoundError):
                obstore.delete(self._store, f"{name}/{LIST}")
            files = [item["path"] for page in obstore.list(self._store, name) for item in page]
            if files:
                obstore.delete(self._store, files)

    def names(self, folder: str) -> set[str]:
        """Of the directories in a folder, complete or not."""
        import obstore

        with _attributed(f"list {folder or 'it'}"):
            found = obstore.list_with_delimiter(self._store, folder or None)
        return {prefix.rsplit("/", 1)[-1] for prefix in found["common_prefixes"]}


def _open(url: str) -> "obstore.store.ObjectStore":
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise UserError(f"HONE_BLOBS_URL is {_shown(url)}; it must be like s3://BUCKET/PREFIX")
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ModuleNotFoundError:
        raise UserError("HONE_BLOBS_URL names an object store, which needs obstore: install hone[s3]") from None
    settings: dict[str, Any] = dict(parse_qsl(parts.query))
    options: dict[str, Any]
    if parts.scheme == "file":
        options = {"automatic_cleanup": True, "mkdir": True}
    else:
        client = {
            "connect_timeout": timedelta(seconds=10),
            "read_timeout": timedelta(seconds=60),
            "timeout": timedelta(hours=1),  # of a whole file, however large
            "allow_http": any(value.startswith("http://") for value in settings.values()),
        }
        retries = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
        options = {"config": settings, "client_options": client, "retry_config": retries}
    try:
        return from_url(_shown(url), **options)
    except (BaseError, ValueError, OSError) as error:
        raise UserError(f"HONE_BLOBS_URL {_shown(url)} cannot be used: {_told(error)}") from error


def _shown(url: str) -> str:
    """Without its query, which may hold keys."""
    return url.split("?", 1)[0]


@contextmanager
def _attributed(doing: str) -> Iterator[None]:
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError) as error:
        raise ServerError(f"the object store could not {doing}: {_told(error)}") from error


def _told(error: Exception) -> str:
    """In one line, without the library's own view of it."""
    return " ".join(str(error).partition("Debug source")[0].split())
