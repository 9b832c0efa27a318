import io

from rich.console import Console

from hone.observe.progress import display


def test_a_pipe_gets_one_line_per_tenth() -> None:
    console = Console(file=io.StringIO(), width=40)
    with display(console) as shown, shown.bar("work", 25) as advance:
        for step in range(25):
            advance(f"step {step} of a text that is longer than the console is wide")
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 10
    assert "25/25" in lines[-1]


def test_a_terminal_gets_bars() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with display(console) as shown:
        shown.say("hello")
        with shown.bar("work", 2) as advance:
            advance("half")
            advance("done")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "hello" in text
    assert "2/2" in text
