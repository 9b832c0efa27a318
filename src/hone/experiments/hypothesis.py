"""What a hypothesis claims: which groups of arms are better than which.

A file may name the two sides (`better`, `than`), or say it in a sentence: `X beats Y`, `X is better than Y`,
`X outperforms Y`, with names of arms, tags or values on the axes. A sentence that could mean something else is not
guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from hone.errors import UserError
from hone.experiments.config import HypothesisConfig
from hone.experiments.records import ArmRecord
from hone.experiments.wording import listed

BASELINE = "baseline"
"""The model without training."""
HOW = (
    "write it as `hypothesis: {statement: ..., better: {algorithm.kind: dpo}, than: {algorithm.kind: sft}}` "
    "(dotted paths with their values, or a pattern of arm names; `than: baseline` is the model without training)"
)

_VERB = re.compile(r"\s+(?:beats?|outperforms?|(?:is|are) better than)\s+")
_OPINION = re.compile(r"^(?:(?:we|i) (?:think|believe|expect|claim) )?(?:that )?")
_MARGIN = re.compile(r"\s+by (?:at least |more than )?(\d+(?:\.\d+)?(?:e-?\d+)?)$")
_CONTEXT = re.compile(r"\s+(?:on|in|for)\s+(?P<words>.*)$|\s+here$")
_HEDGES = re.compile(r"\b(?:not|never|neither|nor|if|unless|whether|only|doubt\w*|except)\b|n't\b|%")
_BASELINES = frozenset(
    ("baseline", "base model", "base", "untrained model", "model without training", "no training", "without training")
)


class UnclearClaim(UserError):
    """It is not certain what a hypothesis compares."""


@dataclass(frozen=True)
class ArmFacts:
    """What an arm can be called by."""

    name: str
    group: str
    cell: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    def value(self, path: str) -> Any:
        """At a dotted path; `KeyError` if it has none."""
        if path in self.cell:
            return self.cell[path]
        found: Any = self.config
        for key in path.split("."):
            if not isinstance(found, Mapping):
                raise KeyError(path)
            found = found[key]
        return found


@dataclass(frozen=True)
class Claim:
    """Groups on both sides; without groups in `than` the other side is the model without training."""

    statement: str
    better: tuple[str, ...]
    than: tuple[str, ...]
    margin: float = 0.0

    @property
    def over_baseline(self) -> bool:
        return not self.than


def facts(arm: ArmRecord) -> ArmFacts:
    return ArmFacts(arm.name, arm.group, arm.cell, arm.tags, arm.config)


def understand(hypothesis: HypothesisConfig | str, arms: Sequence[ArmFacts]) -> Claim:
    """The two sides of the claim.

    Raises:
        UnclearClaim: no arm is meant, or several things could be; it says how to write it.
    """
    claim = HypothesisConfig(statement=hypothesis) if isinstance(hypothesis, str) else hypothesis
    margin = claim.margin
    than: list[str] | None
    if claim.better is not None:
        if _is_baseline(claim.better):
            raise UnclearClaim(
                "the baseline cannot be the better side: claim that an arm is better than it (`than: baseline`); "
                "the interval shows it if arms are worse"
            )
        better = _selected("better", claim.better, arms)
        if claim.than is None:
            than = [group for group in _groups(arms) if group not in better]
        else:
            than = None if _is_baseline(claim.than) else _selected("than", claim.than, arms)
    else:
        if claim.than is not None:
            raise UnclearClaim(f"the hypothesis says `than` and not `better`; {HOW}")
        better, than, said = _sentence(claim.statement, arms)
        margin = margin or said
    if than is not None:
        than = [group for group in than if group not in better]
        if not than:
            raise UnclearClaim(
                "all arms are on the same side of the hypothesis, so there is nothing to compare them with; "
                "name the other side, or write `than: baseline`"
            )
    return Claim(claim.statement, tuple(better), tuple(than or ()), margin)


def _is_baseline(selector: Mapping[str, Any] | str) -> bool:
    return isinstance(selector, str) and selector.casefold() == BASELINE


def _selected(side: str, selector: Mapping[str, Any] | str, arms: Sequence[ArmFacts]) -> list[str]:
    """The groups that a side names."""
    if isinstance(selector, str):
        found = _groups(arm for arm in arms if _matches(selector, arm)) or _named(selector, arms)
    else:
        for path in selector:
            if not any(_has(arm, path) for arm in arms):
                raise UnclearClaim(f"`{side}` names {path}, which no arm has; {_axes(arms)}")
        found = _groups(arm for arm in arms if all(_is(arm, path, value) for path, value in selector.items()))
    if not found:
        raise UnclearClaim(f"`{side}` is {selector!r}, and no arm is like that; there are {_names(arms)}")
    return found


def _sentence(statement: str, arms: Sequence[ArmFacts]) -> tuple[list[str], list[str] | None, float]:
    text = " ".join(statement.casefold().split()).rstrip(".!")
    parts = _VERB.split(text)
    if len(parts) != 2 or _HEDGES.search(text):
        raise UnclearClaim(f"the hypothesis {statement!r} is not of the form `X beats Y`; {HOW}")
    better_text = _OPINION.sub("", parts[0])
    than_text, margin = parts[1], 0.0
    if said := _MARGIN.search(than_text):
        than_text, margin = than_text[: said.start()], float(said[1])
    better = _named(better_text, arms)
    than = _named(than_text, arms)
    over_baseline = _bare(than_text) in _BASELINES
    context = _CONTEXT.search(than_text)
    if context and not than and not over_baseline:
        rest = than_text[: context.start()]
        words = context["words"] or ""
        if _narrows(words, arms):
            raise UnclearClaim(f"in the hypothesis {statement!r}, {words!r} may mean some of the arms only; {HOW}")
        than, over_baseline = _named(rest, arms), _bare(rest) in _BASELINES
    for side, found in ((better_text, better), (than_text, than or over_baseline)):
        if not found:
            raise UnclearClaim(
                f"in the hypothesis {statement!r}, no arm, tag or value on an axis is called {side!r}; "
                f"there are {_names(arms)}; {HOW}"
            )
    return better, (than or None), margin


def _named(text: str, arms: Sequence[ArmFacts]) -> list[str]:
    """Groups that are called so: by name, else by tag, else by a value."""
    said = _bare(text)
    ways: tuple[Callable[[ArmFacts], bool], ...] = (
        lambda arm: said in (arm.group.casefold(), arm.name.casefold()),
        lambda arm: said in {tag.casefold() for tag in arm.tags},
        lambda arm: any(said in _spellings(path, value) for path, value in _values(arm)),
    )
    return next((found for way in ways if (found := _groups(arm for arm in arms if way(arm)))), [])


def _narrows(words: str, arms: Sequence[ArmFacts]) -> bool:
    """Whether some words of it, in a row, name arms, or a number or a word of an axis is in it."""
    said = words.split()
    spans = (" ".join(said[first:end]) for first in range(len(said)) for end in range(first + 1, len(said) + 1))
    keys = {path.split(".")[-1].casefold() for arm in arms for path in arm.cell}
    return any(_named(span, arms) for span in spans) or not keys.isdisjoint(said)


def _bare(text: str) -> str:
    """Without quotes, articles and `training with`."""
    text = text.casefold().strip().strip("`'\"")
    return re.sub(r"^(?:training with |tuning with |using |with )?(?:the |a |an |our )?", "", text).strip("`'\" ")


def _values(arm: ArmFacts) -> Iterator[tuple[str, Any]]:
    yield from arm.cell.items()
    for path in ("algorithm.kind", "model.name", "backend.kind"):
        if path not in arm.cell and _has(arm, path):
            yield path, arm.value(path)


def _spellings(path: str, value: Any) -> set[str]:
    """`2e-5`, `lr 2e-5`, `lr=2e-5`, `algorithm.params.lr=2e-5`."""
    texts = {str(value).casefold()}
    if isinstance(value, int | float) and not isinstance(value, bool):
        plain = f"{value:g}"
        texts |= {plain, plain.replace("e-0", "e-").replace("e+0", "e"), repr(float(value))}
        if abs(value) >= 1e-6:
            texts.add(f"{value:.12f}".rstrip("0").rstrip("."))
    keys = {path.casefold(), path.split(".")[-1].casefold()}
    return texts | {f"{key}{between}{text}" for key in keys for text in texts for between in (" ", "=", " of ", ": ")}


def _matches(pattern: str, arm: ArmFacts) -> bool:
    return any(fnmatchcase(name.casefold(), pattern.casefold()) for name in (arm.group, arm.name))


def _has(arm: ArmFacts, path: str) -> bool:
    try:
        arm.value(path)
    except KeyError:
        return False
    return True


def _is(arm: ArmFacts, path: str, wanted: Any) -> bool:
    if not _has(arm, path):
        return False
    value = arm.value(path)
    if isinstance(wanted, list) and not isinstance(value, list):
        return any(_same(value, one) for one in wanted)
    return _same(value, wanted)


def _same(value: Any, wanted: Any) -> bool:
    return bool(value == wanted) or str(value).casefold() == str(wanted).casefold()


def _groups(arms: Iterator[ArmFacts] | Sequence[ArmFacts]) -> list[str]:
    return list(dict.fromkeys(arm.group for arm in arms))


def _names(arms: Sequence[ArmFacts]) -> str:
    return f"the arms {listed(_groups(arms))}" if arms else "no arms"


def _axes(arms: Sequence[ArmFacts]) -> str:
    paths = list(dict.fromkeys(path for arm in arms for path in arm.cell))
    return f"the axes are {listed(paths)}" if paths else f"there are no axes, but {_names(arms)}"
