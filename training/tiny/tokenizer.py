"""The tokenizer: byte-level BPE over our own generated text, with every digit a token of its own."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from training.tiny.tasks import TASKS
from training.tiny.words import PLAIN

VOCABULARY = 1024
CONTEXT = 2048
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL = (END_OF_TEXT, TURN_START, TURN_END)
"""Tokens that never show in decoded text."""
MARKERS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
"""Single tokens that are part of the answer, and so are kept when special tokens are skipped."""
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")

# Words take their leading space with them; digits stand alone, so that column arithmetic lines up.
_PIECES = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"


def _corpus(documents: int) -> Iterator[str]:
    rng = random.Random(0)
    tasks, weights = list(TASKS.values()), [task.weight for task in TASKS.values()]
    for task in rng.choices(tasks, weights, k=documents):
        problem = task.sample(rng)
        yield from (message["content"] for message in problem.messages)
        yield problem.answer
    for word in PLAIN:
        yield f"{word} {word.capitalize()}"


def train_tokenizer(documents: int = 30_000) -> PreTrainedTokenizerFast:
    """Half a minute at most; the result depends on nothing but the task families."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(CONTROL) - len(MARKERS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(documents), trainer)
    tokenizer.add_special_tokens(list(CONTROL))
    tokenizer.add_tokens(list(MARKERS))
    assert tokenizer.get_vocab_size() == VOCABULARY
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE.read_text(encoding="utf-8"),
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja.

    The class name is the one that every version of transformers knows.
    """
    tokenizer.save_pretrained(folder)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
