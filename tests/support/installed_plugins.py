"""The plugin package as an installer leaves it: modules, and metadata that names its entry points."""

import shutil
import tomllib
from pathlib import Path

PACKAGE = Path(__file__).parent / "plugin_package"


def install(target: Path, entry_points: dict[str, str] | None = None) -> Path:
    """Into a folder, which a program puts on its path. Other entry points than its own may be named."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    shutil.copytree(PACKAGE / "src", target, dirs_exist_ok=True)
    metadata = target / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = entry_points or project["entry-points"]["hone.experiments"]
    lines = "".join(f"{name} = {module}\n" for name, module in points.items())
    (metadata / "entry_points.txt").write_text(f"[hone.experiments]\n{lines}")
    return target
