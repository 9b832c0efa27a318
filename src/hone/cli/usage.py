"""`hone usage`: what was used, by whom, and what it costs."""

import argparse
import json
import time
from collections import defaultdict
from typing import Any

from hone.cli.records import add_record_arguments, ask, print_table, when
from hone.errors import UserError

HOUR = 3600
GROUPS = ("hour", "project", "session", "run", "key", "model")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--by", action="append", choices=GROUPS, help="one line for each of these; may be repeated (default: model)"
    )
    parser.add_argument("--run", help="only this training run")
    parser.add_argument("--session", help="only this session")
    parser.add_argument("--project", help="only this project")
    parser.add_argument("--key", type=int, help="only this key, by its number")
    parser.add_argument("--hours", type=float, help="only so many hours back, the present one included")
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from hone.identity.prices import load_prices
    from hone.server.usage import Filter, meter_storage, used
    from hone.settings import load_settings

    if args.hours is not None and args.hours <= 0:
        raise UserError(f"--hours is {args.hours:g}; it must be more than 0")
    prices = load_prices(load_settings().prices)
    now = time.time()

    def work(connection: Any) -> Any:
        meter_storage(connection, now)
        chosen = Filter(
            projects=None if args.project is None else [args.project],
            run_id=args.run,
            session_id=args.session,
            key_id=args.key,
            since_hour=0 if args.hours is None else int(now - args.hours * HOUR) // HOUR + 1,
        )
        return used(connection, chosen)

    groups = args.by or ["model"]
    sums: dict[tuple[Any, ...], int] = defaultdict(int)
    costs: dict[tuple[Any, ...], float | None] = {}
    for one in ask(args, work):
        fields = {
            "hour": when(one.hour * HOUR),
            "project": one.project_id,
            "session": one.session_id,
            "run": one.run_id,
            "key": one.key_id,
            "model": one.base_model,
        }
        group = (*(fields[name] for name in groups), one.kind)
        sums[group] += one.quantity
        cost = one.cost(prices)
        before = costs.get(group, 0.0)
        costs[group] = None if cost is None or before is None else before + cost
    rows = [
        dict(zip([*groups, "kind"], group, strict=True)) | {"quantity": sums[group], "cost_usd": costs[group]}
        for group in sums
    ]
    if args.json:
        print(json.dumps(rows))
    elif rows:
        print_table(rows)
        print(f"\ntotal: ${sum(cost for cost in costs.values() if cost is not None):.6f}; storage is in byte-seconds")
    else:
        print("Nothing was used.")
    return 0
