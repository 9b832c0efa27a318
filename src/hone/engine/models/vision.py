"""The eyes of a model of transformers: image files to what its decoder sees in their place.

The tower is frozen and every image passes it alone, so what it gives depends on nothing else and is kept for the next
time. The pixels are those of transformers' own image processor, always the one that computes with Pillow: so they are
the same wherever a server runs.

Legend: n positions of an image, h hidden.
"""

import io
import logging
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hone.errors import UserError
from hone.protocol.model_input import no_image
from hone.protocol.types import Image, PlacedImage

logger = logging.getLogger(__name__)

MAX_PIXELS = 50_000_000
"""Of one image, as it comes: more than cameras make. A small file can claim any number, and unpacking takes memory."""
KEPT_BYTES = 256 << 20
"""Of what was seen."""
KEPT_GRIDS = 1 << 16


@dataclass(frozen=True)
class Seen:
    """One image."""

    features_nh: Tensor
    deeper: tuple[Tensor, ...]
    """What is added after the decoder's first layers (DeepStack, Meng et al. 2024), one [n, h] for each; most models
    have none."""

    @property
    def bytes(self) -> int:
        return self.features_nh.nbytes + sum(x.nbytes for x in self.deeper)


class Vision:
    def __init__(self, base: Any, processor: Any) -> None:
        """`base` is transformers' model below the head."""
        self._base, self._processor = base, processor
        self._seen: OrderedDict[bytes, Seen] = OrderedDict()
        self._seen_bytes = 0
        self._grids: OrderedDict[bytes, tuple[int, int]] = OrderedDict()

    def count(self, image: Image, where: str) -> int:
        """How many positions the image takes, from its header alone; `UserError` if it cannot be used."""
        width, height = _open(image, where).size
        try:
            patches: int = self._processor.get_number_of_image_patches(height, width, {})
        except ValueError as error:  # such as a picture of a line
            raise UserError(f"{where} of {width} x {height} pixels cannot be used: {error}") from None
        merge: int = self._processor.merge_size
        return patches // (merge * merge)

    def check(self, placed: PlacedImage, where: str) -> None:
        """`UserError` unless the image can be read and takes the positions that were kept for it."""
        found = self.count(placed.image, where)
        if found != placed.length:
            width, height = _open(placed.image, where).size
            raise UserError(
                f"{where} has expected_tokens {placed.length}; this model makes {found} of its {width} x {height} "
                "pixels: count them with the model's own image processor"
            )
        if placed.image.digest not in self._grids:
            self.pixels(placed.image, where)

    @torch.no_grad()
    def see(self, image: Image) -> Seen:
        """Of an image that was checked."""
        found = self._seen.get(image.digest)
        if found is None:
            pixels = self.pixels(image, "image")
            weights = next(self._base.parameters())
            pixels = {
                k: v.to(weights.device, weights.dtype if v.is_floating_point() else None) for k, v in pixels.items()
            }
            with torch.inference_mode(False):  # what is kept goes into passes with gradients too
                out = self._base.get_image_features(**pixels, return_dict=True)
                (features_nh,), deeper = out.pooler_output, getattr(out, "deepstack_features", None) or ()
                found = Seen(features_nh, tuple(one for (one,) in deeper))
            self._seen[image.digest] = found
            self._seen_bytes += found.bytes
            while self._seen_bytes > KEPT_BYTES and len(self._seen) > 1:
                self._seen_bytes -= self._seen.popitem(last=False)[1].bytes
        self._seen.move_to_end(image.digest)
        return found

    def grid(self, image: Image) -> tuple[int, int]:
        """Height and width in positions, of an image that was checked."""
        if image.digest not in self._grids:
            self.pixels(image, "image")
        self._grids.move_to_end(image.digest)
        return self._grids[image.digest]

    def pixels(self, image: Image, where: str) -> dict[str, Tensor]:
        """As the tower takes them; `UserError` if the file is broken."""
        picture = _open(image, where)
        try:
            pixels = dict(self._processor(images=[picture.convert("RGB")], return_tensors="pt"))
        except Exception as error:  # decoders fail in any way they like on broken files
            raise UserError(f"{where} is a broken {image.format}, {len(image.data)} bytes: {error}") from None
        _, height, width = pixels["image_grid_thw"][0].tolist()
        merge = self._processor.merge_size
        self._grids[image.digest] = height // merge, width // merge
        while len(self._grids) > KEPT_GRIDS:
            self._grids.popitem(last=False)
        return pixels


def _open(image: Image, where: str) -> Any:
    """Only the header is read. `UserError` if it is none of its format, or claims too many pixels."""
    pillow: Any = import_module("PIL.Image")
    too_large = f"this server reads up to {MAX_PIXELS:,}; make it smaller, models do the same"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)  # the limit here is stricter
            picture = pillow.open(io.BytesIO(image.data), formats=[image.format.upper()])
    except pillow.DecompressionBombError as error:
        raise UserError(f"{where} is too large ({error}); {too_large}") from None
    except Exception as error:  # decoders fail in any way they like on broken files
        kind = "no" if isinstance(error, pillow.UnidentifiedImageError) else "a broken"
        raise UserError(f"{where} is {kind} {image.format}, {len(image.data)} bytes") from None
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise UserError(f"{where} has {width} x {height} = {width * height:,} pixels; {too_large}")
    return picture


def check_images(images: Sequence[PlacedImage], vision: Vision | str, where: str) -> None:
    """`UserError` unless a model with this vision can read all of them."""
    for placed in images:
        if isinstance(vision, str):
            raise no_image(where, placed.start, vision)
        vision.check(placed, f"{where}: the image at position {placed.start}")


def probe_image() -> Image:
    """A small one to try a model with."""
    file, noise = io.BytesIO(), torch.randint(0, 256, (40, 60, 3), generator=torch.Generator().manual_seed(0))
    import_module("PIL.Image").fromarray(noise.to(torch.uint8).numpy()).save(file, "png")
    return Image(file.getvalue(), "png")


def load_vision(directory: Path, base: Any) -> Vision | str:
    """The eyes of the model in `directory`, or why it has none."""
    if not hasattr(base, "get_image_features"):
        return "it reads text only"
    try:
        import_module("PIL.Image")
    except ImportError:
        return "this server lacks Pillow: pip install 'hone[images]'"
    if not (directory / "preprocessor_config.json").is_file():
        return "its directory has no preprocessor_config.json, which says how images are cut into patches"
    transformers: Any = import_module("transformers")
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(directory, backend="pil", trust_remote_code=False)
    except (OSError, ValueError, TypeError, ImportError) as error:
        said = str(error).strip().splitlines()[0]
        return f"transformers {transformers.__version__} cannot load its image processor: {said}"
    if not hasattr(processor, "get_number_of_image_patches") or not hasattr(processor, "merge_size"):
        return f"its images are not cut into a grid of patches, as those of Qwen-VL models ({type(processor).__name__})"
    return Vision(base, processor)
