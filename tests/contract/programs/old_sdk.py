"""What a user of an old SDK does, from training to deletion. Run by that SDK's own Python, which knows nothing of Hone.

Reads what to train on from standard input, and prints what it saw as one line of JSON.
"""

import io
import json
import sys
import tarfile
import urllib.request
from typing import Any

import numpy as np
import tinker
from tinker import types
from tinker.lib.client_connection_pool_type import ClientConnectionPoolType

asked = json.load(sys.stdin)
STEP = types.AdamParams(learning_rate=asked["learning_rate"])


def datum(tokens: list[int], **inputs: Any) -> types.Datum:
    return types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": np.array(tokens[1:])}
        | {name: np.array(values, np.float32) for name, values in inputs.items()},
    )


def weighted(tokens: list[int]) -> types.Datum:
    return datum(tokens, weights=[1.0] * (len(tokens) - 1))


def scores(training: tinker.TrainingClient, data: list[types.Datum]) -> list[float]:
    output = training.forward(data, "cross_entropy").result()
    return [value for one in output.loss_fn_outputs for value in one["logprobs"].tolist()]


def failure(work: Any) -> list[str]:
    try:
        work().result()
    except tinker.RequestFailedError as error:
        return [str(error), error.category.value]
    return ["nothing failed", ""]


def archived(rest: Any, path: str) -> dict[str, int]:
    link = rest.get_checkpoint_archive_url_from_tinker_path(path).result()
    with urllib.request.urlopen(link.url) as response:
        content = response.read()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {member.name: member.size for member in archive.getmembers()}


def unload(training: tinker.TrainingClient) -> dict[str, Any]:
    """No public method of these SDKs sends it, but their HTTP client does."""
    holder, seen = training.holder, {}

    async def work() -> None:
        with holder.aclient(ClientConnectionPoolType.TRAIN) as client:
            accepted = await client.models.unload(request=types.UnloadModelRequest(model_id=training.model_id))
        with holder.aclient(ClientConnectionPoolType.RETRIEVE_PROMISE) as client:
            request = types.FutureRetrieveRequest(request_id=accepted.request_id)
            answer = await client.futures.with_raw_response.retrieve(request=request)
            seen["answer"] = await answer.json()

    holder.run_coroutine_threadsafe(work()).result()
    try:
        training.optim_step(STEP).result()
    except tinker.APIStatusError as error:
        seen["afterwards"] = [error.status_code, str(error)]
    return seen


service = tinker.ServiceClient()
rest = service.create_rest_client()
seen: dict[str, Any] = {"version": tinker.__version__}
seen["models"] = [model.model_name for model in service.get_server_capabilities().supported_models]

# Training.
first, prompt = asked["sequences"][0], types.ModelInput.from_ints(asked["prompt"])
data = [weighted(tokens) for tokens in asked["sequences"]]
metadata = {"made_by": "an old SDK"}
training = service.create_lora_training_client(asked["base_model"], rank=4, seed=7, user_metadata=metadata)
info = training.get_info()
seen["info"] = [info.model_id == training.model_id, info.model_data.model_name, info.lora_rank]
seen["decoded"] = training.get_tokenizer().decode(asked["prompt"])
steps = []
for _ in range(asked["steps"]):
    gradient = training.forward_backward(data, "cross_entropy")
    steps.append((gradient, training.optim_step(STEP)))
seen["losses"] = [gradient.result().metrics["loss:sum"] for gradient, _ in steps]
seen["optimizer"] = sorted(steps[-1][1].result().metrics)
seen["scores"] = scores(training, data)
many = [weighted([*first[:4], 3 + number % 50]) for number in range(asked["many"])]
seen["many"] = [len(training.forward(many, "cross_entropy").result().loss_fn_outputs), scores(training, many[-3:])]

# Other inputs and losses.
count = len(first) - 1
policy = datum(first, logprobs=[-1.0] * count, advantages=np.linspace(-1, 1, count))
clipped = training.forward([policy], "ppo", {"clip_low_threshold": 0.5, "clip_high_threshold": 1.5}).result()
seen["ppo"] = clipped.metrics["loss:sum"]
rows = {"sparse_crow_indices": [2 * row for row in range(count + 1)], "sparse_col_indices": [0, 63] * count}
both = [token for tokens in zip(first[1:], [5] * count, strict=True) for token in tokens]
sparse = types.Datum(
    model_input=types.ModelInput.from_ints(first[:-1]),
    loss_fn_inputs={
        "target_tokens": types.TensorData(data=both, dtype="int64", shape=[count, 64], **rows),
        "weights": types.TensorData(data=[0.75, 0.25] * count, dtype="float32", shape=[count, 64], **rows),
    },
)
wide = training.forward([sparse], "cross_entropy").result()
seen["sparse"] = [wide.metrics["loss:sum"], wide.loss_fn_outputs[0]["logprobs"].to_numpy()[:, [0, 63]].tolist()]

