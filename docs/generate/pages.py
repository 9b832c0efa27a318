"""All generated pages, by their path below `docs/reference`."""

from __future__ import annotations

from pathlib import Path

from docs.generate import commands, exit_codes, experiment_file, json_shapes, plugins, results, settings
from hone.experiments.kinds.plugins import REGISTRIES

REFERENCE = Path(__file__).parents[1] / "reference"
MADE = "<!-- Made from the code by `make docs`; changes here are lost. -->"


def pages() -> dict[str, str]:
    found = {
        "commands.md": commands.page(),
        "exit-codes.md": exit_codes.page(),
        "experiment-file.md": experiment_file.page(),
        "json.md": json_shapes.page(),
        "plugins.md": plugins.index(),
        "results.md": results.page(),
        "settings.md": settings.page(),
    }
    found |= {f"plugins/{registry}.md": plugins.page(registry) for registry in REGISTRIES}
    return {path: f"{MADE}\n{text.rstrip()}\n" for path, text in found.items()}


def stale() -> list[str]:
    """Pages that are not what the code says, and pages of nothing."""
    wanted = pages()
    there = {str(path.relative_to(REFERENCE)): path.read_text(encoding="utf-8") for path in REFERENCE.rglob("*.md")}
    return sorted(path for path in wanted.keys() | there.keys() if wanted.get(path) != there.get(path))


def write() -> list[str]:
    """Make the pages true. Returns those that were not."""
    wanted, changed = pages(), stale()
    for path in changed:
        target = REFERENCE / path
        if path in wanted:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(wanted[path], encoding="utf-8")
        else:
            target.unlink()
    return changed
