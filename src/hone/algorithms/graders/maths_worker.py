"""Compares expressions, one JSON object per line in and out. Run as a program by `maths.py`, which may kill it."""

from __future__ import annotations

import json
import logging
import resource
import sys
from typing import Any

MEMORY_BYTES = 4 * 2**30
"""Address space: a power tower ends this process and not the machine."""


def main() -> None:
    logging.disable(logging.CRITICAL)
    try:
        from math_verify import parse, verify
    except ImportError as error:
        _write({"problem": str(error)})
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))
    _write({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        # The library's own time limits need signals in the main thread of the caller; ours is the kill.
        gold = parse(_boxed(request["gold"]), parsing_timeout=None)
        if not gold:
            _write({"unreadable_gold": True})
            continue
        text = request["answer"] if request["is_text"] else _boxed(request["answer"])
        try:
            right = verify(gold, parse(text, parsing_timeout=None), timeout_seconds=None)
        except (MemoryError, RecursionError):
            right = False
        _write({"right": bool(right)})


def _boxed(expression: str) -> str:
    return rf"\boxed{{{expression}}}"


def _write(reply: dict[str, Any]) -> None:
    print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
