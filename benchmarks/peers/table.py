"""The page of results: Markdown, a table for each chapter."""

from collections.abc import Sequence

from benchmarks.peers.results import Report, Result
from benchmarks.peers.systems import ENGINE, OURS, SERVER, SYSTEMS

INTRODUCTION = """# Against what people would use instead

Written by the command below; every number was measured with it. One random model of 1.3 M parameters in the shape of
Qwen 3 (4 layers of 128, vocabulary 2,048, float32), adapters on all projections of its layers.

All systems of a chapter are started, work in turn, each on the same tokens, and are stopped while they wait. A short
training step is repeated for a quarter of a second, and its mean counts. In brackets: how many times as fast Hone is
(or as small), the median of the rounds' ratios; **bold where Hone is behind**. What is compiled or filled when it is
first needed does not count, except in the chapter about starting. Who takes more than 20 s for a piece of work is
measured once, who takes more than three minutes is ended, and a note says so.

"Hone" and SkyRL tx are measured as servers, through the official SDK over HTTP, with their journals on disk; the
others are libraries, called within their own process, and so is "Hone, engine alone": what the server's engine process
runs, without server, journal and HTTP. Beside a library there are both ratios: of the server, which is what users of
Hone get, and of the engine, which is like with like. Each system takes the threads that it takes by default.

Not here: TuFT 0.2.2. It requires torch 2.11 with vLLM 0.24 built for GPUs; what it offers without one is a stand-in for
tests that runs no model.
"""


GROWTH = """Against the first size. Tokens and lengths are compared within one chapter; tenants and ranks have chapters
of their own, so on a busy machine their curves show its load too.
"""


def page(report: Report) -> str:
    parts = [INTRODUCTION, _machine(report), _summary(report.results)]
    chapters = dict.fromkeys(r.chapter for r in report.results)
    parts += [_chapter(chapter, report) for chapter in chapters]
    return "\n".join(part for part in (*parts, _growth(report.results)) if part)


def _machine(report: Report) -> str:
    lines = [f"- {name}: {value}" for name, value in report.machine.items()]
    for system, versions in report.versions.items():
        if not versions:
            continue  # another setting of one that has them
        lines.append(f"- {SYSTEMS[system].title}: " + ", ".join(f"{name} {v}" for name, v in versions.items()))
    return "\n".join(lines) + "\n"


def _summary(results: Sequence[Result]) -> str:
    """For each peer a line for the server, and beside a library one for the engine alone."""
    columns = ["", "against", "rows", "ahead in", "at least 3 times", "least, median and greatest ratio"]
    lines = [_line(columns), "| --- " * len(columns) + "|"]
    for system in [s for s in SYSTEMS if s not in OURS]:
        for ours in _compared(system):
            ratios = sorted(r.ratio(system, ours) for r in results if system in r.values and ours in r.values)
            if ratios:
                counts = len(ratios), sum(x > 1 for x in ratios), sum(x >= 3 for x in ratios)
                span = f"{ratios[0]:.2f}, {ratios[len(ratios) // 2]:.2f}, {ratios[-1]:.2f}"
                lines.append(_line([SYSTEMS[ours].title, SYSTEMS[system].title, *map(str, counts), span]))
    return "\n".join(lines) + "\n"


def _compared(system: str) -> tuple[str, ...]:
    """What of ours stands beside it."""
    return OURS if SYSTEMS[system].library else (SERVER,)


def _chapter(title: str, report: Report) -> str:
    results = [r for r in report.results if r.chapter == title]
    systems = [s for s in SYSTEMS if any(s in r.values or s in r.missing for r in results)]
    columns = ["", "unit", *(SYSTEMS[s].title for s in systems)]
    notes: list[str] = []
    lines = [f"## {title}\n", *(f"{c}.\n" for c in [report.conditions.get(title)] if c)]
    lines += [_line(columns), "| --- " * len(columns) + "|"]
    for result in results:
        lines.append(_line([result.name, result.unit, *(_cell(result, s, notes) for s in systems)]))
    lines += ["", *(f"{mark(i)} {note}  " for i, note in enumerate(notes))]
    return "\n".join(lines).rstrip() + "\n"


def _cell(result: Result, system: str, notes: list[str]) -> str:
    if system in result.values:
        beside = [] if system in OURS else [ours for ours in _compared(system) if ours in result.values]
        ratios = ", ".join(_NAMES[ours] + _times(result.ratio(system, ours)) for ours in beside)
        return _number(result.shown(system)) + (f" ({ratios})" if ratios else "")
    if reason := result.missing.get(system):
        if reason not in notes:
            notes.append(reason)
        return mark(notes.index(reason))
    return ""


_NAMES = {SERVER: "", ENGINE: "engine "}


def _times(ratio: float) -> str:
    return f"{ratio:.2f} x" if ratio > 1 else f"**{ratio:.2f} x**"


def _growth(results: Sequence[Result]) -> str:
    """How the time grows, against the first size."""
    curves = {
        "tokens (sequences of 128)": ["4 x 128 tokens", "16 x 128 tokens", "64 x 128 tokens"],
        "length (4 sequences)": ["4 x 128 tokens", "4 x 256 tokens", "4 x 512 tokens", "4 x 1024 tokens"],
        "tenants (each 4 x 128)": ["4 x 128 tokens", *(f"{n} tenants, each 4 x 128 tokens" for n in (4, 16, 64))],
        "rank (8 x 128)": [f"Training, rank {rank}" for rank in (8, 32, 64)],
    }
    measured = {key: p for keys in curves.values() for key in keys if (p := _point(results, key)) is not None}
    systems = [s for s in SYSTEMS if any(s in p.values for p in measured.values())]
    lines = ["## How time grows\n", GROWTH, _line(["", "sizes", *(SYSTEMS[s].title for s in systems)])]
    lines.append("| --- " * (2 + len(systems)) + "|")
    for name, keys in curves.items():
        points = [measured[key] for key in keys if key in measured]
        if len(points) < 2:
            continue
        cells = []
        for system in systems:
            medians = [_median(p.values[system]) for p in points if system in p.values]
            complete = len(medians) == len(points)
            cells.append(" / ".join(f"{m / medians[0]:.1f}" for m in medians) if complete else "")
        sizes = " / ".join(f"{p.tokens or 0:,}" for p in points) if "rank" not in name else "8 / 32 / 64"
        lines.append(_line([name, sizes, *cells]))
    return "\n".join(lines) + "\n" if len(lines) > 4 else ""


def _point(results: Sequence[Result], key: str) -> Result | None:
    """The row with this name, or the first one of the chapter with this title."""
    return next((r for r in results if r.unit == "tokens/s" and key in (r.name, r.chapter)), None)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def mark(index: int) -> str:
    return f"[{index + 1}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
