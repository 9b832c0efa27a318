"""What a recipe reached, over several seeds: numbers, a plot, and the tables that people read.

recipes/<name>/results.json   everything that was measured
recipes/<name>/plot.svg       the curve of every seed, or the gain of every measure
recipes/<name>/README.md      the table between its two marks
docs/recipes.md               one line for each recipe
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hone.algorithms.evals.statistics import Estimate, clustered_interval
from hone.storage.atomic import write_text
from recipes.recipe import FOLDER, Curve, Measure, Outcome, Recipe, load_recipe, names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESULTS, PLOT = "results.json", "plot.svg"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
OVERVIEW = FOLDER.parent / "docs" / "recipes.md"


def write_results(recipe: Recipe, runs: Mapping[int, tuple[Outcome, float]]) -> None:
    """`runs` has the outcome of each seed, and its seconds."""
    folder = FOLDER / recipe.name
    rows = [{"seed": seed, "seconds": seconds, **asdict(outcome)} for seed, (outcome, seconds) in runs.items()]
    found = {"config": recipe.config.model_dump(mode="json"), "runs": rows}
    write_text(folder / RESULTS, json.dumps(found, indent=1) + "\n")
    draw({seed: outcome for seed, (outcome, _) in runs.items()}, folder / PLOT)
    write_readme(recipe.name)
    write_overview()


def write_readme(name: str) -> None:
    """What stands in it between the two marks."""
    folder = FOLDER / name
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    shown = "The curve of every seed" if _has_curves(folder / RESULTS) else "The gain of every measure"
    write_text(readme, f"{before}{BEGIN}\n{table(folder / RESULTS)}\n![{shown}]({PLOT})\n{END}{after}")


def _has_curves(results: Path) -> bool:
    return all(run["curve"] for run in json.loads(results.read_text(encoding="utf-8"))["runs"])


def table(results: Path) -> str:
    """Each measure before and after, and its gain with the interval over seeds."""
    found = json.loads(results.read_text(encoding="utf-8"))
    runs = found["runs"]
    lines = ["| measure | before | after | gain, 95 % interval |", "| --- | --- | --- | --- |"]
    for index, measure in enumerate(runs[0]["measures"]):
        before, after = ([run["measures"][index][key] for run in runs] for key in ("before", "after"))
        gain = _gain([Measure(**run["measures"][index]) for run in runs])
        lines.append(
            f"| {measure['name']} | {sum(before) / len(runs):.3g} | {sum(after) / len(runs):.3g} "
            f"| {gain.mean:+.3g} ({gain.low:+.3g} to {gain.high:+.3g}) |"
        )
    lines += [""] if runs[0]["facts"] else []
    lines += [f"{name}: {', '.join(_short(run['facts'][name]) for run in runs)}  " for name in runs[0]["facts"]]
    seconds = sum(run["seconds"] for run in runs) / len(runs)
    model = found["config"]["model"]
    seeds = ", ".join(str(run["seed"]) for run in runs)
    return "\n".join([*lines, "", f"`{model}`, seeds {seeds}, {seconds:.0f} s each."]) + "\n"


def _gain(measured: Sequence[Measure]) -> Estimate:
    """Over seeds."""
    return clustered_interval([one.gain for one in measured], range(len(measured)))


def _short(fact: object) -> str:
    return f"{fact:.3g}" if isinstance(fact, float) else str(fact)


OVERVIEW_BEGINS = """# Recipes

Written by `python -m recipes measure`. Gains are on what was never trained on. Methods of one kind stand beside each
other in `distillation_methods` and `rl_methods`; what seven methods, five of them for preferences, make of the same
rows is [an experiment](../recipes/experiments/methods/README.md).
"""


def write_overview() -> None:
    parts = [OVERVIEW_BEGINS]
    for name in names():
        if (FOLDER / name / RESULTS).exists():
            parts += [f"## [{name}](../recipes/{name}/README.md)", "", load_recipe(name).summary, ""]
            parts += [table(FOLDER / name / RESULTS)]
    write_text(OVERVIEW, "\n".join(parts).rstrip() + "\n")


def draw(outcomes: Mapping[int, Outcome], file: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "hone"  # the same picture is the same file
    from matplotlib import pyplot

    curves = {seed: outcome.curve for seed, outcome in outcomes.items() if outcome.curve is not None}
    if curves:
        figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
        _draw_curves(axes, curves)
    else:
        measured = list(zip(*(outcome.measures for outcome in outcomes.values()), strict=True))
        figure, axes = pyplot.subplots(figsize=(8, 1 + 0.28 * len(measured)), layout="constrained")
        _draw_gains(axes, measured)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def _draw_curves(axes: Axes, curves: Mapping[int, Curve]) -> None:
    for seed, curve in curves.items():
        axes.plot(*zip(*curve.points, strict=True), label=f"seed {seed}", linewidth=1.2)
    first = next(iter(curves.values()))
    axes.set_xlabel(first.x)
    if first.log_x:
        axes.set_xscale("log")
    axes.set_ylabel(first.name)
    axes.legend(frameon=False)


def _draw_gains(axes: Axes, measured: Sequence[Sequence[Measure]]) -> None:
    """Each measure a line: its gain with the interval over seeds, and the seeds as dots."""
    for place, seeds in enumerate(measured):
        gain = _gain(seeds)
        axes.errorbar(gain.mean, place, xerr=gain.half_width, fmt="o", color="C0", markersize=4, capsize=2)
        axes.plot([one.gain for one in seeds], [place] * len(seeds), ".", color="0.6", markersize=3)
    axes.axvline(0, color="0.6", linewidth=0.8)
    axes.set_yticks(range(len(measured)), [seeds[0].name for seeds in measured], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("gain, 95 % interval")
