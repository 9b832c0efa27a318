"""Starting an engine: on what is no model, and with a file to hold."""

import asyncio
import fcntl
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


def test_a_lock_that_it_holds_ends_with_the_engine(model_directories: dict[str, Path], tmp_path: Path) -> None:
    def is_locked() -> bool:
        with (tmp_path / "lock").open("a") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    async def hold() -> None:
        with (tmp_path / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            source = ModelSource("mine", model_directories["qwen3"])
            engine = await start_engine([source], threads=1, held=[lock.fileno()])
        assert is_locked()  # although we let go
        await engine.close()
        assert not is_locked()

    asyncio.run(asyncio.wait_for(hold(), 60))
