import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hone.engine import contract
from hone.protocol.proto import tinker_public_pb2 as wire
from tests.support.service import MODEL, Client, forward_backward, serving
from tests.support.uniform_engine import UniformEngine

pytestmark = pytest.mark.usefixtures("any_database")


async def open_sampler(client: Client, session: str, seq: int = 0, **fields: Any) -> str:
    body = {"session_id": session, "sampling_session_seq_id": seq, **(fields or {"base_model": MODEL})}
    return str((await client.post("create_sampling_session", body))["sampling_session_id"])


def body(sampler: str, seq: int, seed: int | None = None, **fields: Any) -> dict[str, Any]:
    prompt = {"chunks": [{"type": "encoded_text", "tokens": [1, 2]}, {"type": "encoded_text", "tokens": [3]}]}
    params = {"max_tokens": 6, "stop": []} | ({} if seed is None else {"seed": seed})
    return {"sampling_session_id": sampler, "seq_id": seq, "prompt": prompt, "sampling_params": params} | fields


async def draw(client: Client, *arguments: Any, **fields: Any) -> wire.SampleResponse:
    submitted = await client.post("asample", body(*arguments, **fields))
    return wire.SampleResponse.FromString(await client.result(submitted["request_id"]))


def test_sequences_are_named_at_submission_and_the_same_when_it_is_repeated(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            sampler = await open_sampler(client, await client.session())
            first = await client.post("asample", body(sampler, 10**18, num_samples=3))
            assert len(set(first["sample_sequence_ids"])) == 3
            assert await client.post("asample", body(sampler, 10**18, num_samples=3)) == first
            await client.result(first["request_id"])
            assert await client.post("asample", body(sampler, 10**18, num_samples=3)) == first
            assert sum(isinstance(done, contract.Sample) for done in client.engine.submitted) == 1
            other = await client.post("asample", body(sampler, 0, num_samples=3))
            assert not {*other["sample_sequence_ids"]} & {*first["sample_sequence_ids"]}

    asyncio.run(run())


def test_a_seed_decides_and_without_one_draws_differ(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            sampler = await open_sampler(client, await client.session())
            one, two = [await draw(client, sampler, seq, seed=5, num_samples=2) for seq in (0, 1)]
            assert one == two
            assert one.sequences[0].tokens != one.sequences[1].tokens
            three, four = [await draw(client, sampler, seq) for seq in (2, 3)]
            assert three.sequences[0].tokens != four.sequences[0].tokens

    asyncio.run(run())


def test_an_unnamed_version_is_frozen_at_its_place_in_the_order(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            model = await client.model(session)
            await client.send(forward_backward(model, 1))
            publish = {"model_id": model, "seq_id": 2, "sampling_session_seq_id": 0}
            published = await client.post("save_weights_for_sampler", publish)
            await client.send(forward_backward(model, 3))
            publish = {"model_id": model, "seq_id": 4, "sampling_session_seq_id": 1}
            later = await client.post("save_weights_for_sampler", publish)
            samplers = [(await client.result(r["request_id"]))["sampling_session_id"] for r in (published, later)]
            assert samplers == [f"{session}:sample:0", f"{session}:sample:1"]
            old, new = [await draw(client, sampler, 0, seed=5) for sampler in samplers]
            assert old != new
            await client.output(await client.send(forward_backward(model, 5)))
            assert await draw(client, samplers[0], 1, seed=5) == old

    asyncio.run(run())


def test_a_named_checkpoint_can_be_sampled_from_after_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            model = await client.model(session)
            saved = await client.post("save_weights_for_sampler", {"model_id": model, "seq_id": 1, "path": "final"})
            path = (await client.result(saved["request_id"]))["path"]
            sampler = await open_sampler(client, session, model_path=path)
            before = await draw(client, sampler, 0, seed=5)
            described = await client.get(f"samplers/{sampler}")
            assert described == {"sampler_id": sampler, "base_model": MODEL, "model_path": path}
        async with serving(tmp_path) as client:
            assert await draw(client, sampler, 1, seed=5) == before
            kinds = [type(operation).__name__ for operation in client.engine.submitted]
            assert kinds == ["LoadVersion", "Sample"]

    asyncio.run(run())


def test_versions_beyond_the_capacity_are_dropped_and_loaded_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, loaded_versions=2) as client:
            session = await client.session()
            model = await client.model(session)
            samplers, first = [], []
            for i in range(4):
                await client.send(forward_backward(model, 2 * i + 1))
                publish = {"model_id": model, "seq_id": 2 * i + 2, "sampling_session_seq_id": i}
                answer = await client.result((await client.post("save_weights_for_sampler", publish))["request_id"])
                samplers.append(answer["sampling_session_id"])
                first.append(await draw(client, samplers[i], 0, seed=5))
            assert len(client.engine.versions) <= 2
            assert [await draw(client, sampler, 1, seed=5) for sampler in samplers] == first
            assert len(client.engine.versions) <= 2

    asyncio.run(run())


def test_many_at_once(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, UniformEngine(slow=0.0)) as client:
            sampler = await open_sampler(client, await client.session())
            answers = await asyncio.gather(*(draw(client, sampler, seq, seed=seq) for seq in range(200)))
            assert len({answer.SerializeToString() for answer in answers}) == 200

    asyncio.run(run())


def test_only_the_last_prompt_tokens_are_scored_when_asked(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            sampler = await open_sampler(client, await client.session())
            asked = {"prompt_logprobs": True, "topk_prompt_logprobs": 2}
            full = await draw(client, sampler, 0, **asked)
            scored = np.frombuffer(full.prompt_logprobs, np.float32)
            assert np.isnan(scored).tolist() == [True, False, False]
            last = await draw(client, sampler, 1, **asked, prompt_logprobs_last_n=1)
            scored = np.frombuffer(last.prompt_logprobs, np.float32)
            assert np.isnan(scored).tolist() == [True, True, False]
            rows = np.frombuffer(last.topk_prompt_logprobs.logprobs, np.float32).reshape(3, 2)
            assert (rows[:2] == -99999.0).all()
            assert (rows[2] > -10).all()

    asyncio.run(run())


def test_a_deleted_checkpoint_can_no_longer_be_sampled_from(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            model = await client.model(session)
            saved = await client.post("save_weights_for_sampler", {"model_id": model, "seq_id": 1, "path": "a"})
            path = (await client.result(saved["request_id"]))["path"]
            sampler = await open_sampler(client, session, model_path=path)
            await draw(client, sampler, 0)
            deleted = await client.http.delete(f"/api/v1/training_runs/{model}/checkpoints/sampler_weights/a")
            assert deleted.status_code == 204
            submitted = await client.post("asample", body(sampler, 1))
            failed = await client.result(submitted["request_id"])
            assert failed["category"] == "user"
            assert "are gone" in failed["error"]

    asyncio.run(run())


@pytest.mark.parametrize("change", [{"base_model": "other/model"}, {"sampling_session_seq_id": 0, "model_path": "x"}])
def test_a_number_taken_by_another_sampler_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    async def run() -> None:
        engine = UniformEngine()
        engine.models["other/model"] = engine.models[MODEL]
        async with serving(tmp_path, engine) as client:
            session = await client.session()
            sampler = await open_sampler(client, session)
            assert await open_sampler(client, session) == sampler
            taken = {"session_id": session, "sampling_session_seq_id": 0, "base_model": MODEL} | change
            await client.post("create_sampling_session", taken, status=400)

    asyncio.run(run())


def test_a_cancelled_sample_frees_the_engine_and_can_be_cancelled_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, UniformEngine(slow=30.0)) as client:
            sampler = await open_sampler(client, await client.session())
            request = (await client.post("asample", body(sampler, 0)))["request_id"]
            await asyncio.sleep(0.05)
            assert len(client.engine._under_way) == 1
            for cancelled in (request, request, "unknown"):
                await client.post("cancel_future", {"request_id": cancelled}, status=204)
            answer = await client.result(request)
            assert answer == {"error": "the client cancelled this sample", "category": "user"}
            assert not client.engine._under_way
            at_once = (await client.post("asample", body(sampler, 1)))["request_id"]
            await client.post("cancel_future", {"request_id": at_once}, status=204)
            assert (await client.result(at_once))["category"] == "user"
            assert await client.service.journal.unfinished() == []

    asyncio.run(run())


def test_cancelling_what_is_no_sample_or_is_finished_changes_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            model = await client.model(session)
            training = await client.send(forward_backward(model, 1))
            await client.post("cancel_future", {"request_id": training}, status=204)
            await client.output(training)
            sampler = await open_sampler(client, session)
            request = (await client.post("asample", body(sampler, 0)))["request_id"]
            answer = await client.result(request)
            await client.post("cancel_future", {"request_id": request}, status=204)
            assert await client.result(request) == answer

    asyncio.run(run())


def test_clients_hold_back_while_too_many_samples_wait(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, UniformEngine(slow=0.3), max_waiting_samples=2) as client:
            sampler = await open_sampler(client, await client.session())
            accepted = [await client.post("asample", body(sampler, seq)) for seq in (0, 1)]
            refused = await client.post("asample", body(sampler, 2), status=429)
            assert "send this one again" in refused["detail"]
            assert await client.post("asample", body(sampler, 1)) == accepted[1], "a repeated one is no further one"
            for one in accepted:
                await client.result(one["request_id"])
            await draw(client, sampler, 2)

    asyncio.run(run())


def test_clients_that_join_get_numbers_of_their_own_for_good(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            sampler, other = await open_sampler(client, session), await open_sampler(client, session, 1)
            asked = [client.post("join_sampling_session", {"sampling_session_id": sampler}) for _ in range(20)]
            given = {answer["client_counter"] for answer in await asyncio.gather(*asked)}
            assert given == set(range(1, 21))
            assert await client.post("join_sampling_session", {"sampling_session_id": other}) == {"client_counter": 1}
            await client.post("join_sampling_session", {"sampling_session_id": "unknown"}, status=404)
        async with serving(tmp_path) as client:
            assert await client.post("join_sampling_session", {"sampling_session_id": sampler}) == {
                "client_counter": 21
            }

    asyncio.run(run())


async def publish(client: Client, model: str, seq: int, number: int, kind: str = "inflight") -> str:
    body = {"model_id": model, "seq_id": seq, "sampling_session_seq_id": number, "kind": kind}
    answer = await client.result((await client.post("save_weights_for_sampler", body))["request_id"])
    return str(answer["sampling_session_id"])


def unnamed(client: Client) -> list[str]:
    return sorted(path.name for path in client.service.data.root.glob("checkpoints/*/sampler_weights/.unnamed@*"))


def test_inflight_samplers_of_a_run_follow_its_newest_weights_and_snapshots_do_not(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            model = await client.model(session)
            first = await publish(client, model, 1, 0)
            frozen = await publish(client, model, 2, 1, "snapshot")
            before = await draw(client, first, 0, seed=5)
            assert before == await draw(client, frozen, 0, seed=5)
            await client.send(forward_backward(model, 3))
            second = await publish(client, model, 4, 2)
            after = await draw(client, first, 1, seed=5)
            assert after != before
            assert after == await draw(client, second, 0, seed=5)
            assert before == await draw(client, frozen, 1, seed=5)
            assert unnamed(client) == [".unnamed@2", ".unnamed@4"], "nobody can sample from the replaced weights"
            assert len(client.engine.versions) == 2
        async with serving(tmp_path) as client:
            assert await draw(client, first, 2, seed=5) == after
            await client.post(f"sessions/{session}/finish", {"reason": {"type": "success"}}, status=204)
            await asyncio.sleep(0.3)
            assert unnamed(client) == []

    asyncio.run(run())


def test_replaced_inflight_weights_stay_while_a_sample_needs_them(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            session = await client.session()
            model = await client.model(session)
            sampler = await publish(client, model, 1, 0)
            expected = await draw(client, sampler, 0, seed=5)
            client.engine.slow = 0.3
            request = (await client.post("asample", body(sampler, 1, seed=5)))["request_id"]
            await asyncio.sleep(0.05)
            client.engine.slow = 0.0
            await client.send(forward_backward(model, 2))
            await publish(client, model, 3, 1)
            assert unnamed(client) == [".unnamed@1", ".unnamed@3"]
            assert wire.SampleResponse.FromString(await client.result(request)) == expected
            assert unnamed(client) == [".unnamed@3"]

    asyncio.run(run())


def test_inflight_weights_survive_the_engine(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            sampler = await publish(client, model, 1, 0)
            await client.send(forward_backward(model, 2))
            await publish(client, model, 3, 1)
            expected = await draw(client, sampler, 0, seed=5)
            client.engine.die()
            assert await draw(client, sampler, 1, seed=5) == expected

    asyncio.run(run())


def test_target_and_alternative_tokens_come_back_as_they_were_asked(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            sampler = await open_sampler(client, await client.session())
            targets = {"data": [4, -1], "dtype": "int64", "shape": [2, 1]}
            answer = await draw(client, sampler, 0, seed=5, target_prompt_logprobs=targets, prompt_alt_tokens_k=3)
            scores = np.frombuffer(answer.target_prompt_logprobs.dense, np.float32)
            assert scores[0] < 0
            assert scores[1] == 0
            assert list(answer.prompt_alt_tokens.tokens.shape) == [2, 3]
            assert len(answer.prompt_alt_tokens.logprobs.dense) == 2 * 3 * 4
            again = await draw(client, sampler, 1, seed=5, prompt_alt_tokens_k=3)
            assert again.prompt_alt_tokens == answer.prompt_alt_tokens

    asyncio.run(run())


def test_a_repeated_unnamed_save_is_the_same_although_the_client_renumbers_its_session(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as client:
            model = await client.model(await client.session())
            save = {"model_id": model, "seq_id": 1, "kind": "snapshot"}
            first, again = [
                await client.post("save_weights_for_sampler", save | {"sampling_session_seq_id": number})
                for number in (0, 1)
            ]
            assert first == again
            made = await client.result(first["request_id"])
            assert made["sampling_session_id"].endswith(":sample:0")
            other = save | {"sampling_session_seq_id": 2, "kind": "inflight"}
            await client.post("save_weights_for_sampler", other, status=400)

    asyncio.run(run())
