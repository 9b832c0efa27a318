import json

import pytest

from hone import __version__
from hone.cli.main import main


def test_json_names_every_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == 0
    versions = json.loads(capsys.readouterr().out)
    assert versions["hone"] == __version__
    assert versions["tinker"].startswith("0.38.")
