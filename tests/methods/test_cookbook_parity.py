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
from hone.algorithms.distill import on_policy
from hone.algorithms.distill.lessons import ONLY, Lesson
from hone.algorithms.preference import train as preference
from hone.algorithms.preference.objectives import Dpo
from hone.algorithms.preference.pairs import Pair, pair
from hone.algorithms.rl.policy import Policy, sample_seed
from hone.algorithms.steps import submit_step
from hone.algorithms.types import Observation, Trajectory, TrajectoryGroup, Transition
from hone.client.embedded import ServerInfo
from tests.support.cookbook_types import their_group
from tests.support.rl_tasks import Group

chz = pytest.importorskip("chz")
cookbook_sft = pytest.importorskip("tinker_cookbook.supervised.train")
cookbook_dpo = pytest.importorskip("tinker_cookbook.preference.train_dpo")
cookbook_types = pytest.importorskip("tinker_cookbook.supervised.types")

pytestmark = pytest.mark.filterwarnings("ignore")

WORDS = "red blue green white black small great old new first".split()
BATCH, EPOCHS, SEED, RATE = 4, 2, 5, 3e-3
STEPS = 4
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


def test_on_policy_distillation(
    service: tinker.ServiceClient,
    model: str,
    start: str,
    encoded: list[Any],
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
) -> None:
    """The teacher sees what the student sees, as the cookbook's does. Both draw the same answers: the weights and seeds
    are the same, or else nothing else would be."""
    their_distill = pytest.importorskip("tinker_cookbook.distillation.train_on_policy")
    from tinker_cookbook.rl.metrics import compute_kl_sample_train
    from tinker_cookbook.rl.train import train_step

    settings = on_policy.OnPolicyConfig(
        model=ModelConfig(name=model, init_from_checkpoint=start),
        optimizer=OptimizerConfig(learning_rate=RATE),
        batch_size=BATCH,
        group_size=3,
        max_tokens=8,
        coefficient=0.7,
        epochs=EPOCHS,
        max_steps=STEPS,
        seed=SEED,
        eval_every=0,
    )
    lessons, stop = [Lesson(tuple(prompt)) for prompt, _, _ in encoded], [tokenizer.eos_token_id]
    sent: list[list[tinker.Datum]] = []

    async def teacher() -> tinker.SamplingClient:
        """Answers as it is shown."""
        training = await service.create_training_client_from_state(start)
        shown = [
            supervised_datum(tinker.ModelInput.from_ints([*prompt, *answer]), [0.0] * len(prompt) + [1.0] * len(answer))
            for prompt, answer, _ in encoded
        ]
        for _ in range(3):
            await submit_step(training, shown, "cross_entropy", tinker.AdamParams(learning_rate=RATE)).result()
        sampler: tinker.SamplingClient = await training.save_weights_and_get_sampling_client()
        return sampler

    async def theirs() -> tuple[list[dict[str, Any]], tinker.SamplingClient]:
        training = await service.create_training_client_from_state(start)
        teaching, found = await teacher(), []
        for step in range(STEPS):
            policy = Policy(await training.save_weights_and_get_sampling_client(), settings.max_tokens)
            groups_P, our_D = [], []
            for row in ORDER.batch(step):
                prompt = tinker.ModelInput.from_ints(list(lessons[row].prompt))
                seed = sample_seed(SEED, step, row)
                answers_G = await policy.answers(Observation(prompt, stop), settings.group_size, seed)
                trajectories = [Trajectory([Transition(prompt, answer, 0.0)], prompt) for answer in answers_G]
                groups_P.append(TrajectoryGroup(trajectories, [0.0] * len(answers_G), [{} for _ in answers_G]))
                for answer in answers_G:
                    scored = await on_policy.score_answer(
                        lessons[row], answer, {ONLY: teaching}, settings, asyncio.Semaphore(8)
                    )
                    our_D.append(scored.policy_datum)
            data_D, metrics = await their_distill.prepare_minibatch(
                [Group(list) for _ in groups_P],
                [their_group(group) for group in groups_P],
                tokenizer,
                [0] * len(groups_P),
                [teaching],
                settings.coefficient,
                0.0,
            )
            for our, their in zip(our_D, data_D, strict=True):
                assert our.datum.model_input.to_ints() == their.model_input.to_ints()
                wanted = {**our.datum.loss_fn_inputs, "mask": tinker.TensorData.from_numpy(our.mask_T)}
                assert wanted.keys() == their.loss_fn_inputs.keys()
                for name, values in wanted.items():
                    assert values.data == pytest.approx(their.loss_fn_inputs[name].data, abs=1e-6), name
            sent.append(data_D)
            logprobs_D = await train_step(data_D, training, RATE, 1, "importance_sampling")
            found.append({"step": step, **metrics, **compute_kl_sample_train(data_D, logprobs_D)})
        return found, await training.save_weights_and_get_sampling_client()

    async def both() -> tuple[list[dict[str, Any]], list[float | None], list[float | None]]:
        found, their_student = await theirs()
        last = await on_policy.train(
            settings, service, lessons, {ONLY: await teacher()}, tmp_path / "ours", stop_condition=stop
        )
        our_student = await service.create_sampling_client(model_path=last.sampler_path)
        unseen = tinker.ModelInput.from_ints(encoded[-1][0] + encoded[-1][1])
        return found, await their_student.compute_logprobs(unseen), await our_student.compute_logprobs(unseen)

    found, their_scores, our_scores = asyncio.run(both())
    ours = read(tmp_path / "ours")
    assert len(ours) == len(found) == STEPS
    for our, their, data_D in zip(ours, found, sent, strict=True):
        assert our["num_sequences"] == len(data_D) == len(ORDER.batch(our["step"])) * settings.group_size
        assert our["num_tokens"] == sum(datum.model_input.length for datum in data_D)
        for key in ("step", "teacher_kl", "optim/kl_sample_train_v1", "optim/kl_sample_train_v2", "optim/entropy"):
            assert our[key] == pytest.approx(their[key], rel=1e-5, abs=1e-6), key
    assert ours[0]["teacher_kl"] > 0.1
    assert our_scores[1:] == pytest.approx(their_scores[1:], abs=1e-4), "the weights are the same after the last step"
