from pathlib import Path
from typing import Any

import pytest

from hone.experiments import preview as module
from hone.experiments.config import DataConfig, RunConfig
from hone.experiments.data.load import RowSource, load_sides
from hone.experiments.kinds.contract import RowSizes
from hone.experiments.preview import Speakers, UsableRows, preview


def side(rows: list[Any]) -> RowSource:
    config = DataConfig.model_validate({"source": {"kind": "rows", "params": {"rows": rows}}})
    return load_sides(config, Path("."), own_validation=True).train


def chat(number: int, answer: str = "yes") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"Is it {number}?"}, {"role": "assistant", "content": answer}]}


@pytest.fixture
def speaker(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("TINKER_BASE_URL", raising=False)
    return Speakers(Path(".")).renderer(RunConfig())


def test_rows_are_measured_as_the_renderer_writes_them(speaker: Any) -> None:
    renderer, tokenizer = speaker
    rows = [chat(i, "yes " * (1 + i)) for i in range(3)]
    found = preview(side(rows), "chat", wants_verifier=False, speaker=speaker)
    expected = [renderer.build_supervised_example(row["messages"])[0].length for row in rows]
    asked = [renderer.build_generation_prompt(row["messages"][:1]).length for row in rows]
    assert sorted(found.lengths) == sorted(expected)
    assert found.sizes is not None
    assert found.sizes.whole == pytest.approx(sum(expected) / 3)
    assert found.sizes.prompt == pytest.approx(sum(asked) / 3)
    assert found.example in [
        tokenizer.decode(renderer.build_supervised_example(r["messages"])[0].to_ints()) for r in rows
    ]
    assert (found.rows, found.unusable, found.reason("chat")) == (3, 0, None)


def test_both_answers_of_a_preference_count(speaker: Any) -> None:
    renderer, _ = speaker
    row = {"prompt": "Is it?", "chosen": "yes", "rejected": "no, it is not"}
    found = preview(side([row]), "preference", wants_verifier=False, speaker=speaker)
    turns = [
        [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": row[key]}]
        for key in row
        if key != "prompt"
    ]
    assert found.lengths == [sum(renderer.build_supervised_example(turn)[0].length for turn in turns)]


def test_without_a_tokenizer_lengths_are_guessed_from_characters() -> None:
    found = preview(side([{"prompt": "x" * 40, "answer": "1"}]), "task", wants_verifier=False, speaker=None)
    assert found.sizes == RowSizes(prompt=10.0, whole=10.0)
    assert found.example is None


def test_bad_rows_are_counted_and_the_first_named(speaker: Any) -> None:
    rows = [chat(1), *([{"messages": 3}] * 8)]
    found = preview(side(rows), "chat", wants_verifier=False, speaker=speaker)
    assert (found.rows, found.unusable, len(found.errors)) == (1, 8, 5)
    reason = found.reason("chat")
    assert reason is not None
    assert reason.startswith("8 rows cannot be used as chat rows:\n  ")
    assert reason.endswith("... and 3 more")


def test_tasks_without_a_verifier_are_told_where_one_is_needed(speaker: Any) -> None:
    rows = [{"prompt": "a", "answer": "b"}, {"prompt": "c", "answer": "d", "verifier": "exact"}]
    assert preview(side(rows), "task", wants_verifier=False, speaker=speaker).unusable == 0
    found = preview(side(rows), "task", wants_verifier=True, speaker=speaker)
    assert (found.rows, found.unusable) == (1, 1)
    assert "it has no verifier" in found.errors[0]


def test_the_same_rows_are_kept_whatever_their_order(speaker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOKENISED", 5)
    rows = [chat(i, "yes " * i) for i in range(1, 40)]
    there, back = (preview(side(order), "chat", wants_verifier=False, speaker=speaker) for order in (rows, rows[::-1]))
    assert len(there.lengths) == 5
    assert sorted(there.lengths) == sorted(back.lengths)
    assert there.rows == 39


def test_of_very_many_rows_the_first_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ", 10)
    found = preview(side([chat(i) for i in range(11)]), "chat", wants_verifier=False, speaker=None)
    assert (found.rows, found.partly_read) == (10, True)
    found = preview(side([chat(i) for i in range(10)]), "chat", wants_verifier=False, speaker=None)
    assert (found.rows, found.partly_read) == (10, False)


def test_usable_rows_leave_the_others_out() -> None:
    rows = UsableRows(side([chat(1), {"messages": 3}, chat(2)]), "chat")
    assert [row.place for row in rows] == [row.place for row in rows]
    assert len(list(rows)) == 2


def test_no_rows_are_a_reason() -> None:
    config = DataConfig.model_validate(
        {
            "source": {"kind": "rows", "params": {"rows": [chat(1)]}},
            "transforms": [{"kind": "filter", "params": {"where": "1 > 2"}}],
        }
    )
    found = preview(load_sides(config, Path(".")).train, "chat", wants_verifier=False, speaker=None)
    assert "there are no training rows" in (found.reason("chat") or "")


def test_what_is_known_of_a_backend_that_is_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINKER_BASE_URL", raising=False)
    speakers = Speakers(Path("."))
    assert speakers.model(RunConfig()) == "hone/tiny"
    priced = RunConfig.model_validate(
        {"backend": {"params": {"prices": {"training": 2.0}, "models": ["a=x/y", "x/z"]}}}
    )
    assert speakers.model(priced) == "a"
    foresight = speakers.foresight(priced)
    assert (dict(foresight.tokenizers), foresight.prices.training) == ({"a": Path("x/y"), "z": Path("x/z")}, 2.0)
    assert speakers.renderer(priced) is None
    elsewhere = RunConfig.model_validate({"backend": {"params": {"base_url": "http://127.0.0.1:9"}}})
    assert speakers.model(elsewhere) is None
    assert speakers.renderer(elsewhere) is None
    assert speakers.model(elsewhere.model_copy(update={"model": priced.model.model_copy(update={"name": "m"})})) == "m"
