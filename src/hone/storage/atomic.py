"""Files that appear under their name only when they are complete."""

import os
import secrets
import shutil
from pathlib import Path


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace `path` by a file with this text, durable and readable only as `mode` says from its first moment on."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def remove_tree(path: Path) -> None:
    """Remove a directory if it is there; its name is gone at once, whatever happens during the removal."""
    doomed = path.with_name(f".{path.name}.{secrets.token_hex(4)}.removed")
    try:
        path.rename(doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def copy_tree(source: Path, target: Path) -> int:
    """A copy of a directory of files that nobody changes, under its name only when complete; returns its size.

    The copy shares the files with the source where the file system can, so it takes no time and no space.
    """
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    draft.mkdir(parents=True)
    try:
        for file in source.iterdir():
            try:
                os.link(file, draft / file.name)
            except OSError:
                shutil.copy2(file, draft / file.name)
        draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return sum(file.stat().st_size for file in target.iterdir())


def tree_size(path: Path) -> int | None:
    """Bytes of the files under `path`; None if there is no such directory."""
    if not path.is_dir():
        return None
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
