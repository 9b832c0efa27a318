"""`hone schema`: the JSON Schema of the experiment file, for editors and programs."""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there instead of on standard output")
    add_plugins_argument(parser)
    parser.add_argument("--json", action="store_true", help="without effect: the schema is JSON in any case")


def add_plugins_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugins",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module or file whose plugins are known too, as under `plugins:`; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    from hone.experiments.kinds.plugins import load_entry_points, load_plugins
    from hone.experiments.schema import experiment_schema

    load_entry_points()
    load_plugins(args.plugins, Path.cwd())
    text = json.dumps(experiment_schema(), indent=2, ensure_ascii=False)
    if args.out is None:
        print(text)
        return 0
    args.out.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {args.out}; a first line `# yaml-language-server: $schema={args.out}` makes editors use it")
    return 0
