"""`hone demo`: a server, and three ways of training on it with the official SDK; every number is measured.

One file per stage (`sft.py`, `rl.py`, `many.py`), each readable from top to bottom; `tasks.py` says what they train on.
"""

import argparse
import asyncio
import json
import os
import time
from pathlib import Path

from hone.errors import UserError
from hone.paths import default_data_dir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers, as JSON")
    parser.add_argument("--report", type=Path, metavar="FILE", help="where the HTML report goes (DATA_DIR/report.html)")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="where server and adapters live (in your data folder)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few steps of each stage: shows that it runs, learns little"
    )


def run(args: argparse.Namespace) -> int:
    # The tokenizer is on this machine: asking a hub for it first would fail, and without a network slowly.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Not at the top: `hone demo --help` must stay quick.
    from rich.console import Console

    from hone.cli.demo import ask, report, tables
    from hone.cli.demo.bench import Bench
    from hone.cli.demo.stages import run_all
    from hone.client.connect import service_client
    from hone.client.embedded import embedded_server
    from hone.observe.progress import display

    # Without emoji: `:train:` in a checkpoint's path is no railway carriage.
    console = Console(emoji=False)
    data_dir = (args.data_dir or default_data_dir() / "demo").resolve()
    report_file = (args.report or data_dir / "report.html").resolve()
    for file in filter(None, (report_file, args.json)):
        _make_room(file)  # before the training, not after it
    started = time.perf_counter()
    console.print(
        f"Starting a server on this machine; it keeps its data in {data_dir}", soft_wrap=True, highlight=False
    )
    with embedded_server(data_dir, log=data_dir / "server.log") as server:
        console.print(f"Ready after {time.perf_counter() - started:.1f} s at {server.url}", highlight=False)
        with service_client(server.url, server.api_key) as client, display(console) as shown:
            bench = Bench(client, server.models[0], data_dir, shown, quick=args.quick)
            result = asyncio.run(run_all(bench))

    report.write(result, report_file)
    if args.json:
        args.json.write_text(json.dumps(result.as_json(), indent=2) + "\n", encoding="utf-8")
    taught = result.adapters[0]
    ask_file = ask.write(data_dir, taught.checkpoint)
    learned = [example.question for example in taught.examples if example.after == example.expected]
    console.print()
    tables.print_results(console, result)
    console.print(
        f"\nAll stages ran in {result.seconds:.0f} s. The report with the curves: {report_file}", soft_wrap=True
    )
    tables.print_next_steps(console, data_dir, ask_file, (learned or [taught.examples[0].question])[0])
    return 0


def _make_room(file: Path) -> None:
    try:
        file.resolve().parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}; choose another place") from None
