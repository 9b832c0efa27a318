"""`hone doctor`: checks what Hone stands on, from Python to one real training step, and says how to mend what fails."""

import argparse
import asyncio
import json
import os
import platform
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from hone.cores import available_cores, engine_threads
from hone.errors import HoneError
from hone.memory import machine_bytes, memory_shares
from hone.paths import default_data_dir
from hone.settings import Settings, load_settings

GIB = 1 << 30
LEAST_DISK_GIB = 1.0
"""Room for the journal and some checkpoints; less fails in the middle of a run."""


@dataclass(frozen=True)
class Setup:
    """What the checks look at."""

    settings: Settings
    data_dir: Path
    model_dir: Path


@dataclass(frozen=True)
class Finding:
    check: str
    ok: bool
    found: str
    advice: str = ""


class Unwell(HoneError):
    """A check failed."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.advice = advice


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="check the disk that this data directory is on")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    settings = load_settings()
    data_dir = args.data_dir or settings.data_dir or default_data_dir()
    setup = Setup(settings, data_dir, Path(__file__).parent.parent / "assets" / "tiny")
    findings = [_examine(name, check, setup) for name, check in CHECKS.items()]
    if args.json:
        print(json.dumps({"ok": all(f.ok for f in findings), "checks": [asdict(f) for f in findings]}))
    else:
        _print(findings)
    return 0 if all(finding.ok for finding in findings) else 1


def _examine(name: str, check: Callable[[Setup], str], setup: Setup) -> Finding:
    """A check that raises is a finding, so that one fault does not hide the next."""
    try:
        return Finding(name, True, check(setup))
    except Unwell as fault:
        return Finding(name, False, str(fault), fault.advice)
    except Exception as fault:
        advice = "This looks like a fault of Hone or of its installation: `make clean install`, then report it."
        return Finding(name, False, f"{type(fault).__name__}: {fault}", advice)


def check_python(setup: Setup) -> str:
    return f"{platform.python_version()} in {sys.prefix}"


def check_torch(setup: Setup) -> str:
    try:
        import torch
    except ImportError as error:
        raise Unwell(f"cannot be imported: {error}", "Install it: pip install -c constraints.txt torch") from error
    threads = engine_threads(setup.settings.threads, setup.settings.training_threads)
    return (
        f"{torch.__version__}; cores that may be used: {available_cores()}, engine threads: {threads.workers}, "
        f"each with a math library of one; for what is not divided, of {threads.math}"
    )


def check_device(setup: Setup) -> str:
    import torch

    if not torch.cuda.is_available():
        return "CPU"
    return f"CPU and {torch.cuda.get_device_name(0)} ({torch.cuda.get_device_properties(0).total_memory / GIB:.0f} GiB)"


def check_memory(setup: Setup) -> str:
    weights = sum(file.stat().st_size for file in setup.model_dir.glob("*.safetensors"))
    try:
        shares = memory_shares(setup.settings.memory_bytes, weights)
    except HoneError as error:
        raise Unwell(str(error), "Unset HONE_MEMORY_BYTES to take three quarters of the machine's.") from error
    machine = machine_bytes()
    found = (
        f"{shares.total / GIB:.1f} of {machine / GIB:.1f} GiB for Hone: passes {shares.passes / GIB:.1f}, "
        f"cache {shares.cache / GIB:.1f}, adapters {shares.adapters / GIB:.1f}, versions {shares.versions / GIB:.1f}"
    )
    if shares.total > machine:
        raise Unwell(found, "Set HONE_MEMORY_BYTES to less than the machine, or this container, has.")
    return found


def check_disk(setup: Setup) -> str:
    existing = next(path for path in (setup.data_dir, *setup.data_dir.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free / GIB
    found = f"{free:.1f} GiB free for {setup.data_dir}"
    if not os.access(existing, os.W_OK | os.X_OK):
        raise Unwell(f"{existing} is not writable", "Choose another place with --data-dir or HONE_DATA_DIR.")
    if free < LEAST_DISK_GIB:
        raise Unwell(found, f"Free at least {LEAST_DISK_GIB:.0f} GiB, or choose another disk with --data-dir.")
    return found


def check_database(setup: Setup) -> str:
    """Opens, migrates, writes and reads the configured database, or an SQLite file of the kind a server makes."""
    from sqlalchemy import Connection, text

    from hone.storage.database import Database

    def write_and_read(connection: Connection) -> int:
        connection.execute(text("CREATE TEMPORARY TABLE doctor (value INTEGER)"))
        connection.execute(text("INSERT INTO doctor VALUES (42)"))
        found = int(connection.execute(text("SELECT value FROM doctor")).scalar_one())
        connection.execute(text("DROP TABLE doctor"))
        return found

    async def use(url: str) -> tuple[int, float]:
        database = Database(url, setup.settings.sqlite_synchronous)
        started = time.perf_counter()
        try:
            return await database.run(write_and_read), time.perf_counter() - started
        finally:
            database.close()

    with tempfile.TemporaryDirectory() as scratch:
        url = setup.settings.database_url or f"sqlite:///{scratch}/hone.sqlite"
        try:
            value, seconds = asyncio.run(use(url))
        except Exception as error:
            advice = "Check HONE_DATABASE_URL." if setup.settings.database_url else "Check the disk and TMPDIR."
            raise Unwell(f"{type(error).__name__}: {error}", advice) from error
    assert value == 42
    return f"{url.split(':', 1)[0]} writes and reads in {1000 * seconds:.1f} ms"


def check_blobs(setup: Setup) -> str:
    """Writes a directory to the configured object store, reads it back and removes it."""
    from hone.storage.object_store import ObjectStore

    if setup.settings.blobs_url is None:
        return "the data directory"
    with tempfile.TemporaryDirectory() as scratch:
        written, read = Path(scratch) / "written", Path(scratch) / "read"
        for folder in (written, read):
            folder.mkdir()
        (written / "file").write_text("42")
        name = f"doctor/{secrets.token_hex(4)}"
        started = time.perf_counter()
        try:
            store = ObjectStore(setup.settings.blobs_url)
            store.put(name, written)
            found = store.get(name, read) and (read / "file").read_text()
            store.remove(name)
        except HoneError as error:
            raise Unwell(str(error), "Check HONE_BLOBS_URL; its keys must read, write, list and delete.") from error
        seconds = time.perf_counter() - started
    if found != "42":
        raise Unwell(f"wrote 42 and read {found!r}", "This is no store to trust; choose another for HONE_BLOBS_URL.")
    return f"the object store writes, reads and removes in {1000 * seconds:.1f} ms"


def check_tokenizer(setup: Setup) -> str:
    from tokenizers import Tokenizer

    file = setup.model_dir / "tokenizer.json"
    if not file.exists():
        raise Unwell(f"{file} is missing", "The installation lacks the embedded model; install Hone again.")
    tokenizer = Tokenizer.from_file(str(file))
    text = "What is 37 + 45?"
    tokens = tokenizer.encode(text).ids
    if tokenizer.decode(tokens) != text:
        raise Unwell(f"{text!r} comes back as {tokenizer.decode(tokens)!r}", "Install Hone again.")
    return f"{tokenizer.get_vocab_size():,} tokens; {len(text)} characters in {len(tokens)}"


def check_compiled(setup: Setup) -> str:
    """Slower is not unwell."""
    import torch

    from hone.engine.attention import KeyValueCache
    from hone.engine.contract import ModelSource
    from hone.engine.models.load import load_model
    from hone.engine.native.agreement import trusted_decoder
    from hone.engine.native.library import library

    torch.set_num_threads(engine_threads(setup.settings.threads, setup.settings.training_threads).math)
    model = load_model(ModelSource("hone/tiny", setup.model_dir))
    cache = KeyValueCache(model.config.layers, 256, model.config.kv_heads, model.config.head_dim)
    if model.decoder.written_in_c is not None and trusted_decoder(model, cache) is not None:
        return "small models on a CPU train and sample in C, with the bits of torch's own operations forward"
    reason = "was not compiled here" if library() is None else "has other bits than torch's own operations here"
    return f"by torch's own operations, several times slower for small models on a CPU: the C {reason}"


def check_training(setup: Setup) -> str:
    """A real engine process, an adapter, one gradient, one step, and the loss before and after it."""
    return asyncio.run(_train_one_step(setup))


async def _train_one_step(setup: Setup) -> str:
    import numpy as np

    from hone.engine.build import start_engine
    from hone.engine.contract import CreateAdapter, Device, ForwardBackward, ModelSource, OptimStep
    from hone.protocol.types import AdamParams, Datum, LoraConfig

    tokens = np.arange(2, 34, dtype=np.int32)
    datum = Datum(tokens[:-1], {"target_tokens": tokens[1:].astype(np.int64), "weights": np.ones(31, dtype=np.float32)})
    started = time.perf_counter()
    settings, source = setup.settings, ModelSource("hone/tiny", setup.model_dir)
    device = Device(settings.device, settings.dtype, settings.invariant)
    engine = await start_engine([source], threads=settings.threads, device=device)
    ready = time.perf_counter()
    try:
        step = ForwardBackward("doctor", (datum,), "cross_entropy", {})
        submitted = [
            engine.submit(CreateAdapter("doctor", "hone/tiny", LoraConfig(rank=8, seed=0))),
            engine.submit(step),
            engine.submit(OptimStep("doctor", AdamParams(learning_rate=1e-3))),
            engine.submit(step),
        ]
        _, before, _, after = await asyncio.gather(*submitted)
    finally:
        await engine.close()
    losses = before.metrics["loss:sum"], after.metrics["loss:sum"]
    found = f"loss {losses[0]:.2f} -> {losses[1]:.2f}; engine ready after {ready - started:.1f} s"
    if not losses[1] < losses[0]:
        raise Unwell(found, "A step must lower the loss on its own example; please report this with `hone version`.")
    return found


CHECKS: dict[str, Callable[[Setup], str]] = {
    "Python": check_python,
    "torch": check_torch,
    "device": check_device,
    "memory": check_memory,
    "disk": check_disk,
    "database": check_database,
    "checkpoints": check_blobs,
    "tokenizer": check_tokenizer,
    "compiled C": check_compiled,
    "one training step": check_training,
}


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "check", "found", show_edge=False)
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else "[bold red]failed[/]"
        table.add_row(mark, finding.check, finding.found + (f"\n[bold]{finding.advice}[/]" if finding.advice else ""))
    console = Console()
    console.print(table)
    failed = sum(not finding.ok for finding in findings)
    console.print(f"\n{failed} of {len(findings)} checks failed" if failed else "\nEverything works.")
