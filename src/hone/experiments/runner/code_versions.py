"""Versions of what computed an experiment."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

PACKAGES = ("hone", "torch", "tinker", "transformers", "tokenizers", "numpy", "pydantic")


def versions(home: Path) -> dict[str, str]:
    """Of Python, the packages that decide numbers, and the commit of the experiment's own files, if they have one."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    commit = _git(home, "rev-parse", "HEAD")
    if commit:
        changed = _git(home, "status", "--porcelain", "--untracked-files=no")
        found["commit"] = f"{commit} with changes" if changed else commit
    return found


def _git(home: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(home), *words], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
