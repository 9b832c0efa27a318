"""Values by dotted path: `a.b` is what stands under `b` in what stands under `a`. A key may hold dots itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def value_at(values: Mapping[str, Any], path: str) -> Any:
    """What stands at the path.

    Raises:
        KeyError: nothing does; null is something.
    """
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        key, rest = ".".join(parts[:length]), ".".join(parts[length:])
        if key not in values:
            continue
        found = values[key]
        if length == len(parts):
            return found
        if isinstance(found, Mapping):
            return value_at(found, rest)
    raise KeyError(path)
