"""The tutorial's commands, one after another in an empty directory, with fewer rows and seeds than its reader has."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hone.experiments.runner import directory

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial" / "README.md"
INSTALLS = ("make ", "export ")
SMALLER = (
    "repeats.n=1",
    "matrix.base_run.data.limit=64",
    "matrix.base_run.validation.limit=10",
    "benchmarks[0].limit=10",
    "report.samples=2",
)


def script(text: str) -> str:
    """What a reader types and saves, in order. A file is saved where the text before it says `Save this as`."""
    hone = f"{shlex.quote(sys.executable)} -m hone.cli.main"
    smaller = " ".join(f"--set {shlex.quote(one)}" for one in SMALLER)
    lines = ["set -e"]
    # Prose and blocks take turns.
    parts = re.split(r"^```(\S*)[^\n]*\n", text, flags=re.MULTILINE)
    for before, language, block in zip(parts[0::4], parts[1::4], parts[2::4], strict=False):
        if language == "bash":
            typed = [line for line in block.splitlines() if not line.startswith(INSTALLS)]
            lines += [re.sub(r"^hone", hone, line) for line in typed]
        elif saved := re.search(r"Save\s+this\s+as\s+`([^`]+)`:\s*$", before):
            lines += [f"cat > {saved[1]} <<'END'", block.rstrip(), "END"]
    return re.sub(r"( (?:run|check) \S+\.yaml)", rf"\1 {smaller}", "\n".join(lines))


def undocumented(results: Path) -> list[str]:
    """Files of an experiment, and of its arms, that the module about them does not name."""
    files = [*results.iterdir(), *results.glob("arms/*/*")]
    return sorted(
        {file.name for file in files if not re.search(rf"\b{re.escape(file.name)}\b", directory.__doc__ or "")}
    )


@pytest.mark.slow
@pytest.mark.timeout(300)  # half a minute where nothing else runs: nine programs, each of which imports much
def test_it_comes_to_a_conclusion(tmp_path: Path) -> None:
    typed = script(TUTORIAL.read_text(encoding="utf-8"))
    assert typed.count(" run ") == 2
    assert "rank.yaml <<" in typed
    environment = os.environ | {"XDG_DATA_HOME": str(tmp_path / "data")}
    done = subprocess.run(
        ["bash", "-c", typed], cwd=tmp_path, capture_output=True, text=True, timeout=280, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("dates", "rank"):
        results = tmp_path / "first" / "runs" / name
        assert (results / "report.html").stat().st_size > 10_000
        assert undocumented(results) == []
        assert re.match("(supported|refuted|inconclusive): ", (results / "conclusion.md").read_text().lower())
