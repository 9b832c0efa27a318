"""What work costs: a table of US dollars, from the settings. Without an entry there is no price, which is not free."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from hone.errors import UserError

TOKEN_KINDS = ("training", "prefill", "cached_prefill", "sample")
"""Priced per million tokens."""
STORAGE = "storage"
"""Priced per gigabyte and month of 720 hours."""
KINDS = (*TOKEN_KINDS, STORAGE)
ANY_MODEL = "*"

GIGABYTE = 1_000_000_000
MONTH_HOURS = 720


@dataclass(frozen=True)
class Prices:
    table: dict[str, dict[str, float]]
    """By model, then by kind; the model `*` stands for all others."""

    def rate(self, model: str, kind: str) -> float | None:
        return self.table.get(model, {}).get(kind, self.table.get(ANY_MODEL, {}).get(kind))

    def cost(self, model: str, kind: str, quantity: int) -> float | None:
        """Of tokens, or of byte-seconds of storage; None if it has no price."""
        rate = self.rate(model, kind)
        if rate is None:
            return None
        if kind == STORAGE:
            return rate * quantity / GIGABYTE / 3600 / MONTH_HOURS
        return rate * quantity / 1_000_000


def load_prices(text: str | None) -> Prices:
    """From JSON, or from a file that holds it: `{"<model or *>": {"training": 0.4, ...}}`."""
    if not text:
        return Prices({})
    try:
        table = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"HONE_PRICES is neither JSON nor a readable file of it: {error}") from None
    if not isinstance(table, dict) or not all(isinstance(rates, dict) for rates in table.values()):
        raise UserError('HONE_PRICES must look like {"<model or *>": {"training": 0.4}}')
    for model, rates in table.items():
        for kind, rate in rates.items():
            if kind not in KINDS:
                raise UserError(f"HONE_PRICES: {model!r} prices {kind!r}; the kinds are {', '.join(KINDS)}")
            if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate < math.inf:
                raise UserError(f"HONE_PRICES: {kind} of {model!r} is {rate!r}; it must be a number of dollars")
    return Prices(table)
