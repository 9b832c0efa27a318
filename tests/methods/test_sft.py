"""Supervised fine-tuning: it learns, and an interrupted run ends as if nothing had happened."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import tinker
from transformers import PreTrainedTokenizerBase

from hone.algorithms import sft
from hone.algorithms.config import CheckpointConfig, ModelConfig, OptimizerConfig
from hone.algorithms.datums import supervised_datum
from hone.algorithms.evaluation import HeldOutNll
from hone.client.embedded import ServerInfo
from hone.errors import UserError
from tests.support.interruptions import Crash, CrashAt

AUTHORS = "red blue green white black small great old new first last long".split()


@pytest.fixture(scope="module")
def examples(tokenizer: PreTrainedTokenizerBase) -> list[tinker.Datum]:
    def example(word: str) -> tinker.Datum:
        turn = [{"role": "user", "content": f"Who wrote the {word} book?"}]
        prompt = tokenizer.encode(
            tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True), add_special_tokens=False
        )
        answer = [*tokenizer.encode("Ada Moss", add_special_tokens=False), tokenizer.eos_token_id]
        weights = [0.0] * len(prompt) + [1.0] * len(answer)
        return supervised_datum(tinker.ModelInput.from_ints(prompt + answer), weights)

    return [example(word) for word in AUTHORS]


def config(model: str) -> sft.SftConfig:
    return sft.SftConfig(
        model=ModelConfig(name=model, lora_rank=4, seed=1),
        optimizer=OptimizerConfig(learning_rate=5e-3, schedule="linear", warmup_steps=2),
        checkpoints=CheckpointConfig(every=3),
        batch_size=4,
        epochs=4,
        eval_every=4,
    )


def test_it_learns_what_it_is_shown_and_what_is_like_it(
    service: tinker.ServiceClient, model: str, examples: Sequence[tinker.Datum], tmp_path: Path
) -> None:
    trained, held_out = examples[:10], examples[10:]
    last = asyncio.run(sft.train(config(model), service, trained, tmp_path, evaluators=[HeldOutNll(held_out)]))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(13))
    assert rows[0]["test/nll"] > 1.0
    assert rows[-1]["test/nll"] < 0.2 * rows[0]["test/nll"]
    assert rows[11]["train_mean_nll"] < 0.2 * rows[0]["train_mean_nll"]
    assert rows[0]["num_loss_tokens"] == pytest.approx(rows[0]["num_sequences"])
    assert last.final
    assert last.batch == 12
    # A finished run is not run again.
    assert asyncio.run(sft.train(config(model), service, trained, tmp_path)) == last


@pytest.mark.parametrize("evaluation", [1, 2, 3])
def test_a_run_that_was_cut_off_goes_on_to_the_same_numbers(
    service: tinker.ServiceClient, model: str, examples: Sequence[tinker.Datum], tmp_path: Path, evaluation: int
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    asyncio.run(sft.train(config(model), service, examples, whole))
    with pytest.raises(Crash):
        asyncio.run(sft.train(config(model), service, examples, cut, evaluators=[CrashAt(evaluation)]))
    asyncio.run(sft.train(config(model), service, examples, cut))
    assert (cut / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


def test_no_data_is_an_error_before_anything_is_created(
    service: tinker.ServiceClient, model: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="nothing to train on"):
        asyncio.run(sft.train(config(model), service, [], tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_is_gone_is_named_with_what_to_do(
    service: tinker.ServiceClient, server: ServerInfo, model: str, examples: Sequence[tinker.Datum], tmp_path: Path
) -> None:
    with pytest.raises(Crash):
        asyncio.run(sft.train(config(model), service, examples, tmp_path, evaluators=[CrashAt(3)]))
    saved = [json.loads(line) for line in (tmp_path / "checkpoints.jsonl").read_text().splitlines()]
    assert [row["name"] for row in saved] == ["000003", "000006"]
    delete = tinker.RestClient(base_url=server.url, api_key=server.api_key).delete_checkpoint_from_tinker_path
    delete(saved[1]["state_path"]).result()
    with pytest.raises(UserError, match=r"(?s)checkpoint '000006'.*does not exist.*remove the last line of") as error:
        asyncio.run(sft.train(config(model), service, examples, tmp_path))
    assert saved[1]["state_path"] in str(error.value)
    # As it says: the run goes on from the checkpoint before, unless that is gone too.
    (tmp_path / "checkpoints.jsonl").write_text(json.dumps(saved[0]) + "\n")
    delete(saved[0]["state_path"]).result()
    with pytest.raises(UserError, match=r"(?s)checkpoint '000003'.*; use another directory to begin again"):
        asyncio.run(sft.train(config(model), service, examples, tmp_path))
    begun_there = ModelConfig(name=model, init_from_checkpoint=saved[0]["state_path"])
    other = config(model).model_copy(update={"model": begun_there})
    with pytest.raises(UserError, match=r"(?s)`model.init_from_checkpoint` is tinker://.*does not exist"):
        asyncio.run(sft.train(other, service, examples, tmp_path / "other"))


def test_without_a_seed_a_lost_beginning_begins_with_the_same_weights(
    service: tinker.ServiceClient, model: str, examples: Sequence[tinker.Datum], tmp_path: Path
) -> None:
    unsaved = config(model).model_copy(
        update={"model": ModelConfig(name=model, lora_rank=4), "checkpoints": CheckpointConfig(every=0)}
    )
    with pytest.raises(Crash):
        asyncio.run(sft.train(unsaved, service, examples, tmp_path, evaluators=[CrashAt(2)]))
    first = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(first) > 1
    asyncio.run(sft.train(unsaved, service, examples, tmp_path))
    again = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert again[1 : len(first)] == first[1:]
