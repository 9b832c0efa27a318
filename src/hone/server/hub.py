"""Served tokenizers in the shape of the Hugging Face hub, for clients on other machines: `HF_ENDPOINT=<server>/hf`.

Only the files that `tokenizers.FILES` names, never weights; so they need no key, as on a public hub.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hone.engine.contract import BaseModel
from hone.server.tokenizers import FILES, lookup_id

BRANCH = "main"


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
