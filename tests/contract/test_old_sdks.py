"""Section 14.3: `tinker` 0.24 and 0.25 in virtual environments of their own, against the same numbers from 0.38.

0.24 trains with JSON and makes a model before it loads one; both download checkpoints as one archive.
"""

import json
import os
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinker

from hone.client.embedded import ServerInfo
from tests.contract.material import STEP, TOLERANCE, Material, datum, floats, forward, integers, logprobs
from tests.support.sdk_programs import ENDED_WELL

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("programs") / "old_sdk.py"
VERSIONS = ("0.24", "0.25")
STEPS, MANY = 4, 1100
"""The SDK sends at most 1,024 data in one request."""


def environment_of(version: str) -> Path:
    folder = ROOT / f".venv-sdk-{version}" / "bin"
    if not folder.exists():
        pytest.skip(f"{folder} is not there; `make old-sdks` installs it")
    return folder


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    environment_of(request.param)
    return str(request.param)


def run(server: ServerInfo, command: list[str], text: str = "") -> str:
    environment = os.environ | {"TINKER_BASE_URL": server.url, "TINKER_API_KEY": server.api_key}
    done = subprocess.run(command, env=environment, input=text, capture_output=True, text=True, timeout=100)
    assert done.returncode in ENDED_WELL, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sequences(material: Material) -> list[list[int]]:
    return [material.sequence(number) for number in range(3)]


@pytest.fixture(scope="module")
def exported(service: tinker.ServiceClient, base_model: str) -> str:
    """A checkpoint of a kind that came later."""
    training = service.create_lora_training_client(base_model, rank=2).result()
    return training.save_weights_external("later").result().path


@pytest.fixture(scope="module")
def old(
    server: ServerInfo, version: str, base_model: str, material: Material, sequences: list[list[int]], exported: str
) -> dict[str, Any]:
    """What the old SDK saw."""
    asked = {
        "base_model": base_model,
        "sequences": sequences,
        "prompt": material.question(),
        "learning_rate": STEP.learning_rate,
        "steps": STEPS,
        "many": MANY,
    }
    printed = run(server, [str(environment_of(version) / "python"), str(PROGRAM)], json.dumps(asked))
    return dict(json.loads(printed.splitlines()[-1]))


@pytest.fixture(scope="module")
def twin(
    service: tinker.ServiceClient, base_model: str, sequences: list[list[int]]
) -> tuple[tinker.TrainingClient, list[float]]:
    """The same training with the SDK of today, and its losses."""
    training = service.create_lora_training_client(base_model, rank=4, seed=7).result()
    losses = []
    for _ in range(STEPS):
        output = training.forward_backward([datum(tokens) for tokens in sequences], "cross_entropy")
        training.optim_step(STEP)
        losses.append(output)
    return training, [output.result().metrics["loss:sum"] for output in losses]


Twin = tuple[tinker.TrainingClient, list[float]]


def test_the_version_is_the_old_one(old: dict[str, Any], version: str, base_model: str) -> None:
    assert old["version"].startswith(f"{version}.")
    assert base_model in old["models"]


def test_the_old_forms_are_in_use(server: ServerInfo, old: dict[str, Any], version: str) -> None:
    request = urllib.request.Request(f"{server.url}/metrics", headers={"X-API-Key": server.api_key})
    with urllib.request.urlopen(request) as response:
        routes = response.read().decode()
    assert 'route="/api/v1/training_runs/{run_id}/checkpoints/{kind}/{name}/archive"' in routes
    assert version != "0.24" or 'route="/api/v1/forward"' in routes


def test_losses_are_those_of_the_new_sdk(old: dict[str, Any], twin: Twin) -> None:
    assert old["losses"] == twin[1]
    assert old["losses"][-1] < old["losses"][0]
    assert any(name.startswith("optimizer/") or "grad" in name for name in old["optimizer"])


def test_forward_gives_the_same_numbers(old: dict[str, Any], twin: Twin, sequences: list[list[int]]) -> None:
    assert old["scores"] == forward(twin[0], [datum(tokens) for tokens in sequences]).tolist()


def test_a_call_of_two_requests_answers_in_order(old: dict[str, Any], twin: Twin, sequences: list[list[int]]) -> None:
    count, last = old["many"]
    assert count == MANY
    wanted = [datum([*sequences[0][:4], 3 + number % 50]) for number in range(MANY - 3, MANY)]
    assert last == forward(twin[0], wanted).tolist()


def test_loss_settings_arrive(old: dict[str, Any], twin: Twin, sequences: list[list[int]]) -> None:
    tokens = sequences[0]
    count = len(tokens) - 1
    one = tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": integers(tokens[1:]),
            "logprobs": floats([-1.0] * count),
            "advantages": floats(np.linspace(-1, 1, count).tolist()),
        },
    )
    clip = {"clip_low_threshold": 0.5, "clip_high_threshold": 1.5}
    assert old["ppo"] == twin[0].forward([one], "ppo", clip).result().metrics["loss:sum"]
    assert old["ppo"] != twin[0].forward([one], "ppo").result().metrics["loss:sum"]


def test_sparse_targets_arrive(old: dict[str, Any], twin: Twin, sequences: list[list[int]]) -> None:
    loss, columns = old["sparse"]
    (plain,) = logprobs(twin[0].forward([datum(sequences[0])], "cross_entropy").result())
    assert [row[0] for row in columns] == plain.tolist()
    assert loss == pytest.approx(-sum(0.75 * row[0] + 0.25 * row[1] for row in columns), rel=1e-5)


