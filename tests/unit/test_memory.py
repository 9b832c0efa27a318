import dataclasses
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from hone import memory
from hone.errors import UserError
from hone.memory import MIB, PROGRAMS, machine_bytes, memory_shares, resident_bytes


@pytest.mark.parametrize("base_models", [0, 5 * MIB, 3000 * MIB])
@pytest.mark.parametrize("total", [3800 * MIB, 16_000 * MIB])
def test_the_shares_are_the_budget(total: int, base_models: int) -> None:
    shares = memory_shares(total, base_models)
    assert shares.total == total
    assert shares.base_models == base_models
    parts = dataclasses.astuple(shares)[2:]
    assert all(part > 0 for part in parts)
    assert total - 8 <= PROGRAMS + base_models + sum(parts) <= total


def test_the_default_is_a_part_of_what_the_machine_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_LIMITS", (str(limit), str(tmp_path / "absent")))
    assert machine_bytes() == has
    limit.write_text("max\n")
    assert machine_bytes() == has
    limit.write_text(f"{2000 * MIB}\n")
    assert machine_bytes() == 2000 * MIB
    assert memory_shares(None, 0).total == 1500 * MIB


def test_too_little_is_refused_and_says_what_is_needed() -> None:
    with pytest.raises(UserError, match=r"HONE_MEMORY_BYTES is 1000 MiB.*base models 2000.*2640 MiB or more"):
        memory_shares(1000 * MIB, 2000 * MIB)
    memory_shares(2640 * MIB, 2000 * MIB)


def test_what_a_process_holds() -> None:
    assert resident_bytes(os.getpid()) > 10 * MIB
    assert resident_bytes(0) == 0


KEEPS = """
from hone.memory import resident_bytes, {returns}
import os
blocks = [bytearray(b"x" * 100_000) for _ in range(1000)]
last = bytearray(100)  # above them: the heap's end cannot move
del blocks
kept = resident_bytes(os.getpid())
{returns}()
print(kept - resident_bytes(os.getpid()))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is known to do it")
@pytest.mark.parametrize("returns", ["return_freed_bytes", "keep_loaded"])
def test_what_is_free_goes_back_to_the_system(returns: str) -> None:
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 25)}
    done = subprocess.run(
        [sys.executable, "-c", KEEPS.format(returns=returns)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) > 80_000_000
