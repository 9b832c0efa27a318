import pytest

from hone.errors import UserError
from hone.protocol import requests


def test_unknown_fields_are_ignored() -> None:
    body = requests.parse(requests.GetInfo, {"model_id": "m", "type": "get_info", "invented": 1})
    assert body.model_id == "m"


def test_metadata_becomes_text() -> None:
    fields = {"session_id": "s", "model_seq_id": 0, "base_model": "b", "user_metadata": {"a": 1, "b": "x", "c": None}}
    assert requests.parse(requests.CreateModel, fields).user_metadata == {"a": "1", "b": "x", "c": "None"}


@pytest.mark.parametrize(
    ("stop", "expected"), [(None, None), ([], ()), ("\n", ("\n",)), (["a", "b"], ("a", "b")), ([3, 4], (3, 4))]
)
def test_no_stop_and_an_empty_stop_are_different(stop: object, expected: object) -> None:
    params = requests.parse(requests.SamplingParams, {} if stop is None else {"stop": stop})
    assert params.to_types().stop == expected


@pytest.mark.parametrize(
    ("body_type", "fields", "says"),
    [
        (requests.OptimStep, {"model_id": "m"}, "seq_id is missing"),
        (requests.OptimStep, {"model_id": "m", "seq_id": 0}, "seq_id: .*greater than or equal to 1, found 0"),
        (requests.AdamParams, {"learning_rate": -1}, "learning_rate: .*found -1"),
        (requests.AdamParams, {"learning_rate": float("nan")}, "learning_rate: .*found nan"),
        (requests.AdamParams, {"beta1": 1}, "beta1: .*less than 1"),
        (requests.SamplingParams, {"temperature": -0.1}, "temperature: .*found -0.1"),
        (requests.SamplingParams, {"top_p": 0}, "top_p: .*greater than 0"),
        (requests.SetTtl, {"ttl_seconds": 60}, "ttl_seconds: .*3600, found 60"),
        (requests.LoraConfig, {"rank": "many"}, "rank: .*integer.*found 'many'"),
        (
            requests.SaveWeightsForSampler,
            {"model_id": "m", "seq_id": 1, "kind": "x"},
            "kind: .*'snapshot' or 'inflight'",
        ),
        (requests.GetInfo, [1], "body: "),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(body_type: type[requests.Body], fields: object, says: str) -> None:
    with pytest.raises(UserError, match=says):
        requests.parse(body_type, fields)


def test_a_long_value_is_not_repeated_in_full() -> None:
    with pytest.raises(UserError) as caught:
        requests.parse(requests.GetInfo, {"model_id": ["x" * 1000]})
    assert len(str(caught.value)) < 200
