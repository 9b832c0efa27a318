import io
from pathlib import Path

from rich.console import Console

from hone.cli.demo import ask, tables
from tests.unit.cli.demo.test_results import demo


def test_the_table_shows_what_was_measured() -> None:
    console = Console(file=io.StringIO(), width=120)
    tables.print_results(console, demo())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "10 %" in shown
    assert "90 %" in shown
    assert "together" in shown
    assert "tinker://s:train:0/sampler_weights/a" in shown


def test_the_script_that_is_left_behind_compiles(tmp_path: Path) -> None:
    path = ask.write(tmp_path, "tinker://s:train:0/sampler_weights/demo")
    compile(path.read_text(), str(path), "exec")
    console = Console(file=io.StringIO(), width=200)
    tables.print_next_steps(console, tmp_path, path, "Ticket: it's late")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"serve --data-dir {tmp_path}" in shown
    assert "'Ticket: it'\"'\"'s late'" in shown
