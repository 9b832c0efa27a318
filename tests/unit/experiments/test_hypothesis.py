"""Which arms a claim means; and that it is not guessed at."""

from typing import Any

import pytest

from hone.experiments.config import HypothesisConfig
from hone.experiments.hypothesis import ArmFacts, UnclearClaim, facts, understand
from tests.support.experiment_records import arm, measurement

METHODS = ("sft", "dpo", "grpo")
RATES = (1e-5, 2e-5)
ARMS = [
    ArmFacts(
        f"{kind}-{rate:g}-s{seed}",
        f"{kind}-{rate:g}",
        {"algorithm.kind": kind, "algorithm.params.lr": rate},
        tags=["preferences"] if kind == "dpo" else ["plain"],
        config={"model": {"name": "hone/tiny", "lora_rank": 8}, "algorithm": {"kind": kind}},
    )
    for kind in METHODS
    for rate in RATES
    for seed in (0, 1)
]
DPO, SFT, GRPO = (tuple(f"{kind}-{rate:g}" for rate in RATES) for kind in ("dpo", "sft", "grpo"))


@pytest.mark.parametrize(
    ("sentence", "better", "than"),
    [
        ("DPO beats SFT", DPO, SFT),
        ("DPO beats SFT on this data", DPO, SFT),
        ("dpo is better than sft.", DPO, SFT),
        ("GRPO outperforms the `dpo`!", GRPO, DPO),
        ("We believe that DPO beats the baseline", DPO, ()),
        ("DPO beats the base model on short questions", DPO, ()),
        ("preferences beat plain", DPO, (*SFT, *GRPO)),
        ("dpo-2e-05 beats sft-1e-05", (DPO[1],), (SFT[0],)),
        (
            "lr 2e-5 beats lr 1e-5",
            tuple(f"{kind}-2e-05" for kind in METHODS),
            tuple(f"{kind}-1e-05" for kind in METHODS),
        ),
        (
            "0.00002 beats 0.00001",
            tuple(f"{kind}-2e-05" for kind in METHODS),
            tuple(f"{kind}-1e-05" for kind in METHODS),
        ),
        ("algorithm.params.lr=2e-05 beats training with sft", (DPO[1], GRPO[1]), SFT),
    ],
)
def test_sentences_that_name_both_sides(sentence: str, better: tuple[str, ...], than: tuple[str, ...]) -> None:
    claim = understand(sentence, ARMS)
    if "training with sft" in sentence:
        better = (SFT[1], *better)  # it is on both sides: the first one keeps it
        than = (SFT[0],)
    assert (claim.better, claim.than) == (better, than)
    assert claim.statement == sentence
    assert claim.over_baseline == (than == ())


def test_a_sentence_may_say_by_how_much() -> None:
    assert understand("DPO beats SFT by at least 0.05", ARMS).margin == 0.05
    assert understand(HypothesisConfig(statement="DPO beats SFT", margin=0.02), ARMS).margin == 0.02


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("more data helps", "is not of the form `X beats Y`"),
        ("DPO never beats SFT", "is not of the form"),
        ("DPO is not better than SFT", "is not of the form"),
        ("DPO beats SFT if the rate is low", "is not of the form"),
        ("DPO beats SFT beats GRPO", "is not of the form"),
        ("DPO beats SFT by 5 %", "is not of the form"),
        ("ORPO beats SFT", "no arm, tag or value on an axis is called 'orpo'"),
        ("DPO beats PPO", "is called 'ppo'"),
        ("DPO beats SFT for lr 2e-5", "'lr 2e-5' may mean some of the arms only"),
        ("DPO beats SFT in 1e-5 runs", "may mean some of the arms only"),
        ("DPO beats dpo", "all arms are on the same side"),
        ("the baseline beats DPO", "is called 'the baseline'"),
    ],
)
def test_what_is_not_certain_is_not_guessed(sentence: str, reason: str) -> None:
    with pytest.raises(UnclearClaim) as caught:
        understand(sentence, ARMS)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("better", "than", "groups"),
    [
        ({"algorithm.kind": "dpo"}, {"algorithm.kind": "sft"}, (DPO, SFT)),
        (
            {"algorithm.kind": "dpo", "algorithm.params.lr": 2e-5},
            {"algorithm.kind": ["sft", "grpo"]},
            ((DPO[1],), (*SFT, *GRPO)),
        ),
        ("dpo-*", "sft-*", (DPO, SFT)),
        ("*-2e-05-s1", "SFT-1e-05", (("sft-2e-05", "dpo-2e-05", "grpo-2e-05"), (SFT[0],))),
        ("preferences", "baseline", (DPO, ())),
        ({"algorithm.kind": "DPO"}, None, (DPO, (*SFT, *GRPO))),
        ({"model.lora_rank": 8, "algorithm.kind": "dpo"}, "Baseline", (DPO, ())),
    ],
)
def test_selectors_name_the_sides(better: Any, than: Any, groups: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    claim = understand(HypothesisConfig(statement="it is so", better=better, than=than), ARMS)
    assert (claim.better, claim.than) == groups


@pytest.mark.parametrize(
    ("better", "than", "reason"),
    [
        ({"algorithm.knd": "dpo"}, None, "algorithm.knd, which no arm has; the axes are algorithm.kind and"),
        ({"algorithm.kind": "orpo"}, None, "no arm is like that; there are the arms sft-1e-05"),
        ("baseline", "dpo-*", "the baseline cannot be the better side"),
        ("*", None, "all arms are on the same side"),
        (None, "baseline", "says `than` and not `better`"),
    ],
)
def test_a_selector_that_finds_nothing_says_what_there_is(better: Any, than: Any, reason: str) -> None:
    with pytest.raises(UnclearClaim) as caught:
        understand(HypothesisConfig(statement="it is so", better=better, than=than), ARMS)
    assert reason in str(caught.value)


def test_arms_without_axes_are_known_by_what_they_run() -> None:
    config = {"algorithm": {"kind": "sft"}, "model": {"name": "hone/tiny"}}
    known = facts(arm("first", measurement([1.0]), config=config, tags=["x"]))
    assert understand("SFT beats the baseline", [known]).better == ("first",)
    assert understand("hone/tiny beats no training", [known]).over_baseline
