"""Models that see, against transformers' own pass from the files to the logits."""

import copy
import functools
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from hone.engine import contract as c
from hone.engine.attention import BLOCK
from hone.engine.batch import cut
from hone.engine.checkpoints import capture, peft_tensors
from hone.engine.lora.state import AdapterState
from hone.engine.models import vision as vision_module
from hone.engine.models.load import LoadedModel, load_model
from hone.engine.models.pictures import Pictured, rotary_positions
from hone.engine.models.vision import Vision
from hone.engine.parity import merge
from hone.engine.trainer import run_pieces
from hone.errors import UserError
from hone.protocol.model_input import ImageChunk, join_chunks
from hone.protocol.types import AdamParams, Datum, Image, LoraConfig, SamplingParams
from tests.support.pictures import (
    END,
    IMAGE,
    SEEING,
    START,
    file_of,
    image_processor,
    noise,
    save_seeing,
    seeing_model,
)
from tests.unit.engine.material import Engine, forward_backward, relative_error, trained_adapter, weight_gradient
from tests.unit.engine.sampling.material import assert_equal, one, run, sampler_of

TOLERANCE = 1e-5
"""Nats, in float32."""
GRADIENTS = 1e-4
"""Relative."""
SAMPLER = 5e-6
"""Nats between a sampled token's log-probability and the trainer's; recurrent layers depend on the length."""

