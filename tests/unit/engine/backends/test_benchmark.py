"""`benchmarks/gpu.py` runs to its end, so that the first hour on a GPU is not spent on it."""

import json
import sys

import pytest

from benchmarks import gpu


def test_it_runs_to_its_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--tiny"])
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)  # what it checks of kernels takes minutes there
    assert gpu.main() == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(row["ok"] for row in rows if "ok" in row)
    measured = {row["metric"] for row in rows if "value" in row}
    assert {"train", "decode", "decode_one_adapter", "decode_no_adapter", "tenants_8x64", "publish"} <= measured
    assert gpu.GOALS.keys() <= measured
    assert not any("goal" in row for row in rows), "of a tiny shape the numbers mean nothing"


def test_goals_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    whole = gpu.Sizes(gpu.QWEN3_8B, 32, 8, 8192, 2048, 64, 1024, 128, 5)
    gpu.judged(whole, "train", value=12_000.0)
    gpu.judged(whole, "publish", value=7.5)
    gpu.judged(whole, "decode_no_adapter", value=1.0)
    train, publish, other = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (train["goal"], train["reached"]) == ("value >= 11000", True)
    assert (publish["goal"], publish["reached"]) == ("value <= 5", False)
    assert "goal" not in other
