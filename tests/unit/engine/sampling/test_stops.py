"""When generation ends, by tokens and by text."""

import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from hone.engine.sampling.stops import StopRule

EOS = (300,)


@pytest.fixture(scope="module")
def by_bytes() -> Tokenizer:
    """One token per byte, plus pairs: the hardest case for multi-byte characters and token borders."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(alphabet)}
    merges = []
    for a, b in ("ab", "cd", "EN", "ND", "\u010aH"):
        merges.append((a, b))
        vocab[a + b] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def tokens_of(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text).ids
    return ids


def first_stop(rule: StopRule, tokens: list[int]) -> int | None:
    """How many tokens were generated when the rule said stop."""
    return next((n for n in range(1, len(tokens) + 1) if rule.ends(tokens[:n])), None)


def test_without_a_stop_the_end_of_sequence_ends() -> None:
    rule = StopRule(None, (7, 8), None)
    assert first_stop(rule, [1, 2, 8, 3]) == 3
    assert first_stop(rule, [7]) == 1
    assert first_stop(rule, [1, 2]) is None


def test_an_empty_stop_ends_at_nothing() -> None:
    assert first_stop(StopRule((), (7, 8), None), [1, 7, 8]) is None


def test_stop_tokens_are_added_to_the_end_of_sequence() -> None:
    rule = StopRule((5,), (7,), None)
    assert first_stop(rule, [1, 5, 7]) == 2
    assert first_stop(rule, [1, 7, 5]) == 2


@pytest.mark.parametrize(
    ("text", "stop"),
    [
        ("count: one two", "two"),
        ("so xEND of it", "END"),
        ("abcdabcd", "bc"),
        ("a line\n\nHuman: more", "\n\nHuman:"),
        ("prix 5 € et plus", "€"),
        ("日本語のテキスト", "語の"),
        ("family 👩‍👩‍👧 ok", "👩‍👧"),
    ],
)
def test_a_stop_string_ends_with_the_token_that_completes_it(text: str, stop: str, by_bytes: Tokenizer) -> None:
    tokens = tokens_of(by_bytes, text)
    found = first_stop(StopRule((stop,), EOS, by_bytes), tokens)
    wanted = next(n for n in range(1, len(tokens) + 1) if stop in by_bytes.decode(tokens[:n]))
    assert found == wanted


def test_a_stop_string_after_much_text_is_found(by_bytes: Tokenizer) -> None:
    text = "Größe ✓ " * 50 + "STOP here"
    tokens = tokens_of(by_bytes, text)
    found = first_stop(StopRule(("STOP",), EOS, by_bytes), tokens)
    assert by_bytes.decode(tokens[:found]) == "Größe ✓ " * 50 + "STOP"


def test_every_cut_of_random_text_agrees_with_the_whole_text(by_bytes: Tokenizer) -> None:
    rng = random.Random(4)
    for _ in range(100):
        text = "".join(rng.choice("abcdEND €é日\n H") for _ in range(60))
        start = rng.randrange(50)
        stops = (text[start : start + rng.randint(1, 6)], "never in it")
        tokens = tokens_of(by_bytes, text)
        wanted = next(n for n in range(1, len(tokens) + 1) if stops[0] in by_bytes.decode(tokens[:n]))
        assert first_stop(StopRule(stops, EOS, by_bytes), tokens) == wanted


def test_stop_strings_are_added_to_the_end_of_sequence(by_bytes: Tokenizer) -> None:
    tokens = tokens_of(by_bytes, "abc")
    assert first_stop(StopRule(("zzz",), (tokens[-1],), by_bytes), tokens) == len(tokens)
