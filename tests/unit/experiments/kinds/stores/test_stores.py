"""Other places for results."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hone.errors import UserError
from hone.experiments.kinds import plugins


class Client:
    """What the store uses of MLflow's client."""

    experiments: dict[str, str]
    runs: dict[str, Any]

    def __init__(self, tracking_uri: str | None = None) -> None:
        Client.uri = tracking_uri  # type: ignore[attr-defined]

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        self.experiments[name] = f"e{len(self.experiments)}"
        return self.experiments[name]

    def search_runs(self, identities: list[str], filter_string: str) -> list[Any]:
        wanted = filter_string.split("'")[1]
        return [run for run in self.runs.values() if run.tags["hone.arm"] == wanted and run.experiment in identities]

    def create_run(self, experiment: str, tags: dict[str, str]) -> Any:
        name = f"r{len(self.runs)}"
        self.runs[name] = SimpleNamespace(
            info=SimpleNamespace(run_id=name), tags=tags, experiment=experiment, params={}, metrics=[], ended=False
        )
        return self.runs[name]

    def log_param(self, run: str, name: str, value: str) -> None:
        assert name not in self.runs[run].params  # MLflow refuses another value
        self.runs[run].params[name] = value

    def log_batch(self, run: str, metrics: list[SimpleNamespace]) -> None:
        self.runs[run].metrics += [(metric.key, metric.value, metric.step) for metric in metrics]

    def update_run(self, run: str, status: str) -> None:
        self.runs[run].ended = status != "RUNNING"

    def set_terminated(self, run: str) -> None:
        self.runs[run].ended = True

    def set_experiment_tag(self, experiment: str, name: str, value: str) -> None:
        self.runs[f"tag {experiment} {name}"] = value


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    Client.experiments, Client.runs = {}, {}
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=Client))
    monkeypatch.setitem(sys.modules, "mlflow.entities", SimpleNamespace(Metric=metric))
    return Client


def metric(key: str, value: float, timestamp: int, step: int) -> SimpleNamespace:
    return SimpleNamespace(key=key, value=value, step=step)


def test_mlflow_has_a_run_for_each_arm_and_finds_it_again(mlflow: type[Client], tmp_path: Path) -> None:
    store = plugins.stores.make("mlflow", {"tracking_uri": "sqlite:///x"})
    for arm in ("a", "b", "a"):
        sink = store.open("try", arm, tmp_path / f"{arm}-1234", {"seed": 1, "model": {"name": "x"}})
        sink.log(3, {"loss": 0.5, "note": "text"})
        sink.close()
    assert Client.uri == "sqlite:///x"  # type: ignore[attr-defined]
    first, second = mlflow.runs.values()
    assert first.params == {"seed": "1", "model.name": "x"}
    assert first.metrics == [("loss", 0.5, 3)] * 2
    assert second.metrics == [("loss", 0.5, 3)]
    assert first.ended


def test_mlflow_keeps_the_conclusion(mlflow: type[Client]) -> None:
    plugins.stores.make("mlflow", {}).conclude("try", {"verdict": "supported", "effect": {"low": 0.1}})
    assert mlflow.runs == {"tag e0 conclusion.verdict": "supported", "tag e0 conclusion.effect.low": "0.1"}


@pytest.mark.filterwarnings("ignore")
def test_the_real_mlflow_has_every_step_under_names_that_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    client = pytest.importorskip("mlflow").MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    store = plugins.stores.make("mlflow", {"tracking_uri": client.tracking_uri})
    for steps in ((0, 1), (2,)):  # the second time it goes on
        sink = store.open("try", "a", tmp_path / "a-1234", {"lr": 0.1, "text": "y" * 1000, "model": {"name": "x"}})
        for step in steps:
            many = {f"m/{index}": float(index) for index in range(1200)}
            sink.log(
                step, {"loss:sum": 0.5 * step, "pass@1/../%": 1.0, "note": "text", "nothing": float("nan"), **many}
            )
        sink.close()
    store.conclude("try", {"verdict": "supported", "effect": {"low": 0.1}})

    experiment = client.get_experiment_by_name("try")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lr": "0.1", "text": "y" * 500, "model.name": "x"}
    losses = client.get_metric_history(run.info.run_id, "loss:sum")
    assert [(metric.step, metric.value) for metric in losses] == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert run.data.metrics["_"] == 1.0
    assert run.data.metrics["m/1199"] == 1199.0
    assert {"conclusion.verdict": "supported", "conclusion.effect.low": "0.1"}.items() <= experiment.tags.items()


@pytest.mark.parametrize(("kind", "module"), [("mlflow", "mlflow"), ("wandb", "wandb"), ("trackio", "trackio")])
def test_what_is_not_installed_says_how_to_install_it(
    kind: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match="pip install"):
        plugins.stores.make(kind, {}).open("try", "a", tmp_path, {})
