"""A task of `inspect_ai` against a model: inspect_ai asks and scores, and what comes of it is kept in our form.

begun.json       what is to be asked of whom
logs/            inspect_ai's own log, with every message: `inspect view --log-dir OUT/logs`; a run that was interrupted
                 takes from it what was answered, and asks what is missing
settings.json    what was asked of whom, as it was settled
results.jsonl    one line per answer
summary.json     the score with its interval, pass@k, failures by kind
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import tinker

from hone.algorithms.evals.benchmark import fingerprint
from hone.algorithms.evals.inspect_model import inspect_model
from hone.algorithms.evals.run import RESULTS, SETTINGS, Answer, Summary, check_settings, summarise, write_summary
from hone.algorithms.evals.statistics import Estimate, clustered_interval
from hone.algorithms.renderers import Renderer
from hone.errors import UserError
from hone.storage import jsonl
from hone.storage.atomic import write_text

try:
    import inspect_ai
    from inspect_ai._eval.task import PreviousTask  # what its own `eval_retry` is made of; that cannot take our model
    from inspect_ai._util.error import PrerequisiteError  # it is raised to users, and has no public name
    from inspect_ai.log import EvalLog, EvalSample, list_eval_logs, read_eval_log
    from inspect_ai.scorer import Value, value_to_float
except ImportError:
    raise UserError("tasks of inspect_ai need `pip install 'hone[inspect]'`") from None


BEGUN, LOGS = "begun.json", "logs"
STOP = "stop_reason"
"""The detail of an answer that is no score."""


@dataclass(frozen=True)
class InspectSettings:
    """What is None is the task's to say, and inspect_ai's default where it does not."""

    answers: int | None = None
    """To each sample: inspect_ai's epochs."""
    temperature: float | None = None
    max_tokens: int | None = None
    limit: int | None = None
    """Only the first so many samples."""
    task_args: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    """Who answers: a base model's name or a checkpoint's path."""
    renderer: str = ""
    """The name of the chat format, for the record."""
    seed: int = 0
    concurrency: int = 64


def run_inspect_task(
    task: str | inspect_ai.Task,
    sampler: tinker.SamplingClient,
    renderer: Renderer,
    out: Path,
    settings: InspectSettings = InspectSettings(),
    *,
    display: Literal["rich", "plain", "none"] = "none",
) -> Summary:
    """`task` is a task, or where one is: `file.py`, `file.py@name`, `package/name`.

    The score of an answer is what the task's first scorer says of it, as a number; what others say is in the details.
    A sample that ended in an error, or without a score, counts as 0, where inspect_ai leaves it out of its metrics.

    On the directory of a run that was interrupted, only samples that are missing, or ended in an error, are asked. Of a
    process that was killed up to ten answers are lost with it: inspect_ai writes so many at a time.

    Raises:
        UserError: no such task, several in the file, or a directory that holds results, or ones of other settings.
    """
    if (out / SETTINGS).exists():
        raise UserError(f"{out} holds results; give a new directory")
    name = settings.model or sampler.get_base_model()
    given = _one_task(task) if isinstance(task, str) else task
    out.mkdir(parents=True, exist_ok=True)
    wanted = {"task": task if isinstance(task, str) else task.name, **asdict(settings), "model": name}
    check_settings(out / BEGUN, wanted | {"concurrency": None})
    try:
        found = inspect_ai.eval(
            _going_on(given, settings, out / LOGS) or given,
            model=inspect_model(sampler, renderer, name),
            task_args=dict(settings.task_args),
            epochs=settings.answers,
            limit=settings.limit,
            temperature=settings.temperature,
            max_tokens=settings.max_tokens,
            seed=settings.seed,
            max_connections=settings.concurrency,
            max_samples=settings.concurrency,
            fail_on_error=False,
            log_dir=str(out / LOGS),
            log_realtime=False,
            display=display,
            ctl_server=False,
        )
    except PrerequisiteError as error:
        raise UserError(f"inspect_ai does not run {task}: {error.message}") from None
    if len(found) != 1:
        raise UserError(f"{task} is {len(found)} tasks; name one of them")
    log = found[0]
    if log.status == "cancelled":
        raise KeyboardInterrupt
    if log.status != "success" or not log.samples:
        why = log.error.message if log.error else "it has no samples"
        raise UserError(f"inspect_ai could not run {task}: {why}; its log is in {out / LOGS}")
    write_text(out / SETTINGS, json.dumps(_asked(log, settings) | {"model": name}, indent=2) + "\n")
    answers = sorted(
        (_answer(sample, log.eval.model) for sample in log.samples), key=lambda one: (one.item, one.number)
    )
    jsonl.write(out / RESULTS, map(asdict, answers))
    summary = summarise(log.eval.task, answers)
    return write_summary(out, replace(summary, measures=_measures(answers)))


