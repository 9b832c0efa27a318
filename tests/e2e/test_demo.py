"""`hone demo`, as a user runs it: every stage runs, and every number is there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_quick_demo_runs_all_stages(tmp_path: Path) -> None:
    numbers, page = tmp_path / "numbers.json", tmp_path / "report.html"
    command = [sys.executable, "-m", "hone.cli.main", "demo", "--quick", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(
        [*command, "--json", str(numbers), "--report", str(page)], capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(numbers.read_text())
    assert [stage["name"] for stage in result["stages"]] == ["SFT", "RL", "four at once"]
    adapters = [adapter for stage in result["stages"] for adapter in stage["adapters"]]
    assert len(adapters) == 6
    for adapter in adapters:
        assert adapter["before"]["asked"] == adapter["after"]["asked"] > 0
        assert adapter["train_seconds"] > 0
        assert adapter["checkpoint"].startswith("tinker://")
        assert any(Path(adapter["directory"]).iterdir()), "the adapter lies where the demo says"
        assert adapter["checkpoint"] in done.stdout
    assert result["stages"][0]["adapters"][0]["tokens_trained"] > 0
    assert result["stages"][1]["adapters"][0]["tokens_sampled"] > 0
    assert "<svg" in page.read_text()
    assert "serve --data-dir" in done.stdout
