"""The progress of an experiment, on a terminal and in a pipe."""

import io

from rich.console import Console

from hone.cli.campaign import campaign_display
from hone.observe.progress import NamedDisplay


def shown(terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)
    with campaign_display(console) as display, display.bar("arms", 2) as all_arms:
        for arm in ("lr0.01-s0", "lr0.01-s1"):
            with NamedDisplay(display, arm).bar("sft", 10) as advance:
                for step in range(10):
                    advance(f"nll {step}")
            display.say(f"{arm}: done after 10 steps")
            all_arms("1,000 tokens")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_on_a_terminal_arms_that_ended_leave_a_line() -> None:
    text = shown(terminal=True)
    assert "lr0.01-s0" in text
    assert "sft" not in text  # six bars of that name would tell nobody apart
    last = text[text.rindex("lr0.01-s1: done after 10 steps") :]
    assert "lr0.01-s0" not in last


def test_in_a_pipe_every_event_is_a_line() -> None:
    lines = shown(terminal=False).splitlines()
    assert "  lr0.01-s0 10/10  nll 9" in lines
    assert "lr0.01-s1: done after 10 steps" in lines
    assert lines[-1] == "  arms 2/2  1,000 tokens"
