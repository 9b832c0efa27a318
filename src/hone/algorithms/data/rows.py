"""Training data in JSON Lines. Every line is a row or a problem with its file and line; none is dropped in silence.

The forms, one kind in a file:

    conversations  {"messages": [...], "tools": [...]}, or in ShareGPT's form
                   {"conversations": [{"from": "human" | "gpt" | "system" | "tool", "value": ...}]}
    preferences    {"prompt": ..., "chosen": ..., "rejected": ...}, each text or a list of messages, or
                   {"comparison": {"prompt_conversation", "completion_A", "completion_B"}, "label": "A" | "B" | "Tie"}
    prompts        {"prompt": text or messages, "answer": ...}, or {"messages": [...]}

Other columns are kept, in `extra`. Blank lines do not count.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from hone.algorithms.data import sharegpt
from hone.algorithms.messages import Message, MessageError, ToolSpec, read_messages, read_tools
from hone.errors import UserError
from hone.storage import jsonl

RowT = TypeVar("RowT")
ProblemKind = Literal["broken JSON", "not an object", "wrong columns", "mixed columns", "bad content", "too long"]
MAX_SHOWN = 20
"""Problems that an error lists; the rest is counted."""


@dataclass(frozen=True)
class Problem:
    path: Path
    line: int
    """From 1."""
    kind: ProblemKind
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind}: {self.text}"


class DataError(UserError):
    """A file with rows that cannot be used. `problems` has them all."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        shown = [str(problem) for problem in problems[:MAX_SHOWN]]
        if len(problems) > MAX_SHOWN:
            shown.append(f"... and {len(problems) - MAX_SHOWN} more")
        count = "1 row" if len(problems) == 1 else f"{len(problems)} rows"
        super().__init__("\n".join([f"{count} cannot be used; mend or remove them:", *shown]))


@dataclass(frozen=True)
class Conversation:
    line: int
    messages: list[Message]
    tools: list[ToolSpec]
    extra: dict[str, Any]


@dataclass(frozen=True)
class Preference:
    """Two ways on from a prompt, the better one first."""

    line: int
    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    tie: bool
    """Whether neither is better; then the order means nothing."""
    extra: dict[str, Any]


@dataclass(frozen=True)
class Prompt:
    line: int
    messages: list[Message]
    tools: list[ToolSpec]
    extra: dict[str, Any]
    """`answer` and the like: what a grader needs."""


@dataclass(frozen=True)
class Rows(Generic[RowT]):
    path: Path
    rows: list[RowT]
    problems: list[Problem] = field(default_factory=list)

    def checked(self) -> list[RowT]:
        """The rows, if there are any and none has a problem; else `DataError`."""
        if self.problems:
            raise DataError(self.problems)
        if not self.rows:
            raise UserError(f"{self.path} has no rows")
        return self.rows


def read_conversations(path: Path | str) -> Rows[Conversation]:
    return _read(Path(path), {"messages", sharegpt.COLUMN}, _conversation)


def read_preferences(path: Path | str) -> Rows[Preference]:
    return _read(Path(path), {"prompt|chosen|rejected", "comparison|label"}, _preference)


def read_prompts(path: Path | str) -> Rows[Prompt]:
    return _read(Path(path), {"prompt", "messages"}, _prompt)


