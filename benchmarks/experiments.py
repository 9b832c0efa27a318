"""How long it takes to load, plan, check and list many arms. One JSON line per metric.

    python benchmarks/experiments.py [--arms 200] [--deep]

Each is a process of its own, as a command is, from its start to its end. `import` is what every one of them takes
before it begins. With `--deep` the check also reads and tokenises 1,000 conversations.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from server import emit

IMPORT = "from pathlib import Path; from hone.experiments.loading import load_experiment"
LOAD = "loaded = load_experiment(Path({path!r}))"
PLAN = "from hone.experiments.matrix import plan_arms; arms = plan_arms(loaded.config)"
LIST = "print('\\n'.join(f'{a.name} {a.group} {a.run.seed} {a.config_hash}' for a in arms))"
CHECK = "from hone.experiments.check import check; report = check(loaded, deep={deep}); assert report.ok"
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
            load, check = LOAD.format(path=str(home / f"{form}.yaml")), CHECK.format(deep=args.deep)
            for what, program in (
                ("import", [IMPORT]),
                ("plan_and_list", [IMPORT, load, PLAN, LIST]),
                ("check", [IMPORT, load, check, SHOW]),
                ("plan_check_and_list", [IMPORT, load, PLAN, check, LIST]),
            ):
                seconds, processor = timed("\n".join(program))
                about = {"form": form, "arms": args.arms, "deep": args.deep}
                emit(f"experiments_{what}", "s", seconds, **about)
                emit(f"experiments_{what}_processor", "s", processor, **about)


def timed(program: str) -> tuple[list[float], list[float]]:
    """By the clock, and of the processor: others may use the machine."""
    seconds, processor = [], []
    for _ in range(3):
        began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime)
    return seconds, processor


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
