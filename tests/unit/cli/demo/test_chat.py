"""The shift by one, checked with a tokenizer of one token per character."""

import tinker

from hone.cli.demo.chat import Chat, policy_datum, supervised_datum


class Letters:
    """A tokenizer small enough to check by eye: a letter's token is its code, 0 ends a turn."""

    eos_token_id = 0

    def apply_chat_template(self, turns: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool) -> str:
        assert not tokenize
        assert add_generation_prompt
        return "".join(f"{turn['role'][0]}:{turn['content']}|" for turn in turns) + "a:"

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [ord(letter) for letter in text]

    def decode(self, tokens: list[int]) -> str:
        return "".join(map(chr, tokens))


CHAT = Chat(Letters())  # type: ignore[arg-type]


def test_prompt_answer_and_text() -> None:
    assert Letters().decode(CHAT.prompt("hi")) == "u:hi|a:"
    assert CHAT.answer("ok") == [ord("o"), ord("k"), 0]
    assert CHAT.text([ord("o"), ord("k"), 0]) == "ok"


def test_an_answer_that_was_cut_off_is_not_a_whole_one() -> None:
    assert CHAT.text([ord("o"), ord("k")]) != "ok"
    assert CHAT.text([]) != ""


def test_supervised_loss_lies_on_the_answer_alone() -> None:
    datum = supervised_datum([1, 2, 3], [4, 5, 0])
    assert datum.model_input.to_ints() == [1, 2, 3, 4, 5]
    assert datum.loss_fn_inputs["target_tokens"].tolist() == [2, 3, 4, 5, 0]
    assert datum.loss_fn_inputs["weights"].tolist() == [0, 0, 1, 1, 1]


def test_policy_advantages_lie_on_the_sampled_tokens_alone() -> None:
    sampled = tinker.SampledSequence(
        stop_reason="stop", sequence_id="s", _tokens_list=[4, 0], _logprobs_list=[-0.5, -0.25]
    )
    datum = policy_datum([1, 2, 3], sampled, 0.75)
    assert datum.model_input.to_ints() == [1, 2, 3, 4]
    assert datum.loss_fn_inputs["target_tokens"].tolist() == [2, 3, 4, 0]
    assert datum.loss_fn_inputs["logprobs"].tolist() == [0, 0, -0.5, -0.25]
    assert datum.loss_fn_inputs["advantages"].tolist() == [0, 0, 0.75, 0.75]
