import asyncio
from pathlib import Path
from typing import Any

import pytest

from hone.protocol.proto import tinker_public_pb2 as wire
from tests.support.service import MODEL, Client, datum_message, forward_backward, serving

pytestmark = pytest.mark.usefixtures("any_database")


def spans(*runs: tuple[str, str, int]) -> list[wire.ProvenanceSpan]:
    return [
        wire.ProvenanceSpan(**{f"{source}_tokens": wire.SpanRange(sequence_id=sequence, length=length)})
        for source, sequence, length in runs
    ]


def datum(inputs: list[wire.ProvenanceSpan], losses: list[wire.ProvenanceSpan], advantages: list[float]) -> wire.Datum:
    message = datum_message([1, 2, 3], logprobs=[0, 0, 0], advantages=advantages)
    message.model_input_spans.extend(inputs)
    message.loss_fn_input_spans.extend(losses)
    return message


async def train(client: Client, model: str, seq: int, message: wire.Datum) -> Any:
    return await client.result(await client.send(forward_backward(model, seq, message, loss_fn="stable_reinforce")))


def test_data_must_say_which_samples_they_came_from(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session, stranger = await client.session(), await client.session()
            model = await client.model(session)
            ids = []
            for owner in (session, stranger):
                opened = {"session_id": owner, "sampling_session_seq_id": 0, "base_model": MODEL}
                sampler = (await client.post("create_sampling_session", opened))["sampling_session_id"]
                text = {"chunks": [{"type": "encoded_text", "tokens": [1]}]}
                asked = {
                    "sampling_session_id": sampler,
                    "seq_id": 4,
                    "prompt": text,
                    "sampling_params": {"max_tokens": 2},
                }
                ids.append((await client.post("asample", asked | {"num_samples": 2}))["sample_sequence_ids"][1])
            mine, theirs = ids
            prompt, sampled = ("prompt", mine, 1), ("sampled", mine, 2)
            good = datum(spans(prompt, sampled), spans(prompt, sampled), [0, 1, -1])
            assert isinstance(await train(client, model, 1, good), bytes)
            empty_run = datum(spans(prompt, ("sampled", "none", 0), sampled), spans(prompt, sampled), [0, 1, 1])
            assert isinstance(await train(client, model, 2, empty_run), bytes), "a run of no tokens claims nothing"
            wrong = {
                "model_input_spans cover 1 positions of 3": datum(spans(prompt), spans(prompt, sampled), [0, 1, 1]),
                "loss_fn_input_spans cover 2 positions of 3": datum(spans(prompt, sampled), spans(sampled), [0, 1, 1]),
                "advantages is not 0 at position 0": datum(spans(prompt, sampled), spans(prompt, sampled), [1, 1, 1]),
                f"{theirs!r}, which was not sampled in this session": datum(
                    spans(("sampled", theirs, 3)), spans(("sampled", theirs, 3)), [1, 1, 1]
                ),
                "sample:0:4:2'": datum(
                    spans(("sampled", f"{session}:sample:0:4:2", 3)), spans(sampled, prompt), [1, 1, 0]
                ),
                "'invented'": datum(spans(("sampled", "invented", 3)), spans(sampled, prompt), [1, 1, 0]),
            }
            for seq, (says, message) in enumerate(wrong.items(), start=3):
                failed = await train(client, model, seq, message)
                assert failed["category"] == "user"
                assert says in failed["error"]

    asyncio.run(run())


@pytest.mark.parametrize("loss_fn", ["importance_sampling", "ppo"])
def test_other_losses_ignore_spans(tmp_path: Path, loss_fn: str) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            message = datum(spans(("sampled", "invented", 7)), [], [1, 1, 1])
            request = await client.send(forward_backward(model, 1, message, loss_fn=loss_fn))
            assert isinstance(await client.result(request), bytes)

    asyncio.run(run())