PICTURES = [Image(file_of(noise(1, 40, 24)), "png"), Image(file_of(noise(2, 17, 50), "jpeg"), "jpeg")]
LENGTHS = [15, 12]
"""In tokens: rounded to 8 pixels a side they are 5 x 3, and 2 x 6."""


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Loads one of `SEEING`, once."""
    folder = tmp_path_factory.mktemp("seeing")
    return functools.cache(lambda name: load_model(c.ModelSource(name, save_seeing(name, folder / name))))


@pytest.fixture(scope="module")
def eyes(seeing: Any) -> Vision:
    vision = seeing("qwen3_vl").vision
    assert isinstance(vision, Vision)
    return vision


Chunk = list[int] | int
"""Tokens, or the number of a picture."""


def laid_out(*chunks: Chunk) -> Datum:
    """The chunks as a training sequence that is scored on its text."""
    parts: list[Any] = [
        ImageChunk(PICTURES[one], LENGTHS[one]) if isinstance(one, int) else np.array(one, np.int32) for one in chunks
    ]
    joined = join_chunks([*parts, np.array([7], np.int32)], "here")
    tokens = joined.tokens
    targets, weights = np.maximum(tokens[1:], 0), (tokens[1:] >= 0).astype(np.float32)
    inputs = {"target_tokens": targets.astype(np.int64), "weights": weights}
    return Datum(tokens[:-1], inputs, images=joined.images)


def text(seed: int, length: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, IMAGE, length)]


def framed(one: int) -> tuple[Chunk, ...]:
    return [START], one, [END]


SEQUENCES = {
    "text alone": laid_out(text(1, 9)),
    "an image": laid_out(text(2, 5), *framed(0), text(3, 8)),
    "two images": laid_out(text(4, 3), *framed(1), text(5, 2), *framed(0), text(6, 4)),
    "the same image twice": laid_out(*framed(0), *framed(0), text(7, 3)),
    "an image first": laid_out(1, text(8, 30)),
    "an image last": laid_out(text(9, 33), 0),
}


def reference_inputs(datum: Datum) -> dict[str, Any]:
    """For transformers: its own processor on the files."""
    tokens = torch.from_numpy(datum.tokens.astype(np.int64))
    kinds = (tokens < 0).int()
    inputs: dict[str, Any] = {"input_ids": tokens.masked_fill(tokens < 0, IMAGE)[None]}
    if datum.images:
        opened = [Pillow.open(io.BytesIO(placed.image.data)).convert("RGB") for placed in datum.images]
        inputs |= dict(image_processor()(images=opened, return_tensors="pt")) | {"mm_token_type_ids": kinds[None]}
    return inputs


def reference_scores(model: Any, datum: Datum) -> torch.Tensor:
    logits = model(**reference_inputs(datum), use_cache=False).logits[0].float()
    targets = torch.from_numpy(datum.loss_inputs["target_tokens"])[:, None]
    return torch.log_softmax(logits, -1).gather(1, targets)[:, 0]


def merged(name: str, state: AdapterState) -> Any:
    model = copy.deepcopy(seeing_model(name))
    merge(model, peft_tensors(capture(state, with_optimizer=False)), state.layout.scale)
    return model


def scores(model: LoadedModel, state: AdapterState, data: Sequence[Datum]) -> list[np.ndarray]:
    (piece,) = cut(c.ForwardBackward("a", tuple(data), "cross_entropy", {}, forward_only=True), 4096)
    (result,) = run_pieces(model.decoder, [piece], {"a": state})
    found: list[np.ndarray] = [np.empty(0)] * len(data)
    for place, values in zip(piece.places, result.logprobs, strict=True):
        found[place] = values
    return found


# training


@pytest.mark.parametrize("name", SEEING)
def test_log_probabilities_are_those_of_transformers(name: str, seeing: Any) -> None:
    """All sequences in one pack, with the base model and with an adapter merged into its weights."""
    model = seeing(name)
    assert isinstance(model.vision, Vision), model.vision
    assert model.config.cached == (name != "qwen3_5")
    moved = trained_adapter(model.config, LoraConfig(3, 5), size=0.02)
    data = list(SEQUENCES.values())
    fresh = AdapterState(model.config, LoraConfig(3, 5))
    for state, plain in ((fresh, seeing_model(name)), (moved, merged(name, moved))):
        for kind, found, datum in zip(SEQUENCES, scores(model, state, data), data, strict=True):
            with torch.no_grad():
                wanted = reference_scores(plain, datum).numpy()
            assert np.abs(found - wanted).max() <= TOLERANCE, kind


@pytest.mark.parametrize("name", SEEING)
def test_gradients_are_those_of_the_merged_weights(name: str, seeing: Any) -> None:
    """With W' = W + s B A: dB = s dW' A^T, dA = s B^T dW'."""
    model, datum = seeing(name), SEQUENCES["two images"]
    state = trained_adapter(model.config, LoraConfig(3, 5), size=0.02)
    forward_backward(model.decoder, state, [datum])
    plain = merged(name, state).requires_grad_(True)
    (-(torch.from_numpy(datum.loss_inputs["weights"]) * reference_scores(plain, datum)).sum()).backward()
    assert state.gradient is not None
    gradients, scale = state.layout.site_views(state.gradient), state.layout.scale
    for site, (a, b) in state.layout.site_views(state.weights).items():
        assert "visual" not in site
        dweight = plain.lm_head.weight.grad if site == "model.unembed_tokens" else weight_gradient(plain, site)
        da, db = gradients[site]
        assert relative_error(db, (scale * dweight @ a.mT).sum_to_size(db.shape)) <= GRADIENTS, site
        assert relative_error(da, (scale * b.mT @ dweight).sum_to_size(da.shape)) <= GRADIENTS, site


@pytest.mark.parametrize("name", SEEING)
def test_layers_computed_again_give_the_same_gradients(name: str, seeing: Any) -> None:
    model, data = seeing(name), tuple(SEQUENCES.values())
    assert model.decoder.layers == model.config.layers  # those of the text, not the tower's
    (piece,) = cut(c.ForwardBackward("a", data, "cross_entropy", {}), 4096)
    gradients = []
    for recomputed in (0, model.decoder.layers):
        state = trained_adapter(model.config, LoraConfig(3, 5), size=0.02)
        run_pieces(model.decoder, [piece], {"a": state}, recomputed)
        gradients.append(state.gradient)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("name", SEEING)
def test_neighbours_change_no_bit(name: str, seeing: Any) -> None:
    model = seeing(name)
    state = trained_adapter(model.config, LoraConfig(3, 5), size=0.02)
    together = scores(model, state, list(SEQUENCES.values()))
    for found, datum in zip(together, SEQUENCES.values(), strict=True):
        np.testing.assert_array_equal(found, scores(model, state, [datum])[0])


