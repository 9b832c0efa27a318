"""Lets clients on this machine load the tokenizer of a served model by its name, with no hub, and what cuts its images.

Clients look a tokenizer up under the model's id in the local Hugging Face cache, `models--<org>--<name>/`:
`refs/main` names a snapshot, `snapshots/<40 hex digits>/` holds its files, and `.no_exist/<40 hex digits>/` names those
that it has not, so that nobody asks a hub for them. Entries made here carry a marker with their owner; what somebody
else put into the cache is never touched.

The libraries still ask the hub for lists of files, retry for most of a minute when there is none, and refuse ids that
the hub does not know: clients should set HF_HUB_OFFLINE=1, with which all of it is immediate.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from hone.engine.contract import BaseModel
from hone.paths import DataDirectory, is_in_use
from hone.storage.atomic import remove_tree, write_text

log = logging.getLogger(__name__)

MARKER = ".hone"
FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)


def hub_cache() -> Path:
    """Where the client's libraries look, by their own rules."""
    if cache := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def lookup_id(name: str) -> str:
    """The id under which the client looks for the tokenizer of a model it only knows the name of."""
    name = name.split(":")[0]
    if name.startswith("meta-llama/Llama-3"):
        return "thinkingmachineslabinc/meta-llama-3-instruct-tokenizer"
    return "/".join(name.split("/")[:2])


def publish_tokenizers(models: Iterable[BaseModel], data: DataDirectory) -> list[Path]:
    """Make entries for all models that have none; returns those that are ours."""
    entries = []
    for model in models:
        for hub_id in dict.fromkeys([model.name.split(":")[0], lookup_id(model.name)]):
            try:
                entry = _publish(hub_id, Path(model.directory), data)
            except OSError as error:
                log.warning("the tokenizer of %s cannot be offered to clients: %s", hub_id, error)
            else:
                entries += [entry] if entry else []
    return entries


def withdraw_tokenizers(entries: Iterable[Path], data: DataDirectory) -> None:
    """Give up the entries; those that no other server shares are removed."""
    for entry in entries:
        others = _owners(entry) - {str(data.root)}
        if others:
            write_text(entry / MARKER, "\n".join(sorted(others)))
        elif (entry / MARKER).exists():
            remove_tree(entry)


def _owners(entry: Path) -> set[str]:
    """The data directories of the servers that offer the entry; those of killed servers do not count."""
    marker = entry / MARKER
    named = set(marker.read_text(encoding="utf-8").splitlines()) if marker.is_file() else set()
    return {root for root in named if is_in_use(DataDirectory(Path(root)))}


def _publish(hub_id: str, directory: Path, data: DataDirectory) -> Path | None:
    entry = hub_cache() / f"models--{hub_id.replace('/', '--')}"
    if entry.exists() and not (entry / MARKER).exists():
        return None
    files = [directory / name for name in FILES if (directory / name).is_file()]
    digest = hashlib.sha1(usedforsecurity=False)
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    snapshot = entry / "snapshots" / digest.hexdigest()
    snapshot.mkdir(parents=True, exist_ok=True)
    write_text(entry / MARKER, "\n".join(sorted(_owners(entry) | {str(data.root)})))
    for file in files:
        shutil.copyfile(file, snapshot / file.name)
    missing = entry / ".no_exist" / snapshot.name
    missing.mkdir(parents=True, exist_ok=True)
    for name in {*FILES} - {file.name for file in files}:
        (missing / name).touch()
    (entry / "refs").mkdir(exist_ok=True)
    write_text(entry / "refs" / "main", snapshot.name)
    return entry
