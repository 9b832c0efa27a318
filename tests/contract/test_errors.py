"""Section 10.6: which exception of the SDK each kind of mistake becomes."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import tinker

from hone.client.embedded import ServerInfo
from tests.contract.conftest import Cli
from tests.contract.material import Material, datum


def bad_ttl(service: tinker.ServiceClient, rest: tinker.RestClient, training: tinker.TrainingClient) -> None:
    rest.set_checkpoint_ttl_from_tinker_path(training.save_state("x").result().path, 1).result()


def no_run(service: tinker.ServiceClient, rest: tinker.RestClient, training: tinker.TrainingClient) -> None:
    rest.get_training_run("nobody:train:0").result()


def no_sampler(service: tinker.ServiceClient, rest: tinker.RestClient, training: tinker.TrainingClient) -> None:
    service.create_sampling_client(model_path="tinker://nobody:train:0/sampler_weights/x").result()


def failed_job(service: tinker.ServiceClient, rest: tinker.RestClient, training: tinker.TrainingClient) -> None:
    training.forward([datum([1, 10_000_000])], "cross_entropy").result()


MISTAKES: dict[str, tuple[Callable[..., None], type[Exception]]] = {
    "a value out of bounds": (bad_ttl, tinker.BadRequestError),
    "an unknown run": (no_run, tinker.NotFoundError),
    "an unknown checkpoint": (no_sampler, tinker.NotFoundError),
    "data that make no sense": (failed_job, tinker.RequestFailedError),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_exception(
    service: tinker.ServiceClient, rest: tinker.RestClient, training: tinker.TrainingClient, mistake: str
) -> None:
    make, kind = MISTAKES[mistake]
    with pytest.raises(kind) as caught:
        make(service, rest, training)
    assert type(caught.value) is kind
    if isinstance(caught.value, tinker.RequestFailedError):
        assert caught.value.category == "user"
    if isinstance(caught.value, tinker.APIStatusError):
        assert isinstance(caught.value.body, dict)
        assert caught.value.body["detail"]


def test_a_key_that_may_only_look_is_forbidden_to_train(tuned: ServerInfo, hone: Cli) -> None:
    made = json.loads(hone("key", "create", "looker", "--scope", "read", "--data-dir", tuned.data_dir, "--json"))
    rest = tinker.RestClient(base_url=tuned.url, api_key=made["key"])
    assert rest.list_training_runs().result().training_runs is not None
    with pytest.raises(tinker.PermissionDeniedError, match="scope"):
        rest.delete_checkpoint("any:train:0", "weights/x").result()


FORBIDDEN_STATUSES = {402, 409, 422, 425, 503}
"""The SDK repeats some of these for minutes, and reads none of them as the user's mistake."""


@pytest.mark.parametrize(
    "request_",
    [
        ("POST", "create_model", {}),
        ("POST", "create_model", {"session_id": 3}),
        ("POST", "load_weights", {"session_id": "none", "model_seq_id": 0}),
        ("POST", "asample", {"sampling_session_id": "none", "seq_id": 0}),
        ("POST", "retrieve_futures", {"target": {"type": "sampling_session", "sampling_session_id": "none"}}),
        ("POST", "copy_weights", {"source_path": "tinker://x"}),
        ("POST", "weights_info", {"tinker_path": 7}),
        ("PUT", "sessions/none/project", {"project_id": "x"}),
        ("PUT", "training_runs/none/checkpoints/weights/x/ttl", {}),
        ("POST", "training_runs/none/checkpoints/odd/x/publish", {}),
        ("DELETE", "training_runs/none/checkpoints/weights/x", None),
        ("GET", "training_runs/none/checkpoints/weights/x/external_weights_urls", None),
        ("GET", "billing/usage/events", None),
    ],
    ids=lambda value: value[1].split("/")[-1],
)
def test_mistakes_are_400_or_404(wire: httpx.Client, request_: tuple[str, str, Any]) -> None:
    method, path, body = request_
    response = wire.request(method, path, json=body)
    assert response.status_code in {400, 404}
    assert response.status_code not in FORBIDDEN_STATUSES
    assert response.json()["detail"]


def test_a_failure_says_which_request_it_was(training: tinker.TrainingClient, material: Material) -> None:
    with pytest.raises(tinker.RequestFailedError) as caught:
        training.forward_backward([datum([1, 10_000_000])], "cross_entropy").result()
    assert training.model_id in str(caught.value) or "request" in str(caught.value).lower()
