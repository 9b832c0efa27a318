"""A benchmark against a model: every item asked, every answer graded, every failure counted as one.

results.jsonl    one line per answer; a run that was interrupted asks what is missing
summary.json     the score with its interval, pass@k, failures by kind
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import tinker

from hone.algorithms.evals.benchmark import Benchmark, Item
from hone.algorithms.evals.statistics import (
    Estimate,
    as_json,
    bootstrap_interval,
    clustered_interval,
    pass_at_k,
    share_interval,
)
from hone.algorithms.graders.grade import GradingError
from hone.algorithms.messages import text_of
from hone.algorithms.renderers import Renderer
from hone.algorithms.rl.policy import Policy, sample_seed
from hone.algorithms.types import Observation, SampledTokens
from hone.errors import UserError
from hone.observe.progress import Display, silent
from hone.storage import jsonl
from hone.storage.atomic import write_text

RESULTS, SUMMARY, SETTINGS = "results.jsonl", "summary.json", "settings.json"


@dataclass(frozen=True)
class EvalSettings:
    answers: int = 1
    """To each item; more make pass@k and narrower intervals."""
    temperature: float = 1.0
    max_tokens: int | None = None
    """Of one answer; the benchmark's own if none is given."""
    model: str = ""
    """Who answers: a base model's name or a checkpoint's path. Answers of one are never taken for another's."""
    renderer: str = ""
    """The name of the chat format; for the same purpose."""
    seed: int = 0
    concurrency: int = 64
    pass_at: Sequence[int] = ()
    """The k of pass@k, at most `answers`; none for the powers of two. May change over the same answers."""


@dataclass(frozen=True)
class Answer:
    """One graded answer. What failed has the score 0 and says why."""

    item: str
    cluster: str
    number: int
    score: float
    tokens: int
    text: str
    failure: str | None = None
    """`cut_off`, `malformed`, `ungraded` or `error`; None if there was an answer that could be graded."""
    details: dict[str, Any] | None = None
    asked: str = ""
    """The item's fingerprint."""

    @property
    def unit(self) -> str:
        """What it is not independent of."""
        return self.cluster or self.item


@dataclass(frozen=True)
class Summary:
    benchmark: str
    score: Estimate
    """Mean over all answers, failures as 0, with its interval over clusters."""
    pass_at: dict[int, float]
    """The probability that one of k answers is right; for k = 1, 2, 4 ... answers if no k was asked for."""
    items: int
    answers: int
    failures: dict[str, int]
    mean_tokens: float
    measures: dict[str, Estimate] = field(default_factory=dict)
    """What the benchmark measures beside the score, failures as 0."""
    pass_at_intervals: dict[int, Estimate] = field(default_factory=dict)
    """Of `pass_at`, by the bootstrap: most items are at 0 or 1, which is no normal distribution."""


async def run_benchmark(
    benchmark: Benchmark,
    sampler: tinker.SamplingClient,
    renderer: Renderer,
    out: Path,
    settings: EvalSettings = EvalSettings(),
    *,
    display: Display = silent,
) -> Summary:
    """Ask, grade and summarise. On the directory of a run that was interrupted, only what is missing is asked.

    What could not be asked (`error`: the server was away) is missing too.
    """
    for k in settings.pass_at:
        if not 1 <= k <= settings.answers:
            raise UserError(f"pass@{k} cannot be had of {settings.answers} `answers` to each item; k is 1 to `answers`")
    out.mkdir(parents=True, exist_ok=True)
    of_no_answer = {"concurrency": None, "pass_at": None}
    check_settings(out / SETTINGS, {"benchmark": benchmark.name, **asdict(settings)} | of_no_answer)
    answers = [answer for answer in read_answers(out) if answer.failure != "error"]
    _same_items(out, benchmark, answers)
    done = {(answer.item, answer.number) for answer in answers}
    missing = [
        (item, number)
        for item in benchmark.items
        for number in range(settings.answers)
        if (item.id, number) not in done
    ]
    policy = Policy(
        sampler,
        settings.max_tokens or benchmark.max_tokens,
        settings.temperature,
        slots=asyncio.Semaphore(settings.concurrency),
    )
    with display.bar(benchmark.name, len(missing)) as advance:

        async def one(item: Item, number: int) -> Answer:
            answer = await _answer(benchmark, item, number, policy, renderer, settings)
            jsonl.append(out / RESULTS, asdict(answer))
            advance(answer.failure or f"score {answer.score:.2f}")
            return answer

        answers += await asyncio.gather(*(one(item, number) for item, number in missing))
    # In the benchmark's order, whichever was answered first: sums of floats depend on theirs.
    place = {item.id: index for index, item in enumerate(benchmark.items)}
    wanted = [answer for answer in answers if answer.item in place]
    wanted.sort(key=lambda answer: (place[answer.item], answer.number))
    summary = summarise(benchmark.name, wanted, settings.pass_at)
    return write_summary(out, replace(summary, measures=_measures(benchmark, wanted)))


def read_answers(out: Path) -> list[Answer]:
    """What is there of a run, the last of several answers of one number; a last line that a crash cut off is dropped
    from the file."""
    jsonl.drop_cut_line(out / RESULTS)
    answers = [Answer(**row) for row in jsonl.read(out / RESULTS)]
    return list({(answer.item, answer.number): answer for answer in answers}.values())


