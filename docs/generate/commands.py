"""Every command with its arguments, from the parsers that read them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from docs.generate.markdown import fenced, sentence, table
from hone.cli.main import COMMANDS, command_parser

HEAD = """# Commands

`hone COMMAND --help` prints the same. [Exit codes](exit-codes.md) are the same for all of them."""


def page() -> str:
    rows = [(f"[`hone {name}`](#hone-{name})", command.summary) for name, command in COMMANDS.items()]
    parts = [HEAD, table(("command", "what it does"), rows)]
    for name, command in COMMANDS.items():
        parts += [
            f"## hone {name}",
            sentence(command.summary),
            *_parser(command_parser(name)),
        ]
    return "\n\n".join(parts)


def _parser(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Its own arguments, then those of its verbs."""
    verbs = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not verbs:
        yield fenced("text", _usage(parser))
    rows = [_row(action, parser) for action in parser._actions if action not in verbs and action.dest != "help"]
    if rows:
        yield table(("argument", "meaning"), rows)
    for action in verbs:
        summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, verb in action.choices.items():
            yield f"### {verb.prog}"
            yield sentence(summaries[name])
            yield from _parser(verb)


def _usage(parser: argparse.ArgumentParser) -> str:
    """Not argparse's own, which differs between versions of Python and with the width of a terminal."""
    words = [parser.prog]
    optional = False
    for action in parser._actions:
        if action.option_strings:
            if action.required:
                words.append(_name(action))
            optional = optional or not action.required
        else:
            words.append(f"[{_name(action)}]" if action.nargs in ("?", "*") else _name(action))
    return " ".join([*words, *(["[options]"] if optional else [])])


def _name(action: argparse.Action) -> str:
    if action.choices is not None and action.metavar is None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    elif isinstance(action.metavar, tuple):
        value = " ".join(action.metavar)
    else:
        value = action.metavar or action.dest.upper()
    if not action.option_strings:
        return f"{value} ..." if action.nargs in ("*", "+") else value
    flags = ", ".join(action.option_strings)
    return flags if action.nargs == 0 else f"{flags} {value}{' ...' if action.nargs in ('*', '+') else ''}"


def _row(action: argparse.Action, parser: argparse.ArgumentParser) -> tuple[str, str]:
    meaning = (action.help or "") % (vars(action) | {"prog": parser.prog})
    return f"`{_name(action)}`", meaning
