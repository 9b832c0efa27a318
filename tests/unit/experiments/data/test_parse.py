import pytest

from hone.errors import UserError
from hone.experiments.data.parse import RowError, RowErrors, detect, parse
from hone.experiments.data.rows import VerifierChoice
from hone.experiments.kinds.contract import RawRow

U = {"role": "user", "content": "q"}
A = {"role": "assistant", "content": "a"}
B = {"role": "assistant", "content": "b"}
S = {"role": "system", "content": "s"}
COMPARISON = {"prompt_conversation": [U], "completion_A": [A], "completion_B": [B]}


def row(value, kind):
    return parse(RawRow("f.jsonl:7", value), kind)


@pytest.mark.parametrize(
    ("value", "messages", "facts"),
    [
        ({"messages": [S, U, A], "x": 1}, [S, U, A], {"x": 1}),
        ({"prompt": "q", "completion": "a"}, [U, A], {}),
        ({"prompt": [S, U], "response": [A]}, [S, U, A], {}),
        ({"question": "q", "answer": "a", "level": 3}, [U, A], {"level": 3}),
        ({"instruction": "q", "target": "a"}, [U, A], {}),
        ({"prompt": "q", "answer": 7}, [U, {"role": "assistant", "content": "7"}], {}),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, [U, A], {"rejected": "b"}),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "answer": "7"}, [U, A], {"rejected": "b", "answer": "7"}),
        ({"prompt": [U], "chosen": [U, A], "rejected": [U, B]}, [U, A], {"rejected": [U, B]}),
        ({"messages": [U], "answer": "a"}, [U, A], {}),
        ({"messages": [U, A], "answer": "b"}, [U, A], {"answer": "b"}),
        ({"messages": [U, A], "answer": None}, [U, A], {"answer": None}),
        ({"comparison": COMPARISON, "label": "B"}, [U, B], {}),
        ({"messages": [U, A], "reward": 1.0}, [U, A], {"reward": 1.0}),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "x": 1, "system": "s"},
            [S, U, A],
            {"x": 1},
        ),
    ],
)
def test_chat(value, messages, facts):
    found = row(value, "chat")
    assert (found.messages, found.facts, found.place) == (messages, facts, "f.jsonl:7")


def test_chat_with_tools():
    tool = {"name": "add", "description": "", "parameters": {}}
    assert row({"messages": [U, A], "tools": [tool]}, "chat").tools == [{"type": "function", "function": tool}]


@pytest.mark.parametrize(
    ("value", "chosen", "rejected", "tie"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, [A], [B], False),
        ({"prompt": [U], "chosen": [U, A], "rejected": [B]}, [A], [B], False),
        ({"comparison": COMPARISON, "label": "A"}, [A], [B], False),
        ({"comparison": COMPARISON, "label": "B"}, [B], [A], False),
        ({"comparison": COMPARISON, "label": "Tie"}, [A], [B], True),
    ],
)
def test_preference(value, chosen, rejected, tie):
    found = row(value | {"source": "x"}, "preference")
    assert (found.prompt, found.chosen, found.rejected, found.tie) == ([U], chosen, rejected, tie)
    assert found.facts == {"source": "x"}


@pytest.mark.parametrize(
    ("value", "gold", "verifier", "facts"),
    [
        ({"prompt": "q", "answer": "a"}, "a", None, {}),
        ({"question": "q", "gold": 7, "level": 1}, "7", None, {"level": 1}),
        ({"messages": [U], "target": "a"}, "a", None, {}),
        ({"prompt": "q"}, "", None, {}),
        ({"prompt": "q", "answer": "a", "verifier": "numeric"}, "a", VerifierChoice("numeric"), {}),
        (
            {"prompt": "q", "verifier": {"kind": "regex", "params": {"pattern": "x"}}},
            "",
            VerifierChoice("regex", {"pattern": "x"}),
            {},
        ),
        (
            {
                "task_id": "t1",
                "instruction": "q",
                "verifier": {"kind": "in_process", "fn_name": "exact", "params": {}, "expected": "a"},
            },
            "a",
            VerifierChoice("exact"),
            {"task_id": "t1"},
        ),
    ],
)
def test_task(value, gold, verifier, facts):
    found = row(value, "task")
    assert (found.prompt, found.gold, found.verifier, found.facts) == ([U], gold, verifier, facts)


def test_a_task_may_name_its_cluster():
    assert row({"prompt": "q", "cluster": "passage 3"}, "task").cluster == "passage 3"


