"""How long it takes to load, plan, check and list many arms. One JSON line per metric.

    python benchmarks/experiments.py [--arms 200] [--deep]

Each is a process of its own, as a command is: `seconds` is from its start to its end. `import` is what a command that
only loads experiments takes before it begins. With `--deep` the check also reads and tokenises 1,000 conversations.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from server import emit

LOAD = "from pathlib import Path; from hone.experiments.loading import load_experiment; path = Path({path!r})"
PLAN = "from hone.experiments.matrix import plan_arms; arms = plan_arms(load_experiment(path).config)"
LIST = "print('\\n'.join(f'{a.name} {a.group} {a.run.seed} {a.config_hash}' for a in arms))"
CHECK = "from hone.experiments.check import check; report = check(load_experiment(path), deep={deep}); assert report.ok"
SHOW = "print(report.model_dump_json())"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--arms", type=int, default=200)
    parser.add_argument("--deep", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        (home / "train.jsonl").write_text("".join(json.dumps(conversation(i)) + "\n" for i in range(1000)))
        for form, text in (("matrix", matrix(args.arms)), ("runs", runs(args.arms))):
            (home / f"{form}.yaml").write_text(text)
            load = LOAD.format(path=str(home / f"{form}.yaml"))
            check = CHECK.format(deep=args.deep)
            for what, program in (
                ("import", [load]),
                ("plan_and_list", [load, PLAN, LIST]),
                ("check", [load, check, SHOW]),
                ("plan_check_and_list", [load, PLAN, check, LIST]),
            ):
                emit(f"experiments_{what}", "s", timed("\n".join(program)), form=form, arms=args.arms, deep=args.deep)


def timed(program: str) -> list[float]:
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    return seconds


def conversation(number: int) -> dict[str, object]:
    question, answer = f"What is {number} plus {number}?", str(2 * number)
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


RUN = """\
data: {source: {kind: jsonl, params: {path: train.jsonl}}}
backend: {kind: tinker}
algorithm: {kind: sft}
validation: {every: 20, metrics: [nll]}
"""


def matrix(arms: int) -> str:
    rates = ", ".join(f"{(1 + i) * 1e-5:.2e}" for i in range(arms // 2))
    base = "".join(f"    {line}\n" for line in RUN.splitlines())
    axes = f"    algorithm.params.lr: [{rates}]\n    model.lora_rank: [8, 16]\n"
    return f"name: many\nmatrix:\n  axes:\n{axes}  base_run:\n{base}"


def runs(arms: int) -> str:
    listed = "".join(
        f"  - name: arm{i}\n    seed: {i}\n" + "".join(f"    {line}\n" for line in RUN.splitlines())
        for i in range(arms)
    )
    return f"name: many\nruns:\n{listed}"


if __name__ == "__main__":
    main()
