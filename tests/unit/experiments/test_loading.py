import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hone.errors import UserError
from hone.experiments.loading import experiment_from, load_experiment
from hone.experiments.matrix import plan_arms
from hone.experiments.problems import ConfigError

pytestmark = pytest.mark.usefixtures("kinds")

FILE = """\
name: two
defaults:
  data: {source: {kind: listed, params: {path: "${DATA:-data}/train.txt"}}}
  backend: {kind: bench}
runs:
  - algorithm: {kind: imitate, params: {lr: 1e-5}}
    data: {shuffle: no}
  - algorithm: {kind: prefer}
"""


def written(folder: Path, text: str = FILE) -> Path:
    path = folder / "x.yaml"
    path.write_text(text)
    return path


def test_a_file_becomes_an_experiment(tmp_path: Path) -> None:
    loaded = load_experiment(written(tmp_path), environ={"DATA": "/rows"})
    assert (loaded.path, loaded.home) == (tmp_path / "x.yaml", tmp_path.resolve())
    assert loaded.config.runs is not None
    first, second = loaded.config.runs
    assert first.data is not None
    assert first.data.source is not None
    assert first.data.source.params == {"path": "/rows/train.txt"}
    assert first.data.shuffle is False
    assert first.algorithm.params == {"lr": 1e-5}
    assert second.backend.kind == "bench"


def test_settings_come_last_and_are_checked(tmp_path: Path) -> None:
    path = written(tmp_path)
    loaded = load_experiment(path, ["runs.1.seed=7", "defaults.model.lora_rank=4"], environ={})
    assert loaded.config.runs is not None
    assert [(run.seed, run.model.lora_rank) for run in loaded.config.runs] == [(0, 4), (7, 4)]
    with pytest.raises(ConfigError) as error:
        load_experiment(path, ["runs.0.algorithm.q=1", "nam=x", "oops", "runs.0.seed=x"], environ={})
    assert [str(one) for one in error.value.problems] == [
        "--set nam=x: nam: unknown key; did you mean 'name'?",
        "--set oops: must look like `path.to.key=value`",
        "--set runs.0.algorithm.q=1: runs[0].algorithm.q: unknown key; there are kind, params",
        "--set runs.0.seed=x: runs[0].seed: must be a whole number, found 'x'",
    ]


def test_problems_point_into_the_file_that_says_it(tmp_path: Path) -> None:
    (tmp_path / "low.yaml").write_text("defaults:\n  modle: {}\n")
    path = written(
        tmp_path, "extends: low.yaml\nname: x\nrun:\n  sed: 1\n  data: {source: {kind: listed, params: {path: a}}}\n"
    )
    with pytest.raises(ConfigError) as error:
        load_experiment(path, environ={})
    told = [str(one).replace(f"{tmp_path}/", "") for one in error.value.problems]
    assert told == [
        "low.yaml:2: defaults.modle: unknown key; did you mean 'model'?",
        "x.yaml:4: run.sed: unknown key; did you mean 'seed'?",
    ]


def test_a_mistake_in_defaults_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_experiment(written(tmp_path), ["defaults.seed=x"], environ={})
    assert len(error.value.problems) == 1


def test_everything_wrong_in_any_layer_is_told_together(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('at once')\n")
    text = (
        FILE.replace("${DATA:-data}", "${DATA}")
        + "name: twice\nplugins: [broken.py, gone.py, no_such_module]\nnmae: x\n"
    )
    with pytest.raises(ConfigError) as error:
        load_experiment(written(tmp_path, text), ["runs.5.seed=1"], environ={})
    told = "\n".join(map(str, error.value.problems))
    assert len(error.value.problems) == 7
    for part in (
        "no DATA",
        "twice",
        "RuntimeError: at once",
        "gone.py",
        "no_such_module",
        "nmae: unknown",
        "list of 2",
    ):
        assert part in told


def test_of_a_file_that_is_no_yaml_nothing_is_missed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_experiment(written(tmp_path, "name: [1\nrun: x"), ["run.seed=1"], environ={})
    (problem,) = error.value.problems
    assert "is not YAML" in problem.message


def test_the_model_written_as_yaml_is_read_as_the_same_model(tmp_path: Path) -> None:
    loaded = load_experiment(written(tmp_path), environ={})
    again = written(tmp_path, yaml.safe_dump(loaded.config.model_dump(mode="json")))
    reloaded = load_experiment(again, environ={})
    assert reloaded.config == loaded.config
    assert (reloaded.resolved, reloaded.config_hash) == (loaded.resolved, loaded.config_hash)
    resolved = written(tmp_path, yaml.safe_dump(loaded.resolved))
    assert load_experiment(resolved, environ={}).config_hash == loaded.config_hash


def test_resolved_values_hold_every_default_of_every_plugin(tmp_path: Path) -> None:
    loaded = load_experiment(written(tmp_path), environ={})
    run = loaded.resolved["runs"][1]
    assert run["algorithm"]["params"] == {"lr": 1e-4, "batch_size": 8, "epochs": 1, "beta": 0.1}
    assert run["validation"]["every"] == 10
    assert json.loads(json.dumps(loaded.resolved)) == loaded.resolved


def test_a_program_may_give_values(tmp_path: Path) -> None:
    loaded = load_experiment(written(tmp_path), environ={})
    values = yaml.safe_load(FILE.replace("${DATA:-data}", "data").replace("1e-5", "1.0e-5").replace("no}", "false}"))
    made = experiment_from(values, tmp_path)
    assert made.config == loaded.config
    assert made.config_hash == loaded.config_hash
    with pytest.raises(ConfigError) as error:
        experiment_from({"nam": 1, "run": {}}, tmp_path)
    assert [str(one) for one in error.value.problems] == ["nam: unknown key; did you mean 'name'?"]


def test_plugins_of_the_file_are_there_before_it_is_checked(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from hone.experiments.kinds.contract import Verifier\n"
        "from hone.experiments.kinds.plugins import register_verifier\n"
        "@register_verifier('of_test_loading')\n"
        "class Mine(Verifier):\n"
        "    def grader(self): ...\n"
    )
    text = FILE + "plugins: [mine.py]\nbenchmarks: [{name: b, path: x, verifier: {kind: of_test_loading}}]\n"
    assert load_experiment(written(tmp_path, text), environ={}).config.plugins == ["mine.py"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_experiment(tmp_path / "gone.yaml")


def test_three_methods_on_one_file(tmp_path: Path) -> None:
    text = """\
name: three-methods
hypothesis: DPO beats SFT on this data
matrix:
  axes:
    algorithm.kind: [sft, dpo, grpo]
    algorithm.params.lr: [1.0e-5, 2.0e-5]
  base_run:
    data: { source: { kind: jsonl, params: { path: data/train.jsonl } } }
    backend: { kind: tinker }
"""
    loaded = load_experiment(written(tmp_path, text), environ={})
    arms = plan_arms(loaded.config)
    assert [arm.name for arm in arms] == [
        f"{kind}-lr{lr}" for kind in ("sft", "dpo", "grpo") for lr in ("1e-05", "2e-05")
    ]
    assert load_experiment(written(tmp_path, yaml.safe_dump(loaded.config.model_dump())), environ={}) == loaded


def test_reading_and_planning_load_neither_torch_nor_the_sdk() -> None:
    program = (
        "import sys, hone.experiments.config, hone.experiments.loading, hone.experiments.matrix\n"
        "print([name for name in ('torch', 'tinker', 'transformers') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
