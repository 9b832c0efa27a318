"""Numbers for Prometheus: counted where things happen, written out in its text format when they are asked for.

They belong to the process and start from zero with it, as Prometheus expects.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets in which durations are counted."""

FILLS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

Labels = tuple[tuple[str, str], ...]

_adding = threading.Lock()
"""Answers are kept, and counted, in the database's thread; requests in the event loop's."""


class Counter:
    """Only grows."""

    kind = "counter"

    def __init__(self, name: str, meaning: str) -> None:
        self.name, self.meaning = name, meaning
        self._values: dict[Labels, float] = {}

    def add(self, amount: float = 1, **labels: str) -> None:
        key = tuple(labels.items())
        with _adding:
            self._values[key] = self._values.get(key, 0) + amount

    def value(self, **labels: str) -> float:
        return self._values.get(tuple(labels.items()), 0)

    def lines(self) -> Iterable[str]:
        for labels, value in list(self._values.items()):
            yield sample(self.name, labels, value)


class Gauge(Counter):
    """Goes up and down."""

    kind = "gauge"

    def set(self, amount: float, **labels: str) -> None:
        self._values[tuple(labels.items())] = amount


class Histogram:
    """How many observations were at most so large, for each bound."""

    kind = "histogram"

    def __init__(self, name: str, meaning: str, bounds: tuple[float, ...] = SECONDS) -> None:
        self.name, self.meaning, self._bounds = name, meaning, bounds
        self._buckets: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, value: float, **labels: str) -> None:
        key = tuple(labels.items())
        with _adding:
            buckets = self._buckets.setdefault(key, [0] * (len(self._bounds) + 1))
            buckets[bisect_left(self._bounds, value)] += 1
            self._sums[key] = self._sums.get(key, 0.0) + value

    def lines(self) -> Iterable[str]:
        for labels, buckets in list(self._buckets.items()):
            total = 0
            for bound, count in zip([*map(str, self._bounds), "+Inf"], buckets, strict=True):
                total += count
                yield sample(f"{self.name}_bucket", (*labels, ("le", bound)), total)
            yield sample(f"{self.name}_sum", labels, self._sums[labels])
            yield sample(f"{self.name}_count", labels, total)


REQUESTS = Counter("hone_requests_total", "HTTP requests, by route and status")
REQUEST_SECONDS = Histogram("hone_request_seconds", "Time to the end of the answer, by route")
OPERATIONS = Counter("hone_operations_total", "Finished operations, by kind and outcome")
TOKENS = Counter("hone_tokens_total", "Tokens by kind: training, prefill, cached_prefill, sample")
RESIDENT = Gauge("hone_adapter_bytes", "Adapters in training, with moments and gradients, in the engine's memory")
MEMORY = Gauge("hone_memory_bytes", "What is held now: adapters and versions in the engine, and each process in all")
MEMORY_LIMIT = Gauge("hone_memory_limit_bytes", "What may be held, by use; see HONE_MEMORY_BYTES")
QUEUED = Gauge("hone_queued_operations", "Accepted operations without an answer, by kind of queue")

PASS_QUEUE = Histogram("hone_pass_queue_seconds", "How long passes over data waited for their first micro-batch")
PASS_FILL = Histogram("hone_pass_batch_fill", "How full the micro-batches of a pass were, of 1", FILLS)
DEVICE_SECONDS = Counter("hone_pass_device_seconds_total", "What passes took of the device, by their share of tokens")

TOKEN_KINDS = ("training", "prefill", "cached_prefill", "sample")
_METRICS = (
    REQUESTS,
    REQUEST_SECONDS,
    OPERATIONS,
    TOKENS,
    RESIDENT,
    MEMORY,
    MEMORY_LIMIT,
    QUEUED,
    PASS_QUEUE,
    PASS_FILL,
    DEVICE_SECONDS,
)


def count_operation(kind: str, failed: bool, used: Mapping[str, int]) -> None:
    """`used` are tokens by kind."""
    OPERATIONS.add(kind=kind, outcome="failed" if failed else "succeeded")
    for name, tokens in used.items():
        if tokens and name in TOKEN_KINDS:
            TOKENS.add(tokens, kind=name)


def count_pass(queue_seconds: float, fill: float, device_seconds: float) -> None:
    PASS_QUEUE.observe(queue_seconds)
    PASS_FILL.observe(fill)
    DEVICE_SECONDS.add(device_seconds)


def exposition() -> str:
    lines: list[str] = []
    for metric in _METRICS:
        lines += [f"# HELP {metric.name} {metric.meaning}", f"# TYPE {metric.name} {metric.kind}", *metric.lines()]
    return "\n".join(lines) + "\n"


def sample(name: str, labels: Labels, value: float) -> str:
    shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
    return f"{name}{{{shown}}} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
