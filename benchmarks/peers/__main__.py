"""Hone beside the systems that people would use instead, on this machine, in one run.

    python -m benchmarks.peers [--only CHAPTER ...] [--systems NAME ...] [--rounds 7] [--seconds 10] [--page FILE]

`make peers` makes their environments first. Writes docs/benchmarks.md, from benchmarks/peers/results.json: chapters
that are measured again replace what was there.
"""

import argparse
import contextlib
import datetime
import functools
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from benchmarks.peers.measure import START, Runner, lacks, measure_chapter, measure_starts
from benchmarks.peers.model import write_model
from benchmarks.peers.remote import ROOT, Failed, Remote
from benchmarks.peers.results import Result, read_report, write_report
from benchmarks.peers.rows import CHAPTERS
from benchmarks.peers.systems import OURS, SYSTEMS
from benchmarks.peers.table import page
from benchmarks.peers.work import Setting

ENVIRONMENTS = ROOT / ".venv-peers"
STARTS = "start"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument("--only", nargs="*", default=[*CHAPTERS, STARTS], choices=[*CHAPTERS, STARTS], metavar="NAME")
    parser.add_argument("--systems", nargs="*", default=list(SYSTEMS), choices=list(SYSTEMS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10.0, help="a row's rounds end after this, but for three")
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="a folder for each system")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    pythons = {name: _python(name, args.environments) for name in dict.fromkeys([*OURS, *args.systems])}
    if absent := [name for name, python in pythons.items() if not python.exists()]:
        parser.error(f"no environment for {', '.join(absent)}: run `make peers`, or choose others with --systems")
    report = read_report(args.results)
    report.machine = _machine()
    report.versions |= {name: _versions(name, python) for name, python in pythons.items()}
    with tempfile.TemporaryDirectory(prefix="hone-peers-") as scratch:
        model, log = Path(scratch) / "model", Path(scratch) / "log"
        write_model(model)
        for name in args.only:
            start = functools.partial(_start, pythons, model, log)
            report.conditions[CHAPTERS[name].title if name in CHAPTERS else START] = _conditions()
            if name == STARTS:
                launches = {s: functools.partial(start, s, Setting(), None) for s in pythons}
                report.add(measure_starts(launches, args.rounds))
            else:
                report.add(_chapter(name, start, list(pythons), args))
            write_report(report, args.results)
            args.page.write_text(page(report))
    print(page(report))


def _end(*_: object) -> None:
    """Through the clean-up, which nothing may cut short: servers would outlive us."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)


def _chapter(name: str, start: Callable[..., Remote], systems: list[str], args: argparse.Namespace) -> list[Result]:
    chapter = CHAPTERS[name]
    missing: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        running: dict[str, Runner] = {}
        able = []
        for system in systems:
            reasons = [lacks(system, row.work) for row in chapter.rows]
            if all(reasons):
                missing[system] = str(reasons[0])
            else:
                able.append(system)

        def begin(system: str) -> None:
            try:
                running[system] = start(system, chapter.setting, args.environments / "compiled")
            except Failed as reason:
                missing[system] = f"{SYSTEMS[system].title} {reason}"
            else:
                stack.callback(running[system].close)

        with ThreadPoolExecutor() as pool:  # how long a start takes is a chapter of its own
            list(pool.map(begin, able))
        running = {system: running[system] for system in able if system in running}
        print(f"{name}: {', '.join(running)} run", file=sys.stderr, flush=True)
        return measure_chapter(chapter, running, missing, args.rounds, args.seconds)


def _start(pythons: dict[str, Path], model: Path, log: Path, name: str, setting: Setting, cache: Path | None) -> Remote:
    return Remote(name, pythons[name], model, setting, log.with_name(f"{name}.log"), cache)


def _python(name: str, environments: Path) -> Path:
    return Path(sys.executable) if name in OURS else environments / SYSTEMS[name].module / "bin" / "python"


def _machine() -> dict[str, str]:
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "machine": f"{psutil.cpu_count()} cores ({model}), {psutil.virtual_memory().total / 2**30:.0f} GiB of memory",
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "command": "`make peers`, then `python -m benchmarks.peers`",
    }


def _conditions() -> str:
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{when}; load of the machine in the five minutes before: {os.getloadavg()[1]:.1f}"


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def _versions(name: str, python: Path) -> dict[str, str]:
    packages = SYSTEMS[name].packages
    code = f"import importlib.metadata as m\nfor p in {packages!r}: print(m.version(p))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return dict(zip(packages, done.stdout.split(), strict=True))


if __name__ == "__main__":
    main()