@pytest.mark.parametrize(
    ("said", "reward"),
    [
        ({"reward": 0.5}, 0.5),
        ({"feedback": True}, 1.0),
        ({"feedback": {"score": -1, "text": "no"}}, -1.0),
        ({"reward": 2, "feedback": "fine"}, 2.0),
    ],
)
def test_trajectory(said, reward):
    found = row({"messages": [U, A], **said}, "trajectory")
    assert found.reward == reward
    assert found.facts == {name: one for name, one in said.items() if name == "feedback"}


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        ("chat", {"messages": [U]}, "its last message is one of the role user"),
        ("chat", {"text": "x"}, "no question"),
        ("chat", {"prompt": "q"}, "no answer to learn"),
        ("chat", {"messages": [{"role": "robot", "content": ""}, A]}, r"messages\[0\] has the role 'robot'"),
        ("chat", {"messages": "text"}, "messages is of type str"),
        ("chat", {"prompt": "  ", "completion": "x"}, "prompt is empty"),
        ("chat", {"prompt": "q", "completion": [U]}, "completion ends with a message of the role user"),
        ("preference", {"prompt": "q", "answer": "a"}, "a preference has prompt, chosen and rejected"),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": "a"}, "are the same"),
        ("preference", {"comparison": COMPARISON, "label": "C"}, "label is 'C'"),
        ("preference", {"comparison": {}, "label": "A"}, "must be an object with"),
        ("task", {"messages": [U, A]}, "`to_task`"),
        ("task", {"answer": "a"}, "no question"),
        ("task", {"prompt": "q", "verifier": 3}, "verifier is of type int"),
        ("task", {"prompt": "q", "verifier": {"params": {}}}, "needs `kind`"),
        ("task", {"prompt": "q", "verifier": {"kind": "x", "param": {}}}, "verifier has param"),
        ("task", {"prompt": "q", "verifier": {"kind": "x", "params": 1}}, "params is of type int"),
        ("trajectory", {"messages": [U, A]}, "neither reward nor feedback"),
        ("trajectory", {"messages": [U, A], "reward": "good"}, "reward is 'good'"),
        ("trajectory", {"messages": [U, A], "reward": float("nan")}, "reward is nan"),
        ("trajectory", {"reward": 1}, "has messages"),
    ],
)
def test_what_is_not_of_the_kind_is_an_error_with_its_place(kind, value, why):
    with pytest.raises(RowError, match=rf"^f\.jsonl:7: it is no {kind} row: .*{why}") as raised:
        row(value, kind)
    assert raised.value.place == "f.jsonl:7"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"messages": [U, A]}, "chat"),
        ({"messages": [U]}, "task"),
        ({"prompt": "q", "completion": "a"}, "chat"),
        ({"prompt": "q", "answer": "a"}, "task"),
        ({"prompt": "q", "answer": None, "completion": "a"}, "chat"),
        ({"question": "q"}, "task"),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference"),
        ({"comparison": {}, "label": "A"}, "preference"),
        ({"task_id": "t", "instruction": "q", "verifier": {}}, "task"),
        ({"messages": [U, A], "feedback": 1}, "trajectory"),
    ],
)
def test_detect(value, kind):
    assert detect(value) == kind


def test_what_is_of_no_kind_says_what_rows_have():
    with pytest.raises(UserError, match="columns label, text is of no known kind; rows have messages"):
        detect({"text": "x", "label": 1})


def test_a_row_is_named_after_its_content_alone():
    one = parse(RawRow("a:1", {"prompt": "q", "answer": "a"}), "task")
    moved = parse(RawRow("b:9", {"answer": "a", "prompt": "q"}), "task")
    other = parse(RawRow("a:1", {"prompt": "q", "answer": "b"}), "task")
    assert one.id == moved.id != other.id


def test_a_row_keeps_its_name_through_transforms_and_in_every_kind():
    raw = RawRow("a:1", {"prompt": "q", "answer": "a"})
    changed = raw.changed({"prompt": [S, U], "answer": "a"}).changed({"prompt": [S, U], "answer": "b"})
    assert parse(changed, "task").id == parse(raw, "chat").id


def test_many_errors_are_counted():
    error = RowErrors([RowError(f"f:{i}", "bad") for i in range(30)])
    assert error.count == 30
    assert "30 rows cannot be used" in str(error)
    assert "f:19: bad\n... and 10 more" in str(error)


def test_sharegpt_is_detected_and_named_by_what_the_file_has():
    value = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    assert detect(value) == "chat"
    assert row(value, "chat").id != row({"messages": [U, A]}, "chat").id
    with pytest.raises(RowError, match=r"f.jsonl:7: it is no chat row: conversations\[0\] is from 'x'"):
        row({"conversations": [{"from": "x", "value": "q"}]}, "chat")
