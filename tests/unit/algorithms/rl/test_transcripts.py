"""Transcripts that are complete, bounded, and safe to open."""

import json
from pathlib import Path
from typing import Any

import tinker

from hone.algorithms.rl.config import TranscriptConfig
from hone.algorithms.rl.transcripts import write_transcripts
from hone.algorithms.types import RolloutFailure, SampledTokens, Trajectory, TrajectoryGroup, Transition
from tests.support.fake_tinker import FakeTokenizer
from tests.support.rl_material import group

TOKENIZER = FakeTokenizer()


def dialogue() -> TrajectoryGroup:
    def said(text: str) -> SampledTokens:
        return SampledTokens(TOKENIZER.encode(text), [-1.0] * len(text), "stop")

    def prompt(text: str) -> tinker.ModelInput:
        return tinker.ModelInput.from_ints(TOKENIZER.encode(text))

    turns = [
        Transition(prompt("what?"), said("yes"), 0.25, {"polite": 1.0}, {"note": "<b>bold</b>"}),
        Transition(prompt("what?yes why?"), said("no"), 0.5),
        Transition(prompt("again?"), said("so"), 0.0),
    ]
    return TrajectoryGroup([Trajectory(turns, prompt(""), "completed")], [1.0], [{"won": 1.0}], ("talk",))


def written(tmp_path: Path, groups_P: list[TrajectoryGroup], **settings: Any) -> tuple[list[dict[str, Any]], str]:
    write_transcripts(tmp_path, 7, groups_P, TranscriptConfig(**settings), TOKENIZER.decode, "centred")
    folder = tmp_path / "iteration_000007"
    rows = [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]
    return rows, (folder / "rollouts.html").read_text()


def test_an_episode_reads_as_it_went(tmp_path: Path) -> None:
    (row,), page = written(tmp_path, [dialogue()])
    assert [(turn["observation"], turn["action"]) for turn in row["turns"]] == [
        ("what?", "yes"),
        (" why?", "no"),  # only what was new
        ("again?", "so"),  # a history that was rewritten is shown whole
    ]
    assert [turn["whole"] for turn in row["turns"]] == [True, False, True]
    assert (row["total_reward"], row["group_reward"], row["stop_reason"]) == (1.75, 1.0, "completed")
    assert row["tags"] == ["talk"]
    for text in ("what?", "yes", " why?", "polite 1"):
        assert text in page
    assert "<b>" not in page
    assert "&lt;b&gt;bold" in page
    assert "src=" not in page  # it needs nothing but itself
    assert "href=" not in page


def test_advantages_and_failures_are_told(tmp_path: Path) -> None:
    lost = TrajectoryGroup([], [], [], (), (RolloutFailure("OSError", "no <sandbox>"),))
    rows, page = written(tmp_path, [group(1, 0), lost])
    assert [row["advantage"] for row in rows[:2]] == [0.5, -0.5]
    assert rows[2]["failures"] == [{"kind": "OSError", "message": "no <sandbox>"}]
    assert "OSError: no &lt;sandbox&gt;" in page


def test_files_are_bounded_and_say_what_they_leave_out(tmp_path: Path) -> None:
    rows, page = written(tmp_path, [group(*range(50)) for _ in range(4)], kilobytes=8, groups=2)
    folder = tmp_path / "iteration_000007"
    assert (folder / "rollouts.jsonl").stat().st_size < 9 * 1024
    assert rows[-1] == {"step": 7, "left_out": 200 - (len(rows) - 1)}
    assert 1 < len(rows) < 101
    assert f"{rows[-1]['left_out']} more episodes" in page


def test_long_texts_lose_their_middle(tmp_path: Path) -> None:
    long = dialogue()
    long.trajectories_G[0].transitions[0].action.tokens[:] = TOKENIZER.encode("a" * 500 + "b" * 500)
    (row,), _ = written(tmp_path, [long], characters=20)
    assert row["turns"][0]["action"] == "a" * 10 + " [... 980 characters ...] " + "b" * 10


def test_steps_between_are_not_written(tmp_path: Path) -> None:
    write_transcripts(tmp_path, 7, [dialogue()], TranscriptConfig(every=5), TOKENIZER.decode, "centred")
    write_transcripts(tmp_path, 10, [dialogue()], TranscriptConfig(every=0), TOKENIZER.decode, "centred")
    assert list(tmp_path.iterdir()) == []
