"""Shows how far long work has come: live bars on a terminal, one line per tenth elsewhere.

Writes to a console; the work itself decides what is worth telling.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

Advance = Callable[[str], None]
"""One unit of work is done; the text, such as `loss 0.12`, replaces the one before."""


class Display(Protocol):
    def say(self, text: str) -> None:
        """A line that stays."""
        ...

    def bar(self, label: str, total: int) -> AbstractContextManager[Advance]:
        """A bar for `total` units; several may be open at once."""
        ...


@contextmanager
def display(console: Console) -> Iterator[Display]:
    """Live bars if `console` is a terminal, plain lines if it is a pipe or a log."""
    if not console.is_terminal:
        yield PlainDisplay(console)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[facts]}"),
        console=console,
    ) as progress:
        yield LiveDisplay(progress)


class LiveDisplay:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def say(self, text: str) -> None:
        self._progress.console.print(text)

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        task = self._progress.add_task(f"  {label}", total=total, facts="")
        yield lambda facts: self._progress.update(task, advance=1, facts=facts)
        self._progress.stop_task(task)


class PlainDisplay:
    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        self._console.print(text)

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        done = 0

        def advance(facts: str) -> None:
            nonlocal done
            done += 1
            if done * 10 // total > (done - 1) * 10 // total:
                # No wrapping: one event, one line, however narrow the console believes it is.
                self._console.print(f"  {label} {done}/{total}  {facts}", soft_wrap=True, highlight=False)

        yield advance


class NamedDisplay:
    """For one of several pieces of work on a shared display: its bars have its name."""

    def __init__(self, display: Display, name: str) -> None:
        self._display, self._name = display, name

    def say(self, text: str) -> None:
        self._display.say(f"{self._name}: {text}")

    def bar(self, label: str, total: int) -> AbstractContextManager[Advance]:
        return self._display.bar(self._name, total)


class SilentDisplay:
    """Shows nothing: for programs that call a method as a function."""

    def say(self, text: str) -> None:
        pass

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        yield lambda facts: None


silent = SilentDisplay()
