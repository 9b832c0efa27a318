"""The README's map is true: every module of `src/hone` is on it, and everything on it exists. So is its list of
commands."""

import re
from pathlib import Path

from hone.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "hone"


def mapped() -> set[str]:
    """The paths in the README's map. A line starts with as many times two spaces as its folder is deep."""
    block = re.search(r"<!-- map -->\n```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block, "README.md has no map"
    found: set[str] = set()
    folders: list[str] = []
    for line in block[1].splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        del folders[depth:]
        found.add("".join(folders) + name)
        if name.endswith("/"):
            folders.append(name)
    return found


def modules() -> set[str]:
    """Packages of `src/hone`, and the modules directly in it and in its packages."""
    packages = {f"{path.parent.relative_to(SOURCE)}/" for path in SOURCE.glob("*/__init__.py")}
    files = {str(path.relative_to(SOURCE)) for pattern in ("*.py", "*/*.py") for path in SOURCE.glob(pattern)}
    subpackages = {f"{path.parent.relative_to(SOURCE)}/" for path in SOURCE.glob("*/*/__init__.py")}
    return packages | subpackages | {name for name in files if not name.endswith("__init__.py")}


def test_every_module_is_on_the_map() -> None:
    prefix = "src/hone/"
    on_map = {name.removeprefix(prefix) for name in mapped() if name.startswith(prefix)}
    assert sorted(modules() - on_map) == []


def test_everything_on_the_map_exists() -> None:
    missing = [name for name in mapped() if not (ROOT / name).exists()]
    assert missing == []


def test_every_command_is_listed() -> None:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `")]
    assert set(COMMANDS) == {name for row in rows for name in re.findall(r"`hone (\w+)`", row.split(" | ")[0])}


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = {"utils", "util", "common", "helpers", "misc"}
    assert [path for path in SOURCE.rglob("*") if path.stem in drawers] == []
