"""A text as the words that are compared: without case, punctuation, layout, forms of Unicode and English endings."""

from __future__ import annotations

import re
import unicodedata

_TOKEN = re.compile(
    r"\d+(?:[.,]\d+)*"
    r"|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"  # written without spaces: each character is a word
    r"|[^\W\d_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+(?:['’][^\W\d_]+)*"
    r"|[-+*/=<>^%$€£|&~()\[\]{}]"
)
_BRACKETS = frozenset("()[]{}<>")
_SIGNS = frozenset("-+*/=<>^%$€£|&~") | _BRACKETS
_ENDINGS = ("ing", "ed", "es", "s", "e")
_SHORTEST_STEM = 3

STOP_WORDS = frozenset(
    """a about after all also am an and any are as at be because been before being but by can could did do does doing
    done down each few for from had has have having he her here hers him his how i if in into is it its just let may
    me might more most much must my no nor not now of off on once only or other our out over own please same shall she
    should so some such than that the their them then there these they this those through to too under up us very was
    we were what when where which while who whom whose why will with would yes you your""".split()
)
"""Words that sentences can do without."""


def words(text: str) -> list[str]:
    """The words in their order. A sign such as + or ( is a word only beside a number or a single letter, and a bracket
    beside a bracket."""
    tokens = _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())
    if _SIGNS.isdisjoint(tokens):
        return tokens
    ends = ["", *tokens, ""]
    return [
        token
        for before, token, after in zip(ends, tokens, ends[2:], strict=False)
        if token not in _SIGNS
        or _counts(before)
        or _counts(after)
        or (token in _BRACKETS and (before in _BRACKETS or after in _BRACKETS))
    ]


def stem(word: str) -> str:
    """The word without what English puts behind it; a number without its commas. The same for many, not all, forms."""
    if word[0].isdigit():
        return word.replace(",", "")
    word = word.replace("'", "").replace("’", "")
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word[: -len(ending)]
    return word


def is_anchor(word: str) -> bool:
    """Whether its place matters however a sentence is turned: numbers, single letters and signs."""
    return not word[0].isalpha() or (len(word) == 1 and word.isascii() and word not in STOP_WORDS)


def _counts(word: str) -> bool:
    return bool(word) and word not in _SIGNS and is_anchor(word)
