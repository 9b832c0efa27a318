"""Numbers for images, so that sequences can be compared by their tokens alone."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import count

import numpy as np

from hone.protocol.types import IMAGE_TOKEN, PlacedImage

REMEMBERED = 1 << 16
"""Images whose number is known. One that was forgotten gets another, and what is cached of it is not found."""


class ImageNames:
    """Equal images have equal numbers and others never do; all are negative, as no token is."""

    def __init__(self) -> None:
        self._names: OrderedDict[bytes, int] = OrderedDict()
        self._next = count(IMAGE_TOKEN - 1, -1)

    def fill(self, tokens: np.ndarray, images: Sequence[PlacedImage]) -> np.ndarray:
        """`tokens` [N] with the numbers of the images where they are."""
        if not images:
            return tokens
        filled = tokens.copy()
        for placed in images:
            digest = placed.image.digest
            name = self._names.pop(digest, None)
            self._names[digest] = next(self._next) if name is None else name
            filled[placed.start : placed.stop] = self._names[digest]
        while len(self._names) > REMEMBERED:
            self._names.popitem(last=False)
        return filled
