"""From a raw row to a standard one, strictly: what is not of a known form is an error with its place.

    chat        {messages, tools?} that ends with an answer | a question and an answer | {prompt, chosen, ...} |
                a comparison, whose better answer it is
    preference  {prompt, chosen, rejected} | {comparison: {prompt_conversation, completion_A, completion_B}, label}
    task        a question, with {answer | gold | target}? and verifier? | {task_id, instruction, verifier}
    trajectory  {messages, tools?, reward | feedback}

A question stands under `prompt`, `question`, `instruction` or `messages`, as a text or as messages; an answer to learn
under `completion`, `response`, `chosen`, `answer`, `gold` or `target`. ShareGPT's `conversations` count as
`messages`. The columns that are left over are the row's facts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hone.algorithms.data.rows import read_comparison, read_completion, read_said
from hone.algorithms.data.sharegpt import is_sharegpt, with_messages
from hone.algorithms.messages import Message, MessageError, read_messages, read_tools
from hone.errors import UserError
from hone.experiments.data.rows import (
    ChatRow,
    PreferenceRow,
    RowKind,
    StandardRow,
    TaskRow,
    TrajectoryRow,
    VerifierChoice,
)

if TYPE_CHECKING:
    from hone.experiments.kinds.contract import RawRow

QUESTIONS = ("prompt", "question", "instruction")
GOLDS = ("answer", "gold", "target")
ANSWERS = ("completion", "response", "chosen", *GOLDS)
"""Where the answer that is learned stands; what was written to be learned goes before a bare gold answer."""
REWARDS = ("reward", "score")
SHOWN = 20
"""Bad rows that an error lists; the others are counted."""


class RowError(UserError):
    """A row that cannot be used."""

    def __init__(self, place: str, why: str) -> None:
        self.place = place
        self.why = why
        super().__init__(f"{place}: {why}")


class RowErrors(UserError):
    """All rows of a source that cannot be used; `errors` has the first of them, `count` says how many there are."""

    def __init__(self, errors: Sequence[RowError], count: int | None = None) -> None:
        self.errors = list(errors[:SHOWN])
        self.count = len(errors) if count is None else count
        more = self.count - len(self.errors)
        rows = "1 row" if self.count == 1 else f"{self.count} rows"
        shown = [*map(str, self.errors), *([f"... and {more} more"] if more else [])]
        super().__init__("\n".join([f"{rows} cannot be used; mend or remove them:", *shown]))


def detect(value: Mapping[str, Any]) -> RowKind:
    """The kind that a row most plainly is. Most rows can be read as others too.

    Raises:
        UserError: it is none.
    """
    if is_sharegpt(value):
        value = with_messages(value)
    has = {name for name, one in value.items() if one is not None}
    if "comparison" in has or {"chosen", "rejected"} <= has:
        return "preference"
    if "messages" in has and has & {"feedback", *REWARDS}:
        return "trajectory"
    asks = bool(has & set(QUESTIONS))
    if "verifier" in has and (asks or "messages" in has):
        return "task"
    if asks and has & {"completion", "response"}:
        return "chat"
    if asks:
        return "task"
    if "messages" in has:
        return "chat" if _ends_with_answer(value["messages"]) else "task"
    found = ", ".join(sorted(map(str, value))) or "nothing"
    raise UserError(f"a row with the columns {found} is of no known kind; {_FORMS}")


_FORMS = (
    "rows have messages; prompt and completion; prompt, chosen and rejected; prompt and answer; "
    "or messages and reward. The transforms `columns` and `template` make them"
)


def parse(raw: RawRow, kind: RowKind) -> StandardRow:
    """The row as one of a kind.

    Raises:
        RowError: it is not of this kind.
    """
    try:
        if is_sharegpt(raw.value):
            raw = raw.changed(with_messages(raw.value))
        return _PARSERS[kind](raw)
    except MessageError as error:
        raise RowError(raw.place, f"it is no {kind} row: {error}") from None


def canonical(value: Any) -> bytes:
    """The same bytes for the same content, whatever the order of keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain).encode(
        "utf-8", errors="surrogatepass"
    )


def content_id(content: Any) -> str:
    """A name made of content alone. Rows are named after what their source had: the same row has the same name in
    every arm, whatever its transforms and its kind."""
    return hashlib.sha256(canonical(content)).hexdigest()[:24]


def _chat(raw: RawRow) -> ChatRow:
    value = raw.value
    if "comparison" in value:
        preferred = _comparison(raw)
        messages, used = [*preferred.prompt, *preferred.chosen], ["comparison", "label"]
    else:
        messages, used = _asked_and_answered(value)
    tools = read_tools(value.get("tools"))
    return ChatRow(content_id(raw.origin), raw.place, messages, tools, _rest(value, *used, "tools"))


def _asked_and_answered(value: Mapping[str, Any]) -> tuple[list[Message], list[str]]:
    """A conversation that ends with an answer, and the columns it was made of."""
    answer = _one_of(value, ANSWERS)
    if _one_of(value, ("messages",)) and (answer is None or _ends_with_answer(value["messages"])):
        messages, used = read_messages(value["messages"]), ["messages"]
    else:
        asked, question = _question(value)
        if answer is None:
            raise MessageError(f"it has {_columns(value)}, and no answer to learn: {', '.join(ANSWERS)}")
        messages, used = [*asked, *_completion(value[answer], asked, answer)], [question, answer]
    if messages[-1]["role"] != "assistant":
        raise MessageError(
            f"its last message is one of the role {messages[-1]['role']}; the answer to learn is missing"
        )
    return messages, used