def _going_on(task: str | inspect_ai.Task, settings: InspectSettings, logs: Path) -> PreviousTask | None:
    """The task with what was answered before, in however many attempts; None if nothing was."""
    log: EvalLog | None = None
    answered: dict[tuple[str | int, int], EvalSample] = {}
    for info in list_eval_logs(str(logs), descending=False) if logs.is_dir() else []:
        log = read_eval_log(info)
        answered |= {(one.id, one.epoch): one for one in log.samples or [] if one.error is None}
    if log is None:
        return None
    log.samples = list(answered.values())
    return PreviousTask(
        id=log.eval.task_id,
        task=task,
        task_args=dict(settings.task_args),
        model=None,
        model_roles=None,
        sandbox=log.eval.sandbox,
        log=log,
        log_info=None,
    )


def _one_task(spec: str) -> str:
    """The one that is meant. inspect_ai would run all tasks of a file, one result after the other."""
    name, _, chosen = spec.partition("@")
    file = Path(name)
    if file.suffix not in (".py", ".ipynb"):
        return spec
    if not file.is_file():
        raise UserError(f"there is no file {file}; a task is `file.py`, `file.py@name` or `package/name`")
    tasks = [task.name for task in inspect_ai.list_tasks(file.name, root_dir=file.resolve().parent)]
    if chosen in tasks or (len(tasks) == 1 and not chosen):
        return spec
    if not tasks:
        raise UserError(f"{file} has no task: a function with the decorator @task that gives a Task")
    raise UserError(f"name one of the tasks of {file}: {', '.join(f'{file}@{task}' for task in tasks)}")


def _asked(log: EvalLog, settings: InspectSettings) -> dict[str, Any]:
    """What was asked of whom, as far as it was settled by the task, by inspect_ai or by the caller."""
    config = log.plan.config
    return {
        "benchmark": log.eval.task,
        "answers": log.eval.config.epochs or 1,
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
        "limit": settings.limit,
        "task_args": dict(settings.task_args),
        "renderer": settings.renderer,
        "seed": settings.seed,
    }


def _answer(sample: EvalSample, model: str) -> Answer:
    usage = sample.model_usage.get(model)
    tokens = usage.output_tokens if usage else 0
    text = sample.output.completion
    item, number = str(sample.id), sample.epoch - 1
    given = sample.input if isinstance(sample.input, str) else [(one.role, one.text) for one in sample.input]
    asked = fingerprint([given, sample.choices, sample.target])

    def failed(kind: str, why: str) -> Answer:
        return Answer(item, "", number, 0.0, tokens, text, kind, {"why": why}, asked)

    if sample.error is not None:
        return failed("error", sample.error.message)
    scores = dict(_numbers(sample))
    if not scores:
        return failed("ungraded", "no scorer gave a score")
    score = next(iter(scores.values()))
    if not math.isfinite(score):
        return failed("ungraded", f"the score is {score}")
    return Answer(item, "", number, score, tokens, text, None, scores | {STOP: sample.output.stop_reason}, asked)


def _measures(answers: Sequence[Answer]) -> dict[str, Estimate]:
    """What the scorers say beside the first; a failure counts as 0, as it does in the score."""
    graded = [answer.details or {} for answer in answers if answer.failure is None]
    names = dict.fromkeys(name for details in graded for name in list(details)[1:] if name != STOP)
    return {
        name: clustered_interval(
            [float((answer.details or {}).get(name, 0.0)) for answer in answers], [answer.unit for answer in answers]
        )
        for name in names
    }


def _numbers(sample: EvalSample) -> Iterator[tuple[str, float]]:
    """Every score as a number: right is 1, wrong is 0. A scorer may give several."""
    number = value_to_float()
    for scorer, score in (sample.scores or {}).items():
        value: Value = score.value
        if isinstance(value, Mapping):
            yield from ((f"{scorer}/{name}", number(one)) for name, one in value.items() if one is not None)
        elif isinstance(value, (str, int, float, bool)):
            yield scorer, number(value)
