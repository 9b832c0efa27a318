"""What every test shares: no test reads or writes the user's own data, keys or settings."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="session")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in list(os.environ):
        if name.startswith(("HONE_", "TINKER_")):
            del os.environ[name]
    home: Path = tmp_path_factory.mktemp("home")
    os.environ["XDG_DATA_HOME"] = str(home / "share")
    # A lookup on a hub would be a mistake, and a slow one; a local cache of its own keeps the user's untouched.
    os.environ["HF_HOME"] = str(home / "huggingface")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TINKER_TELEMETRY"] = "0"
