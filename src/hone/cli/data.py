"""`hone data`: see what a model learns from a file, and what is wrong with it, before anything is trained.

`hone data check` exits with 0 if every row can be used, with 1 if some cannot, and with 2 if the question makes no
sense (no such file, an unknown renderer), as every command does.
"""

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hone.cli.exit_codes import EXIT_FAILED
from hone.errors import UserError

if TYPE_CHECKING:
    from hone.algorithms.data.rows import Problem, Rows
    from hone.algorithms.renderers import Renderer, SupervisedExample

BEGIN, END = "⟦", "⟧"
"""Around trained tokens, where there is no colour."""
NO_LIMIT = 10**9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="show|check")
    show = actions.add_parser("show", help="print a conversation as the model sees it, with the tokens that it learns")
    check = actions.add_parser("check", help="report rows that cannot be used, by file and line; exit code 1 if any")
    for one in (show, check):
        one.add_argument(
            "file", type=Path, help="JSON Lines; conversations have `messages`, or ShareGPT's `conversations`"
        )
        one.add_argument("--model", default="hone/tiny", help="whose renderer is taken (default: hone/tiny)")
        one.add_argument("--tokenizer", type=Path, help="a folder with a tokenizer; not needed for hone/tiny")
        one.add_argument("--renderer", help="the chat format (default: what is recommended for the model)")
        one.add_argument("--json", action="store_true", help="print JSON")
    show.add_argument(
        "--train-on", default="last_assistant_turn", help="what is learned (default: last_assistant_turn)"
    )
    show.add_argument("--index", type=int, default=0, help="which row, from 0 (default: 0)")
    check.add_argument(
        "--form", choices=CHECKS, default="conversations", help="what the rows are (default: conversations)"
    )
    check.add_argument(
        "--max-length",
        type=int,
        help="tokens beyond which a conversation, a prompt, or a prompt with one of its answers is too long "
        "(default: what the tokenizer says, if it does)",
    )


def run(args: argparse.Namespace) -> int:
    return _show(args) if args.action == "show" else _check(args)


def _show(args: argparse.Namespace) -> int:
    from hone.algorithms.data.rows import read_conversations
    from hone.algorithms.renderers import TrainOnWhat

    try:
        train_on_what = TrainOnWhat(args.train_on)
    except ValueError:
        known = ", ".join(TrainOnWhat)
        raise UserError(f"--train-on is {args.train_on!r}; it must be one of {known}") from None
    read = read_conversations(args.file)
    if not 0 <= args.index < len(read.rows):
        bad = f" and {len(read.problems)} that cannot be used (hone data check)" if read.problems else ""
        raise UserError(f"--index is {args.index}; {args.file} has {len(read.rows)} rows{bad}, counted from 0")
    row = read.rows[args.index]
    tokenizer, renderer, name = _renderer(args)
    examples = renderer.build_supervised_examples(row.messages, train_on_what, tools=row.tools)
    for number, example in enumerate(examples):
        pieces = list(_pieces(example, tokenizer))
        trained = int(example.weights.sum())
        if args.json:
            parts = [{"tokens": tokens, "text": text, "trained": learned} for tokens, text, learned in pieces]
            about = {"line": row.line, "renderer": name, "tokens": len(example.weights), "trained_tokens": trained}
            print(json.dumps(about | {"train_on": train_on_what.value, "pieces": parts}, ensure_ascii=False))
            continue
        _print_pieces(pieces)
        which = f", example {number + 1} of {len(examples)}" if len(examples) > 1 else ""
        print(
            f"\n{args.file}:{row.line}{which}: {len(row.messages)} messages, {len(example.weights)} tokens, "
            f"{trained} of them trained ({train_on_what.value}, renderer {name})"
        )
    if read.problems and not args.json:
        print(f"{len(read.problems)} rows of this file cannot be used: hone data check {args.file}", file=sys.stderr)
    return 0


def _check(args: argparse.Namespace) -> int:
    from hone.algorithms.data import rows

    read: Rows[Any] = getattr(rows, f"read_{args.form}")(args.file)
    tokenizer, renderer, _ = _renderer(args)
    said = tokenizer.model_max_length  # an absurd number where nothing is said
    max_length = args.max_length or (said if said < NO_LIMIT else None)
    found = CHECKS[args.form](read, renderer, max_length)
    problems = sorted([*read.problems, *found.problems], key=lambda problem: problem.line)
    usable = len(read.rows) - len(found.problems)
    kinds = Counter(problem.kind for problem in problems)
    if args.json:
        listed = [dataclasses.asdict(problem) | {"path": str(problem.path)} for problem in problems]
        counted = {"usable": usable, "unusable": len(problems), "kinds": kinds, "cut": found.cut, "ties": found.ties}
        print(json.dumps(counted | {"problems": listed}))
    else:
        for problem in problems:
            print(problem)
        counts = "".join(f", {count} {kind}" for kind, count in sorted(kinds.items()))
        counts += f" ({found.cut} of them would be learned without their end)" if found.cut else ""
        counts += f"; {found.ties} are ties, which teach nothing" if found.ties else ""
        print(f"{args.file}: {usable} rows can be used, {len(problems)} cannot{counts}")
    return EXIT_FAILED if problems or not usable else 0


