from pathlib import Path

import pytest

from hone.client.connect import connect
from hone.errors import UserError


def test_a_target_that_is_no_url_says_what_would_be_one() -> None:
    with pytest.raises(UserError, match=r"http://.*embedded"), connect("localhost:8000"):
        pass


def test_a_data_directory_belongs_to_an_embedded_server(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data_dir"), connect("http://127.0.0.1:1", data_dir=tmp_path):
        pass
