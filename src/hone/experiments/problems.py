"""What is wrong with an experiment, all of it at once: where it stands, what was found, what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from hone.algorithms.config import Config
from hone.errors import UserError

SHOWN = 60
"""Characters of a found value."""
_WORDS = {None: "nothing", True: "true", False: "false"}
LISTED = 20
"""Valid names in a hint."""


class Problem(Config):
    """One thing to mend."""

    file: str | None = None
    """The file, or the `--set` that said it; None if a program did."""
    line: int | None = None
    key: str = ""
    """Where in the file's values, such as `matrix.base_run.algorithm.params.lr`; empty: the whole file."""
    message: str
    found: str | None = None
    """The value that stands there, as text."""
    hint: str | None = None
    """What to do about it."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file
        about = ": ".join(part for part in (place, self.key, self.message) if part)
        # An unknown key's name stands before the message already.
        found = (
            f", found {self.found}" if self.found is not None and not self.key.endswith(self.found.strip("'")) else ""
        )
        return f"{about}{found}{f'; {self.hint}' if self.hint else ''}"


class ConfigError(UserError):
    """An experiment that cannot be run as it is written."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        assert problems, "an error needs a problem"
        self.problems = unique(problems)
        count = len(self.problems)
        super().__init__("\n".join(map(str, self.problems)) + (f"\n{count} problems" if count > 1 else ""))


def unique(problems: Iterable[Problem]) -> list[Problem]:
    """Each once, in the order of the files' lines."""
    return sorted(dict.fromkeys(problems), key=lambda one: (one.file or "", one.line or 0))


def shown(value: object) -> str:
    """A value as its finder would recognise it."""
    text = repr(value) if value is not None and not isinstance(value, bool) else _WORDS[value]
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    names = list(known)
    lowered = {one.lower(): one for one in names}
    found = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def suggestion(name: str, known: Iterable[str]) -> str | None:
    """A hint that names the nearest valid name, or some of them all."""
    names = sorted(known)
    near = nearest(name, names)
    if near is not None:
        return f"did you mean {near!r}?"
    if not names:
        return None
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"there are {', '.join(names[:LISTED])}{more}"