def _measures(benchmark: Benchmark, answers: Sequence[Answer]) -> dict[str, Estimate]:
    tasks = {item.id: item.task for item in benchmark.items}
    found: dict[str, Estimate] = {}
    for name, measure in benchmark.measures.items():
        values: list[float] = []
        units: list[str] = []
        for answer in answers:
            details = {} if answer.failure else answer.details or {}
            values += measure(tasks[answer.item], details)
            units += [answer.unit] * (len(values) - len(units))
        found[name] = share_interval(values, units)
    return found


def write_summary(out: Path, summary: Summary) -> Summary:
    write_text(out / SUMMARY, json.dumps(as_json(summary), indent=2) + "\n")
    return summary


def summarise(name: str, answers: Sequence[Answer], pass_at_ks: Sequence[int] = ()) -> Summary:
    if not answers:
        raise UserError(f"there are no answers to {name} to summarise")
    by_item: dict[str, list[Answer]] = {}
    for answer in answers:
        by_item.setdefault(answer.item, []).append(answer)
    fewest = min(map(len, by_item.values()))
    ks = sorted(set(pass_at_ks)) or [k for k in (2**power for power in range(12)) if k <= fewest]
    units = [given[0].unit for given in by_item.values()]
    counts = [(len(given), sum(a.score >= 1 for a in given)) for given in by_item.values()]
    pass_at = {
        k: share_interval([pass_at_k(n, c, k) for n, c in counts], units, interval=bootstrap_interval) for k in ks
    }
    scores = [a.score for a in answers]
    # Scorers of inspect_ai may give any number; our graders give shares.
    interval = share_interval if all(0 <= score <= 1 for score in scores) else clustered_interval
    return Summary(
        benchmark=name,
        score=interval(scores, [a.unit for a in answers]),
        pass_at={k: estimate.mean for k, estimate in pass_at.items()},
        pass_at_intervals=pass_at,
        items=len(by_item),
        answers=len(answers),
        failures=dict(Counter(answer.failure for answer in answers if answer.failure)),
        mean_tokens=sum(answer.tokens for answer in answers) / len(answers),
    )


async def _answer(
    benchmark: Benchmark, item: Item, number: int, policy: Policy, renderer: Renderer, settings: EvalSettings
) -> Answer:
    """One answer to one item. Whatever goes wrong with it is its own."""

    def failed(kind: str, why: object, sampled: SampledTokens | None = None, text: str = "") -> Answer:
        tokens = len(sampled.tokens) if sampled else 0
        details = {"why": str(why)}
        return Answer(item.id, item.cluster, number, 0.0, tokens, text, kind, details, item.fingerprint)

    try:
        prompt = renderer.build_generation_prompt(item.messages)
        seed = sample_seed(settings.seed, benchmark.name, item.id, number)
        sampled = await policy.act(Observation(prompt, renderer.get_stop_sequences()), seed)
    except (UserError, tinker.TinkerError) as error:
        return failed("error", error)
    message, termination = renderer.parse_response(sampled.tokens)
    text = text_of(message)
    if sampled.stop_reason == "length":
        return failed("cut_off", f"no end after {len(sampled.tokens)} tokens", sampled, text)
    if not termination.is_clean:
        return failed("malformed", termination, sampled, text)
    try:
        grade = await benchmark.grader(item.task, text)
    except GradingError as error:
        return failed("ungraded", error, sampled, text)
    except Exception as error:  # a grader's own fault: the other answers go on, and this one says what happened
        return failed("ungraded", f"{type(error).__name__}: {error}", sampled, text)
    tokens, details = len(sampled.tokens), dict(grade.details)
    return Answer(item.id, item.cluster, number, grade.score, tokens, text, None, details, item.fingerprint)


def read_settings(out: Path) -> dict[str, Any]:
    """What was asked of whom."""
    file = out / SETTINGS
    if not file.exists():
        raise UserError(f"{out} holds no results; run a benchmark there first")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def check_settings(file: Path, wanted: Mapping[str, Any]) -> None:
    """Written on the first call; then they have to be the same.

    Raises:
        UserError: they are not.
    """
    if not file.exists():
        write_text(file, json.dumps(wanted, indent=2, default=str) + "\n")
        return
    wanted = json.loads(json.dumps(wanted, default=str))
    found = json.loads(file.read_text(encoding="utf-8"))
    differing = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
    if differing:
        raise UserError(
            f"{file.parent} holds results of other settings (differing: {', '.join(differing)}); give a new directory"
        )


def _same_items(out: Path, benchmark: Benchmark, answers: Sequence[Answer]) -> None:
    """An answer is to what was asked then: a file may have changed under the same names."""
    asked = {answer.item: answer.asked for answer in answers}
    changed = [one.id for one in benchmark.items if asked.get(one.id, one.fingerprint) != one.fingerprint]
    if changed:
        raise UserError(
            f"{out} holds answers to other items of the same names: {len(changed)} of {len(benchmark.items)} differ, "
            f"the first is {changed[0]!r}; give a new directory, or the file that was asked"
        )
