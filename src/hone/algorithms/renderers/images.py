"""Images in messages to chunks of the protocol. Pillow is needed only here, and only when there are images."""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import Path
from typing import Any, Protocol

from tinker.types import ImageChunk

from hone.algorithms.renderers.renderer import RendererError


class ImageProcessor(Protocol):
    """What is used of a Hugging Face image processor of the Qwen-VL kind."""

    merge_size: int

    def get_number_of_image_patches(self, height: int, width: int, images_kwargs: dict[str, Any]) -> int: ...


def image_chunk(image: Any, processor: ImageProcessor | None) -> ImageChunk:
    """JPEG bytes with the number of tokens that the model will see.

    `image` is a PIL image, the bytes of an image file, its path, or a `data:` URI. A JPEG goes as it is."""
    if processor is None:
        raise RendererError("there is an image and the renderer has no image_processor, which tells its tokens")
    try:
        from PIL import Image
    except ImportError as error:
        raise RendererError("images need Pillow: pip install 'hone[images]'") from error
    try:
        data = None if isinstance(image, Image.Image) else _bytes(image)
        picture = image if data is None else Image.open(io.BytesIO(data))
        if data is None or picture.format != "JPEG" or picture.mode != "RGB":
            written = io.BytesIO()
            picture.convert("RGB").save(written, format="JPEG")
            data = written.getvalue()
    except (OSError, ValueError) as error:  # PIL's own errors are OSErrors
        raise RendererError(f"an image could not be read: {error}") from error
    patches = processor.get_number_of_image_patches(picture.height, picture.width, images_kwargs={})
    return ImageChunk(data=data, format="jpeg", expected_tokens=patches // processor.merge_size**2)


def _bytes(image: Any) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, Path):
        return image.read_bytes()
    if not isinstance(image, str):
        raise ValueError(f"it is a {type(image).__name__}; it must be a PIL image, bytes, a path or a data: URI")
    if image.startswith("data:"):
        header, _, body = image.partition(",")
        if not header.endswith(";base64"):
            raise ValueError("its data: URI is not base64")
        try:
            return base64.b64decode(body, validate=True)
        except binascii.Error as error:
            raise ValueError(f"its data: URI is broken: {error}") from error
    if "://" in image:
        raise ValueError(f"{image} is on the network; fetch it first and give its path or bytes")
    return Path(image).read_bytes()
