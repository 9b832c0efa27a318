"""Served tokenizers and exports in the shape of the Hugging Face hub, for other machines: `HF_ENDPOINT=<server>/hf`.

Of models only the files that `tokenizers.FILES` names, never weights; so they need no key, as on a public hub. Exports
are private repositories, for whoever sends a key that may read them: `HF_TOKEN=<key>`.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hone.engine.contract import BaseModel
from hone.protocol.uris import CheckpointPath
from hone.server.archive import public_files
from hone.server.ids import model_id
from hone.server.store import Checkpoint
from hone.server.tokenizers import FILES, lookup_id

BRANCH = "main"
EXPORTS = "exports"
"""The organisation that exports belong to. A repository's name holds no colon, so a run's id is written with dots."""
_EXPORT = re.compile(EXPORTS + r"/([^/.]+)\.train\.([0-9]+)\.([^/]+)")


@dataclass(frozen=True)
class HubFile:
    path: Path
    size: int
    digest: str


@dataclass(frozen=True)
class Repository:
    id: str
    commit: str
    files: dict[str, HubFile]
    private: bool = False

    def has_revision(self, revision: str) -> bool:
        return revision in (BRANCH, self.commit)


class Hub:
    def __init__(self, models: dict[str, BaseModel]) -> None:
        self._directories: dict[str, Path] = {}
        for model in models.values():
            for hub_id in hub_ids(model.name):
                self._directories.setdefault(hub_id, Path(model.directory))
        self._repositories: dict[str, Repository] = {}

    def repository(self, hub_id: str) -> Repository | None:
        """Read on first use; a served model's files do not change."""
        if hub_id not in self._directories:
            return None
        if hub_id not in self._repositories:
            self._repositories[hub_id] = _repository(hub_id, self._directories[hub_id])
        return self._repositories[hub_id]


def export_path(hub_id: str) -> CheckpointPath | None:
    """Which export a repository's id means."""
    found = _EXPORT.fullmatch(hub_id)
    if found is None:
        return None
    session, number, name = found.groups()
    return CheckpointPath(model_id(session, int(number)), "external_weights", name)


def export_repository(hub_id: str, export: Checkpoint, directory: Path) -> Repository:
    """Its files are large and never change, so their place stands for their content."""
    files = {}
    for path in public_files(directory):
        named = f"{export.directory}/{path.name}".encode()
        files[path.name] = HubFile(path, path.stat().st_size, hashlib.sha1(named, usedforsecurity=False).hexdigest())
    commit = hashlib.sha1(f"{export.directory} {export.created_at}".encode(), usedforsecurity=False)
    return Repository(hub_id, commit.hexdigest(), files, private=True)


def hub_ids(model: str) -> Iterable[str]:
    """The ids under which clients look for a served model's tokenizer."""
    return dict.fromkeys([model.split(":")[0], lookup_id(model)])


def _repository(hub_id: str, directory: Path) -> Repository:
    files, commit = {}, hashlib.sha1(usedforsecurity=False)
    for name in FILES:
        path = directory / name
        if path.is_file():
            content = path.read_bytes()
            commit.update(name.encode() + b"\0" + content)
            files[name] = HubFile(path, len(content), hashlib.sha1(content, usedforsecurity=False).hexdigest())
    return Repository(hub_id, commit.hexdigest(), files)
