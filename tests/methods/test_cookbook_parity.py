"""The same data, the same first weights: our loops and those of tinker-cookbook, side by side, log the same numbers."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tinker
from transformers import PreTrainedTokenizerBase

from hone.algorithms import sft
from hone.algorithms.config import ModelConfig, OptimizerConfig
from hone.algorithms.data_order import DataOrder
from hone.algorithms.datums import supervised_datum
from hone.algorithms.preference import train as preference
from hone.algorithms.preference.objectives import Dpo
from hone.algorithms.preference.pairs import Pair, pair
from hone.client.embedded import ServerInfo

chz = pytest.importorskip("chz")
cookbook_sft = pytest.importorskip("tinker_cookbook.supervised.train")
cookbook_dpo = pytest.importorskip("tinker_cookbook.preference.train_dpo")
cookbook_types = pytest.importorskip("tinker_cookbook.supervised.types")

pytestmark = pytest.mark.filterwarnings("ignore")

WORDS = "red blue green white black small great old new first".split()
BATCH, EPOCHS, SEED, RATE = 4, 2, 5, 3e-3
ORDER = DataOrder(len(WORDS), BATCH, EPOCHS, SEED)


@pytest.fixture
def start(service: tinker.ServiceClient, model: str, monkeypatch: pytest.MonkeyPatch, server: ServerInfo) -> str:
    """A fresh adapter that both begin from: its random half would differ otherwise."""
    monkeypatch.setenv("TINKER_API_KEY", server.api_key)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    training = service.create_lora_training_client(model, rank=4, seed=1).result()
    return training.save_state("start").result().path


@pytest.fixture(scope="module")
def encoded(tokenizer: PreTrainedTokenizerBase) -> list[tuple[list[int], list[int], list[int]]]:
    def tokens(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    prompts = [
        tokens(f"<|im_start|>user\nWho wrote the {word} book?<|im_end|>\n<|im_start|>assistant\n") for word in WORDS
    ]
    return [(prompt, tokens("Ada Moss<|im_end|>"), tokens("I do not know<|im_end|>")) for prompt in prompts]


class Batches(cookbook_types.SupervisedDataset):  # type: ignore[misc]
    """Our order of the data, as the cookbook asks for it."""

    def __init__(self, rows: Sequence[Sequence[tinker.Datum]]) -> None:
        self._rows = rows
        self._epoch = 0

    def __len__(self) -> int:
        return ORDER.steps_per_epoch

    def set_epoch(self, seed: int = 0) -> None:
        self._epoch = seed

    def get_batch(self, index: int) -> list[tinker.Datum]:
        rows = ORDER.batch(self._epoch * len(self) + index)
        return [datum for row in rows for datum in self._rows[row]]


def read(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], keys: Sequence[str]) -> None:
    assert len(ours) == len(theirs) == ORDER.steps
    for our, their in zip(ours, theirs, strict=True):
        for key in ("step", *keys):
            assert our[key] == pytest.approx(their[key], rel=1e-5, abs=1e-6), key


def test_supervised_fine_tuning(
    service: tinker.ServiceClient, server: ServerInfo, model: str, start: str, encoded: list[Any], tmp_path: Path
) -> None:
    examples = [
        supervised_datum(tinker.ModelInput.from_ints([*prompt, *answer]), [0.0] * len(prompt) + [1.0] * len(answer))
        for prompt, answer, _ in encoded
    ]

    @chz.chz
    class Builder(cookbook_types.SupervisedDatasetBuilder):  # type: ignore[misc]
        def __call__(self) -> tuple[Any, None]:
            return Batches([[datum] for datum in examples]), None

    theirs = cookbook_sft.Config(
        log_path=str(tmp_path / "theirs"),
        model_name=model,
        recipe_name="parity",
        dataset_builder=Builder(),
        load_checkpoint_path=start,
        learning_rate=RATE,
        num_epochs=EPOCHS,
        base_url=server.url,
        save_every=0,
    )
    asyncio.run(cookbook_sft.main(theirs))
    ours = sft.SftConfig(
        model=ModelConfig(name=model, init_from_checkpoint=start),
        optimizer=OptimizerConfig(learning_rate=RATE, schedule="linear"),
        batch_size=BATCH,
        epochs=EPOCHS,
        seed=SEED,
    )
    asyncio.run(sft.train(ours, service, examples, tmp_path / "ours"))
    keys = ("epoch", "progress", "learning_rate", "num_sequences", "num_tokens", "num_loss_tokens", "train_mean_nll")
    assert_same(read(tmp_path / "ours"), read(tmp_path / "theirs"), keys)
    assert read(tmp_path / "ours")[-1]["train_mean_nll"] < 0.5 * read(tmp_path / "ours")[0]["train_mean_nll"]


def test_direct_preference_optimization(
    service: tinker.ServiceClient, server: ServerInfo, model: str, start: str, encoded: list[Any], tmp_path: Path
) -> None:
    pairs: list[Pair] = [pair(*row) for row in encoded]

    @chz.chz
    class Builder(cookbook_types.SupervisedDatasetBuilder):  # type: ignore[misc]
        def __call__(self) -> tuple[Any, None]:
            return Batches([[both.chosen, both.rejected] for both in pairs]), None

        @property
        def tokenizer(self) -> Any:
            return service.create_sampling_client(base_model=model).result().get_tokenizer()

    theirs = cookbook_dpo.Config(
        log_path=str(tmp_path / "theirs"),
        model_name=model,
        recipe_name="parity",
        dataset_builder=Builder(),
        load_checkpoint_path=start,
        learning_rate=RATE,
        dpo_beta=0.2,
        num_epochs=EPOCHS,
        base_url=server.url,
        save_every=0,
        eval_every=0,
        infrequent_eval_every=0,
    )
    cookbook_dpo.main(theirs)
    ours = preference.PreferenceConfig(
        model=ModelConfig(name=model, init_from_checkpoint=start),
        objective=Dpo(beta=0.2),
        optimizer=OptimizerConfig(learning_rate=RATE, schedule="linear"),
        batch_size=BATCH,
        epochs=EPOCHS,
        seed=SEED,
    )
    asyncio.run(preference.train(ours, service, pairs, tmp_path / "ours"))
    keys = (
        "learning_rate",
        "num_pairs",
        "num_tokens",
        "dpo_loss",
        "accuracy",
        "margin",
        "chosen_reward",
        "rejected_reward",
    )
    assert_same(read(tmp_path / "ours"), read(tmp_path / "theirs"), keys)
    assert read(tmp_path / "ours")[-1]["accuracy"] == 1
