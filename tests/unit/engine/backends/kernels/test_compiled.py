"""Triton's language is not Python's: what the interpreter runs may still not compile."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


def test_every_kernel_compiles_for_a_gpu(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    program = Path(__file__).with_name("compiled.py")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, env=environment, timeout=110)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 * (4 + 2 + 3 + 1)
