"""`hone schema`: the JSON Schema of the experiment file, for editors and programs."""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there instead of on standard output")
    parser.add_argument("--json", action="store_true", help="without effect: the schema is JSON in any case")


def run(args: argparse.Namespace) -> int:
    from hone.experiments.schema import experiment_schema

    text = json.dumps(experiment_schema(), indent=2, ensure_ascii=False)
    if args.out is None:
        print(text)
        return 0
    args.out.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {args.out}; a first line `# yaml-language-server: $schema={args.out}` makes editors use it")
    return 0