SAYS = {
    "token": "10000000",
    "length": "weights",
    "image": "reads text only",
    "loss": "cross_entropy",
    "name": "state",
}


@pytest.mark.parametrize("mistake", SAYS)
def test_mistakes_are_said_and_leave_no_trace(old: dict[str, Any], mistake: str) -> None:
    message, category = old["failures"][mistake]
    assert category == "user"
    assert SAYS[mistake] in message
    assert old["scores_after_failures"] == old["scores"]


def test_info_and_tokenizer(old: dict[str, Any], base_model: str, material: Material) -> None:
    assert old["info"] == [True, base_model, 4]
    assert old["decoded"] == material.tokenizer.decode(material.question())


def test_samples_are_those_of_the_new_sdk(old: dict[str, Any], twin: Twin, material: Material) -> None:
    sampler = twin[0].save_weights_and_get_sampling_client().result()
    params = tinker.SamplingParams(max_tokens=6, seed=3, temperature=1.0)
    wanted = sampler.sample(material.prompt(), 2, params, True, topk_prompt_logprobs=3).result()
    for name in ("named", "unnamed"):
        found = old["samples"][name]
        assert found["sequences"] == [[list(s.tokens), list(s.logprobs), s.stop_reason] for s in wanted.sequences]
        assert found["prompt"] == found["scored"] == wanted.prompt_logprobs
        assert [tuple(pair) for pair in found["best"]] == wanted.topk_prompt_logprobs[-1]


def test_the_base_model_is_sampled_without_an_adapter(
    old: dict[str, Any], base_sampler: tinker.SamplingClient, base_model: str, material: Material
) -> None:
    assert old["samples"]["base"]["scored"] == base_sampler.compute_logprobs(material.prompt()).result()
    assert old["samples"]["base"]["scored"] != old["samples"]["named"]["scored"]
    assert old["base_of_named"] == base_model


def test_a_saved_run_goes_on(old: dict[str, Any]) -> None:
    assert old["resumed"] == old["live"]
    assert old["loaded"] == old["live"]
    largest = max(abs(a - b) for a, b in zip(old["fresh"], old["live"], strict=True))
    assert largest > 100 * TOLERANCE, "a fresh optimizer takes another step"


def test_what_was_made_is_listed(old: dict[str, Any], base_model: str) -> None:
    state, sampler = old["paths"]
    assert (state.split("/")[-2:], sampler.split("/")[-2:]) == (["weights", "state"], ["sampler_weights", "sampler"])
    assert old["run"] == [base_model, 4, {"made_by": "an old SDK"}, state]
    assert old["in_runs"]
    assert old["checkpoints"] == [["sampler", "sampler_weights/sampler", False], ["training", "weights/state", False]]
    assert old["in_user_checkpoints"] == [True, True]
    assert old["session"] == [True, 3]
    assert old["in_sessions"]
    assert old["trace"] == 200


def test_kinds_that_it_does_not_know_are_left_out(old: dict[str, Any], exported: str, rest: tinker.RestClient) -> None:
    """It would refuse the whole list."""
    assert exported in {one.tinker_path for one in rest.list_user_checkpoints(limit=1000).result().checkpoints}
    assert old["kinds"] == ["sampler", "training"]


def test_weights_info_tells_how_to_make_the_model(old: dict[str, Any], base_model: str) -> None:
    found = old["weights_info"]
    assert (found["base_model"], found["is_lora"], found["lora_rank"]) == (base_model, True, 4)


def test_checkpoints_are_published_expire_and_are_deleted(old: dict[str, Any]) -> None:
    assert old["published"] == [True, True]
    assert old["left"] == ["weights/state"]


@pytest.mark.parametrize("kind", ["weights", "sampler_weights"])
def test_an_archive_holds_what_other_tools_read(old: dict[str, Any], kind: str) -> None:
    files = old["archives"][kind]
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors", "checkpoint_complete"}
    assert files["adapter_model.safetensors"] > 10_000
    assert list(files)[-1] == "checkpoint_complete"


def test_an_unloaded_model_is_over_and_its_checkpoints_stay(old: dict[str, Any]) -> None:
    model_id = old["paths"][0].removeprefix("tinker://").split("/")[0]
    assert old["unloaded"]["answer"] == {"model_id": model_id, "type": "unload_model"}
    status, message = old["unloaded"]["afterwards"]
    assert status == 400
    assert "takes no more work" in message
    assert old["after_unload"] == old["scores"]


def test_the_command_line_of_then_downloads_and_deletes(
    server: ServerInfo, version: str, training: tinker.TrainingClient, tmp_path: Path
) -> None:
    path = training.save_weights_for_sampler("then").result().path
    tool = str(environment_of(version) / "tinker")
    run(server, [tool, "checkpoint", "download", path, "--output", str(tmp_path)])
    (config,) = tmp_path.rglob("adapter_config.json")
    assert {file.name for file in config.parent.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    listing = [tool, "--format", "json", "checkpoint", "list", "--run-id", path.split("/")[2]]
    assert path in run(server, listing)
    run(server, [tool, "checkpoint", "delete", path, "--yes"])
    assert path not in run(server, listing)
