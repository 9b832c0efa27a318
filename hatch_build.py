"""Compiles the C of `src/hone/engine/native` while Hone is installed, with a compiler that comes as a Python package.

Elsewhere than on Linux on x86-64, and where compiling fails, Hone is installed without it: slower, with the same
results.
"""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "src/hone/engine/native"
PROCESSORS = ("x86_64_v3", "x86_64_v4")
FLAGS = ("-O3", "-shared", "-fPIC", "-fno-math-errno", "-Wall", "-Wextra", "-Werror")
# Every sum is rounded where the source says: the framework's bits are the measure.
EXACT = ("-ffp-contract=off",)


class Compile(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not (sys.platform == "linux" and platform.machine() == "x86_64"):
            return
        folder = Path(self.root) / FOLDER
        try:
            for processor in PROCESSORS:
                compile_for(processor, folder / "step.c", folder / f"step-{processor}.so")
        except subprocess.CalledProcessError as error:
            self.app.display_warning(f"The native step was not compiled; sampling is slower without. {error.stderr}")
            return
        build_data["artifacts"].append(f"{FOLDER}/*.so")
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-manylinux_2_28_x86_64"


def compile_for(processor: str, source: Path, target: Path) -> None:
    """Written beside its place first: a program that runs keeps what it has loaded."""
    fresh = target.with_suffix(".new")
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-gnu.2.28"]
    command = [*compiler, *FLAGS, *EXACT, f"-mcpu={processor}", str(source), "-o", str(fresh)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    fresh.replace(target)
