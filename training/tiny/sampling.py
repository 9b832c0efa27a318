"""Answers from the model for many problems at once."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from training.tiny.problem import Problem

ROWS = 256
"""Answers sampled side by side."""


@torch.no_grad()
def answer(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    problems: Sequence[Problem],
    max_tokens: Sequence[int],
    temperature: float,
    seed: int = 0,
) -> list[str]:
    """One answer for each problem; temperature 0 is greedy. An answer cut off at its limit keeps no end mark."""
    generator = torch.Generator().manual_seed(seed)
    by_shape: dict[tuple[int, int], list[tuple[int, list[int]]]] = defaultdict(list)
    for index, (problem, limit) in enumerate(zip(problems, max_tokens, strict=True)):
        messages = [{"role": message["role"], "content": message["content"]} for message in problem.messages]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt = tokenizer.encode(text, add_special_tokens=False)
        by_shape[len(prompt), limit].append((index, prompt))
    answers = [""] * len(problems)
    for (_, limit), rows in by_shape.items():
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS]
            tokens = _continue(model, torch.tensor([prompt for _, prompt in part]), limit, temperature, generator)
            for (index, _), text in zip(part, tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True):
                answers[index] = text
    return answers


def _continue(
    model: Qwen3ForCausalLM, prompts: torch.Tensor, limit: int, temperature: float, generator: torch.Generator
) -> torch.Tensor:
    """Prompts of equal length need no mask, so plain forward passes with a cache are enough."""
    end, pad = model.generation_config.eos_token_id, model.generation_config.pad_token_id
    done = torch.zeros(len(prompts), dtype=torch.bool)
    cache, step, chosen = None, prompts, []
    for _ in range(limit):
        output = model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache, logits = output.past_key_values, output.logits[:, -1].float()
        if temperature == 0:
            token = logits.argmax(-1)
        else:
            token = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
        token = torch.where(done, pad, token)
        done |= token == end
        chosen.append(token)
        if bool(done.all()):
            break
        step = token[:, None]
    return torch.stack(chosen, dim=1)
