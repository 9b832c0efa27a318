"""Starting an engine on what is no model."""

import asyncio
import shutil
from pathlib import Path

import pytest

from hone.engine.build import start_engine
from hone.engine.contract import ModelSource
from hone.errors import UserError


def start(directory: Path) -> None:
    async def go() -> None:
        engine = await start_engine([ModelSource("mine", directory)], threads=1)
        await engine.close()

    asyncio.run(asyncio.wait_for(go(), 60))


def test_an_unknown_directory_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'mine'.*is not a directory"):
        start(tmp_path / "nowhere")


def test_a_damaged_checkpoint_is_an_error_that_says_which(model_directories: dict[str, Path], tmp_path: Path) -> None:
    directory = tmp_path / "cut short"
    shutil.copytree(model_directories["qwen3"], directory)
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError, match="cut short"):
        start(directory)
