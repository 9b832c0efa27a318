"""Learning from preferences: DPO, IPO, SimPO, ORPO and KTO, one class each; they differ by their objective."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field, PositiveFloat

from hone.errors import UserError
from hone.experiments.data.rows import PreferenceRow, StandardRow
from hone.experiments.kinds.algorithms.params import PreferenceParams, beginning, shuffled, watched
from hone.experiments.kinds.contract import Algorithm, Training

if TYPE_CHECKING:
    from hone.algorithms.preference.objectives import AnyObjective
    from hone.algorithms.run_directory import Checkpoint

ParamsT = TypeVar("ParamsT", bound=PreferenceParams)


class ByPreference(Algorithm[ParamsT]):
    learns_from = "preference"

    def steps(self, rows: int) -> int:
        return self.params.steps(rows)

    async def train(self, training: Training) -> Checkpoint:
        from hone.algorithms.preference import train as preference

        config = preference.PreferenceConfig(
            **beginning(training, self.params),
            objective=self.objective(),
            batch_size=self.params.batch_size,
            shuffle=shuffled(training),
            concurrency=self.params.concurrency,
        )
        examples = [example for row in training.rows for example in self.examples(training, row)]
        return await preference.train(config, training.service, examples, training.run_dir, **watched(training))

    @abstractmethod
    def objective(self) -> AnyObjective: ...

    def examples(self, training: Training, row: StandardRow) -> Sequence[Any]:
        """Of one row: a pair."""
        from hone.algorithms.preference.pairs import pair

        prompt, chosen, rejected = _tokens(training, row)
        return [pair(prompt, chosen, rejected)]


class DpoParams(PreferenceParams):
    beta: PositiveFloat = 0.1
    """How strongly the model is held to the reference, the weights it begins with."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=0.5)
    """The share of labels taken to be wrong."""


class Dpo(ByPreference[DpoParams]):
    """Direct preference optimization (Rafailov et al. 2023, arXiv 2305.18290)."""

    Params = DpoParams

    def objective(self) -> AnyObjective:
        from hone.algorithms.preference import objectives

        return objectives.Dpo(beta=self.params.beta, label_smoothing=self.params.label_smoothing)


class IpoParams(PreferenceParams):
    beta: PositiveFloat = 0.1
    """The chosen answer's log-ratio shall lead by 1 / (2 beta)."""


class Ipo(ByPreference[IpoParams]):
    """DPO with a bounded pull: identity preference optimization (Azar et al. 2023, arXiv 2310.12036)."""

    Params = IpoParams

    def objective(self) -> AnyObjective:
        from hone.algorithms.preference import objectives

        return objectives.Ipo(beta=self.params.beta)


class SimpoParams(PreferenceParams):
    beta: PositiveFloat = 2.0
    """Scale of the mean log-probabilities."""
    margin: float = 1.0
    """By how much the chosen answer should win, in units of the scaled difference."""


class Simpo(ByPreference[SimpoParams]):
    """Preferences without a reference model, by the mean over tokens (Meng et al. 2024, arXiv 2405.14734)."""

    Params = SimpoParams

    def objective(self) -> AnyObjective:
        from hone.algorithms.preference import objectives

        return objectives.Simpo(beta=self.params.beta, margin=self.params.margin)


class OrpoParams(PreferenceParams):
    beta: PositiveFloat = 0.1
    """Weight of the odds beside the likelihood of the chosen answers."""


class Orpo(ByPreference[OrpoParams]):
    """Demonstrations and preferences at once, without a reference model (Hong et al. 2024, arXiv 2403.07691)."""

    Params = OrpoParams

    def objective(self) -> AnyObjective:
        from hone.algorithms.preference import objectives

        return objectives.Orpo(beta=self.params.beta)


class KtoParams(PreferenceParams):
    beta: PositiveFloat = 0.1
    """How strongly the model is held to the reference, the weights it begins with."""
    desirable_weight: PositiveFloat = 1.0
    """Of answers that are wanted."""
    undesirable_weight: PositiveFloat = 1.0
    """Raise the weight of the rarer kind so that both count alike."""


class Kto(ByPreference[KtoParams]):
    """Answers that are wanted and answers that are not, one by one (Ethayarajh et al. 2024, arXiv 2402.01306).

    Each row is two answers; `batch_size` counts answers.
    """

    Params = KtoParams

    def steps(self, rows: int) -> int:
        return self.params.steps(2 * rows)

    def objective(self) -> AnyObjective:
        from hone.algorithms.preference import objectives

        return objectives.Kto(
            beta=self.params.beta,
            desirable_weight=self.params.desirable_weight,
            undesirable_weight=self.params.undesirable_weight,
        )

    def examples(self, training: Training, row: StandardRow) -> Sequence[Any]:
        from hone.algorithms.preference.objectives import Judged

        prompt, chosen, rejected = _tokens(training, row)
        return [Judged(prompt, chosen, True), Judged(prompt, rejected, False)]


def _tokens(training: Training, row: StandardRow) -> tuple[list[int], list[int], list[int]]:
    """Of the prompt and of the two answers."""
    from hone.experiments.kinds.algorithms.examples import prompt_and_answer, untied

    assert isinstance(row, PreferenceRow)
    untied(row)
    prompt, chosen = prompt_and_answer(training.renderer, row.prompt, row.chosen, row)
    other, rejected = prompt_and_answer(training.renderer, row.prompt, row.rejected, row)
    if prompt != other:
        raise UserError(f"{row.place}: the two answers do not begin at the same place of the conversation")
    return prompt, chosen, rejected
