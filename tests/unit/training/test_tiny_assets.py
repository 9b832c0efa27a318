"""The bundled model folder: complete, small, and with a chat template that matches the training text."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "src" / "hone" / "assets" / "tiny"
FILES = {
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 83 - 47?"},
    {"role": "assistant", "content": "36"},
    {"role": "user", "content": "Say: plorn, 12"},
]
TEXT = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is 83 - 47?<|im_end|>\n"
    "<|im_start|>assistant\n36<|im_end|>\n<|im_start|>user\nSay: plorn, 12<|im_end|>\n"
)


def render(messages: Sequence[Mapping[str, object]], **options: object) -> str:
    """The template as transformers renders it, without loading transformers."""
    sandbox = pytest.importorskip("jinja2.sandbox")
    environment = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((FOLDER / "chat_template.jinja").read_text(encoding="utf-8"))
    return str(template.render(messages=messages, **options))


def test_folder_is_complete_and_small() -> None:
    assert {file.name for file in FOLDER.iterdir()} == FILES
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 8_000_000


def test_config_is_the_promised_shape() -> None:
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    shape = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")
    assert [config[name] for name in shape] == [128, 4, 4, 2, 32]
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 10000.0
    assert config["vocab_size"] == 1024
    assert config["tie_word_embeddings"] is True


def test_chat_template() -> None:
    assert render(CHAT) == TEXT
    assert render(CHAT, add_generation_prompt=True) == TEXT + "<|im_start|>assistant\n"
    assert render(CHAT[1:]) == TEXT[TEXT.index("<|im_start|>user") :]


def test_chat_template_writes_tools_and_calls_as_they_were_trained() -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
    tools = [{"type": "function", "function": {"name": name, "parameters": parameters}} for name in ("add", "multiply")]
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
    chat: list[Mapping[str, object]] = [
        {"role": "user", "content": "Add 1 and 2."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    assert render(chat, tools=tools) == (
        "<|im_start|>system\nTools: add(a, b), multiply(a, b)<|im_end|>\n<|im_start|>user\nAdd 1 and 2.<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call><|im_end|>\n'
    )
    assert "<|im_start|>system\nBe brief.\nTools: add(a, b)" in render(CHAT, tools=tools)


def test_tokenizer_round_trip() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    for text in (TEXT, "Café ☕, 日本\n\n\ttab  two", '{"a": [1, 20]}', "<think>\n1 + 1 = 2\n</think>\n\n2"):
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text
    assert tokenizer.encode("4731").tokens == ["4", "7", "3", "1"]
    for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"):
        assert tokenizer.encode(token).tokens == [token]
    assert tokenizer.get_vocab_size() == 1024


@pytest.mark.filterwarnings("error")
def test_the_trainer_encodes_conversations_as_the_template_does() -> None:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from training.tiny.mixture import Encoder

    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    tokens, weights = Encoder(tokenizer)(CHAT)  # type: ignore[arg-type]
    assert tokens == tokenizer.encode(tokenizer.apply_chat_template(CHAT, tokenize=False), add_special_tokens=False)
    trained = tokenizer.decode([token for token, weight in zip(tokens, weights, strict=True) if weight == 1])
    assert trained == "36<|im_end|>"
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
