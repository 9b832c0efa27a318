"""What the engine's tests share: one thread, and small models on disk as other software saves them."""

import os
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():  # Triton's kernels run on a CPU then; it reads this when it is first imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

from hone.engine.contract import ModelSource
from hone.engine.models.load import LoadedModel, load_model
from tests.unit.engine.material import FAMILIES, save_model, shared_folder


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A directory that transformers saved, for every entry of `FAMILIES`."""
    folder = tmp_path_factory.mktemp("models")
    return {name: save_model(name, folder / name) for name in FAMILIES}


@pytest.fixture(scope="session")
def models(model_directories: dict[str, Path], one_thread: None) -> dict[str, LoadedModel]:
    return {name: load_model(ModelSource(name, directory)) for name, directory in model_directories.items()}


@pytest.fixture(scope="session")
def qwen3(models: dict[str, LoadedModel]) -> LoadedModel:
    return models["qwen3"]


@pytest.fixture(scope="session")
def moe(models: dict[str, LoadedModel]) -> LoadedModel:
    return models["qwen3_moe"]


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """Real checkpoints, where this machine has them."""
    folder = shared_folder() / "models"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here; set TEST_SHARED to the folder that holds models/")
    return folder
