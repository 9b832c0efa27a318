"""Where in a text the answer stands: marked by one of the usual forms, the last of which counts."""

from __future__ import annotations

import re
from collections.abc import Iterator

HASHES = re.compile(r"^[ \t]*####[ \t]*(.+?)[ \t]*$", re.MULTILINE)
TAGS = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL | re.IGNORECASE)
PHRASE = re.compile(
    r"\banswer\b(?:\s+is(?=[\s:])|\s*[:=])[\s:*]*(?!\s*$)(.+?)\s*(?=$|\n|\.(?:\s|$))", re.IGNORECASE | re.MULTILINE
)
CODE = re.compile(r"^[ \t]*```[ \t]*[\w+-]*[ \t]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)


def marked_answer(text: str) -> str | None:
    r"""What stands in the last `\boxed{}`, else after `####`, else in `<answer>`, else after "the answer is"."""
    boxes = list(boxed(text))
    if boxes:
        return boxes[-1]
    for form in (HASHES, TAGS, PHRASE):
        found = form.findall(text)
        if found:
            return str(found[-1]).strip().strip("*").strip()
    return None


def boxed(text: str) -> Iterator[str]:
    r"""The content of each `\boxed{}` or `\fbox{}` whose braces are balanced."""
    for start in re.finditer(r"\\(?:boxed|fbox)\s*\{", text):
        depth, escaped = 1, False
        for position in range(start.end(), len(text)):
            character = text[position]
            if not escaped:
                depth += {"{": 1, "}": -1}.get(character, 0)
            if depth == 0:
                yield text[start.end() : position].strip()
                break
            escaped = character == "\\" and not escaped


def last_code(text: str) -> str:
    """The last fenced block, else the whole text."""
    blocks = CODE.findall(text)
    return str(blocks[-1]) if blocks else text
