"""`hone version`: what to paste into a bug report."""

import argparse
import importlib.metadata
import json
import platform

from hone import __version__

PACKAGES = ("torch", "tinker", "transformers", "tokenizers", "numpy", "starlette", "uvicorn", "sqlalchemy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    versions = {"hone": __version__, "python": platform.python_version(), "platform": platform.platform()}
    versions |= {name: _installed(name) for name in PACKAGES}
    if args.json:
        print(json.dumps(versions))
        return 0
    width = max(map(len, versions))
    for name, version in versions.items():
        print(f"{name:<{width}}  {version}")
    return 0


def _installed(package: str) -> str:
    """The version from the package's metadata, so that nothing heavy is imported to learn it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
