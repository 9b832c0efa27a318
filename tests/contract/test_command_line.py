"""Section 14.1: every command of the `tinker` command line."""

import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tinker

from hone.client.embedded import ServerInfo
from tests.contract.conftest import Cli, cli_of
from tests.contract.material import Material, datum


@pytest.fixture(scope="module")
def cli(server: ServerInfo, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    return cli_of(server, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def training(server: ServerInfo, base_model: str, material: Material) -> Iterator[tinker.TrainingClient]:
    """A run of a session of its own, with a checkpoint of every kind."""
    with tinker.ServiceClient(
        base_url=server.url, api_key=server.api_key, user_metadata={"suite": "commands"}
    ) as client:
        training = client.create_lora_training_client(base_model, rank=4).result()
        training.forward_backward([datum(material.sequence())], "cross_entropy").result()
        training.save_state("first").result()
        training.save_weights_for_sampler("second").result()
        training.save_weights_external("third").result()
        yield training


def read(cli: Cli, *arguments: str) -> Any:
    return json.loads(cli("--format", "json", *arguments))


def path_of(training: tinker.TrainingClient, checkpoint_id: str) -> str:
    return f"tinker://{training.model_id}/{checkpoint_id}"


def listed(rest: tinker.RestClient, training: tinker.TrainingClient) -> set[str]:
    return {one.checkpoint_id for one in rest.list_checkpoints(training.model_id).result().checkpoints}


# version, auth, model


def test_version(cli: Cli) -> None:
    assert cli("version").strip() == f"tinker {tinker.__version__}"


def test_auth_status(cli: Cli) -> None:
    assert cli("auth", "status").splitlines() == ["Credentials available: yes", "Tinker accessible: yes"]


def test_auth_status_with_a_wrong_key(cli: Cli) -> None:
    assert "Tinker accessible: no" in cli("auth", "status", code=1, TINKER_API_KEY="tml-wrong")


def test_auth_whoami(tuned: ServerInfo, tmp_path: Path) -> None:
    who = read(cli_of(tuned, tmp_path), "auth", "whoami")
    assert who["org_urn"].startswith("tml:organization:")
    assert who["user_urn"]


def test_model_list(cli: Cli, base_model: str) -> None:
    assert [model["model_name"] for model in read(cli, "model", "list")["models"]] == [base_model]
    assert base_model in cli("model", "list", base_model.split("/")[-1].upper())


# run


def test_run_list(cli: Cli, training: tinker.TrainingClient, service: tinker.ServiceClient, base_model: str) -> None:
    service.create_lora_training_client(base_model, rank=1).result()
    newest = read(cli, "run", "list", "--limit", "1")["runs"]
    assert len(newest) == 1
    every = read(cli, "run", "list", "--limit", "0")["runs"]
    assert training.model_id in {run["training_run_id"] for run in every}
    assert len(every) > 1


def test_run_list_with_columns_of_ones_choice(cli: Cli, training: tinker.TrainingClient) -> None:
    table = cli("run", "list", "--limit", "0", "--columns", "id,lora,checkpoint", COLUMNS="300")
    (row,) = [line for line in table.splitlines() if training.model_id in line]
    assert "weights/first" in row
    assert "4" in row


def test_run_info(cli: Cli, training: tinker.TrainingClient, base_model: str) -> None:
    run = read(cli, "run", "info", training.model_id)
    assert (run["training_run_id"], run["base_model"], run["lora_rank"]) == (training.model_id, base_model, 4)
    assert run["last_checkpoint"]["tinker_path"] == path_of(training, "weights/first")


def test_run_info_of_an_unknown_run(cli: Cli) -> None:
    assert "nobody" in cli("run", "info", "nobody:train:0", code=1)


# checkpoint list, info, publish, unpublish, set-ttl


def test_checkpoint_list(cli: Cli, training: tinker.TrainingClient) -> None:
    of_run = read(cli, "checkpoint", "list", "--run-id", training.model_id)["checkpoints"]
    kinds = {one["checkpoint_id"]: one["checkpoint_type"] for one in of_run}
    assert kinds == {
        "weights/first": "training",
        "sampler_weights/second": "sampler",
        "external_weights/third": "external",
    }
    every = read(cli, "checkpoint", "list", "--limit", "0")["checkpoints"]
    assert {one["tinker_path"] for one in of_run} <= {one["tinker_path"] for one in every}
    assert len(read(cli, "checkpoint", "list", "--limit", "2")["checkpoints"]) == 2


def test_checkpoint_info(cli: Cli, training: tinker.TrainingClient) -> None:
    told = json.dumps(read(cli, "checkpoint", "info", path_of(training, "weights/first")))
    assert path_of(training, "weights/first") in told
    assert training.model_id in told


def test_checkpoint_publish_and_unpublish(cli: Cli, rest: tinker.RestClient, training: tinker.TrainingClient) -> None:
    path = path_of(training, "weights/first")
    for verb, public in (("publish", True), ("unpublish", False)):
        cli("checkpoint", verb, path)
        found = {one.tinker_path: one for one in rest.list_checkpoints(training.model_id).result().checkpoints}
        assert found[path].public is public


def test_checkpoint_set_ttl(cli: Cli, rest: tinker.RestClient, training: tinker.TrainingClient) -> None:
    path = path_of(training, "weights/first")
    for arguments, expires in ((("--ttl", "7200"), True), (("--remove",), False)):
        cli("checkpoint", "set-ttl", path, *arguments)
        found = {one.tinker_path: one for one in rest.list_checkpoints(training.model_id).result().checkpoints}
        assert (found[path].expires_at is not None) is expires
    assert "ttl_seconds" in cli("checkpoint", "set-ttl", path, "--ttl", "10", code=1)


# checkpoint download, push-hf


def test_checkpoint_download_of_an_export(cli: Cli, training: tinker.TrainingClient, tmp_path: Path) -> None:
    path = path_of(training, "external_weights/third")
    cli("checkpoint", "download", path, "--output", str(tmp_path))
    (config,) = tmp_path.rglob("adapter_config.json")
    first = (config.parent / "adapter_model.safetensors").read_bytes()
    assert "already exists" in cli("checkpoint", "download", path, "--output", str(tmp_path), code=1)
    (config.parent / "adapter_model.safetensors").write_bytes(b"")
    cli("checkpoint", "download", path, "--output", str(tmp_path), "--force")
    assert (config.parent / "adapter_model.safetensors").read_bytes() == first


def test_checkpoint_download_of_a_training_checkpoint_leaves_no_export(
    cli: Cli, rest: tinker.RestClient, training: tinker.TrainingClient, tmp_path: Path
) -> None:
    before = {one.tinker_path for one in rest.list_user_checkpoints(limit=1000).result().checkpoints}
    cli("checkpoint", "download", path_of(training, "weights/first"), "--output", str(tmp_path))
    assert list(tmp_path.rglob("adapter_model.safetensors"))
    assert {one.tinker_path for one in rest.list_user_checkpoints(limit=1000).result().checkpoints} == before


def test_checkpoint_download_of_sampler_weights_is_not_offered(cli: Cli, training: tinker.TrainingClient) -> None:
    assert cli("checkpoint", "download", path_of(training, "sampler_weights/second"), code=1)


class LocalHub:
    """In the place of the Hugging Face hub: keeps what is uploaded."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def whoami(self) -> dict[str, str]:
        return {"name": "me"}

    def create_repo(self, **_: Any) -> None:
        pass

    def upload_folder(self, *, folder_path: str, ignore_patterns: list[str], **_: Any) -> None:
        for file in Path(folder_path).iterdir():
            if file.name not in ignore_patterns:
                self.files[file.name] = file.read_text(errors="replace")


def test_checkpoint_push_hf(
    cli: Cli, training: tinker.TrainingClient, base_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = LocalHub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    cli("checkpoint", "push-hf", path_of(training, "weights/first"), "--repo", "me/adapter")
    assert set(hub.files) == {"adapter_config.json", "adapter_model.safetensors", "hone_export.json", "README.md"}
    assert json.loads(hub.files["adapter_config.json"])["base_model_name_or_path"] == base_model
    assert path_of(training, "weights/first") in hub.files["README.md"]


# checkpoint delete


@pytest.fixture
def several(service: tinker.ServiceClient, base_model: str) -> tinker.TrainingClient:
    training = service.create_lora_training_client(base_model, rank=2).result()
    for name in ("a", "b"):
        training.save_state(name).result()
        training.save_weights_for_sampler(name).result()
    return training


def test_checkpoint_delete_by_path(cli: Cli, rest: tinker.RestClient, several: tinker.TrainingClient) -> None:
    gone = [path_of(several, name) for name in ("weights/a", "sampler_weights/a")]
    cli("checkpoint", "delete", *gone, "--yes")
    assert listed(rest, several) == {"weights/b", "sampler_weights/b"}


def test_checkpoint_delete_asks_first(cli: Cli, rest: tinker.RestClient, several: tinker.TrainingClient) -> None:
    cli("checkpoint", "delete", path_of(several, "weights/a"), text="n\n")
    assert "weights/a" in listed(rest, several)


def test_checkpoint_delete_by_type(cli: Cli, rest: tinker.RestClient, several: tinker.TrainingClient) -> None:
    cli("checkpoint", "delete", "--run-id", several.model_id, "--type", "sampler_weights", "--yes")
    assert listed(rest, several) == {"weights/a", "weights/b"}


@pytest.mark.parametrize(("option", "days", "left"), [("--before", 1, 0), ("--before", -1, 4), ("--after", -1, 0)])
def test_checkpoint_delete_by_time(
    cli: Cli, rest: tinker.RestClient, several: tinker.TrainingClient, option: str, days: int, left: int
) -> None:
    when = (datetime.now(UTC) + timedelta(days=days)).date().isoformat()
    cli("checkpoint", "delete", "--run-id", several.model_id, option, when, "--yes")
    assert len(listed(rest, several)) == left


def test_checkpoint_delete_of_what_is_gone(cli: Cli, training: tinker.TrainingClient) -> None:
    said = cli("checkpoint", "delete", path_of(training, "weights/none"), "--yes")
    assert "Failed to delete 1 checkpoint" in said


# session


def test_session_export_trace(cli: Cli, training: tinker.TrainingClient, tmp_path: Path) -> None:
    session_id = training.model_id.split(":")[0]
    trace = tmp_path / "trace.pftrace"
    cli("session", "export-trace", session_id, "--output", str(trace))
    named = {event["name"] for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"create_model", "forward_backward", "save_weights"} <= named


def test_session_export_trace_as_a_link(cli: Cli, training: tinker.TrainingClient) -> None:
    said = cli("session", "export-trace", training.model_id.split(":")[0], "--url-only")
    assert re.search(r"http://\S+/api/v1/traces/\S+", said)


# billing


def window() -> tuple[str, str]:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0, tzinfo=None)
    return f"{(now - timedelta(hours=1)).isoformat()}Z", f"{(now + timedelta(hours=1)).isoformat()}Z"


def test_billing_usage(cli: Cli, training: tinker.TrainingClient, material: Material) -> None:
    session_id = training.model_id.split(":")[0]
    bill = read(cli, "billing", "usage", *window())
    mine = [event["event_info"] for event in bill["data"] if event["session_id"] == session_id]
    assert {"type": "training", "token_count": len(material.sequence()) - 1} in mine
    assert bill["sessions"][session_id]["user_metadata"] == {"suite": "commands"}


def test_billing_usage_as_csv(cli: Cli, training: tinker.TrainingClient, tmp_path: Path) -> None:
    usage, sessions = tmp_path / "usage.csv", tmp_path / "sessions.csv"
    cli("billing", "usage", *window(), "--csv", str(usage), "--sessions-csv", str(sessions))
    session_id = training.model_id.split(":")[0]
    rows = [row for row in csv.DictReader(io.StringIO(usage.read_text())) if row["session_id"] == session_id]
    assert {row["type"] for row in rows} >= {"training", "checkpoint"}
    assert session_id in sessions.read_text()


def test_billing_checkpoint_storage(cli: Cli, training: tinker.TrainingClient) -> None:
    stored = read(cli, "billing", "checkpoint-storage", "--project-id", "default")["data"]
    assert stored
    assert stored[0]["checkpoint_count"] >= 3
    assert stored[0]["size_bytes"] > 0
