"""The engine process: `python -m hone.engine.process FD`, with FD an inherited socket to the API process.

Frames are those of `wire.py`. First the `StartUp` arrives
and the description of the loaded models goes back under ticket 0; then `(ticket, operation)` one way and `(ticket,
result or error)` the other. When the socket closes, the process ends.
"""

import logging
import signal
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from hone.cores import engine_threads
from hone.engine import wire
from hone.engine.contract import ModelSource, base_model_bytes
from hone.errors import HoneError
from hone.memory import keep_loaded, memory_shares


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s engine %(levelname)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes; the API process decides when to stop

    import torch

    from hone.engine.backends.choose import choose_backend
    from hone.engine.limits import Limits
    from hone.engine.loop import EngineLoop
    from hone.engine.models.load import load_models

    connection, sending = socket.socket(fileno=int(sys.argv[1])), threading.Lock()

    def send(ticket: int, message: Any) -> None:
        data = wire.encode((ticket, message))
        try:
            with sending:
                connection.sendall(wire.LENGTH.pack(len(data)) + data)
        except OSError:
            pass  # nobody is listening any more; the reader notices too, and the writes under way are still finished

    start = wire.decode(_receive(connection))
    threads = engine_threads(start["threads"], start["limits"].get("training_threads"))
    torch.set_num_threads(threads.math)
    try:
        backend = choose_backend(*start["device"])
        models = load_models([ModelSource(name, Path(path)) for name, path in start["sources"]], backend)
        described = [model.describe(name) for name, model in models.items()]
        shares = memory_shares(start["memory_bytes"] or backend.memory_bytes, base_model_bytes(described))
        wanted = replace(Limits.of_cores(threads.workers), **backend.limits)
        limits = replace(Limits.within(shares, models, wanted), **start["limits"])
    except HoneError as error:
        send(0, error)
        return 1
    loop = EngineLoop(models, limits, send)
    send(0, tuple(described))
    keep_loaded()
    threading.Thread(target=_read, args=(connection, loop, send), name="reader", daemon=True).start()
    loop.run()
    return 0


def _read(connection: socket.socket, loop: Any, send: Any) -> None:
    try:
        while frame := _receive(connection):
            ticket, message = wire.decode(frame)
            if message == wire.STATS:
                send(ticket, loop.compute_seconds)
            else:
                loop.put(ticket, message)
    finally:  # whatever ends the reading ends the process: nobody may wait for a deaf engine
        loop.put(0, wire.CLOSE)


def _receive(connection: socket.socket) -> bytes:
    """One frame; empty when the other side is gone."""
    head = _exactly(connection, wire.LENGTH.size)
    return _exactly(connection, wire.LENGTH.unpack(head)[0]) if head else b""


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        try:
            part = connection.recv(min(size - len(parts), 1 << 20))
        except OSError:
            return b""
        if not part:
            return b""
        parts += part
    return bytes(parts)


if __name__ == "__main__":
    sys.exit(main())