# rotary positions


def test_positions_are_those_of_transformers(eyes: Vision) -> None:
    for kind in ("an image", "two images", "the same image twice", "an image first", "an image last"):
        datum = SEQUENCES[kind]
        inputs = {k: v for k, v in reference_inputs(datum).items() if k != "pixel_values"}
        wanted, _ = seeing_model("qwen3_vl").model.get_rope_index(**inputs)
        length = len(datum.tokens)
        for first in (0, 1, 7, length - 1):  # a beginning may be in the cache
            mine = Pictured(2, 2 + length - first, first, datum.images)
            plain = torch.cat([torch.tensor([5, 6]), torch.arange(first, length), torch.tensor([0])])
            found = rotary_positions(plain, [mine], eyes)
            assert torch.equal(found[:, 2:-1], wanted[:, 0, first:]), (kind, first)
            assert found[:, [0, 1, -1]].tolist() == [[5, 6, 0]] * 3  # the rows of others


# sampling


def scored(prompt: Datum, sampled: np.ndarray, adapter: str) -> c.ForwardBackward:
    tokens = np.concatenate([prompt.tokens, sampled]).astype(np.int32)
    inputs = {
        "target_tokens": np.maximum(tokens[1:], 0).astype(np.int64),
        "weights": np.ones(len(tokens) - 1, np.float32),
    }
    return c.ForwardBackward(
        adapter, (Datum(tokens[:-1], inputs, images=prompt.images),), "cross_entropy", {}, forward_only=True
    )


@pytest.mark.parametrize("name", SEEING)
def test_it_trains_and_samples_through_the_engine(name: str, seeing: Any, tmp_path: Path) -> None:
    model, data = seeing(name), tuple(SEQUENCES.values())
    step = (c.ForwardBackward("a", data, "cross_entropy", {}), c.OptimStep("a", AdamParams(learning_rate=1e-2)))
    params = SamplingParams(max_tokens=14, stop=())
    asked = [c.Sample(name, "v", d.tokens, 2, params, 3, images=d.images) for d in data]
    with Engine({name: model}) as engine:
        engine.ask(c.CreateAdapter("a", name, LoraConfig(4, 1)))
        losses = [result.metrics["loss:sum"] for result in engine.ask(*step * 6)[::2]]
        assert losses[-1] < 0.9 * losses[0]
        engine.ask(c.Publish("a", "v", str(tmp_path / "v")))
        together = engine.ask(*asked)
        for op, result, datum in zip(asked, together, data, strict=True):
            for sequence in result.sequences:
                (trained,) = engine.ask(scored(datum, sequence.tokens, "a"))
                assert np.abs(trained.logprobs[0][len(op.prompt) - 1 :] - sequence.logprobs).max() <= SAMPLER
    for op, result in zip(asked, together, strict=True):
        with Engine({name: model}) as engine:
            engine.ask(c.LoadVersion("v", name, str(tmp_path / "v")))
            (alone,) = engine.ask(op)
        for a, b in zip(result.sequences, alone.sequences, strict=True):
            np.testing.assert_array_equal(a.logprobs, b.logprobs)


def test_cached_beginnings_go_by_what_is_in_the_image(seeing: Any) -> None:
    """In blocks of 16 positions: 25 of text, then the images, then 40 of text."""
    model, params = seeing("qwen3_vl"), SamplingParams(max_tokens=3, stop=())
    start, rest = text(1, 25), text(2, 40)

    def ask(*pictures: int) -> c.Sample:
        images = [ImageChunk(PICTURES[one], LENGTHS[one]) for one in pictures]
        joined = join_chunks([np.array(start, np.int32), *images, np.array(rest, np.int32)], "here")
        return c.Sample("m", None, joined.tokens, 1, params, 3, images=joined.images)

    def fresh(op: c.Sample) -> Any:
        with Engine({"m": model}) as engine:
            return engine.ask(op)[0]

    same, other, twice = ask(0), ask(1), ask(0, 0)
    with Engine({"m": model}) as engine:
        for op, cached in ((same, 0), (same, 64), (other, 16), (other, 64), (twice, 32), (same, 64)):
            (result,) = engine.ask(op)
            assert result.prompt_cache_hit_tokens == cached
            np.testing.assert_array_equal(result.sequences[0].logprobs, fresh(op).sequences[0].logprobs)


