"""A system in a process and an environment of its own, as the one that measures sees it.

It is stopped while it has nothing to do: some wait in busy loops, and would take a core from whoever is measured.
"""

import contextlib
import json
import os
import selectors
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import psutil

from benchmarks.peers.systems import SYSTEMS
from benchmarks.peers.work import Setting, Work, dumps

ROOT = Path(__file__).parents[2]
START_SECONDS = 420.0
WORK_SECONDS = 180.0
"""Of one piece of work, the first of its kind included, for which some compile for a minute."""


class Failed(Exception):
    """The system did not start, or ended, or did not answer in time."""


class Remote:
    def __init__(self, name: str, python: Path, model: Path, setting: Setting, log: Path, cache: Path | None) -> None:
        """Returns when the system is ready. `cache` keeps what it compiles for the next start, if it can."""
        self.name, self._log, self._failed = name, log, ""
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment |= SYSTEMS[name].environment
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        if cache is not None:
            environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
        start = time.perf_counter()
        with log.open("a") as stderr:
            self._process = subprocess.Popen(
                [str(python), "-m", "benchmarks.peers.worker", name, str(model), json.dumps(asdict(setting))],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        try:
            self._read(START_SECONDS)
        except Failed:
            self.close()
            raise
        self.start_seconds = time.perf_counter() - start
        self._suspend()

    def wake(self) -> None:
        """Let it rest by itself until it is asked again."""
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def run(self, work: Work) -> dict[str, Any]:
        """`seconds`, or `cannot` with the reason. Whoever gives no answer is ended, and can do nothing after that."""
        return self._ask(dumps(work))

    def memory(self) -> dict[str, Any]:
        """`megabytes`, or `cannot` with the reason."""
        return self._ask("memory")

    def close(self) -> None:
        """Its end of input is its order to stop."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.wake()
        try:
            self._process.stdin.close()
            self._process.wait(30)
        except (subprocess.TimeoutExpired, OSError):
            self._kill()
        self._process.stdout.close()

    def _suspend(self) -> None:
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def _kill(self) -> None:
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def _tree(self) -> list[psutil.Process]:
        """With all that it has started: servers have sessions of their own."""
        try:
            worker = psutil.Process(self._process.pid)
            return [worker, *worker.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        if not self._failed:
            self.wake()
            try:
                self._process.stdin.write(line.encode() + b"\n")
                self._process.stdin.flush()
                answer = self._read(WORK_SECONDS)
                self._suspend()
                return answer
            except (Failed, OSError) as error:
                reason = error if isinstance(error, Failed) else self._last_words()
                self._failed = f"{SYSTEMS[self.name].title} {reason}"
                self._kill()
        return {"cannot": self._failed}

    def _read(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = _line(self._process.stdout, time.monotonic() + seconds)
        if not line.endswith(b"\n"):
            raise Failed(self._last_words() if self._ended() else f"did not answer in {seconds:g} s")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self) -> bool:
        try:
            self._process.wait(1.0)  # the end of its output comes a moment before its own
        except subprocess.TimeoutExpired:
            return False
        return True

    def _last_words(self) -> str:
        said = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return f"ended: {said[-1].strip()[-200:] if said else 'it wrote nothing'}"


def _line(stream: IO[bytes], deadline: float) -> bytes:
    """Unbuffered, so that waiting for it is waiting for all of it; cut short where the time or the stream ends."""
    received = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not received.endswith(b"\n"):
            if not selector.select(timeout=max(0.0, deadline - time.monotonic())):
                return received
            if not (piece := os.read(stream.fileno(), 65536)):
                return received
            received += piece
    return received
