"""Files of preferences become examples: nothing is lost without a word, and each answer is scored on its own tokens."""

import importlib.resources
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from hone.algorithms.data.rows import DataError, Preference, Rows, read_preferences
from hone.algorithms.preference import comparisons
from hone.algorithms.preference.pairs import Pair, pair
from hone.algorithms.preference.reward_model import RewardHead
from hone.algorithms.renderers import Renderer, get_renderer
from hone.errors import UserError

QUESTION = [{"role": "user", "content": "Do you like apples?"}]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(str(importlib.resources.files("hone") / "assets" / "tiny"))


@pytest.fixture(scope="module")
def renderer(tokenizer: Any) -> Renderer:
    return get_renderer("chat_template", tokenizer)


def read(path: Path, *rows: dict[str, Any]) -> Rows[Preference]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_preferences(path)


def row(chosen: Any = "yes", rejected: Any = "no", prompt: Any = QUESTION, **extra: Any) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **extra}


def tokens(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def plain(both: Pair) -> list[Any]:
    """What two pairs are compared by: tensors know no equality."""
    return [
        (datum.model_input.to_ints(), {name: list(tensor.data) for name, tensor in datum.loss_fn_inputs.items()})
        for datum in (both.chosen, both.rejected)
    ]


def test_both_answers_follow_the_prompt_with_weight(tmp_path: Path, tokenizer: Any, renderer: Renderer) -> None:
    found = comparisons.pairs(read(tmp_path / "rows.jsonl", row(), row("fine", "bad")), renderer)
    prompt = renderer.build_generation_prompt(QUESTION).to_ints()
    end = tokenizer.eos_token_id
    expected = [
        pair(prompt, [*tokens(tokenizer, chosen), end], [*tokens(tokenizer, rejected), end])
        for chosen, rejected in (("yes", "no"), ("fine", "bad"))
    ]
    assert [plain(one) for one in found.checked()] == [plain(one) for one in expected]
    assert (found.ties, found.problems) == (0, [])


def test_an_answer_with_a_call_is_scored_on_the_models_messages_alone(tmp_path: Path, tokenizer: Any) -> None:
    called = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    told = {"role": "tool", "content": "red blue green", "name": "f"}
    tool = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    calling = get_renderer("qwen3_instruct", tokenizer)
    file = read(tmp_path / "rows.jsonl", row([called, told, {"role": "assistant", "content": "yes"}], tools=[tool]))
    (found,) = comparisons.pairs(file, calling).checked()
    inputs = found.chosen.loss_fn_inputs
    learned = [
        token for token, weight in zip(inputs["target_tokens"].data, inputs["weights"].data, strict=True) if weight > 0
    ]
    text = tokenizer.decode(learned)
    assert "<tool_call>" in text
    assert "yes" in text
    assert "green" not in text
    assert '"f"' in tokenizer.decode(found.rejected.model_input.to_ints()), "the prompt names its tools"
    problems = comparisons.judged(file, calling).problems
    assert [(problem.line, problem.kind) for problem in problems] == [(1, "bad content")]
    assert "3 messages" in problems[0].text


@pytest.mark.parametrize("name", ["chat_template", "role_colon", "qwen3", "qwen3_instruct"])
def test_all_objectives_are_given_the_same_tokens(name: str, tokenizer: Any, tmp_path: Path) -> None:
    made = get_renderer(name, tokenizer)
    file = read(tmp_path / "rows.jsonl", row(prompt="How many?", chosen="seven", rejected=""))
    (both,) = comparisons.pairs(file, made).checked()
    chosen, rejected = comparisons.judged(file, made).checked()
    assert (chosen.desirable, rejected.desirable) == (True, False)
    assert plain(pair(chosen.prompt, chosen.answer, rejected.answer)) == plain(both)
    assert chosen.prompt == rejected.prompt == made.build_generation_prompt(file.rows[0].prompt).to_ints()


def test_a_reward_model_is_asked_about_both(tmp_path: Path, renderer: Renderer) -> None:
    head = RewardHead((5, 6, 7), 8, 9)
    file = read(tmp_path / "rows.jsonl", row())
    (found,) = comparisons.reward_pairs(file, renderer, head).checked()
    chosen, rejected = comparisons.judged(file, renderer).checked()
    assert plain(found) == plain(head.pair(chosen.prompt, chosen.answer, rejected.answer))
    length = found.chosen.model_input.length
    assert not comparisons.reward_pairs(file, renderer, head, max_length=length).problems
    assert comparisons.reward_pairs(file, renderer, head, max_length=length - 1).problems


def test_ties_are_counted_and_long_rows_named(tmp_path: Path, renderer: Renderer) -> None:
    def compared(label: str, b: str = "no") -> dict[str, Any]:
        answers = {"completion_A": "yes", "completion_B": b}
        return {"comparison": {"prompt_conversation": QUESTION, **answers}, "label": label}

    path = tmp_path / "rows.jsonl"
    file = read(path, compared("Tie"), compared("B"), compared("A", "no " * 50), {"label": "A"}, compared("Tie"))
    found = comparisons.pairs(file, renderer, max_length=40)
    assert (len(found.rows), found.ties) == (1, 2)
    assert [(problem.line, problem.kind) for problem in found.problems] == [(3, "too long"), (4, "wrong columns")]
    assert "the rejected answer have" in found.problems[0].text
    with pytest.raises(DataError, match=rf"{path}:3: too long: .* 40 are allowed"):
        found.checked()
    with pytest.raises(UserError, match="all of its 2 rows are ties"):
        comparisons.pairs(read(path, compared("Tie"), compared("Tie")), renderer).checked()
