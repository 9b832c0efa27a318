"""Tables and the like."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from hone.experiments.explain import Parameter


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def parameter_table(parameters: Iterable[Parameter], anchors: bool = False) -> str:
    """Name, type, default and meaning of each. With `anchors`, objects link to the section of this page."""
    return table(
        ("name", "type", "default", "meaning"),
        (
            (
                f"`{one.name}`",
                links(one.type) if anchors else one.type,
                "**required**" if one.required else "" if one.default is None else f"`{plain(one.default)}`",
                one.description,
            )
            for one in parameters
        ),
    )


def sentence(text: str) -> str:
    """A summary as a sentence."""
    return f"{text[0].upper()}{text[1:]}."


def anchor(heading: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def fenced(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def links(type_text: str) -> str:
    """`<name>` as a link to the section of that name."""
    return re.sub(r"<([^>]+)>", lambda found: f"[{found[1]}](#{anchor(found[1])})", type_text)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
