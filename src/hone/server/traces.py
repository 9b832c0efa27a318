"""The journal's times in the Trace Event format, which Perfetto reads.

Operations wait and overlap, so each is an asynchronous slice on the track of its model or sampling session. In that of
a pass over data stand its wait for the device and its computing, with the number of its micro-batch, which tells who
shared it, and how full that was.
"""

from dataclasses import asdict
from typing import Any

from hone.server.journal import Timed
from hone.server.store import SessionSummary

PROCESS = 1
MICROSECONDS = 1_000_000


def perfetto(session: SessionSummary, timed: list[Timed]) -> dict[str, Any]:
    """`timed` in the order of acceptance."""
    start = timed[0].accepted_at if timed else 0.0
    end = max((one.finished_at or one.accepted_at for one in timed), default=start)
    lanes = {lane: number for number, lane in enumerate([*session.run_ids, *session.sampler_ids], 1)}
    events: list[dict[str, Any]] = [_name("process_name", 0, session.display_name or f"session {session.id}")]
    events += [_name("thread_name", number, lane) for lane, number in lanes.items()]
    for one in timed:
        slice = {"name": one.kind, "cat": one.kind, "id": one.request_id, "pid": PROCESS, "tid": lanes[one.lane]}
        args = {"request_id": one.request_id, "seq_id": one.seq_id, "state": one.state}
        finished = max(end if one.finished_at is None else one.finished_at, one.accepted_at)
        events.append(slice | {"ph": "b", "ts": _micro(one.accepted_at - start), "args": args})
        if one.passed is not None:
            begun = min(one.accepted_at + one.passed.queue_seconds, finished)
            for name, first, last in (("wait", one.accepted_at, begun), ("compute", begun, finished)):
                inner, said = slice | {"name": name}, asdict(one.passed) if name == "compute" else {}
                events.append(inner | {"ph": "b", "ts": _micro(first - start), "args": said})
                events.append(inner | {"ph": "e", "ts": _micro(last - start)})
        events.append(slice | {"ph": "e", "ts": _micro(finished - start)})
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"start": start, "session_id": session.id}}


def _name(what: str, thread: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": PROCESS, "tid": thread, "args": {"name": name}}


def _micro(seconds: float) -> int:
    return round(seconds * MICROSECONDS)
