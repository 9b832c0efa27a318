"""The official client, unmodified, over a real loopback port."""

import threading
import time
from pathlib import Path

import pytest
import tinker
import torch
from sqlalchemy import Connection
from tinker import types

from hone.client.connect import service_client
from hone.identity import accounts
from hone.observe.metrics import REQUESTS
from tests.support.service import KEY, MODEL, LiveServer
from tests.support.uniform_engine import LOGPROB, UniformEngine

pytestmark = pytest.mark.usefixtures("any_database")


def datum(*tokens: int) -> types.Datum:
    return types.Datum(
        model_input=types.ModelInput.from_ints(list(tokens[:-1])),
        loss_fn_inputs={"target_tokens": list(tokens[1:]), "weights": [1.0] * (len(tokens) - 1)},
    )


def train(client: tinker.ServiceClient) -> tinker.TrainingClient:
    return client.create_lora_training_client(MODEL, rank=8, seed=3).result()


def test_training_sampling_saving_and_resuming(server: LiveServer, client: tinker.ServiceClient) -> None:
    model = train(client)
    forward, step = model.forward_backward([datum(1, 2, 3)], "cross_entropy"), model.optim_step(types.AdamParams())
    output = forward.result()
    assert output.metrics["loss:sum"] == pytest.approx(-2 * LOGPROB)
    assert output.loss_fn_outputs[0]["logprobs"].tolist() == pytest.approx([LOGPROB] * 2)
    assert step.result().metrics == {"state": pytest.approx(step.result().metrics["state"]), "steps": 1.0}
    sampler = model.save_weights_and_get_sampling_client().result()
    prompt = types.ModelInput.from_ints([1, 2, 3])
    drawn = sampler.sample(prompt, num_samples=4, sampling_params=types.SamplingParams(max_tokens=9, stop=[])).result()
    assert [len(sequence.tokens) for sequence in drawn.sequences] == [9] * 4
    assert len({sequence.sequence_id for sequence in drawn.sequences}) == 4
    assert sampler.compute_logprobs(prompt).result() == [None, pytest.approx(LOGPROB), pytest.approx(LOGPROB)]
    saved = model.save_state("first").result()
    expected = model.forward_backward([datum(4, 5)], "cross_entropy").result().metrics
    resumed = client.create_training_client_from_state_with_optimizer(saved.path).result()
    assert resumed.forward_backward([datum(4, 5)], "cross_entropy").result().metrics == expected


def test_chunks_arrive_in_any_order_and_come_back_in_one(server: LiveServer, client: tinker.ServiceClient) -> None:
    model = train(client)
    data = [datum(*([1 + i % 40] * (2 + i % 7))) for i in range(2500)]
    output = model.forward_backward(data, "cross_entropy").result()
    assert [len(out["logprobs"].tolist()) for out in output.loss_fn_outputs] == [1 + i % 7 for i in range(2500)]
    assert output.metrics["loss:sum"] == pytest.approx(-LOGPROB * sum(1 + i % 7 for i in range(2500)), rel=1e-5)


def test_custom_losses(client: tinker.ServiceClient) -> None:
    def loss(data: list[types.Datum], logprobs: list[torch.Tensor]) -> tuple[torch.Tensor, dict[str, float]]:
        return sum((values**2).sum() for values in logprobs), {}  # type: ignore[return-value]

    output = train(client).forward_backward_custom([datum(1, 2, 3)], loss).result()
    assert "surrogate_loss:sum" in output.metrics


def test_a_bad_datum_is_a_user_error_and_the_next_request_works(client: tinker.ServiceClient) -> None:
    model = train(client)
    with pytest.raises(tinker.RequestFailedError, match="holds token 99") as caught:
        model.forward_backward([datum(1, 99, 3)], "cross_entropy").result()
    assert caught.value.category is types.RequestErrorCategory.User
    assert model.forward_backward([datum(1, 2, 3)], "cross_entropy").result().metrics["loss:sum"] > 0


def test_a_wrong_key(server: LiveServer) -> None:
    with pytest.raises(tinker.AuthenticationError, match="not one of this server"):
        tinker.RestClient(base_url=server.url, api_key="tml-wrong").list_training_runs().result()


def test_rest_client(server: LiveServer, client: tinker.ServiceClient) -> None:
    model = train(client)
    path = model.save_weights_for_sampler("final").result().path
    rest = tinker.RestClient(base_url=server.url, api_key=KEY)
    assert [run.training_run_id for run in rest.list_training_runs().result().training_runs] == [model.model_id]
    assert rest.get_training_run_by_tinker_path(path).result().base_model == MODEL
    (listed,) = rest.list_checkpoints(model.model_id).result().checkpoints
    assert listed.tinker_path == path
    rest.publish_checkpoint_from_tinker_path(path).result()
    rest.unpublish_checkpoint_from_tinker_path(path).result()
    rest.set_checkpoint_ttl_from_tinker_path(path, 3600).result()
    rest.delete_checkpoint_from_tinker_path(path).result()
    assert rest.list_user_checkpoints().result().checkpoints == []
    assert [m.model_name for m in rest.get_server_capabilities().result().supported_models] == [MODEL]