def _read(path: Path, forms: set[str], make: Callable[[int, Mapping[str, Any]], RowT]) -> Rows[RowT]:
    """`forms` are the sets of columns that a row may have, each joined with |; the first row decides which."""
    rows: list[RowT] = []
    problems: list[Problem] = []
    columns: tuple[int, frozenset[str]] | None = None
    form: str | None = None
    for one in jsonl.lines(path):
        line = one.number
        try:
            value = one.read()
        except jsonl.LineError as error:
            problems.append(Problem(path, line, error.kind, f"it {error.why}"))
            continue
        found = next((one for one in sorted(forms) if set(one.split("|")) <= set(value)), None)
        if found is None:
            wanted = " or ".join(one.replace("|", ", ") for one in sorted(forms))
            has = ", ".join(sorted(map(str, value))) or "nothing"
            problems.append(Problem(path, line, "wrong columns", f"it has {has}; a row has {wanted}"))
            continue
        names = frozenset(map(str, value)) - {"tools"}  # which not every conversation has
        form = form or found
        columns = columns or (line, names)
        if found != form or names != columns[1]:
            text = f"it has {', '.join(sorted(names))}; line {columns[0]} has {', '.join(sorted(columns[1]))}"
            problems.append(Problem(path, line, "mixed columns", text))
            continue
        try:
            rows.append(make(line, value))
        except MessageError as error:
            problems.append(Problem(path, line, "bad content", str(error)))
    return Rows(path, rows, problems)


def _conversation(line: int, value: Mapping[str, Any]) -> Conversation:
    if sharegpt.is_sharegpt(value):
        value = sharegpt.with_messages(value)
    messages = read_messages(value["messages"])
    return Conversation(line, messages, read_tools(value.get("tools")), _extra(value, "messages", "tools"))


def _prompt(line: int, value: Mapping[str, Any]) -> Prompt:
    name = "prompt" if "prompt" in value else "messages"
    messages = read_said(value[name], "user", name)
    if messages[-1]["role"] == "assistant":
        raise MessageError(f"{name} ends with an assistant's message; a prompt ends with what is to be answered")
    return Prompt(line, messages, read_tools(value.get("tools")), _extra(value, name, "tools"))


def _preference(line: int, value: Mapping[str, Any]) -> Preference:
    if "comparison" in value:
        return _comparison(line, value)
    prompt = read_said(value["prompt"], "user", "prompt")
    chosen = read_completion(value["chosen"], prompt, "chosen")
    rejected = read_completion(value["rejected"], prompt, "rejected")
    return Preference(line, prompt, chosen, rejected, False, _extra(value, "prompt", "chosen", "rejected"))


def _comparison(line: int, value: Mapping[str, Any]) -> Preference:
    prompt, chosen, rejected, tie = read_comparison(value)
    return Preference(line, prompt, chosen, rejected, tie, _extra(value, "comparison", "label"))


def read_comparison(value: Mapping[str, Any]) -> tuple[list[Message], list[Message], list[Message], bool]:
    """Prompt, chosen, rejected, and whether neither is better, of a row that labels one of two answers."""
    comparison, label = value["comparison"], value.get("label")
    names = ("prompt_conversation", "completion_A", "completion_B")
    if not isinstance(comparison, Mapping) or any(name not in comparison for name in names):
        raise MessageError(f"comparison must be an object with {', '.join(names)}")
    if label not in ("A", "B", "Tie"):
        raise MessageError(f"label is {label!r}; it must be A, B or Tie")
    prompt = read_said(comparison[names[0]], "user", names[0])
    a, b = (read_completion(comparison[name], prompt, name) for name in names[1:])
    return (prompt, b, a, False) if label == "B" else (prompt, a, b, label == "Tie")


def read_said(value: Any, role: str, where: str) -> list[Message]:
    """Messages, or a text as one message."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return read_messages(value, where)


def read_completion(value: Any, prompt: list[Message], where: str) -> list[Message]:
    """What was said after the prompt; some files repeat the prompt before it."""
    messages = read_said(value, "assistant", where)
    if len(messages) > len(prompt) and messages[: len(prompt)] == prompt:
        messages = messages[len(prompt) :]
    if messages[-1]["role"] != "assistant":
        raise MessageError(f"{where} ends with a message of the role {messages[-1]['role']}; it must be an assistant's")
    return messages


def _extra(value: Mapping[str, Any], *known: str) -> dict[str, Any]:
    return {str(name): one for name, one in value.items() if name not in known}
