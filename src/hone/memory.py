"""The memory that Hone may take, and what for: one number, divided in the same way by whoever asks.

The standard library only, so that the command line can ask without loading a model.
"""

import ctypes
import gc
import os
from dataclasses import dataclass
from pathlib import Path

from hone.errors import UserError

MIB = 1 << 20

PART_OF_MACHINE = 0.75
"""The rest is for the operating system, its file cache, and peaks."""
PROGRAMS = 512 * MIB
"""Both processes with their libraries, before anybody asks for anything."""
LEAST_FREE = 128 * MIB
"""Without so much beside programs and base models, nothing would fit."""

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Of a container, in both versions of control groups."""


def return_freed_bytes() -> None:
    """What the allocator keeps of freed memory, for the next step, goes back to the system; where it can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def keep_loaded() -> None:
    """What a program has loaded by now stays until it ends, so Python's collector need not look at it again and again,
    which took a twentieth of the time of small steps. What only loading needed goes back to the system."""
    gc.collect()  # else what is garbage by now would stay too
    gc.freeze()
    return_freed_bytes()


def resident_bytes(pid: int) -> int:
    """What a process holds; 0 if that cannot be told, or there is none."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


@dataclass(frozen=True)
class MemoryShares:
    """What each use of memory may take at most, in bytes."""

    total: int
    base_models: int
    passes: int
    """Activations of one training pass."""
    cache: int
    """Keys and values of sequences and prefixes, of all base models together."""
    adapters: int
    """Adapters in training, with moments and gradients."""
    versions: int
    """Adapters to sample from."""


def machine_bytes() -> int:
    """What this machine has, or this container may have."""
    has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    said = [file.read_text().strip() for file in map(Path, _LIMITS) if file.is_file()]
    return min([has, *(int(text) for text in said if text.isdigit())])  # "max" is no limit


def memory_shares(total: int | None, base_models: int) -> MemoryShares:
    """Divide `total` bytes (HONE_MEMORY_BYTES; by default most of the machine's) beside base models of this size."""
    asked = total is not None
    total = int(PART_OF_MACHINE * machine_bytes()) if total is None else total
    free = total - PROGRAMS - base_models
    if free < LEAST_FREE:
        needed = (PROGRAMS + base_models + LEAST_FREE) / MIB
        has = f"HONE_MEMORY_BYTES is {total / MIB:.0f} MiB" if asked else f"Hone may take {total / MIB:.0f} MiB here"
        raise UserError(
            f"{has}; the programs take {PROGRAMS / MIB:.0f} and the base models {base_models / MIB:.0f}. "
            f"Set HONE_MEMORY_BYTES to {needed:.0f} MiB or more, on a machine that has them, or serve smaller models"
        )
    return MemoryShares(
        total=total,
        base_models=base_models,
        passes=free // 4,
        cache=free // 4,
        adapters=free * 3 // 8,
        versions=free // 8,
    )
