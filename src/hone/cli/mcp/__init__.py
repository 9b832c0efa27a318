"""`hone mcp`: experiments for coding agents, as tools of an MCP server on standard input and output."""

import argparse
import signal
from pathlib import Path

from hone.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="the project; files outside it are refused (default: .)",
    )
    parser.add_argument("--max-tokens", type=int, metavar="N", help="refuse runs that are estimated to take more")
    parser.add_argument("--max-cost", type=float, metavar="DOLLARS", help="refuse runs that are estimated to cost more")
    parser.add_argument("--max-seconds", type=float, metavar="S", help="refuse runs that are estimated to take longer")


def run(args: argparse.Namespace) -> int:
    try:
        import mcp  # noqa: F401
    except ImportError:
        raise UserError("the MCP server needs the package `mcp`; pip install 'hone[mcp]'") from None
    from hone.cli.mcp.guard import Limits
    from hone.cli.mcp.server import make_server

    limits = Limits(args.max_tokens, args.max_cost, args.max_seconds)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # a shell starts background jobs deaf to SIGINT, and so would be the experiments that `stop` interrupts
        signal.signal(signal.SIGINT, signal.default_int_handler)
    make_server(args.root.resolve(), limits).run("stdio")
    return 0
