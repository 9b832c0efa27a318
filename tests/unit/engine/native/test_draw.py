"""Draws in C: the framework's tokens, and the bits of its log-softmax."""

import pytest
import torch

from hone.engine.native.draw import can_draw, draw_native


def draw(logits_BV: torch.Tensor, temperature: float, greedy: bool = False) -> tuple[list[int], torch.Tensor]:
    rows = len(logits_BV)
    tokens, logprobs = draw_native(
        logits_BV,
        torch.full((rows, 1), temperature),
        torch.ones(rows, 1, dtype=torch.bool) if greedy else None,
        torch.rand(rows, dtype=torch.float64),
    )
    return tokens, torch.tensor(logprobs)


@pytest.mark.parametrize("size", [1, 16, 17, 100, 1024, 5003])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_log_probabilities_have_the_bits_of_the_framework(size: int, temperature: float) -> None:
    logits_BV = torch.randn(400, size) * 4
    tokens, logprobs_B = draw(logits_BV, temperature)
    expected_BV = torch.log_softmax(logits_BV / torch.full((400, 1), temperature), dim=-1)
    assert torch.equal(logprobs_B, expected_BV.gather(1, torch.tensor(tokens)[:, None])[:, 0])


def test_the_likeliest_is_the_first_of_those_that_are() -> None:
    logits_BV = torch.randn(50, 300)
    logits_BV[:, 200] = logits_BV[:, 130] = 9.0
    tokens, _ = draw(logits_BV, 1.0, greedy=True)
    assert tokens == [130] * 50


def test_impossible_tokens_never_come_up() -> None:
    logits_BV = torch.full((2000, 200), -torch.inf)
    logits_BV[:, [70, 140]] = torch.tensor([0.0, 1.0])
    tokens, _ = draw(logits_BV, 1.0)
    assert set(tokens) == {70, 140}
    assert 0.65 < tokens.count(140) / 2000 < 0.81  # e / (1 + e) = 0.731, eight standard errors either way


def test_the_last_number_below_one_is_a_token_that_is_possible() -> None:
    logits_BV = torch.full((1, 130), -torch.inf)
    logits_BV[0, :5] = torch.randn(5)
    uniform_B = torch.tensor([1.0], dtype=torch.float64)
    tokens, _ = draw_native(logits_BV, torch.ones(1, 1), None, torch.nextafter(uniform_B, torch.zeros(1).double()))
    assert tokens == [4]


def test_other_numbers_than_float32_are_left_to_the_framework() -> None:
    assert can_draw(torch.zeros(1, 4))
    assert not can_draw(torch.zeros(1, 4).bfloat16())
