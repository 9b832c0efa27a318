"""`hone estimate`: what a training run will cost, before it is started."""

import argparse
import json

from hone.cli.records import print_table
from hone.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="*", help="the base model; without it, the price of all that have no other")
    parser.add_argument("--steps", type=int, default=1, help="how often the following happens (default: 1)")
    parser.add_argument("--training", type=int, default=0, help="tokens trained on, in each step")
    parser.add_argument("--prefill", type=int, default=0, help="prompt tokens, in each step")
    parser.add_argument("--cached-prefill", type=int, default=0, help="prompt tokens in the cache, in each step")
    parser.add_argument("--sample", type=int, default=0, help="sampled tokens, in each step")
    parser.add_argument("--storage-gb", type=float, default=0.0, help="gigabytes of checkpoints, kept for one month")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    from hone.identity.prices import GIGABYTE, MONTH_HOURS, STORAGE, TOKEN_KINDS, load_prices
    from hone.settings import load_settings

    prices = load_prices(load_settings().prices)
    if not prices.table:
        raise UserError("nothing has a price; set HONE_PRICES, as for the server")
    quantities = {kind: args.steps * getattr(args, kind) for kind in TOKEN_KINDS}
    quantities[STORAGE] = round(args.storage_gb * GIGABYTE * MONTH_HOURS * 3600)  # byte-seconds
    negative = [kind for kind, quantity in quantities.items() if quantity < 0]
    if negative:
        raise UserError(f"{negative[0]} comes to {quantities[negative[0]]}; amounts cannot be negative")
    rows = [
        {"kind": kind, "quantity": quantity, "cost_usd": prices.cost(args.model, kind, quantity)}
        for kind, quantity in quantities.items()
        if quantity
    ]
    total = sum(row["cost_usd"] for row in rows if row["cost_usd"] is not None)
    unpriced = [row["kind"] for row in rows if row["cost_usd"] is None]
    if args.json:
        print(json.dumps({"model": args.model, "rows": rows, "total_usd": total, "without_price": unpriced}))
    elif rows:
        print_table(rows)
        missing = f"; {', '.join(unpriced)} has no price" if unpriced else ""
        print(f"\ntotal: ${total:.6f}{missing}")
    else:
        print("Nothing is asked for: give --training, --prefill, --sample or --storage-gb.")
    return 0
