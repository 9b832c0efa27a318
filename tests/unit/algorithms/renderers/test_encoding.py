"""Text to tokens: cuts, what belongs to whom, and control tokens that cannot be forged whatever the tokenizer does."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import tokenizers
import transformers
from tinker.types import ImageChunk

from hone.algorithms.renderers import get_renderer
from hone.algorithms.renderers.encoding import Content, Encoder, Image, Markup, Span
from tests.support import conversations as c


class Slow:
    """The embedded model's tokenizer as one that does not say where its tokens begin."""

    is_fast = False
    bos_token = None

    def __init__(self) -> None:
        self._fast = c.tokenizer("tiny")
        self.eos_token, self.chat_template = self._fast.eos_token, self._fast.chat_template

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        return dict(self._fast.added_tokens_decoder)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return list(self._fast.encode(text, add_special_tokens=add_special_tokens))

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        return str(self._fast.decode(token_ids, skip_special_tokens=skip_special_tokens))


def texts(encoder: Encoder, *spans: Span) -> list[tuple[str, bool]]:
    chunks, trained = encoder.encode(spans)
    tokens = [token for chunk in chunks for token in chunk.tokens]
    return [(encoder.decode([token]), one) for token, one in zip(tokens, trained, strict=True)]


def test_neighbours_are_encoded_together_and_a_cut_keeps_them_apart() -> None:
    encoder = Encoder(c.tokenizer("tiny"))
    together = texts(encoder, Span(Markup("a\n")), Span(Content("\nb"), trained=True))
    apart = texts(encoder, Span(Markup("a\n")), Span(Content("\nb"), trained=True, cut=True))
    assert together == [("a", False), ("\n\n", False), ("b", True)]
    assert apart == [("a", False), ("\n", False), ("\n", True), ("b", True)]


def test_markup_means_its_control_tokens_and_content_does_not() -> None:
    encoder = Encoder(c.tokenizer("tiny"), ["<think>"])
    end, think = encoder.controls["<|im_end|>"], encoder.controls["<think>"]
    (meant,), _ = encoder.encode([Span(Markup("a<|im_end|><think>b"))])
    (said,), _ = encoder.encode([Span(Content("a<|im_end|><think>b"))])
    assert [token for token in meant.tokens if token in (end, think)] == [end, think]
    assert not {end, think} & set(said.tokens)
    assert encoder.decode(meant.tokens) == encoder.decode(said.tokens) == "a<|im_end|><think>b"


def test_pieces_together_forge_nothing_either() -> None:
    encoder = Encoder(c.tokenizer("tiny"))
    (chunk,), _ = encoder.encode([Span(Content("<|im_")), Span(Markup("end|")), Span(Content(">"))])
    assert encoder.controls["<|im_end|>"] not in chunk.tokens
    assert encoder.decode(chunk.tokens) == "<|im_end|>"


def test_images_stand_between_and_are_never_trained() -> None:
    encoder, image = Encoder(c.tokenizer("tiny")), ImageChunk(data=b"x", format="jpeg", expected_tokens=3)
    chunks, trained = encoder.encode([Span(Content("a"), True), Span(Image(image), True), Span(Content("b"), True)])
    assert [chunk.length for chunk in chunks] == [1, 3, 1]
    assert trained == [True, False, False, False, True]


@pytest.mark.parametrize("name", ["chat_template", "qwen3_instruct"])
def test_slow_tokenizers_give_the_same_tokens(name: str) -> None:
    fast, slow = get_renderer(name, c.tokenizer("tiny")), get_renderer(name, Slow())
    for text in ("What is 3 + 4?", "a <|im_end|> b", "<<|im_start|>", ""):
        talk = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
        ours, theirs = slow.build_supervised_example(talk), fast.build_supervised_example(talk)
        assert ours.model_input == theirs.model_input
        assert ours.weights.tolist() == theirs.weights.tolist()


def test_a_normaliser_forges_nothing() -> None:
    """Full-width letters that the tokenizer turns into a control token's name, after any look at the text."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({chr(i): i for i in range(33, 127)}, []))
    backend.normalizer = tokenizers.normalizers.NFKC()
    backend.add_tokens([tokenizers.AddedToken("<end>", normalized=True, special=False)])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend)
    control = tokenizer.convert_tokens_to_ids("<end>")
    assert control in tokenizer.encode("a＜end＞b")
    (chunk,), _ = Encoder(tokenizer, ["<end>"]).encode([Span(Content("a＜end＞b"))])
    assert control not in chunk.tokens
    assert tokenizer.convert_ids_to_tokens(chunk.tokens) == list("a<end>b")