def test_chunks_and_preemption_change_no_bit(seeing: Any) -> None:
    """Prompts go into the cache 16 tokens at a time, in the middle of images too; sequences give their blocks up."""
    model, params = seeing("qwen3_vl"), SamplingParams(max_tokens=40, stop=())
    asked = [c.Sample("m", None, d.tokens, 2, params, i, images=d.images) for i, d in enumerate(SEQUENCES.values())]
    small, large = sampler_of(model, cache_tokens=12 * BLOCK, prefill=BLOCK), sampler_of(model)
    results = run(small, [(op, None) for op in asked])
    assert small.preemptions
    for i, op in enumerate(asked):
        assert_equal(results[i], one(large, op))


def test_scores_of_a_prompt_leave_images_out(seeing: Any) -> None:
    datum = SEQUENCES["two images"]
    with Engine({"m": seeing("qwen3_vl")}) as engine:
        op = c.Sample("m", None, datum.tokens, 1, SamplingParams(max_tokens=1), 3, True, 2, images=datum.images)
        (result,) = engine.ask(op)
    with torch.no_grad():
        wanted = reference_scores(seeing_model("qwen3_vl"), datum).numpy()[:-1]
    words = datum.tokens[1:] >= 0
    assert result.prompt_logprobs is not None
    assert np.isnan(result.prompt_logprobs[1:][~words]).all()
    assert np.abs(result.prompt_logprobs[1:][words] - wanted[words]).max() <= TOLERANCE
    assert np.isfinite(result.topk_prompt_logprobs.logprobs[1:]).all()  # what the model expects there is known


# what cannot be used


def bomb() -> bytes:
    """A small file of many pixels."""
    return file_of(Pillow.new("1", (9000, 9000)))


