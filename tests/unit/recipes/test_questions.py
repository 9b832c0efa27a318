"""Problems of recipes: drawn by name, known from the seed, and the held-out ones never trained on."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from hone.algorithms.run_directory import Checkpoint
from hone.errors import UserError
from recipes.prompt_distillation.languages import PARTS, sentences
from recipes.questions import draw
from recipes.runs import before_and_after, curve, finished


@pytest.mark.parametrize("kind", ["tickets", "subtract_two_digit"])
def test_what_is_held_out_is_never_trained_on(kind: str) -> None:
    trained, held_out = draw(kind, "train", 300, 0), draw(kind, "held_out", 100, 0)
    assert len(trained) == 300
    assert len(held_out) == 100
    assert {task.question for task in trained}.isdisjoint(task.question for task in held_out)
    assert draw(kind, "train", 300, 0) == trained
    assert draw(kind, "train", 300, 1) != trained


def test_held_out_sentences_have_subjects_and_objects_that_were_never_trained_on() -> None:
    trained, held_out = sentences("train", 14 * 20, 0), sentences("held_out", 14 * 20, 0)
    for told in (trained, held_out):
        assert len({task.question for task in told}) == 14 * 20
        assert Counter(task.gold for task in told) == {parts["code"]: 20 for parts in PARTS} | {"ot": 40}
    kept = {part for parts in PARTS for kind in ("subjects", "objects") for part in parts["held_out"][kind]}
    assert not [task for task in trained if any(part in task.question for part in kept)]
    assert all(any(part in task.question for part in kept) for task in held_out)
    assert sentences("train", 50, 0) == sentences("train", 50, 0) != sentences("train", 50, 1)


def test_an_unknown_kind_of_problem_is_named() -> None:
    with pytest.raises(UserError, match=r"there are no problems 'sums'; there are .*subtract_two_digit.*tickets"):
        draw("sums", "train", 1, 0)


def test_measures_are_those_of_the_first_and_the_last_evaluation(tmp_path: Path) -> None:
    rows = [{"step": 0, "test/nll": 2.0, "loss": 3.0}, {"step": 1, "loss": 1.0}, {"step": 2, "test/nll": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert before_and_after(tmp_path, "nll") == (2.0, 0.5)
    assert curve(tmp_path, "loss", "loss").points == [(0.0, 3.0), (1.0, 1.0)]
    with pytest.raises(UserError, match="has no test/correct at its end"):
        before_and_after(tmp_path, "correct")


def test_a_run_that_diverged_has_no_measure(tmp_path: Path) -> None:
    rows = [{"step": 0, "test/nll": 2.0}, {"step": 1, "test/nll": None}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="did it diverge"):
        before_and_after(tmp_path, "nll")


def test_nothing_is_built_on_a_training_that_was_stopped() -> None:
    done = Checkpoint("000004", 4, "tinker://run/weights/000004", None, final=True)
    assert finished(done) is done
    with pytest.raises(UserError, match="stopped before its end, at step 4"):
        finished(replace(done, final=False))
