"""Each sink with the real library, on this machine alone; what it wrote is read back by the library's own means."""

import sys
from pathlib import Path

import pytest

from hone.algorithms.sinks import open_sinks
from hone.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")


def test_tensorboard_holds_every_step(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    (sink,) = open_sinks("tensorboard", tmp_path, "p", {})
    for step in range(3):
        sink.log(step, {"loss": 1.0 / (step + 1), "note": "x"})
    sink.close()
    events = accumulators.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (step, pytest.approx(1.0 / (step + 1))) for step in range(3)
    ]


def test_what_is_not_installed_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(UserError, match=r"trackio is not installed: pip install 'hone\[trackio\]'"):
        open_sinks("trackio", tmp_path, "p", {})


def test_an_unknown_sink_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'comet' is none of them"):
        open_sinks("comet", tmp_path, "p", {})
    assert open_sinks("", tmp_path, "p", {}) == []
