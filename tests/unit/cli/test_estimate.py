"""What a run will cost, by the prices of the settings."""

import json
from pathlib import Path

import pytest

from hone.cli import main as cli
from hone.identity.prices import GIGABYTE
from hone.server.usage import Used

PRICES = {"*": {"training": 2.0, "sample": 4.0, "storage": 0.5}, "large": {"training": 8.0}}


def estimate(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert cli.main(["estimate", *arguments, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_an_estimate_is_what_the_bill_will_say(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hone.identity.prices import load_prices

    monkeypatch.setenv("HONE_PRICES", json.dumps(PRICES))
    found = estimate(capsys, "--steps", "10", "--training", "1000", "--sample", "50", "--storage-gb", "2")
    assert found["total_usd"] == pytest.approx(10_000 * 2 / 1e6 + 500 * 4 / 1e6 + 2 * 0.5)
    billed = [
        Used(0, "s", "r", 1, "any", kind, quantity, None, None).cost(load_prices(json.dumps(PRICES)))  # type: ignore[arg-type]
        for kind, quantity in (("training", 10_000), ("sample", 500), ("storage", 2 * GIGABYTE * 720 * 3600))
    ]
    assert found["total_usd"] == pytest.approx(sum(cost for cost in billed if cost is not None))
    assert estimate(capsys, "--model", "large", "--training", "1000000")["total_usd"] == 8.0
    assert estimate(capsys, "--prefill", "7")["without_price"] == ["prefill"]


def test_without_prices_or_with_negative_amounts_it_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HONE_PRICES", raising=False)
    assert cli.main(["estimate", "--training", "1"]) == cli.EXIT_USER_ERROR
    assert "set HONE_PRICES" in capsys.readouterr().err
    monkeypatch.setenv("HONE_PRICES", json.dumps(PRICES))
    assert cli.main(["estimate", "--training", "-1"]) == cli.EXIT_USER_ERROR
    assert "cannot be negative" in capsys.readouterr().err
    assert cli.main(["estimate", "--training", "1000000", "--prefill", "1"]) == 0
    assert "total: $2.000000; prefill has no price" in capsys.readouterr().out
