"""One program in a process of its own, with limits on time, memory, processes, files and output.

On Linux with user namespaces and Landlock the program has no network, sees no other process, reads Python and the
system's libraries and nothing else, writes to a temporary directory only, and ends with all it has started. Where a
kernel or container refuses these, `Outcome.isolation` says which are missing; a guard inside Python then shuts
Python's own doors (sockets, processes, signals), which native code walks around. It is no virtual machine: whoever
finds a hole in the kernel is out.
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from hone.errors import ServerError

CHILD = Path(__file__).with_name("child.py")
PROGRAM = "main.py"
CHUNK = 65_536
GRACE_SECONDS = 5.0
"""How long a killed process may take to be gone."""


@dataclass(frozen=True)
class Limits:
    wall_seconds: float = 10.0
    """From start to end, Python's own start included."""
    cpu_seconds: int = 10
    """For each process."""
    memory_bytes: int = 512 * 2**20
    """Address space, for each process."""
    processes: int = 16
    """Processes and threads at one time."""
    file_bytes: int = 16 * 2**20
    """For each file; the number of files is bounded by time only."""
    output_bytes: int = 64 * 2**10
    """For each of standard output and standard error; a program that writes more is ended."""


@dataclass(frozen=True)
class Isolation:
    """What the kernel enforces for this program, beside its limits."""

    network: bool = False
    """It has a network of its own with nothing in it."""
    processes: bool = False
    """It sees no process but its own, and all of them end with it."""
    files: bool = False
    """It reads Python and the system's libraries and writes to its directory; everything else is closed."""


@dataclass(frozen=True)
class Outcome:
    """How a program ended. Whatever it did, this is data and not an exception."""

    ended: Literal["exit", "signal", "timeout", "output"]
    code: int | None
    """The exit status, or the signal's number; none if we ended it."""
    stdout: str
    stderr: str
    seconds: float
    isolation: Isolation = field(default_factory=Isolation)

    @property
    def ok(self) -> bool:
        return self.ended == "exit" and self.code == 0

    def describe(self) -> str:
        """How it ended, in a few words, for whoever wrote the program."""
        match self.ended:
            case "exit":
                return f"exited with status {self.code}"
            case "signal":
                return f"was ended by {_signal_name(self.code)}"
            case "timeout":
                return f"ran out of time after {self.seconds:.1f} s"
            case "output":
                return "wrote more output than it may"


_SLOTS = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="sandbox")
"""As many programs at once as there are cores: more would only run each other out of time."""


async def run_python(
    source: str,
    *,
    stdin: str = "",
    files: Mapping[str, str] | None = None,
    packages: bool = False,
    limits: Limits | None = None,
) -> Outcome:
    """Run `source` as a main program in a fresh directory that holds `files`; its clock starts when a core is free.

    `packages` makes what is installed beside Hone importable, at the cost of a slower start.

    Raises:
        ServerError: the sandbox itself could not be started.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_SLOTS, _run, source, stdin, files or {}, packages, limits or Limits())


def _run(source: str, stdin: str, files: Mapping[str, str], packages: bool, limits: Limits) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="hone-sandbox-", ignore_cleanup_errors=True) as folder:
        directory = Path(folder)
        for name, text in {**files, PROGRAM: source}.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="replace")
        reading, writing = os.pipe()
        try:
            flags = ["-I", "-B"] if packages else ["-I", "-B", "-S"]
            started = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, *flags, str(CHILD), str(writing), json.dumps(asdict(limits)), str(directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[writing],
                cwd=directory,
                env=_environment(directory),
                start_new_session=True,
            )
            os.close(writing)
            writing = -1
            with process:
                watch = _Watch(process, reading, stdin.encode("utf-8", errors="replace"), limits.output_bytes)
                try:
                    stopped = watch.until_it_ends(started + limits.wall_seconds)
                finally:
                    _kill(process)
            return _outcome(watch, stopped, time.monotonic() - started)
        finally:
            os.close(reading)
            if writing >= 0:
                os.close(writing)


def _environment(directory: Path) -> dict[str, str]:
    """Nothing of ours: keys live in environments."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "LANG": "C.UTF-8",
        "PYTHONIOENCODING": "utf-8",
        # Thread pools of numerical libraries would count as processes.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


