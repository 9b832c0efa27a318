from pathlib import Path

import pytest

from hone.errors import AuthenticationError
from hone.identity.tokens import Signer


def test_a_token_is_good_for_its_purpose_its_time_and_its_server(tmp_path: Path) -> None:
    signer = Signer(tmp_path / "secret")
    token = signer.sign("trace", {"session_id": "s"}, 60)
    assert signer.open("trace", token)["session_id"] == "s"
    assert Signer(tmp_path / "secret").open("trace", token)["session_id"] == "s"
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    for wrong, purpose in (
        (token, "download"),
        (signer.sign("trace", {}, -1), "trace"),
        (Signer(tmp_path / "other").sign("trace", {}, 60), "trace"),
        (token + "x", "trace"),
        ("x" + token, "trace"),
        ("", "trace"),
        ("é.é.é", "trace"),
        ("a.b", "trace"),
    ):
        with pytest.raises(AuthenticationError):
            signer.open(purpose, wrong)
