import numpy as np
import pytest

from hone.engine.sampling import image_names
from hone.engine.sampling.image_names import ImageNames
from hone.protocol.types import IMAGE_TOKEN, Image, PlacedImage

A, B, C = (Image(bytes([i]), "png") for i in range(3))


def filled(names: ImageNames, *images: Image) -> list[int]:
    """Of each image at two positions, one after another."""
    placed = [PlacedImage(2 * i, 2, image) for i, image in enumerate(images)]
    return names.fill(np.full(2 * len(images), IMAGE_TOKEN, np.int32), placed).tolist()


def test_equal_images_have_equal_numbers_and_others_never_do() -> None:
    names = ImageNames()
    first = filled(names, A, B, A)
    assert first[:2] == first[4:]
    assert len({*first}) == 2
    assert all(number < IMAGE_TOKEN for number in first)
    assert filled(names, B, Image(A.data, "png"), C)[:4] == [*first[2:4], *first[:2]]
    assert filled(names, Image(A.data, "jpeg"))[0] not in first


def test_text_stays_as_it_is() -> None:
    tokens = np.array([5, IMAGE_TOKEN, 7], np.int32)
    found = ImageNames().fill(tokens, [PlacedImage(1, 1, A)])
    assert (found[0], found[2]) == (5, 7)
    assert tokens[1] == IMAGE_TOKEN, "the request keeps its own"


def test_a_forgotten_image_gets_a_number_that_nothing_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_names, "REMEMBERED", 2)
    names = ImageNames()
    seen = {filled(names, image)[0] for image in (A, B)}
    seen.add(filled(names, B, C)[2])  # A was used longest ago
    assert filled(names, A)[0] not in seen
    assert filled(names, C)[0] in seen
