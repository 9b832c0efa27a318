"""Search in a few thousand texts, without a server: BM25.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the inverse document
frequency that is never negative.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from hone.algorithms.envs.tools import Tool, tool_spec

WORD = re.compile(r"\w+")
K1 = 1.5
"""How soon more of the same word stops counting."""
B = 0.75
"""How much a long text is held against it."""


class Document(NamedTuple):
    title: str
    text: str


class Hit(NamedTuple):
    document: Document
    score: float


class Bm25:
    """An index over documents; the title counts as text."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = list(documents)
        words = [Counter(_words(f"{document.title} {document.text}")) for document in documents]
        self._lengths = [sum(counts.values()) for counts in words]
        self._mean_length = sum(self._lengths) / max(len(words), 1)
        self._places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for place, counts in enumerate(words):
            for word, count in counts.items():
                self._places[word].append((place, count))

    def search(self, query: str, top: int = 3) -> list[Hit]:
        """The best documents that share a word with the query; those of equal score in their own order."""
        scores: dict[int, float] = defaultdict(float)
        for word in set(_words(query)):
            places = self._places.get(word, [])
            rarity = math.log(1 + (len(self._documents) - len(places) + 0.5) / (len(places) + 0.5))
            for place, count in places:
                length = 1 - B + B * self._lengths[place] / self._mean_length
                scores[place] += rarity * count * (K1 + 1) / (count + K1 * length)
        best = sorted(scores, key=lambda place: (-scores[place], place))[:top]
        return [Hit(self._documents[place], scores[place]) for place in best]


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


class Search(Tool):
    spec = tool_spec("search", "Finds texts by the words in them.", query="a few words")

    def __init__(self, index: Bm25, top: int = 3) -> None:
        self._index, self._top = index, top

    async def call(self, arguments: dict[str, Any]) -> str:
        hits = self._index.search(str(arguments["query"]), self._top)
        return "\n".join(f"{hit.document.title}: {hit.document.text}" for hit in hits) or "nothing found"
