"""What every test shares: no test reads or writes the user's own data, keys, settings or caches."""

import os
import tempfile

import pytest

# At import, before any other test file is: some libraries read these variables once, when they are imported.
for name in list(os.environ):
    if name.startswith(("HONE_", "TINKER_")):
        del os.environ[name]
home = tempfile.TemporaryDirectory(prefix="hone-tests-", ignore_cleanup_errors=True)
os.environ["XDG_DATA_HOME"] = f"{home.name}/share"
os.environ["HF_HOME"] = f"{home.name}/huggingface"
os.environ["HF_HUB_OFFLINE"] = "1"  # a lookup on a hub would be a mistake, and a slow one
os.environ["TINKER_TELEMETRY"] = "0"


def pytest_unconfigure(config: pytest.Config) -> None:
    home.cleanup()
