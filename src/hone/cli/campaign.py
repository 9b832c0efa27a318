"""An experiment under way in the terminal: a line for each arm that is running, and one for all of them.

The lines of arms that have ended go; what stays of them is said in a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hone.observe.progress import Advance, Display, PlainDisplay


@contextmanager
def campaign_display(console: Console) -> Iterator[Display]:
    """Live lines if `console` is a terminal, plain ones if it is a pipe or a log."""
    if not console.is_terminal:
        yield PlainDisplay(console)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[facts]}"),
        console=console,
    ) as progress:
        yield CampaignDisplay(progress)


class CampaignDisplay:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def say(self, text: str) -> None:
        self._progress.console.print(text, highlight=False)

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        task = self._progress.add_task(label, total=total, facts="")
        try:
            yield lambda facts: self._progress.update(task, advance=1, facts=facts)
        finally:
            self._progress.remove_task(task)