class _Watch:
    """Feeds a process and collects what it writes until it ends, its time is over or it has written too much."""

    def __init__(self, process: subprocess.Popen[bytes], status: int, stdin: bytes, output_bytes: int) -> None:
        self._process, self._status, self._stdin, self._limit = process, status, stdin, output_bytes
        self.stdout, self.stderr, self.report = bytearray(), bytearray(), bytearray()

    def until_it_ends(self, deadline: float) -> Literal["timeout", "output"] | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        sinks = {self._process.stdout.fileno(): self.stdout, self._process.stderr.fileno(): self.stderr}
        with selectors.DefaultSelector() as selector:
            for source in (*sinks, self._status):
                os.set_blocking(source, False)
                selector.register(source, selectors.EVENT_READ)
            self._begin_feeding(selector, self._process.stdin)
            # The report ends when the trusted part of the child has ended, and with it the program.
            running = True
            while running:
                left = deadline - time.monotonic()
                if left <= 0:
                    return "timeout"
                for key, _ in selector.select(left):
                    if key.fd == self._status:
                        running = self._read(selector, key.fd, self.report)
                    elif key.fd in sinks:
                        self._read(selector, key.fd, sinks[key.fd])
                    else:
                        self._feed(selector, self._process.stdin)
                if max(len(self.stdout), len(self.stderr)) > self._limit:
                    return "output"
            for source, sink in sinks.items():
                while len(sink) <= self._limit and self._read(selector, source, sink, wait=False):
                    pass
        return "output" if max(len(self.stdout), len(self.stderr)) > self._limit else None

    def _read(self, selector: selectors.BaseSelector, source: int, sink: bytearray, *, wait: bool = True) -> bool:
        """Take what is there. False if there is nothing more to come (or, without `wait`, nothing now)."""
        try:
            data = os.read(source, CHUNK)
        except BlockingIOError:
            return wait
        sink += data
        if not data and wait:
            selector.unregister(source)
        return bool(data)

    def _begin_feeding(self, selector: selectors.BaseSelector, pipe: IO[bytes]) -> None:
        os.set_blocking(pipe.fileno(), False)
        if self._stdin:
            selector.register(pipe.fileno(), selectors.EVENT_WRITE)
        else:
            pipe.close()

    def _feed(self, selector: selectors.BaseSelector, pipe: IO[bytes]) -> None:
        try:
            written = os.write(pipe.fileno(), self._stdin[:CHUNK])
            self._stdin = self._stdin[written:]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._stdin = b""  # the program does not read to the end; that is its right
        if not self._stdin:
            selector.unregister(pipe.fileno())
            pipe.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait(GRACE_SECONDS)


def _outcome(watch: _Watch, stopped: Literal["timeout", "output"] | None, seconds: float) -> Outcome:
    lines = watch.report.decode().splitlines()
    first: dict[str, Any] = json.loads(lines[0]) if lines else {}
    isolation = Isolation(**first) if lines else Isolation()
    stdout, stderr = (_text(data, watch._limit) for data in (watch.stdout, watch.stderr))
    if stopped:
        return Outcome(stopped, None, stdout, stderr, seconds, isolation)
    if len(lines) < 2:
        raise ServerError(f"the sandbox did not start: {stderr.strip()[-500:] or 'its process ended without a word'}")
    last: dict[str, Any] = json.loads(lines[1])
    return Outcome(last["ended"], last["code"], stdout, stderr, seconds, isolation)


def _text(data: bytearray, limit: int) -> str:
    return bytes(data[:limit]).decode("utf-8", errors="replace")


def _signal_name(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"
