import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import hone
from hone.errors import UserError
from hone.server.inference.tokenizer import Detokenizer, TextTokenizer

TINY = Path(hone.__file__).parent / "assets" / "tiny"


@pytest.fixture(scope="module")
def tiny() -> TextTokenizer:
    return TextTokenizer(TINY)


def spoken(tokenizer: TextTokenizer, tokens: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer)
    return [*map(detokenizer.add, tokens), detokenizer.close()]


@pytest.mark.parametrize("text", ["plain words", "naïve café", "漢字 and 🙂🙃", "\n\n  x ", "e\u0301 👩‍👩‍👧"])
def test_text_comes_in_whole_characters(tiny: TextTokenizer, text: str) -> None:
    tokens = tiny.encode(text)
    pieces = spoken(tiny, tokens)
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_any_tokens_give_the_text_of_all_of_them(tiny: TextTokenizer) -> None:
    """Half characters included: what comes in pieces is what comes at once."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        tokens = [token for token in rng.integers(0, 1017, 60).tolist() if token not in tiny.unspoken]
        assert "".join(spoken(tiny, tokens)) == tiny.decode(tokens)


def test_structure_is_not_spoken_but_marks_of_calls_are(tiny: TextTokenizer) -> None:
    tokens = tiny.encode("<|im_start|>a<tool_call>b</tool_call><|im_end|>")
    assert "".join(spoken(tiny, tokens)) == "a<tool_call>b</tool_call>"


def test_the_bytes_of_tokens_make_up_the_text(tiny: TextTokenizer) -> None:
    text = "naïve 漢 🙂<|im_end|>"
    assert b"".join(map(tiny.token_bytes, tiny.encode(text))).decode() == text
    assert tiny.token_bytes(10**6) == b""


def test_byte_fallback(tmp_path: Path) -> None:
    """As SentencePiece models write what is not in their vocabulary."""
    vocabulary = {"▁a": 0, "<0xC3>": 1, "<0xA9>": 2, "b": 3}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="b"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    made = TextTokenizer(tmp_path)
    assert spoken(made, [0, 1, 2, 0, 3]) == ["a", "", "é", " a", "b", ""]
    assert [made.token_bytes(token) for token in (1, 2)] == [b"\xc3", b"\xa9"]
    with pytest.raises(UserError, match="no chat template"):
        made.encode_chat([{"role": "user", "content": "a"}])


def test_where_templates_are_found(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((TINY / "tokenizer.json").read_bytes())
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "{{ bos_token }}{{ image }}yes"}]
    config = {
        "chat_template": named,
        "bos_token": {"content": "<s>"},
        "extra_special_tokens": {"image": "<i>"},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    chat = [{"role": "user", "content": "a"}]
    tokenizer = TextTokenizer(tmp_path)
    assert tokenizer.decode(tokenizer.encode_chat(chat)) == "<s><i>yes"
    (tmp_path / "chat_template.jinja").write_text("file")
    tokenizer = TextTokenizer(tmp_path)
    assert tokenizer.decode(tokenizer.encode_chat(chat)) == "file"


def test_a_model_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        TextTokenizer(tmp_path)
