import pytest

from hone.errors import UserError
from hone.settings import load_settings, project_priorities, project_weights


def test_nothing_set_gives_the_defaults() -> None:
    settings = load_settings({})
    assert settings.data_dir is None
    assert settings.publish_tokenizers is True
    assert settings.sqlite_synchronous == "NORMAL"


def test_variables_become_values_of_their_kind() -> None:
    given = {
        "HONE_THREADS": "3",
        "HONE_LONG_POLL_SECONDS": "0.5",
        "HONE_PUBLISH_TOKENIZERS": "0",
        "HONE_DATA_DIR": "/d",
    }
    settings = load_settings(given)
    assert (settings.threads, settings.long_poll_seconds, settings.publish_tokenizers) == (3, 0.5, False)
    assert str(settings.data_dir) == "/d"


def test_the_clients_key_serves_too_but_ours_goes_first() -> None:
    assert load_settings({"TINKER_API_KEY": "tml-a"}).api_key == "tml-a"
    assert load_settings({"TINKER_API_KEY": "tml-a", "HONE_API_KEY": "tml-b"}).api_key == "tml-b"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("HONE_THREADS", "many", "a number"),
        ("HONE_THREADS", "-3", "at least 1"),
        ("HONE_ADAPTER_BYTES", "0", "at least 1"),
        ("HONE_LOADED_VERSIONS", "-1", "at least 1"),
        ("HONE_PUBLISH_TOKENIZERS", "maybe", "1, true, 0 or false"),
        ("HONE_SQLITE_SYNCHRONOUS", "FUL", "NORMAL, FULL, EXTRA"),
        ("HONE_LOG_LEVEL", "foo", "DEBUG, INFO, WARNING, ERROR"),
        ("HONE_DEVICE", "tpu", "auto, cpu, cuda"),
        ("HONE_DEVICE", "cuda1", "auto, cpu, cuda"),
        ("HONE_TRAINING_THREADS", "0", "at least 1"),
        ("HONE_DTYPE", "float16", "auto, float32 or bfloat16"),
        ("HONE_DATABASE_URL", "garbage", "a URL, such as postgresql:"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str, allowed: str) -> None:
    with pytest.raises(UserError, match=f"{name} is .*{allowed}"):
        load_settings({name: value})


def test_project_weights_are_read_and_wrong_ones_named() -> None:
    assert project_weights(load_settings({"HONE_PROJECT_WEIGHTS": "a=2, b=0.5"})) == {"a": 2.0, "b": 0.5}
    assert project_weights(load_settings({})) == {}
    for wrong in ("a", "a=x", "a=0", "=2", "a=-1", "a=inf"):
        with pytest.raises(UserError, match="HONE_PROJECT_WEIGHTS is"):
            load_settings({"HONE_PROJECT_WEIGHTS": wrong})


def test_project_priorities_are_read_and_wrong_ones_named() -> None:
    assert project_priorities(load_settings({"HONE_PROJECT_PRIORITIES": "a=2, b=-1"})) == {"a": 2, "b": -1}
    assert project_priorities(load_settings({})) == {}
    for wrong in ("a", "a=x", "a=0.5", "=2"):
        with pytest.raises(UserError, match="HONE_PROJECT_PRIORITIES is"):
            load_settings({"HONE_PROJECT_PRIORITIES": wrong})