def with_size(file: bytes, width: int, height: int) -> bytes:
    """A PNG that claims another size."""
    header = file[12:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + file[24:29]
    return file[:12] + header + zlib.crc32(header).to_bytes(4, "big") + file[33:]


FILE = PICTURES[0].data
UNUSABLE: dict[str, tuple[bytes, str, int, str]] = {
    "wrong length": (FILE, "png", 14, "expected_tokens 14; this model makes 15 of its 40 x 24 pixels"),
    "no image": (b"hello", "png", 15, "is no png, 5 bytes"),
    "another format": (FILE, "jpeg", 15, "is no jpeg"),
    "cut off": (FILE[: len(FILE) // 2], "png", 15, "broken png"),
    "only a header": (FILE[:40], "png", 15, "broken png|no png"),
    "damaged": (FILE[:900] + bytes(200) + FILE[1100:], "png", 15, "broken png"),
    "too many pixels": (bomb(), "png", 15, r"9000 x 9000 = 81,000,000 pixels; this server reads up to 50,000,000"),
    "claims of pixels": (with_size(FILE, 60_000, 60_000), "png", 15, "too large.*up to 50,000,000"),
    "a line": (file_of(noise(3, 900, 4)), "png", 15, "900 x 4 pixels cannot be used.*aspect ratio"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_image_that_cannot_be_used_fails_alone(case: str, seeing: Any) -> None:
    data, format, length, says = UNUSABLE[case]
    image = ImageChunk(Image(data, format), length)
    joined = join_chunks([np.array([5, 6], np.int32), image, np.array([7], np.int32)], "here")
    inputs = {"target_tokens": np.ones(len(joined.tokens), np.int64)}
    inputs["weights"] = inputs["target_tokens"].astype(np.float32)
    bad = Datum(joined.tokens, inputs, images=joined.images)
    params = SamplingParams(max_tokens=2)
    with Engine({"m": seeing("qwen3_vl")}) as engine:
        engine.ask(c.CreateAdapter("a", "m", LoraConfig(2, 1)))
        with pytest.raises(UserError, match=r"data\[1\].model_input: the image at position 2.*" + says):
            engine.ask(c.ForwardBackward("a", (SEQUENCES["an image"], bad), "cross_entropy", {}))
        with pytest.raises(UserError, match=r"prompt: the image at position 2.*" + says):
            engine.ask(c.Sample("m", None, joined.tokens, 1, params, 3, images=joined.images))
        passed, _ = engine.ask(
            c.ForwardBackward("a", (SEQUENCES["an image"],), "cross_entropy", {}),
            c.Sample("m", None, SEQUENCES["an image"].tokens, 1, params, 3, images=SEQUENCES["an image"].images),
        )
        assert np.isfinite(passed.metrics["loss:sum"])


def test_images_are_counted_from_their_headers(seeing: Any) -> None:
    with Engine({"m": seeing("qwen3_vl")}) as engine:
        assert engine.ask(c.CountImageTokens("m", tuple(PICTURES))) == [tuple(LENGTHS)]
        with pytest.raises(UserError, match="image 1 is no png"):
            engine.ask(c.CountImageTokens("m", (PICTURES[0], Image(b"hello", "png"))))


def test_placeholders_are_for_images_alone(seeing: Any) -> None:
    datum = SEQUENCES["an image"]
    stray = Datum(datum.tokens, datum.loss_inputs)  # without the image itself
    with Engine({"m": seeing("qwen3_vl")}) as engine:
        engine.ask(c.CreateAdapter("a", "m", LoraConfig(2, 1)))
        with pytest.raises(UserError, match="holds token -1"):
            engine.ask(c.ForwardBackward("a", (stray,), "cross_entropy", {}))
        with pytest.raises(UserError, match="holds token -1"):
            engine.ask(c.Sample("m", None, stray.tokens, 1, SamplingParams(max_tokens=2), 3))


def test_models_without_eyes_say_why(models: dict[str, LoadedModel], tmp_path: Path) -> None:
    datum = laid_out([5, 6], 0)
    blind = load_model(c.ModelSource("m", save_seeing("qwen3_vl", tmp_path)))
    (tmp_path / "preprocessor_config.json").unlink()
    without = load_model(c.ModelSource("m", tmp_path))
    assert isinstance(blind.vision, Vision)
    for model, says in (
        (models["qwen3"], "it reads text only"),
        (without, "its directory has no preprocessor_config.json"),
    ):
        with Engine({"m": model}) as engine:
            engine.ask(c.CreateAdapter("a", "m", LoraConfig(2, 1)))
            for op in (
                c.ForwardBackward("a", (datum,), "cross_entropy", {}),
                c.Sample("m", None, datum.tokens, 1, SamplingParams(max_tokens=2), 3, images=datum.images),
                c.CountImageTokens("m", (PICTURES[0],)),
            ):
                with pytest.raises(UserError, match=f"holds an image.*takes none: {says}"):
                    engine.ask(op)


def test_a_server_without_pillow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(vision_module, "import_module", missing)
    assert "pip install 'hone[images]'" in vision_module.load_vision(tmp_path, seeing_model("qwen3_vl").model)


def test_what_was_seen_is_kept_within_bounds(eyes: Vision, monkeypatch: pytest.MonkeyPatch) -> None:
    size = eyes.see(PICTURES[0]).bytes
    monkeypatch.setattr(vision_module, "KEPT_BYTES", 2 * size)
    monkeypatch.setattr(vision_module, "KEPT_GRIDS", 2)
    images = [Image(file_of(noise(i, 40, 24)), "png") for i in range(10, 15)]
    seen = [eyes.see(image) for image in images]
    assert eyes._seen_bytes == sum(one.bytes for one in eyes._seen.values()) <= 2 * size
    assert len(eyes._grids) <= 2
    again = eyes.see(images[0])
    assert again is not seen[0]
    assert torch.equal(again.features_nh, seen[0].features_nh)
    assert eyes.grid(images[3]) == (3, 5)
