"""The answer is mathematically equal to the gold answer: `math-verify` and sympy, with a time limit."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import queue
import re
import selectors
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hone.algorithms.graders.answers import marked_answer
from hone.algorithms.graders.grade import Grade, GradingError, Task, verdict

WORKER = Path(__file__).with_name("maths_worker.py")
START_SECONDS = 120.0
"""For importing sympy, on a machine that is busy."""
SPACING = re.compile(r"\\[!,;:]|\\(?:left|right|displaystyle|quad)(?![a-zA-Z])")
IN_BASE = re.compile(r"[0-9A-Za-z]+_\{?(\d+)\}?")
LONGEST_BARE = 200
"""Characters up to which an answer without a mark is taken for the bare expression."""


@dataclass(frozen=True)
class Maths:
    """Compares the marked answer, else the whole text, with `task.gold`; both may be LaTeX or plain.

    Numbers agree to six significant digits, sets and lists without order, intervals and tuples with theirs; a unit
    may be missing or another. The comparison runs in another process, as some expressions keep sympy busy for hours:
    one that takes longer than `seconds` is wrong.
    """

    seconds: float = 5.0

    async def __call__(self, task: Task, answer: str) -> Grade:
        marked = marked_answer(answer)
        found, gold = _tidy(answer if marked is None else marked), _tidy(marked_answer(task.gold) or task.gold)
        if not found:
            return verdict(False, found="nothing")
        if _letters(found) == _letters(gold):
            return verdict(True, found=found[:200])
        if None not in (_base(found), _base(gold)) and _base(found) != _base(gold):
            return verdict(False, found=found[:200])
        is_text = marked is None and len(found) > LONGEST_BARE
        request = {"gold": gold, "answer": found, "is_text": is_text}
        reply = await asyncio.get_running_loop().run_in_executor(_THREADS, _ask, request, self.seconds)
        if reply is None:
            return verdict(False, found=found[:200], problem=f"no comparison within {self.seconds:g} s")
        if "unreadable_gold" in reply:
            raise GradingError(f"the gold answer {task.gold!r} is no mathematical expression")
        return verdict(reply["right"], found=found[:200])


def _tidy(text: str) -> str:
    """LaTeX without what only moves or sizes its signs."""
    return SPACING.sub("", text.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")).strip().strip("$").strip()


def _letters(text: str) -> str:
    return "".join(text.split()).rstrip(".")


def _base(text: str) -> str | None:
    """Of a number written with its base, such as `52_8`; the library reads past it."""
    found = IN_BASE.fullmatch(_letters(text))
    return found.group(1) if found else None


class _Worker:
    """A process that compares, one request at a time."""

    def __init__(self) -> None:
        # -P keeps the worker's folder out of its import path: our regex.py is not what others mean by `regex`.
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        ready = self.read(START_SECONDS)
        if ready is None or "ready" not in ready:
            self.end()
            raise GradingError(
                f"comparing expressions needs `pip install 'hone[math]'`: {(ready or {}).get('problem')}"
            )

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        return self.read(seconds)

    def read(self, seconds: float) -> dict[str, Any] | None:
        """The next line, or None if it does not come in time or the process has ended."""
        assert self.process.stdout is not None
        deadline, line = time.monotonic() + seconds, b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                data = os.read(self.process.stdout.fileno(), 65_536)
                if not data:
                    return None
                line += data
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        with self.process:
            self.process.kill()


_THREADS = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="maths")
_IDLE: queue.LifoQueue[_Worker] = queue.LifoQueue()


def _ask(request: dict[str, Any], seconds: float) -> dict[str, Any] | None:
    try:
        worker = _IDLE.get_nowait()
    except queue.Empty:
        worker = _Worker()
    reply = worker.ask(request, seconds)
    if reply is None:
        worker.end()
    else:
        _IDLE.put(worker)
    return reply


@atexit.register
def _end_idle() -> None:
    while not _IDLE.empty():
        _IDLE.get_nowait().end()