@dataclasses.dataclass
class Found:
    """In rows that could be read."""

    problems: "list[Problem]"
    cut: int = 0
    """Rows that are too long, and lose some but not all that is to be learned when they are cut."""
    ties: int = 0


def _check_conversations(read: "Rows[Any]", renderer: "Renderer", max_length: int | None) -> Found:
    from hone.algorithms.data.rows import Problem

    found = Found([])
    for row in read.rows:
        try:
            length = renderer.build_supervised_example(_without_trainable(row.messages), tools=row.tools)[0].length
        except UserError as error:
            found.problems.append(Problem(read.path, row.line, "bad content", str(error)))
            continue
        if all(message["role"] != "assistant" for message in row.messages):
            text = "no message is an assistant's, so there is nothing to learn"
            found.problems.append(Problem(read.path, row.line, "bad content", text))
        elif max_length is not None and length > max_length:
            lost, whole = _lost(row, renderer, max_length)
            found.cut += 0 < lost < whole
            left = f"cut there it is learned without its end, {lost} of {whole} tokens"
            if lost == whole:
                left = "cut there it has nothing to learn"
            elif not lost:
                left = "cut there it loses nothing that is learned"
            text = f"it has {length} tokens; {max_length} are allowed (--max-length); {left}"
            found.problems.append(Problem(read.path, row.line, "too long", text))
    return found


def _lost(row: Any, renderer: "Renderer", max_length: int) -> tuple[int, int]:
    """Tokens to learn that a cut takes, and all of them: of every answer, or of the last where only that can be."""
    from hone.algorithms.data.cut import lost_tokens
    from hone.algorithms.renderers import TrainOnWhat

    messages = _without_trainable(row.messages)
    try:
        examples = renderer.build_supervised_examples(messages, TrainOnWhat.ALL_ASSISTANT_MESSAGES, tools=row.tools)
    except UserError:
        examples = [renderer.build_supervised_example(messages, tools=row.tools)]
    lost = sum(lost_tokens(example, max_length) for example in examples)
    return lost, int(sum(example.weights.sum() for example in examples))


def _check_preferences(read: "Rows[Any]", renderer: "Renderer", max_length: int | None) -> Found:
    from hone.algorithms.preference.comparisons import pairs

    rendered = pairs(dataclasses.replace(read, problems=[]), renderer, max_length=max_length)
    return Found(rendered.problems, ties=rendered.ties)


def _check_prompts(read: "Rows[Any]", renderer: "Renderer", max_length: int | None) -> Found:
    from hone.algorithms.data.rows import Problem

    found = Found([])
    for row in read.rows:
        try:
            length = renderer.build_generation_prompt(_without_trainable(row.messages), tools=row.tools).length
        except UserError as error:
            found.problems.append(Problem(read.path, row.line, "bad content", str(error)))
            continue
        if max_length is not None and length > max_length:
            text = f"the prompt has {length} tokens; {max_length} are allowed (--max-length)"
            found.problems.append(Problem(read.path, row.line, "too long", text))
    return found


CHECKS = {"conversations": _check_conversations, "preferences": _check_preferences, "prompts": _check_prompts}


def _without_trainable(messages: list[Any]) -> list[Any]:
    return [{name: value for name, value in message.items() if name != "trainable"} for message in messages]


def _renderer(args: argparse.Namespace) -> "tuple[Any, Renderer, str]":
    """The tokenizer, the renderer and its name."""
    import importlib.resources

    from transformers import AutoTokenizer

    from hone.algorithms.renderers import get_renderer, recommended_renderer

    folder = args.tokenizer
    if folder is None and Path(args.model).is_dir():
        folder = Path(args.model)
    if folder is None and args.model == "hone/tiny":
        folder = Path(str(importlib.resources.files("hone") / "assets" / "tiny"))
    if folder is None:
        raise UserError(f"the tokenizer of {args.model} is not here; name its folder with --tokenizer")
    if not folder.is_dir():
        raise UserError(f"--tokenizer {folder} is no folder")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no tokenizer that can be loaded: {error}") from error
    name = args.renderer or recommended_renderer(args.model, tokenizer)
    return tokenizer, get_renderer(name, tokenizer), name


def _pieces(example: "SupervisedExample", tokenizer: Any) -> Iterator[tuple[int, str, bool]]:
    """Runs of tokens that are all trained, or all not: how many, their text, which. An image is one of its own."""
    run: list[int] = []
    learned = False
    at = 0
    for chunk in example.model_input.chunks:
        tokens = getattr(chunk, "tokens", None)
        if tokens is None:
            if run:
                yield len(run), tokenizer.decode(run), learned
            run = []
            yield chunk.length, f"[image of {chunk.length} tokens]", False
            at += chunk.length
            continue
        for token in tokens:
            if run and learned != bool(example.weights[at]):
                yield len(run), tokenizer.decode(run), learned
                run = []
            learned = bool(example.weights[at])
            run.append(token)
            at += 1
    if run:
        yield len(run), tokenizer.decode(run), learned


def _print_pieces(pieces: list[tuple[int, str, bool]]) -> None:
    """Trained tokens in colour on a terminal, unless NO_COLOR is set; else between brackets."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal or console.no_color:
        print("".join(f"{BEGIN}{text}{END}" if learned else text for _, text, learned in pieces))
        return
    shown = Text()
    for _, text, learned in pieces:
        shown.append(text, style="bold green" if learned else "dim")
    console.print(shown)
