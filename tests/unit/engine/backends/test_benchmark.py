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
