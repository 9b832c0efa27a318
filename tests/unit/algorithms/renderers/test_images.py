"""Images in messages: how many tokens they are, what stands around them, and that nothing learns them."""

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from tinker.types import ImageChunk

from hone.algorithms.renderers import RendererError, TrainOnWhat, get_renderer
from tests.support import conversations as c

Image = pytest.importorskip("PIL.Image")


class Processor:
    """As Qwen's: patches of 4 x 4 pixels, merged two by two."""

    merge_size = 2

    def get_number_of_image_patches(self, height: int, width: int, images_kwargs: dict[str, Any]) -> int:
        return (height // 4) * (width // 4)


def tokenizer() -> Any:
    return c.tokenizer_with("tiny", ("<|vision_start|>", "<|vision_end|>"), ("<tool_response>", "</tool_response>"))


def encoded(kind: str, size: tuple[int, int] = (16, 8), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, format=kind)
    return file.getvalue()


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "qwen3_vl_instruct", "qwen3_5"])
def test_an_image_stands_between_its_marks(name: str) -> None:
    renderer = get_renderer(name, tokenizer(), Processor())
    parts = [{"type": "text", "text": "a"}, {"type": "image", "image": encoded("JPEG")}, {"type": "text", "text": "b"}]
    talk = [{"role": "user", "content": parts}, {"role": "assistant", "content": "c"}]
    model_input, weights = renderer.build_supervised_example(talk, TrainOnWhat.ALL_TOKENS)
    before, image, after = model_input.chunks
    assert isinstance(image, ImageChunk)
    assert (image.length, image.format, image.data) == (2, "jpeg", encoded("JPEG"))
    decode = tokenizer().decode
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" if name == "qwen2_5_vl" else ""
    assert decode(before.tokens) == f"{system}<|im_start|>user\na<|vision_start|>"
    assert decode(after.tokens).startswith("<|vision_end|>b<|im_end|>\n<|im_start|>assistant\n")
    at = before.length
    assert weights.tolist() == [1.0] * at + [0.0] * 2 + [1.0] * after.length
    prompt = renderer.build_generation_prompt(talk[:1])
    assert prompt.chunks[:2] == model_input.chunks[:2]


def test_tools_may_answer_with_images() -> None:
    renderer = get_renderer("qwen3_vl", tokenizer(), Processor())
    answer = {"role": "tool", "content": [{"type": "image", "image": encoded("JPEG")}]}
    chunks = renderer.build_generation_prompt([{"role": "user", "content": "?"}, answer]).chunks
    assert tokenizer().decode(chunks[0].tokens).endswith("<tool_response>\n<|vision_start|>")


def test_images_come_in_many_forms(tmp_path: Path) -> None:
    renderer = get_renderer("qwen3_vl", tokenizer(), Processor())
    png = encoded("PNG", mode="RGBA")
    (tmp_path / "x.png").write_bytes(png)
    uri = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    for image in (Image.new("L", (16, 8)), png, tmp_path / "x.png", str(tmp_path / "x.png"), uri):
        part = {"type": "image", "image": image}
        chunk = renderer.build_generation_prompt([{"role": "user", "content": [part]}]).chunks[1]
        assert isinstance(chunk, ImageChunk)
        read = Image.open(io.BytesIO(chunk.data))
        assert (read.format, read.mode, read.size, chunk.length) == ("JPEG", "RGB", (16, 8), 2)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (b"nothing", "could not be read"),
        ("no/such/file.png", "could not be read"),
        ("https://example.org/x.png", "fetch it first"),
        ("data:image/png,xx", "not base64"),
        ("data:image/png;base64,!", "is broken"),
        (7, "it is a int"),
    ],
)
def test_what_is_no_image_is_said(image: Any, says: str) -> None:
    renderer = get_renderer("qwen3_vl", tokenizer(), Processor())
    with pytest.raises(RendererError, match=says):
        renderer.build_generation_prompt([{"role": "user", "content": [{"type": "image", "image": image}]}])


@pytest.mark.parametrize(("name", "says"), [("qwen3", "writes no images"), ("chat_template", "writes no images")])
def test_formats_without_images_refuse_them(name: str, says: str) -> None:
    talk = [{"role": "user", "content": [{"type": "image", "image": encoded("PNG")}]}]
    with pytest.raises(RendererError, match=says):
        get_renderer(name, tokenizer(), Processor()).build_generation_prompt(talk)
    with pytest.raises(RendererError, match="no image_processor"):
        get_renderer("qwen3_vl", tokenizer()).build_generation_prompt(talk)
