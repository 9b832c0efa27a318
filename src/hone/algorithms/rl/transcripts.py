"""Episodes one can read: `iteration_000000/rollouts.jsonl` for programs and `rollouts.html` for people.

Each turn shows what was new to the model, what it said, and what that brought. Files are bounded: the first groups of a
step, long texts without their middle, and no more kilobytes than the configuration says; what was left out is counted.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tinker

from hone.algorithms.datums import flatten
from hone.algorithms.rl.advantages import Advantage, advantages
from hone.algorithms.rl.config import TranscriptConfig
from hone.algorithms.training_session import is_due
from hone.algorithms.types import Trajectory, TrajectoryGroup
from hone.storage.atomic import write_text

Decode = Callable[[list[int]], str]


def write_transcripts(
    run_dir: Path,
    step: int,
    groups_P: Sequence[TrajectoryGroup],
    config: TranscriptConfig,
    decode: Decode,
    advantage: Advantage,
) -> None:
    """The files of one step; the same step again replaces them."""
    if not is_due(config.every, step):
        return
    folder = run_dir / f"iteration_{step:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    room = config.kilobytes * 1024
    lines: list[str] = []
    shown: list[dict[str, Any]] = []
    records = list(_records(step, groups_P[: config.groups], config, decode, advantage))
    for record in records:
        line = json.dumps(record, ensure_ascii=False) + "\n"
        room -= len(line.encode())
        if room < 0:
            break
        lines.append(line)
        shown.append(record)
    left_out = sum(max(1, len(group.trajectories_G)) for group in groups_P) - len(shown)
    if left_out:
        lines.append(json.dumps({"step": step, "left_out": left_out}) + "\n")
    write_text(folder / "rollouts.jsonl", "".join(lines))
    write_text(folder / "rollouts.html", page(step, shown, left_out))


def _records(
    step: int, groups_P: Sequence[TrajectoryGroup], config: TranscriptConfig, decode: Decode, advantage: Advantage
) -> Iterator[dict[str, Any]]:
    """One for each episode; one for a group that was lost."""
    for index, group in enumerate(groups_P):
        known = {"step": step, "group": index, "tags": list(group.tags)}
        failures = [{"kind": failure.kind, "message": failure.message} for failure in group.failures]
        if not group.trajectories_G:
            yield {**known, "failures": failures}
            continue
        for member, (trajectory, reward, credit) in enumerate(
            zip(group.trajectories_G, group.total_rewards_G(), advantages(group, advantage), strict=True)
        ):
            yield {
                **known,
                "member": member,
                "total_reward": reward,
                "group_reward": group.group_rewards_G[member],
                "advantage": float(credit),
                "stop_reason": trajectory.stop_reason,
                "metrics": group.metrics_G[member],
                "turns": list(_turns(trajectory, config, decode)),
                "failures": failures if member == 0 else [],
            }


def _turns(trajectory: Trajectory, config: TranscriptConfig, decode: Decode) -> Iterator[dict[str, Any]]:
    seen: list[int | tinker.ModelInputChunk] = []
    for transition in trajectory.transitions:
        observation = flatten(transition.observation)
        extends = observation[: len(seen)] == seen
        new = observation[len(seen) :] if extends else observation
        yield {
            "observation": _short(_text(new, decode), config.characters),
            "whole": not extends or not seen,
            "observation_tokens": transition.observation.length,
            "action": _short(decode(transition.action.tokens), config.characters),
            "action_tokens": len(transition.action.tokens),
            "action_stop": transition.action.stop_reason,
            "reward": transition.reward,
            "metrics": transition.metrics,
            "logs": {
                key: _short(value, config.characters) if isinstance(value, str) else value
                for key, value in transition.logs.items()
            },
        }
        seen = [*observation, *transition.action.tokens]


def _text(elements: Sequence[int | tinker.ModelInputChunk], decode: Decode) -> str:
    parts: list[str] = []
    tokens: list[int] = []
    for element in [*elements, None]:
        if isinstance(element, int):
            tokens.append(element)
            continue
        if tokens:
            parts.append(decode(tokens))
            tokens = []
        if element is not None:
            parts.append(f"[image of {element.length} tokens]")
    return "".join(parts)


def _short(text: str, characters: int) -> str:
    if len(text) <= characters:
        return text
    half = characters // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"


STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
summary { cursor: pointer; padding: .2em 0; }
pre { white-space: pre-wrap; margin: .3em 0; padding: .5em; border-left: 3px solid #bbb; background: #f6f6f6; }
pre.action { border-color: #2a7; background: #eefaf3; }
pre.failure { border-color: #c33; background: #fdf0f0; }
.facts { color: #666; }
"""


def page(step: int, records: Sequence[dict[str, Any]], left_out: int) -> str:
    """A page that needs nothing but itself."""
    body = "".join(_episode(record) for record in records)
    more = f"<p class=facts>{left_out} more episodes are not shown.</p>" if left_out else ""
    return (
        f"<!doctype html><meta charset=utf-8><title>Rollouts of step {step}</title><style>{STYLE}</style>"
        f"<h1>Rollouts of step {step}</h1>{body}{more}\n"
    )


def _episode(record: dict[str, Any]) -> str:
    name = f"group {record['group']}" + (f" ({', '.join(record['tags'])})" if record["tags"] else "")
    failures = "".join(
        f"<pre class=failure>{html.escape(failure['kind'])}: {html.escape(failure['message'])}</pre>"
        for failure in record["failures"]
    )
    if "member" not in record:
        return f"<details open><summary>{html.escape(name)}: lost</summary>{failures}</details>"
    turns = "".join(
        f"<pre>{html.escape(turn['observation'])}</pre><pre class=action>{html.escape(turn['action'])}</pre>"
        f"<p class=facts>{turn['action_tokens']} tokens, {html.escape(turn['action_stop'])}, reward {turn['reward']:g} "
        f"{html.escape(_facts({**turn['metrics'], **turn['logs']}))}</p>"
        for turn in record["turns"]
    )
    return (
        f"<details><summary>{html.escape(name)}, member {record['member']}: reward {record['total_reward']:g}, "
        f"advantage {record['advantage']:+.3g}, {html.escape(record['stop_reason'] or 'ended')} "
        f"{html.escape(_facts(record['metrics']))}</summary>{turns}{failures}</details>"
    )


def _facts(facts: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in facts.items()
    )
