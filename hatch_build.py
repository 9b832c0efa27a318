"""Compiles the C of `src/hone/engine/native` while Hone is installed, with a compiler that comes as a Python package.

Elsewhere than on Linux on x86-64, and where compiling fails, Hone is installed without it: slower, with the same
samples, and the same gradients but for rounding.
"""

import platform
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "src/hone/engine/native"
PROCESSORS = ("x86_64_v3", "x86_64_v4")
FLAGS = ("-O3", "-shared", "-fPIC", "-fno-math-errno")
# Every sum is rounded where the source says: the framework's bits are the measure.
EXACT = ("-ffp-contract=off",)


class Compile(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or not can_compile():
            return
        folder = Path(self.root) / FOLDER
        for old in folder.glob("*.so"):
            old.unlink()
        try:
            for processor in PROCESSORS:
                compile_for(processor, folder)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or error
            self.app.display_warning(f"The C was not compiled; small models are slower without. {reason}")
            return
        build_data["artifacts"].append(f"{FOLDER}/*.so")
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-manylinux_2_28_x86_64"


def can_compile() -> bool:
    """Whether this is the system that the compiler is asked for."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc"


def compile_for(processor: str, folder: Path) -> None:
    """Written beside its place first: a program that runs keeps what it has loaded."""
    # what loads it asks for this, see `library.py` of the folder
    fingerprint = runpy.run_path(str(folder / "fingerprint.py"))["fingerprint"](folder)
    target = folder / f"step-{processor}.so"
    fresh = target.with_suffix(".so.new")
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-gnu.2.28", f"-mcpu={processor}"]
    named, sources = f'-DHONE_SOURCE="{fingerprint}"', [str(file) for file in sorted(folder.glob("*.c"))]
    command = [*compiler, *FLAGS, *EXACT, named, *sources, "-o", str(fresh)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    fresh.replace(target)