def _preference(raw: RawRow) -> PreferenceRow:
    value = raw.value
    if "comparison" in value:
        return _comparison(raw)
    for column in ("chosen", "rejected"):
        if value.get(column) is None:
            raise MessageError(f"it has {_columns(value)}; a preference has prompt, chosen and rejected")
    prompt, question = _question(value)
    chosen, rejected = (_completion(value[name], prompt, name) for name in ("chosen", "rejected"))
    if chosen == rejected:
        raise MessageError("chosen and rejected are the same")
    facts = _rest(value, question, "chosen", "rejected")
    return PreferenceRow(content_id(raw.origin), raw.place, prompt, chosen, rejected, False, facts)


def _comparison(raw: RawRow) -> PreferenceRow:
    if isinstance(comparison := raw.value["comparison"], Mapping):
        for name, said in comparison.items():
            _check_text(said, name)
    prompt, chosen, rejected, tie = read_comparison(raw.value)
    facts = _rest(raw.value, "comparison", "label")
    return PreferenceRow(content_id(raw.origin), raw.place, prompt, chosen, rejected, tie, facts)


def _task(raw: RawRow) -> TaskRow:
    value = raw.value
    prompt, question = _question(value)
    if prompt[-1]["role"] == "assistant":
        raise MessageError(
            f"{question} ends with an assistant's message; a task ends with what is to be answered. "
            "The transform `to_task` makes the last answer the gold one"
        )
    verifier, expected = _verifier(value.get("verifier"))
    gold = _one_of(value, GOLDS)
    answer = _text(value[gold]) if gold else expected
    facts = _rest(value, question, *([gold] if gold else []), "verifier", "cluster")
    cluster = _text(value.get("cluster") or "")
    return TaskRow(content_id(raw.origin), raw.place, prompt, answer, verifier, cluster, facts)


def _verifier(value: object) -> tuple[VerifierChoice | None, str]:
    """What grades the row, and the answer that it expects."""
    if value is None:
        return None, ""
    if isinstance(value, str):
        return VerifierChoice(value), ""
    if not isinstance(value, Mapping):
        raise MessageError(f"verifier is of type {type(value).__name__}; it is a name or {{kind, params}}")
    # A row that runs a function by name says so in `fn_name`; its `kind` then says only where it runs.
    kind = value.get("fn_name") or value.get("kind")
    if not isinstance(kind, str):
        raise MessageError(f"verifier has {_columns(value)}; it needs `kind`, the verifier's name")
    params = value.get("params") or {}
    if not isinstance(params, Mapping):
        raise MessageError(f"verifier.params is of type {type(params).__name__}; it is an object")
    if unknown := set(value) - {"kind", "fn_name", "params", "expected"}:
        raise MessageError(f"verifier has {', '.join(sorted(map(str, unknown)))}; it may have kind, params, expected")
    expected = value.get("expected")
    return VerifierChoice(kind, dict(params)), "" if expected is None else _text(expected)


def _trajectory(raw: RawRow) -> TrajectoryRow:
    value = raw.value
    if value.get("messages") is None:
        raise MessageError(f"it has {_columns(value)}; a trajectory has messages and reward")
    messages, tools = read_messages(value["messages"]), read_tools(value.get("tools"))
    column = _one_of(value, (*REWARDS, "feedback"))
    if column is None:
        raise MessageError(f"it has {_columns(value)}, and neither reward nor feedback")
    reward = _reward(value[column], column)
    # Feedback may say more than its number.
    used = ["messages", "tools", *([column] if column in REWARDS else [])]
    return TrajectoryRow(content_id(raw.origin), raw.place, messages, reward, tools, _rest(value, *used))


def _reward(value: object, where: str) -> float:
    """A number, true or false, or an object with one of them as `reward` or `score`."""
    if isinstance(value, Mapping):
        inner = _one_of(value, REWARDS)
        if inner is not None:
            return _reward(value[inner], f"{where}.{inner}")
    if isinstance(value, int | float) and value == value and abs(value) != float("inf"):
        return float(value)
    raise MessageError(f"{where} is {value!r}; it must be a number, true or false, or an object with reward or score")


def _question(value: Mapping[str, Any]) -> tuple[list[Message], str]:
    """What is asked, and its column."""
    column = _one_of(value, (*QUESTIONS, "messages"))
    if column is None:
        raise MessageError(f"it has {_columns(value)}, and no question: {', '.join(QUESTIONS)} or messages")
    _check_text(value[column], column)
    return read_said(value[column], "user", column), column


def _completion(value: Any, prompt: list[Message], where: str) -> list[Message]:
    """What was said after the prompt; a number is a text too."""
    _check_text(value, where)
    return read_completion(_text(value) if isinstance(value, int | float) else value, prompt, where)


def _check_text(value: object, where: str) -> None:
    if isinstance(value, str) and not value.strip():
        raise MessageError(f"{where} is empty")


def _ends_with_answer(value: object) -> bool:
    last = value[-1] if isinstance(value, Sequence) and not isinstance(value, str) and value else None
    return isinstance(last, Mapping) and last.get("role") == "assistant"


def _one_of(value: Mapping[str, Any], names: Iterable[str]) -> str | None:
    return next((name for name in names if value.get(name) is not None), None)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_plain)


def _columns(value: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, value))) or "no columns"


def _rest(value: Mapping[str, Any], *used: str) -> dict[str, Any]:
    return {str(name): one for name, one in value.items() if name not in used}


def _plain(value: object) -> str:
    """What JSON does not know: times, decimals and bytes of a table, pictures."""
    pixels = getattr(value, "tobytes", None)
    if pixels is not None:
        return hashlib.sha256(pixels()).hexdigest()
    return value.hex() if isinstance(value, bytes) else str(value)


_PARSERS: dict[RowKind, Callable[[RawRow], StandardRow]] = {
    "chat": _chat,
    "preference": _preference,
    "task": _task,
    "trajectory": _trajectory,
}
