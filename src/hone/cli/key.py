"""`hone key`: who may use the server of a data directory, also while it runs."""

import argparse
import json
import time
from typing import Any

from hone.cli.records import add_record_arguments, ask, print_table, warn_without_prices, when
from hone.errors import UserError

DAY = 24 * 3600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="create|list|revoke|limit")
    create = verbs.add_parser("create", help="make a key; it is shown once")
    create.add_argument("name", help="what you will know it by")
    create.add_argument("--project", default="default", help="where its things belong (default: %(default)s)")
    create.add_argument("--user", default="local", help="whose key it is; made if new (default: %(default)s)")
    create.add_argument(
        "--scope",
        action="append",
        metavar="read|sample|train|admin",
        help="what it may do; may be repeated (default: read, sample and train)",
    )
    create.add_argument("--model", action="append", help="a base model that it is for; may be repeated (default: all)")
    create.add_argument("--expires-days", type=float, help="days until it ends (default: never)")
    create.add_argument("--spend-limit", type=float, metavar="USD", help="work waits once this is spent")
    create.add_argument("--note", default="", help="any text")
    listing = verbs.add_parser("list", help="all keys, without their texts")
    revoke = verbs.add_parser("revoke", help="end a key")
    revoke.add_argument("id", type=int)
    limit = verbs.add_parser("limit", help="set how much a key may spend")
    limit.add_argument("id", type=int)
    limit.add_argument("usd", type=_dollars, help="US dollars over all time, or `none`")
    for verb in (create, listing, revoke, limit):
        add_record_arguments(verb)


def run(args: argparse.Namespace) -> int:
    from hone.identity import accounts

    text: str | None = None
    if args.verb == "create":
        if args.expires_days is not None and args.expires_days <= 0:
            raise UserError(f"--expires-days is {args.expires_days:g}; it must be more than 0")
        made, text = ask(
            args,
            lambda connection: accounts.create_key(
                connection,
                args.name,
                args.project,
                args.user,
                args.scope or accounts.DEFAULT_SCOPES,
                args.model,
                None if args.expires_days is None else time.time() + args.expires_days * DAY,
                args.spend_limit,
                args.note,
            ),
        )
        found = [made]
    elif args.verb == "list":
        found = ask(args, accounts.list_keys)
    elif args.verb == "revoke":
        found = [ask(args, lambda connection: accounts.revoke_key(connection, args.id))]
    else:
        found = [ask(args, lambda connection: accounts.set_spend_limit(connection, args.id, args.usd))]
    if args.verb in ("create", "limit"):
        warn_without_prices(found[0].spend_limit_usd)
    rows = [_described(key, time.time()) for key in found]
    if args.json:
        print(json.dumps(rows if args.verb == "list" else rows[0] | ({"key": text} if text else {})))
        return 0
    shown = ("id", "name", "project", "user", "scopes", "state", "expires", "spend_limit_usd")
    print_table([{name: row[name] for name in shown} for row in rows])
    if text:
        print(f"\n{text}\n\nThis is the only time it is shown; keep it as TINKER_API_KEY.")
    return 0


def _dollars(text: str) -> float | None:
    return None if text == "none" else float(text)


def _described(key: Any, now: float) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "note": key.note,
        "project": key.project_id,
        "user": key.user_id,
        "scopes": list(key.scopes),
        "models": None if key.models is None else list(key.models),
        "spend_limit_usd": key.spend_limit_usd,
        "created": when(key.created_at),
        "expires": when(key.expires_at),
        "state": "revoked" if key.revoked_at is not None else "live" if key.live(now) else "expired",
    }
