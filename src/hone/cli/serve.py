"""`hone serve`: the one place where settings, engine and server are put together."""

import argparse
import asyncio
import contextlib
import errno
import fcntl
import json
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from hone.engine.build import start_engine
from hone.engine.contract import Device, ModelSource
from hone.errors import UserError
from hone.identity.keys import server_key
from hone.memory import keep_loaded
from hone.observe import spans
from hone.observe.logs import configure_logs
from hone.paths import DataDirectory, default_data_dir
from hone.settings import Settings, load_settings

if TYPE_CHECKING:
    from hone.server.service import Service

log = logging.getLogger(__name__)

EMBEDDED_MODEL = "hone/tiny"
LOOPBACK = ("127.0.0.1", "::1", "localhost")

EARLIER_ENGINE_SECONDS = 60.0
"""How long the engine of a killed server may take for the pass and the writes that were under way."""

OPEN_FILES = 65536
"""Files and connections that the server may hold at once, where the system allows as many."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="a Hugging Face model directory to serve, under its own name or under NAME; may be repeated "
        f"(default: the embedded model {EMBEDDED_MODEL})",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=8000, help="port to listen on; 0 picks a free one (default: %(default)s)"
    )
    parser.add_argument("--data-dir", type=Path, help="where everything is kept (default: ~/.local/share/hone)")
    parser.add_argument(
        "--api-key",
        help="the key that clients must send (default: HONE_API_KEY, TINKER_API_KEY, or one made on first start)",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON on standard output when ready")
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="stop when standard input is closed too, as it is when the program that started this one ends",
    )


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is no port; ports are 0 to 65535")
    return port


def run(args: argparse.Namespace) -> int:
    settings = load_settings()
    if args.data_dir is not None:
        settings = replace(settings, data_dir=args.data_dir)
    if args.api_key is not None:
        settings = replace(settings, api_key=args.api_key)
    configure_logs(settings.log_level)
    sources = model_sources(args.model)
    data = DataDirectory((settings.data_dir or default_data_dir()).expanduser().resolve())
    data.make()
    allow_many_connections()
    settings = replace(settings, api_key=server_key(data.api_key, settings.api_key))
    with (
        only_server(data),
        no_earlier_engine(data) as held,
        _listening(args.host, args.port) as listener,
        asyncio.Runner(loop_factory=_loop_factory()) as runner,
    ):
        runner.run(_serve(sources, settings, data, held, listener, args.json, args.until_stdin_closes))
    return 0


def allow_many_connections() -> None:
    """Every sample that is waited for holds a connection; the usual limit of 1,024 open files would refuse the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """A faster event loop where there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def model_sources(given: list[str]) -> list[ModelSource]:
    """`[NAME=]DIR` as models; a directory without a name is served under its own."""
    if not given:
        embedded = Path(str(resources.files("hone"))) / "assets" / "tiny"
        return [ModelSource(EMBEDDED_MODEL, embedded)]
    sources = []
    for text in given:
        name, _, directory = text.rpartition("=")
        path = Path(directory).expanduser().resolve()
        if not (path / "config.json").is_file():
            raise UserError(f"--model {text}: {path} is not a Hugging Face model directory; it has no config.json")
        if not (path / "tokenizer.json").is_file():
            log.warning("%s has no tokenizer.json: get_tokenizer() and stop strings will not work for it", path)
        sources.append(ModelSource(name or path.name, path))
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise UserError(f"--model: two models have the same name ({', '.join(names)}); tell them apart with NAME=DIR")
    return sources


@contextlib.contextmanager
def only_server(data: DataDirectory) -> Iterator[None]:
    """Two servers on one data directory would undo each other's work. The lock ends with the process, in any case."""
    with data.lock.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UserError(
                f"{data.root} is in use by another server (pid {lock.read().strip() or 'unknown'}); "
                "stop it or choose another --data-dir"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextlib.contextmanager
def no_earlier_engine(data: DataDirectory) -> Iterator[int]:
    """Waits for the engine of a killed server, whose last writes would meet ours. Yields the lock for our own engine to
    hold: it ends with the last process that does."""
    deadline = time.monotonic() + EARLIER_ENGINE_SECONDS
    with data.engine_lock.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"the engine of an earlier server still works on {data.root}; "
                        "end its process (hone.engine.process) and start again"
                    ) from None
            time.sleep(0.05)
        yield lock.fileno()


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """The port is taken before anything slow starts, so that a port in use is reported at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named in full, because only then does the event loop turn off the delay that small answers would suffer.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            mend = "try --port 0" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "check --host"
            raise UserError(f"cannot listen on {host} port {port}: {error.strerror}; {mend}") from None
        yield listener


async def _serve(
    sources: list[ModelSource],
    settings: Settings,
    data: DataDirectory,
    held: int,
    listener: socket.socket,
    as_json: bool,
    until_stdin_closes: bool,
) -> None:
    """Serve until a signal comes, then stop cleanly."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for stop_signal in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(stop_signal, stopping.set)
    if until_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), _end_of_input, sys.stdin.fileno(), stopping)
    if settings.otel:
        spans.enable()
    starting = asyncio.create_task(
        start_engine(
            sources,
            threads=settings.threads,
            training_threads=settings.training_threads,
            held=[held],
            device=Device(settings.device, settings.dtype, settings.invariant),
            memory_bytes=settings.memory_bytes,
            checked_parameters=settings.checked_parameters,
            cache_bytes=settings.cache_bytes,
        )
    )
    await asyncio.to_thread(_import_server)  # while the engine's process imports and loads: each takes a second
    engine = await starting
    from hone.server.app import create_app
    from hone.server.service import Service
    from hone.server.tokenizers import publish_tokenizers, withdraw_tokenizers
    from hone.server.web import WebServer

    service = Service(engine, data, settings)
    tokenizers = publish_tokenizers(engine.models.values(), data) if settings.publish_tokenizers else []
    try:
        await service.start()
        async with WebServer(create_app(service), listener):
            keep_loaded()
            _announce(service, listener, as_json)
            await stopping.wait()
            service.futures.release()
    finally:
        withdraw_tokenizers(tokenizers, data)
        await service.stop()


def _import_server() -> None:
    import hone.server.app
    import hone.server.service
    import hone.server.tokenizers
    import hone.server.web  # noqa: F401


def _end_of_input(descriptor: int, stopping: asyncio.Event) -> None:
    """Called whenever there is something to read; what is there does not matter, only that no more can come."""
    if not os.read(descriptor, 4096):
        asyncio.get_running_loop().remove_reader(descriptor)
        stopping.set()


def _announce(service: "Service", listener: socket.socket, as_json: bool) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    names = list(service.models)
    if as_json:
        ready = {
            "url": url,
            "api_key": service.settings.api_key,
            "pid": os.getpid(),
            "data_dir": str(service.data.root),
            "models": names,
        }
        print(json.dumps(ready), flush=True)
        return
    print(f"Serving {', '.join(names)} (data in {service.data.root}). Ctrl-C stops it. In another terminal:\n")
    print(f"  export TINKER_BASE_URL={url}\n  export TINKER_API_KEY={service.settings.api_key}\n")
    print("On this machine, HF_HUB_OFFLINE=1 lets get_tokenizer() find the tokenizers without a hub.", flush=True)
    if host not in LOOPBACK:
        print(f"Note: {host} can be reached from other machines, without encryption.", file=sys.stderr, flush=True)
