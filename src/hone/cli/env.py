"""`hone env`: the environments that Hone comes with: list them, play one, check that they reward what they should."""

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING

from hone.cli.exit_codes import EXIT_DONE, EXIT_FAILED
from hone.errors import UserError

if TYPE_CHECKING:
    from hone.algorithms.messages import Message, ToolCall


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list | play | check")
    listing = verbs.add_parser("list", help="their names and what they are about")
    listing.add_argument("--json", action="store_true", help="print JSON on standard output")
    playing = verbs.add_parser("play", help="play an episode yourself, one line of input for each message")
    playing.add_argument("name")
    playing.add_argument("--seed", type=int, default=0, help="which episode (default: %(default)s)")
    checking = verbs.add_parser("check", help="gold play has to reach the best return, random play must not")
    checking.add_argument("names", nargs="*", metavar="name", help="which ones (default: all)")
    checking.add_argument("--episodes", type=int, default=20, help="for each of them (default: %(default)s)")
    checking.add_argument("--json", action="store_true", help="print one JSON object for each")


def run(args: argparse.Namespace) -> int:
    match args.verb:
        case "list":
            return _list(args)
        case "play":
            return asyncio.run(_play(args))
    return asyncio.run(_check(args))


def _list(args: argparse.Namespace) -> int:
    from hone.algorithms.envs.built_in import ENVIRONMENTS

    if args.json:
        print(json.dumps({name: env.summary for name, env in ENVIRONMENTS.items()}, indent=2))
        return EXIT_DONE
    width = max(map(len, ENVIRONMENTS))
    for name, env in ENVIRONMENTS.items():
        print(f"{name:<{width}}  {env.summary}")
    return EXIT_DONE


async def _play(args: argparse.Namespace) -> int:
    from hone.algorithms.envs.built_in import ENVIRONMENTS

    _known([args.name], list(ENVIRONMENTS))
    env = ENVIRONMENTS[args.name].make(args.seed)
    messages = await env.initial_observation()
    _show(messages)
    for tool in env.tools:
        function = tool["function"]
        print(f"[tool] {function['name']}: {function['description']} Call it with a line such as")
        example = {key: value["description"] for key, value in function["parameters"]["properties"].items()}
        print(f"       /{function['name']} {json.dumps(example)}")
    total, shown = 0.0, len(messages)
    while True:
        line = _ask()
        if line is None:
            print(f"\nno more input; the episode is not over (rewards so far {total:g})", file=sys.stderr)
            return EXIT_FAILED
        step = await env.step(_message(line))
        total += step.reward
        # The player's own message is the first of the new ones.
        _show(step.next_messages[shown + 1 :])
        shown = len(step.next_messages)
        if step.episode_done:
            facts = "  ".join(f"{key}={value:g}" for key, value in step.metrics.items())
            print(f"[end] reward {total:g}  {facts}".rstrip())
            for key, value in step.logs.items():
                print(f"      {key}: {value}")
            return EXIT_DONE
        if step.reward:
            print(f"[reward] {step.reward:g}")


async def _check(args: argparse.Namespace) -> int:
    from hone.algorithms.envs.built_in import ENVIRONMENTS
    from hone.algorithms.envs.check import check

    if args.episodes < 1:
        raise UserError(f"--episodes is at least 1; {args.episodes} was given")
    names = args.names or list(ENVIRONMENTS)
    _known(names, list(ENVIRONMENTS))
    passed = True
    width = max(map(len, names))
    for name in names:
        found = await check(ENVIRONMENTS[name].make, args.episodes)
        passed = passed and found.passed
        if args.json:
            print(json.dumps({"name": name, "passed": found.passed, **vars(found)}), flush=True)
            continue
        print(
            f"{name:<{width}}  {'ok' if found.passed else 'FAILED':<6}  gold {found.gold_return:5.2f}  "
            f"best {found.best_return:5.2f}  random {found.random_return:5.2f}",
            flush=True,
        )
        for problem in found.problems:
            print(f"  {problem}")
    return EXIT_DONE if passed else EXIT_FAILED


def _known(names: list[str], all_names: list[str]) -> None:
    unknown = [name for name in names if name not in all_names]
    if unknown:
        raise UserError(f"there is no environment {unknown[0]!r}; there are {', '.join(all_names)}")


def _show(messages: "list[Message]") -> None:
    from hone.algorithms.messages import text_of

    for message in messages:
        print(f"[{message['role']}] {text_of(message)}", flush=True)


def _ask() -> str | None:
    print("> ", end="", flush=True)
    line = sys.stdin.readline()
    if not sys.stdin.isatty():
        print(line.rstrip("\n"))  # a transcript that was piped reads like one that was typed
    return line.strip() if line else None


def _message(line: str) -> "Message":
    """What was typed; `/name {...}` is a call of a tool, in which `\\n` in a JSON text begins a new line."""
    if not line.startswith("/"):
        return {"role": "assistant", "content": line.replace("\\n", "\n")}
    name, _, arguments = line[1:].partition(" ")
    call: ToolCall = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}
