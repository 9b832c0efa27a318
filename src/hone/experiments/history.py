"""A digest of past experiments, to decide the next one by: what was asked, what came out, what it took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hone.experiments.conclusion import Conclusion, Verdict, recorded
from hone.experiments.records import ExperimentRecord

DISQUALIFYING = ("unfinished", "waived_overlap", "test_disagrees")
"""Caveats with which a result is better not built upon."""


def digest(
    records: Iterable[ExperimentRecord],
    *,
    name: str | None = None,
    tag: str | None = None,
    verdict: Verdict | None = None,
    metric: str | None = None,
    contains: str | None = None,
    valid: bool | None = None,
    last: int | None = None,
) -> list[dict[str, Any]]:
    """Plain values, newest first; the same records give the same list.

    Args:
        name: Only experiments of this name.
        tag: Only those that have it.
        verdict: Only those that came to it.
        metric: Only those that chose by it.
        contains: Only those whose name, description or hypothesis has the words, in any case.
        valid: Only results that may be built upon, or only the others.
        last: Only so many, the newest.
    """
    found = [_entry(record) for record in records]
    found.sort(key=lambda entry: (entry["created"], entry["id"]), reverse=True)
    words = contains.casefold() if contains else ""
    kept = [
        entry
        for entry in found
        if (name is None or entry["name"] == name)
        and (tag is None or tag in entry["tags"])
        and (verdict is None or entry["verdict"] == verdict)
        and (metric is None or entry["metric"] == metric)
        and (valid is None or entry["valid"] == valid)
        and words in f"{entry['name']} {entry['description']} {entry['hypothesis'] or ''}".casefold()
    ]
    return kept if last is None else kept[:last]


def _entry(record: ExperimentRecord) -> dict[str, Any]:
    found = recorded(record)
    usage = found.usage
    states = [arm.training for arm in record.arms]
    caveats = [one.kind for one in found.caveats]
    return {
        "id": record.id,
        "name": record.name,
        "created": record.created,
        "status": record.status,
        "description": record.config.get("description") or "",
        "tags": record.config.get("tags") or [],
        "parent": record.config.get("parent_experiment"),
        "hypothesis": found.statement,
        "verdict": found.verdict,
        "reason": found.reason,
        "metric": found.metric,
        "goal": found.goal,
        "effect": _effect(found),
        "best": _best(record, found),
        "arms": {"all": len(states), **{state: states.count(state) for state in sorted(set(states))}},
        "tokens": usage.training_tokens + usage.prefill_tokens + usage.sample_tokens,
        "cost": usage.cost,
        "seconds": usage.seconds,
        "failures": [one.model_dump() for one in found.failures],
        "caveats": caveats,
        "valid": record.status == "done" and found.best is not None and not set(DISQUALIFYING) & set(caveats),
        "next": [one.text for one in found.next],
    }


def _effect(found: Conclusion) -> dict[str, Any] | None:
    if found.effect is None or found.interval is None or found.better is None or found.than is None:
        return None
    return {
        "value": found.effect,
        "low": found.interval.low,
        "high": found.interval.high,
        "p": found.p,
        "better": found.better.best,
        "than": found.than.best,
    }


def _best(record: ExperimentRecord, found: Conclusion) -> dict[str, Any] | None:
    if found.best is None:
        return None
    arm = next(one for one in record.arms if one.name == found.best.arm)
    return {
        "arm": arm.name,
        "group": arm.group,
        "cell": arm.cell,
        "value": found.best.value,
        "low": found.best.interval.low,
        "high": found.best.interval.high,
        "tied_with": found.best.tied_with,
        "sampler_path": arm.sampler_path,
    }
