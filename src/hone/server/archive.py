"""A checkpoint as one tar stream: how clients before 0.38 download."""

import asyncio
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

COMPLETE = "checkpoint_complete"
"""An empty last file; clients take an archive without it for one that was cut short."""

OURS = frozenset({"hone.json", "optimizer.safetensors"})
"""What only continuing the run needs, and no other tool reads."""

CHUNK_BYTES = 1 << 20


def public_files(directory: Path) -> list[Path]:
    """The files of a checkpoint that are meant for other tools."""
    return sorted(file for file in directory.iterdir() if file.is_file() and file.name not in OURS)


def archive_size(files: list[Path]) -> int:
    blocks = sum(tarfile.BLOCKSIZE + _padded(file.stat().st_size) for file in files)
    return blocks + tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE  # the last file, and the end


async def archive(files: list[Path]) -> AsyncIterator[bytes]:
    for file in files:
        size = file.stat().st_size
        yield _header(file.name, size)
        with file.open("rb") as content:
            while chunk := await asyncio.to_thread(content.read, CHUNK_BYTES):
                yield chunk
        yield bytes(_padded(size) - size)
    yield _header(COMPLETE, 0)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)  # which has room for more than 8 GiB


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
