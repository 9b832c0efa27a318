"""A served model's tokenizer: text and conversations to tokens, tokens back to text as they come."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from hone.errors import UserError
from hone.server.inference.template import ChatTemplate

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_CUT = "\ufffd"
"""What a character is decoded to while some of its bytes are still to come."""


class TextTokenizer:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise UserError(f"this model has no tokenizer.json, so it can only be asked with tokens: {directory.name}")
        self._tokenizer = Tokenizer.from_file(str(path))
        self._added = self._tokenizer.get_added_tokens_decoder()
        self.unspoken = frozenset(number for number, token in self._added.items() if token.special)
        """Tokens that are structure, not text, such as the end of a turn."""

    def encode(self, text: str) -> list[int]:
        """With what the tokenizer puts around a text, such as a token for its beginning."""
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def encode_chat(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        variables: dict[str, Any] | None = None,
        continue_last: bool = False,
    ) -> list[int]:
        text = self.template.render(messages, tools, variables, continue_last)
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, tokens: list[int]) -> str:
        """Everything, special tokens included."""
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=False)
        return text

    def token_bytes(self, token: int) -> bytes:
        """What a token stands for; it may be a part of a character."""
        written = self._tokenizer.id_to_token(token)
        if written is None or token in self._added:
            return (written or "").encode()
        if self._byte_level:
            return bytes(_BYTES[character] for character in written if character in _BYTES)
        if len(written) == 6 and written.startswith("<0x"):
            return bytes.fromhex(written[3:5])
        return self.decode([token]).encode()

    @cached_property
    def image_token(self) -> int | None:
        """What the chat template writes where an image is; None for a model that reads text only."""
        found = _read_json(self._directory / "config.json").get("image_token_id")
        return found if isinstance(found, int) else None

    @cached_property
    def template(self) -> ChatTemplate:
        config = _read_json(self._directory / "tokenizer_config.json")
        source = config.get("chat_template")
        file = self._directory / "chat_template.jinja"
        if file.is_file():
            source = file.read_text(encoding="utf-8")
        if isinstance(source, list):  # several by name
            source = {entry["name"]: entry["template"] for entry in source}.get("default")
        if not isinstance(source, str):
            raise UserError("this model has no chat template; use /completions with a prompt instead")
        return ChatTemplate(source, _special_tokens(_read_json(self._directory / "special_tokens_map.json") | config))

    @cached_property
    def _byte_level(self) -> bool:
        decoder = _read_json(self._directory / "tokenizer.json").get("decoder") or {}
        return "ByteLevel" in {part.get("type") for part in (decoder, *decoder.get("decoders", ()))}


class Detokenizer:
    """Text as its tokens come, never a part of a character; all of it together is the text of all tokens."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self._told = 0
        """How many of `_tokens` have been given out as text; they stay while the next one's text depends on them."""

    def add(self, token: int) -> str:
        if token in self._tokenizer.unspoken:
            return ""
        self._tokens.append(token)
        text = self._pending()
        if not text or text.endswith(_CUT):
            return ""
        del self._tokens[: self._told]
        self._told = len(self._tokens)
        return text

    def close(self) -> str:
        """What is left, however incomplete."""
        return self._pending()

    def _pending(self) -> str:
        told = self._tokenizer.decode(self._tokens[: self._told])
        return self._tokenizer.decode(self._tokens)[len(told) :]


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    extra = config.get("extra_special_tokens")
    named = {name: config.get(name) for name in _NAMED} | (extra if isinstance(extra, dict) else {})
    texts = {name: token.get("content") if isinstance(token, dict) else token for name, token in named.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return fields


def _byte_characters() -> dict[str, int]:
    """The printable characters that byte-level tokenizers write bytes as (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_characters()
