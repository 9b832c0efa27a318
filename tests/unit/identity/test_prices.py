from pathlib import Path

import pytest

from hone.errors import UserError
from hone.identity.prices import GIGABYTE, load_prices


def test_the_models_own_price_comes_first_and_no_price_is_not_free() -> None:
    prices = load_prices('{"*": {"training": 2, "storage": 0.5}, "big": {"training": 8}}')
    assert prices.cost("big", "training", 1_000_000) == 8.0
    assert prices.cost("small", "training", 500_000) == 1.0
    assert prices.cost("small", "sample", 1) is None
    assert prices.cost("small", "storage", GIGABYTE * 720 * 3600) == pytest.approx(0.5)
    assert load_prices(None).cost("small", "training", 1) is None


def test_a_table_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_text('{"*": {"sample": 1.5}}')
    assert load_prices(str(tmp_path / "prices.json")).rate("any", "sample") == 1.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/nowhere.json", "neither JSON nor a readable file"),
        ("{", "neither JSON"),
        ('{"*": 3}', "must look like"),
        ('{"*": {"trainig": 3}}', "prices 'trainig'; the kinds are training"),
        ('{"*": {"training": -1}}', "must be a number of dollars"),
        ('{"*": {"training": "1"}}', "must be a number of dollars"),
        ('{"*": {"training": NaN}}', "must be a number of dollars"),
    ],
)
def test_bad_tables_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_prices(text)
