"""Which C a library was compiled from. `hatch_build.py` runs this file too, where Hone cannot be imported."""

import hashlib
from pathlib import Path


def fingerprint(folder: Path) -> str:
    """Of the C in `folder`."""
    sources = sorted([*folder.glob("*.c"), *folder.glob("*.h")])
    return hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()
