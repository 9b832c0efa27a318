"""Runs `hone serve` as a child process: the server that belongs to one program and ends with it."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hone.errors import ServerError, UserError

READY_SECONDS = 120.0
"""How long a start may take. Usually seconds; a large model on a slow disk takes longer."""
STOP_SECONDS = 20.0
"""How long a stop may take before the process is killed. The journal makes that safe."""

USER_ERROR = 2
"""The exit code of `hone serve` for what its user can mend; the last line that it wrote says what."""


@dataclass(frozen=True)
class ServerInfo:
    """The line that `hone serve --json` prints when it is ready."""

    url: str
    api_key: str
    pid: int
    data_dir: str
    models: tuple[str, ...]


@contextmanager
def embedded_server(
    data_dir: Path | None = None,
    *,
    models: Sequence[str] = (),
    log: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[ServerInfo]:
    """A server on a free loopback port while the block runs.

    Without `data_dir` everything it stores is deleted at the end. `models` are values of `hone serve --model`.
    `log` receives what the server writes to its standard error. `settings` are HONE_* variables of its own, beside
    those of this process.
    """
    with tempfile.TemporaryDirectory(prefix="hone-", ignore_cleanup_errors=True) as scratch:
        log = log or Path(scratch) / "server.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as stderr:
            process = subprocess.Popen(
                _command(data_dir or Path(scratch) / "data", models),
                stdin=subprocess.PIPE,  # closed when this process ends, however it ends; then the server stops
                stdout=subprocess.PIPE,
                stderr=stderr,
                # Its own session: Ctrl-C reaches us alone, and we stop it in order.
                start_new_session=True,
                env={**_environment(), **(settings or {})},
            )
        try:
            yield _wait_until_ready(process, log)
        finally:
            _stop(process)


def _command(data_dir: Path, models: Sequence[str]) -> list[str]:
    command = [sys.executable, "-m", "hone.cli.main", "serve", "--json", "--until-stdin-closes", "--port", "0"]
    command += ["--data-dir", str(data_dir)]
    for model in models:
        command += ["--model", model]
    return command


def _environment() -> dict[str, str]:
    """Ours, less where a server that runs elsewhere keeps things: this one keeps everything in its data directory."""
    return {name: value for name, value in os.environ.items() if name not in ("HONE_DATABASE_URL", "HONE_BLOBS_URL")}


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> ServerInfo:
    assert process.stdout is not None
    line = _first_line(process.stdout, time.monotonic() + READY_SECONDS)
    if line:
        ready = json.loads(line)
        return ServerInfo(ready["url"], ready["api_key"], ready["pid"], ready["data_dir"], tuple(ready["models"]))
    try:
        # The end of its output comes a moment before the end of the process.
        code = process.wait(1.0)
    except subprocess.TimeoutExpired:
        raise ServerError(_failure(f"was not ready after {READY_SECONDS:.0f} s", log)) from None
    if code == USER_ERROR and (said := log.read_text(errors="replace").splitlines()):
        raise UserError(f"the embedded server did not start: {said[-1]}")
    raise ServerError(_failure(f"ended with exit code {code}", log))


def _failure(what: str, log: Path) -> str:
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:]) or "it wrote nothing"
    return f"the embedded server {what}; the end of its log:\n{tail}"


def _first_line(stream: IO[bytes], deadline: float) -> bytes:
    """One line; nothing if the stream or the time ends before it does."""
    received = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not received.endswith(b"\n"):
            if not selector.select(timeout=max(0.0, deadline - time.monotonic())):
                return b""
            # Unbuffered: a buffered read could wait for more than there is.
            if not (piece := os.read(stream.fileno(), 65536)):
                return b""
            received += piece
    return received


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