# Mistakes.
image = types.ImageChunk(data=b"no image", format="png", expected_tokens=1)
pictured = types.Datum(types.ModelInput(chunks=[image]), {"target_tokens": [1], "weights": [1.0]})
bad = {
    "token": [weighted([*first[:3], 10_000_000, *first[3:]])],
    "length": [datum(first, weights=[1.0])],
    "image": [pictured],
}
seen["failures"] = {
    name: failure(lambda data=data: training.forward_backward(data, "cross_entropy")) for name, data in bad.items()
}
seen["failures"]["loss"] = failure(lambda: training.forward_backward(data, "no_such_loss"))
seen["scores_after_failures"] = scores(training, data)

# Checkpoints and samples.
state = training.save_state("state", ttl_seconds=7200).result().path
seen["failures"]["name"] = failure(lambda: training.save_state("state"))
training.save_state("state", overwrite=True).result()
sampler_path = training.save_weights_for_sampler("sampler").result().path
seen["paths"] = [state, sampler_path]
params = types.SamplingParams(max_tokens=6, seed=3, temperature=1.0)
samplers = {
    "named": service.create_sampling_client(model_path=sampler_path),
    "unnamed": training.save_weights_and_get_sampling_client(),
    "base": service.create_sampling_client(base_model=asked["base_model"]),
}
seen["samples"] = {}
for name, sampler in samplers.items():
    drawn = sampler.sample(prompt, 2, params, include_prompt_logprobs=True, topk_prompt_logprobs=3).result()
    seen["samples"][name] = {
        "sequences": [[one.tokens, one.logprobs, one.stop_reason] for one in drawn.sequences],
        "prompt": drawn.prompt_logprobs,
        "best": drawn.topk_prompt_logprobs[-1],
        "scored": sampler.compute_logprobs(prompt).result(),
    }
seen["base_of_named"] = samplers["named"].get_base_model()

resumed = service.create_training_client_from_state_with_optimizer(state)
fresh = service.create_training_client_from_state(state)
loaded = service.create_lora_training_client(asked["base_model"], rank=4, seed=1)
loaded.load_state_with_optimizer(state).result()
for name, one in (("live", training), ("resumed", resumed), ("fresh", fresh), ("loaded", loaded)):
    one.forward_backward(data, "cross_entropy")
    one.optim_step(STEP)
    seen[name] = scores(one, data)

# What there is, and its end.
run_id = training.model_id
run = rest.get_training_run(run_id).result()
seen["run"] = [run.base_model, run.lora_rank, run.user_metadata, run.last_checkpoint.tinker_path]
seen["in_runs"] = run_id in [one.training_run_id for one in rest.list_training_runs().result().training_runs]
seen["weights_info"] = vars(rest.get_weights_info_by_tinker_path(state).result())
listed = rest.list_checkpoints(run_id).result().checkpoints
seen["checkpoints"] = sorted([one.checkpoint_type, one.checkpoint_id, one.public] for one in listed)
seen["kinds"] = sorted({one.checkpoint_type for one in rest.list_user_checkpoints(limit=1000).result().checkpoints})
mine = [one.tinker_path for one in rest.list_user_checkpoints(limit=1000).result().checkpoints]
seen["in_user_checkpoints"] = [path in mine for path in seen["paths"]]
rest.publish_checkpoint_from_tinker_path(state).result()
rest.set_checkpoint_ttl_from_tinker_path(state, 3600).result()
changed = [one for one in rest.list_checkpoints(run_id).result().checkpoints if one.tinker_path == state]
seen["published"] = [changed[0].public, changed[0].expires_at is not None]
rest.unpublish_checkpoint_from_tinker_path(state).result()
session_id = run_id.split(":")[0]
session = rest.get_session(session_id).result()
seen["session"] = [run_id in session.training_run_ids, len(session.sampler_ids)]
seen["in_sessions"] = session_id in rest.list_sessions().result().sessions
seen["trace"] = urllib.request.urlopen(rest.export_session_trace(session_id).result()).status
seen["archives"] = {path.split("/")[-2]: archived(rest, path) for path in seen["paths"]}
rest.delete_checkpoint_from_tinker_path(sampler_path).result()
seen["left"] = [one.checkpoint_id for one in rest.list_checkpoints(run_id).result().checkpoints]
seen["unloaded"] = unload(training)
seen["after_unload"] = scores(service.create_training_client_from_state(state), data)
print(json.dumps(seen, default=str))
