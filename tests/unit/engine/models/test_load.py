"""From a directory to a model that can be served."""

import shutil
from pathlib import Path

import pytest

from hone.engine.contract import ModelSource
from hone.engine.models.load import LoadedModel, load_model, load_models
from hone.errors import UserError
from tests.unit.engine.material import VOCAB


def test_a_path_that_is_no_directory_is_refused_with_the_models_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'mine'.*nowhere is not a directory"):
        load_model(ModelSource("mine", tmp_path / "nowhere"))


def test_one_directory_under_two_names_is_in_memory_once(model_directories: dict[str, Path], tmp_path: Path) -> None:
    directory = model_directories["llama"]
    (tmp_path / "link").symlink_to(directory)
    models = load_models([ModelSource("a", directory), ModelSource("b", tmp_path / "link")])
    assert list(models) == ["a", "b"]
    assert models["a"] is models["b"]


def test_the_description_is_what_the_config_says(qwen3: LoadedModel) -> None:
    described = qwen3.describe("Qwen/some")
    assert (described.name, described.architecture) == ("Qwen/some", "qwen3")
    assert (described.max_context, described.vocab_size) == (256, VOCAB)
    assert Path(described.directory) == qwen3.directory


def test_without_a_tokenizer_only_stop_strings_fail(model_directories: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(model_directories["llama"], tmp_path / "bare")
    model = load_model(ModelSource("bare", tmp_path / "bare"))
    with pytest.raises(UserError, match=r"tokenizer\.json; give stop token ids"):
        _ = model.tokenizer
