"""What the demo prints at its end: one table, and what to try next."""

import shlex
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from hone.cli.demo.results import DemoResult, Score


def print_results(console: Console, result: DemoResult) -> None:
    console.print(f"[bold]{result.base_model}[/], held-out problems, one sampled answer each")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("stage", "adapter", "before", "after", "seconds", "tokens", "tokens/s"):
        table.add_column(heading, justify="left" if heading in ("stage", "adapter") else "right", no_wrap=True)
    for stage in result.stages:
        for number, adapter in enumerate(stage.adapters):
            table.add_row(
                stage.name if number == 0 else "",
                adapter.task,
                _percent(adapter.before),
                f"[bold]{_percent(adapter.after)}[/]",
                f"{adapter.train_seconds:.0f}",
                f"{adapter.tokens_trained + adapter.tokens_sampled:,}",
                f"{adapter.tokens_per_second:,.0f}",
            )
        if len(stage.adapters) > 1:
            table.add_row("", "together", "", "", "", "", f"{stage.tokens_per_second:,.0f}")
    console.print(table)
    console.print("seconds, tokens and tokens/s are those of training; the evaluations come on top", style="dim")
    console.print("\nThe adapters lie at")
    for adapter in result.adapters:
        console.print(f"  {adapter.task:<9} {adapter.checkpoint}", soft_wrap=True, highlight=False)
        console.print(f"            {adapter.directory}", soft_wrap=True, highlight=False, style="dim")


def print_next_steps(console: Console, data_dir: Path, ask: Path, question: str) -> None:
    hone = _runnable("hone")
    steps = (
        ("serve these adapters", f"{hone} serve --data-dir {_shown(data_dir)}"),
        ("ask one, in a second terminal", f"{_runnable('python')} {_shown(ask)} {shlex.quote(question)}"),
        ("check this machine", f"{hone} doctor"),
    )
    console.print("\nWhat to try next")
    for purpose, command in steps:
        console.print(f"  {command}  [dim]# {purpose}[/]", soft_wrap=True, highlight=False)


def _percent(score: Score) -> str:
    return f"{100 * score.accuracy:.0f} % ± {100 * score.margin:.0f}"


def _runnable(program: str) -> str:
    """As this shell can run it: the environment's programs need not be on the PATH."""
    return _shown(Path(sys.executable).with_name(program))


def _shown(path: Path) -> str:
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
