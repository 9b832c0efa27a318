"""Chunks of text and images, put together into the positions that a model reads."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hone.errors import UserError
from hone.protocol.types import IMAGE_FORMATS, IMAGE_TOKEN, Image, PlacedImage

MAX_IMAGE_POSITIONS = 1 << 20
"""Of one model input: more than any context holds. A few bytes can claim any number."""


@dataclass(frozen=True)
class ImageChunk:
    image: Image
    expected_tokens: int | None
    """How many positions the client takes the image for."""


@dataclass(frozen=True)
class ModelInput:
    tokens: np.ndarray
    """int32 [N]"""
    images: tuple[PlacedImage, ...]


def image_chunk(data: bytes, format: str, expected_tokens: int | None, where: str) -> ImageChunk:
    if format not in IMAGE_FORMATS:
        raise UserError(f"{where}.format is {format!r}; allowed are {' and '.join(IMAGE_FORMATS)}")
    if not data:
        raise UserError(f"{where}.data is empty; send the bytes of a {format} file")
    if expected_tokens is not None and expected_tokens < 1:
        raise UserError(f"{where}.expected_tokens is {expected_tokens}; an image takes at least 1")
    return ImageChunk(Image(data, format), expected_tokens)  # type: ignore[arg-type]  # one of the formats


def decode_base64(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError(f"{where}.data is no base64: {error}") from None


def unreadable(where: str, kind: str | None) -> UserError:
    if kind == "image_asset_pointer":
        return UserError(
            f"{where} is of kind 'image_asset_pointer'; this server fetches nothing: send the image itself, as a chunk "
            "of kind 'image'"
        )
    return UserError(f"{where} is of kind {kind or 'unknown'!r}; models read encoded_text, and some of them image")


def no_image(where: str, at: int, why: str = "it reads text only") -> UserError:
    return UserError(
        f"{where} holds an image at position {at}; this model takes none: {why}; send encoded_text, or use a model "
        "that reads images"
    )


def join_chunks(chunks: Sequence[np.ndarray | ImageChunk], where: str) -> ModelInput:
    """`chunks` are text tokens, int32 [n], or images, one after another. Images whose length nobody says are refused:
    training data are laid out by it."""
    parts, images, length, claimed = [np.empty(0, np.int32)], [], 0, 0
    for i, chunk in enumerate(chunks):
        if isinstance(chunk, ImageChunk):
            if chunk.expected_tokens is None:
                raise UserError(f"{where}.chunks[{i}] is an image without expected_tokens; say how many it takes")
            claimed += chunk.expected_tokens
            if claimed > MAX_IMAGE_POSITIONS:
                raise UserError(
                    f"{where}.chunks[{i}].expected_tokens is {chunk.expected_tokens}; the images of one input may take "
                    f"{MAX_IMAGE_POSITIONS} together"
                )
            images.append(PlacedImage(length, chunk.expected_tokens, chunk.image))
            parts.append(np.full(chunk.expected_tokens, IMAGE_TOKEN, np.int32))
        else:
            parts.append(chunk)
        length += len(parts[-1])
    tokens = parts[1] if len(parts) == 2 else np.concatenate(parts)
    return ModelInput(tokens, tuple(images))


def text_of(tokens: np.ndarray, images: Sequence[PlacedImage]) -> np.ndarray:
    """`tokens` [N] without the positions of images."""
    if not images:
        return tokens
    text = np.ones(len(tokens), bool)
    for image in images:
        text[image.start : image.stop] = False
    return tokens[text]