def test_a_long_job_is_waited_for_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        LiveServer(tmp_path, UniformEngine(slow=1.0), long_poll_seconds=0.2) as server,
        service_client(server.url, KEY) as client,
    ):
        assert train(client).forward_backward([datum(1, 2)], "cross_entropy").result().metrics["loss:sum"] > 0
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []


def test_the_client_notices_neither_a_lost_engine_nor_a_new_server(tmp_path: Path) -> None:
    with LiveServer(tmp_path) as server:
        client = tinker.ServiceClient(base_url=server.url, api_key=KEY)
        model = train(client)
        first = model.forward_backward([datum(1, 2)], "cross_entropy").result().metrics
        server.call(server.engine.die)
        model.optim_step(types.AdamParams()).result()
        assert server.engine.restarts == 1
    late: list[types.ForwardBackwardOutput] = []
    asking = threading.Thread(
        target=lambda: late.append(model.forward_backward([datum(1, 2)], "cross_entropy").result())
    )
    asking.start()
    time.sleep(0.3)
    with LiveServer(tmp_path, port=server.port):
        asking.join(30)
        assert late[0].metrics["state:max"] != first["state:max"]
        client.close("success")


def test_a_checkpoint_of_another_tenant_that_gave_a_credential(
    server: LiveServer, client: tinker.ServiceClient
) -> None:
    path = train(client).save_state("mine").result().path

    def make(connection: Connection) -> str:
        accounts.create_project(connection, "elsewhere")
        return accounts.create_key(connection, "stranger", "elsewhere")[1]

    key = server.run(lambda: server.service.database.run(make))
    with service_client(server.url, key) as stranger:
        with pytest.raises(tinker.NotFoundError):
            stranger.create_training_client_from_state(path).result()
        model = stranger.create_training_client_from_state(path, weights_access_token=KEY).result()
        assert model.forward_backward([datum(1, 2, 3)], "cross_entropy").result().metrics
        other = stranger.create_training_client_from_state_with_optimizer(path, weights_access_token=KEY).result()
        assert other.optim_step(types.AdamParams()).result()


def test_a_reached_budget_pauses_the_client_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinker.lib.queue_state_logger.PAUSE_GRACE_PERIOD", 0)  # after so long it tells its user
    prices = '{"*": {"training": 1000000.0}}'
    with (
        LiveServer(tmp_path, prices=prices, long_poll_seconds=0.5) as server,
        service_client(server.url, KEY) as client,
    ):

        def allow(budget: float | None) -> None:
            server.run(lambda: server.service.database.run(lambda found: accounts.set_budget(found, "default", budget)))

        allow(2.0)
        model = train(client)
        model.forward_backward([datum(1, 2, 3)], "cross_entropy").result()  # costs what there is
        with caplog.at_level("WARNING"):
            waiting = model.forward_backward([datum(1, 2, 3)], "cross_entropy")
            step = model.optim_step(types.AdamParams())
            deadline = time.monotonic() + 15
            while "hone project budget default" not in caplog.text and time.monotonic() < deadline:
                time.sleep(0.05)
        assert "hone project budget default" in caplog.text
        assert 'status="402"' not in "".join(REQUESTS.lines()), "it is asked to wait, not to pay"
        allow(None)
        assert waiting.result(timeout=20).metrics
        assert step.result(timeout=20)


def test_a_sampling_client_is_told_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for all of its samples with one poll, which has no words for a pause."""
    monkeypatch.setattr("tinker.lib.queue_state_logger.PAUSE_GRACE_PERIOD", 0)
    prompt, params = types.ModelInput.from_ints([1, 2, 3]), types.SamplingParams(max_tokens=4, stop=[])
    with (
        LiveServer(tmp_path, prices='{"*": {"sample": 1000000.0}}', long_poll_seconds=0.5) as server,
        service_client(server.url, KEY) as client,
    ):

        def allow(budget: float | None) -> None:
            server.run(lambda: server.service.database.run(lambda found: accounts.set_budget(found, "default", budget)))

        allow(2.0)
        sampler = client.create_sampling_client(base_model=MODEL).result()
        sampler.sample(prompt, 1, params).result()  # costs what there is
        with caplog.at_level("WARNING"):
            waiting = [sampler.sample(prompt, 1, params) for _ in range(20)]
            deadline = time.monotonic() + 15
            while "hone project budget default" not in caplog.text and time.monotonic() < deadline:
                time.sleep(0.05)
        assert "hone project budget default" in caplog.text
        allow(None)
        assert len({future.result(timeout=30).sequences[0].sequence_id for future in waiting}) == 20
