"""Has the engine become slower? Compares ratios with the recorded ones; exit code 1 if one is worse.

    python -m benchmarks.check [--record] [--tolerance 0.2]

The ratios are those of `benchmarks.engine`: ours against Hugging Face + PEFT, mixed tenants against the same ones
apart, two cores against one. Both sides are measured in this run, so neither the machine nor its load moves them much.
One that looks worse is measured again and counts only if it is worse twice. `--record` writes the worse of two
measurements to benchmarks/check.json; record on a quiet machine.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

RECORD = Path(__file__).with_name("check.json")


@dataclass(frozen=True)
class Verdict:
    metric: str
    recorded: float | None
    """None: new since the record was made."""
    measured: float | None
    """None: recorded and not measured any more."""
    worse: bool


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--tolerance", type=float, default=0.2, help="how much of a ratio may be lost")
    args = parser.parse_args()
    measured = measure_ratios()
    if args.record:
        measured = worst(measured, measure_ratios())
        RECORD.write_text(json.dumps({name: round(ratio, 3) for name, ratio in measured.items()}, indent=1) + "\n")
        print(f"recorded {len(measured)} ratios in {RECORD}")
        return
    recorded = json.loads(RECORD.read_text())
    verdicts = compare(recorded, measured, args.tolerance)
    if any(v.worse and v.measured is not None for v in verdicts):
        verdicts = compare(recorded, best(measured, measure_ratios()), args.tolerance)
    print(table(verdicts, args.tolerance))
    sys.exit(any(v.worse for v in verdicts))


def measure_ratios() -> dict[str, float]:
    from benchmarks.engine import arguments, measure  # takes seconds, which comparing does not need

    rows = measure(arguments().parse_args(["--only", "train", "decode", "tenants", "cores", "--rounds", "7"]))
    # a single tenant mixed and apart is the same work twice
    return {
        row["metric"]: row["ratio"] for row in rows if "ratio" in row and not row["metric"].startswith("tenants_1_")
    }


def best(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    return {name: max(ratio, second.get(name, ratio)) for name, ratio in first.items()}


def worst(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    return {name: min(ratio, second.get(name, ratio)) for name, ratio in first.items()}


def compare(recorded: Mapping[str, float], measured: Mapping[str, float], tolerance: float) -> list[Verdict]:
    """A metric that is recorded and was not measured counts as worse: a benchmark must not vanish unseen."""
    verdicts = []
    for name in dict.fromkeys([*recorded, *measured]):
        before, now = recorded.get(name), measured.get(name)
        worse = before is not None and (now is None or now < before * (1 - tolerance))
        verdicts.append(Verdict(name, before, now, worse))
    return verdicts


def table(verdicts: list[Verdict], tolerance: float) -> str:
    lines = [f"{'ratio':32}{'recorded':>10}{'measured':>10}{'least':>10}"]
    for v in verdicts:
        least = None if v.recorded is None else v.recorded * (1 - tolerance)
        numbers = "".join(f"{'-' if x is None else f'{x:.2f}':>10}" for x in (v.recorded, v.measured, least))
        lines.append(f"{v.metric:32}{numbers}{'  WORSE' if v.worse else ''}")
    count = sum(v.worse for v in verdicts)
    return "\n".join([*lines, f"{count} of {len(verdicts)} ratios are worse than recorded"])


if __name__ == "__main__":
    main()
