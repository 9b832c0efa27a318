"""Reasoning between <think> and </think>, told apart from what is said."""

from hone.algorithms.messages import Message, text_of, thinking_of

OPEN, CLOSE = "<think>", "</think>"


def split_thinking(text: str) -> tuple[str, str]:
    """`(thinking, rest)` of a sampled text; thinking that does not end is all thinking. Line breaks between the two
    belong to neither."""
    before, closed, rest = text.partition(CLOSE)
    if closed:
        return before.rpartition(OPEN)[2].strip("\n"), rest.lstrip("\n")
    if text.lstrip().startswith(OPEN):
        return text.lstrip().removeprefix(OPEN).strip("\n"), ""
    return "", text


def reasoning_and_text(message: Message) -> tuple[str, str]:
    """Of an assistant's message. Files often hold both as one text with the tags in it; it is read as templates do."""
    thinking, text = thinking_of(message), text_of(message)
    if not thinking and CLOSE in text:
        return text.partition(CLOSE)[0].rstrip("\n").rpartition(OPEN)[2].lstrip("\n"), text.rpartition(CLOSE)[2].lstrip(
            "\n"
        )
    return thinking, text
