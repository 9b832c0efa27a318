"""`hone project`: what belongs together, apart from what belongs to others."""

import argparse
import json
from typing import Any

from hone.cli.records import add_record_arguments, ask, print_table, warn_without_prices, when


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="create|list|budget")
    create = verbs.add_parser("create", help="make a project")
    create.add_argument("id", help="its name on this server")
    create.add_argument("--organization", default="local", help="made if new (default: %(default)s)")
    create.add_argument("--budget", type=float, metavar="USD", help="work waits once this is spent")
    listing = verbs.add_parser("list", help="all projects")
    budget = verbs.add_parser("budget", help="set how much a project may spend")
    budget.add_argument("id")
    budget.add_argument("usd", type=_dollars, help="US dollars over all time, or `none`")
    for verb in (create, listing, budget):
        add_record_arguments(verb)


def run(args: argparse.Namespace) -> int:
    from hone.identity import accounts

    if args.verb == "create":
        found = [
            ask(args, lambda connection: accounts.create_project(connection, args.id, args.organization, args.budget))
        ]
    elif args.verb == "list":
        found = ask(args, accounts.list_projects)
    else:
        found = [ask(args, lambda connection: accounts.set_budget(connection, args.id, args.usd))]
    if args.verb in ("create", "budget"):
        warn_without_prices(found[0].budget_usd)
    rows = [_described(project) for project in found]
    if args.json:
        print(json.dumps(rows if args.verb == "list" else rows[0]))
    else:
        print_table(rows)
    return 0


def _dollars(text: str) -> float | None:
    return None if text == "none" else float(text)


def _described(project: Any) -> dict[str, Any]:
    return {
        "id": project.id,
        "organization": project.organization_id,
        "created": when(project.created_at),
        "budget_usd": project.budget_usd,
    }
