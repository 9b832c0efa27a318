"""`hone <command>`: finds the command's module, hands it the arguments, turns errors into exit codes.

Only the chosen command is imported, so `hone --help` answers at once. A command module has two functions,
`add_arguments(parser)` and `run(args) -> int`; adding a command is one file and one line in `COMMANDS`.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from hone import __version__
from hone.cli.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USER_ERROR
from hone.errors import HoneError, UserError


class CommandModule(Protocol):
    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


@dataclass(frozen=True)
class Command:
    module: str
    summary: str


COMMANDS: dict[str, Command] = {
    "demo": Command("hone.cli.demo", "train on this machine in a few minutes: SFT, RL, four adapters at once"),
    "serve": Command("hone.cli.serve", "start the service that the tinker SDK talks to"),
    "init": Command("hone.cli.init", "make a project: an experiment that runs, its data, a plugin"),
    "check": Command("hone.cli.check", "find what is wrong with an experiment, and what it will take"),
    "run": Command("hone.cli.run", "run an experiment from its file to its conclusion"),
    "experiments": Command("hone.cli.experiments", "list, show, compare and conclude experiments"),
    "diff": Command("hone.cli.diff", "show what differs between two runs"),
    "history": Command("hone.cli.history", "sum up past experiments, to decide on the next"),
    "mcp": Command("hone.cli.mcp", "offer experiments to coding agents, as an MCP server"),
    "explain": Command("hone.cli.explain", "say what can be written in an experiment file, and what it means"),
    "schema": Command("hone.cli.schema", "print the JSON Schema of the experiment file, for editors"),
    "checkpoint": Command("hone.cli.checkpoint", "take in adapters of other tools, rewrite exports for plain PEFT"),
    "env": Command("hone.cli.env", "list, play and check the environments for reinforcement learning"),
    "key": Command("hone.cli.key", "say who may use the server: create, list and revoke API keys"),
    "project": Command("hone.cli.project", "keep things apart: create and list projects, set their budgets"),
    "data": Command("hone.cli.data", "show what is learned from a file of conversations, and what is wrong with it"),
    "eval": Command("hone.cli.eval", "ask a model the questions of a benchmark, compare two models"),
    "usage": Command("hone.cli.usage", "show what was used and what it costs"),
    "estimate": Command("hone.cli.estimate", "say what a run will cost before it is started"),
    "doctor": Command("hone.cli.doctor", "check this machine and train one step"),
    "version": Command("hone.cli.version", "print the versions that matter in a bug report"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the result is the process's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = _overview().parse_args(arguments[:1]).command
    if chosen is None:
        _overview().print_help()
        return EXIT_USER_ERROR
    try:
        code = command_module(chosen).run(command_parser(chosen).parse_args(arguments[1:]))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # who reads has read enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again as it ends
        return EXIT_DONE
    except UserError as error:
        print(f"hone {chosen}: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except HoneError as error:
        print(f"hone {chosen}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print(f"hone {chosen}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def command_module(name: str) -> CommandModule:
    return cast(CommandModule, importlib.import_module(COMMANDS[name].module))


def command_parser(name: str) -> argparse.ArgumentParser:
    """What reads the words after `hone NAME`."""
    parser = argparse.ArgumentParser(prog=f"hone {name}", description=_sentence(COMMANDS[name].summary))
    command_module(name).add_arguments(parser)
    return parser


def _overview() -> argparse.ArgumentParser:
    """Knows the commands' names and summaries, not their options: those need the command's module."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="hone",
        usage="hone <command> [options]",
        description="Train, serve and keep improving LoRA adapters on shared base models.",
        epilog="\n".join(["commands:", *lines, "", "`hone <command> --help` tells more."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"hone {__version__}")
    parser.add_argument("command", nargs="?", choices=COMMANDS, metavar="command", help=argparse.SUPPRESS)
    return parser


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


if __name__ == "__main__":
    sys.exit(main())
