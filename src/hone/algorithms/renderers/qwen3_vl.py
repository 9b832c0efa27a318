"""Qwen 3 VL: Qwen 3's format with images, in what users say and in what tools answer."""

from hone.algorithms.renderers.encoding import Image, Markup, Piece
from hone.algorithms.renderers.qwen3 import Qwen3, Qwen3Instruct


def framed(image: Image) -> list[Piece]:
    return [Markup("<|vision_start|>"), image, Markup("<|vision_end|>")]


class Qwen3VL(Qwen3):
    takes_images = True

    def image(self, image: Image) -> list[Piece]:
        return framed(image)


class Qwen3VLInstruct(Qwen3Instruct):
    takes_images = True

    def image(self, image: Image) -> list[Piece]:
        return framed(image)
