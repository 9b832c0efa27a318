"""Small data sets in the shapes that the recipes expect, each in a directory named like its id on the hub.

`datasets.load_dataset` prefers an existing directory to the hub, so a recipe that runs in `root` finds them by itself.
"""

import csv
import json
import random
import wave
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

Row = dict[str, Any]

OFTEN_BOXED = "written"
"""What the embedded model boxes most of the time after the example of `rl_loop`. As the right answer it makes some
rewards 1 and others 0, so that there is something to learn; with sums all would be 0."""


def write_data(root: Path) -> None:
    datasets.disable_progress_bars()
    rng = random.Random(0)

    def rows(make: Callable[[int, int], Row], count: int) -> list[Row]:
        return [make(rng.randint(0, 9), rng.randint(0, 9)) for _ in range(count)]

    def write(path: str, lines: Iterable[Row]) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("".join(json.dumps(line) + "\n" for line in lines))

    # supervised
    write("HuggingFaceH4/no_robots/train.jsonl", rows(chat, 256))
    write("HuggingFaceH4/no_robots/test.jsonl", rows(chat, 128))
    write("allenai/tulu-3-sft-mixture/train.jsonl", rows(chat, 1024 + 64))  # the first 1,024 are for tests
    write("open-thoughts/OpenThoughts3-1.2M/train.jsonl", rows(thoughts, 256))
    write("languages.jsonl", rows(chat, 64))
    sentences = root / "tinker_cookbook/example_data/multilingual.txt"
    sentences.parent.mkdir(parents=True)
    sentences.write_text("hola\nbonjour\nhello\nguten Tag\n")

    # preferences and rubrics
    write("Anthropic/hh-rlhf/train.jsonl", rows(preference, 256))
    write("Anthropic/hh-rlhf/test.jsonl", rows(preference, 8))
    write("prometheus-eval/Feedback-Collection/train.jsonl", rows(feedback, 64))

    # mathematics
    write("openai/gsm8k/main/train.jsonl", rows(gsm8k, 256))
    write("openai/gsm8k/main/test.jsonl", rows(gsm8k, 8))
    splits(root / "openai/gsm8k", "main", "train", "test")
    write(
        "zwhe99/DeepMath-103K/train.jsonl", rows(lambda a, b: {"question": ask(a, b), "final_answer": str(a + b)}, 128)
    )
    write("POLARIS-Project/Polaris-Dataset-53K/train.jsonl", rows(three_numbers, 128))
    write("HuggingFaceH4/MATH-500/test.jsonl", rows(solution, 8))
    write("EleutherAI/hendrycks_math/algebra/train.jsonl", [solution(a, b + 100) for a in range(8) for b in range(8)])
    write("EleutherAI/hendrycks_math/algebra/test.jsonl", [solution(a, b + 200) for a in range(8) for b in range(8)])
    splits(root / "EleutherAI/hendrycks_math", "algebra", "train", "test")

    # self-distillation
    write("hicai-zju/SciKnowEval/test.jsonl", rows(science, 64))
    write("tangqiaoyu/ToolAlpaca/train.jsonl", rows(tool_use, 64))
    arrow(root / "arrow/science_data/train_data", rows(science_lesson, 16))
    arrow(root / "arrow/science_data/eval_data", rows(science_question, 4))
    arrow(
        root / "arrow/tooluse_data/train_data",
        rows(lambda a, b: {"prompt": ask(a, b), "golden_response": [str(a + b)]}, 16),
    )
    arrow(
        root / "arrow/tooluse_data/eval_data",
        rows(lambda a, b: {"prompt": ask(a, b), "golden_answer": [{"Action": "add"}]}, 4),
    )

    # long documents, forecasts, pictures, sound
    words = "the time when after many days they could see their own house over the hill".split()
    write("Salesforce/wikitext/raw/train.jsonl", [{"text": " ".join(rng.choices(words, k=40))} for _ in range(200)])
    splits(root / "Salesforce/wikitext", "raw", "train", name="wikitext-103-raw-v1")
    forecasts(root / "forecasts.csv")
    pictures(root / "dpdl-benchmark/caltech101")
    sounds(root / "expresso")

    harbor_task(root / "home/.cache/harbor/tasks/terminal-bench-2.0/greet")

    # benchmarks
    write("MathArena/aime_2025/test.jsonl", rows(lambda a, b: {"problem": ask(a, b), "answer": str(a + b)}, 4))
    write("MathArena/aime_2026/test.jsonl", rows(lambda a, b: {"problem": ask(a, b), "answer": str(a + b)}, 4))
    write("TIGER-Lab/MMLU-Pro/test.jsonl", rows(lambda a, b: choice(a, b) | {"answer_index": 0, "question_id": a}, 4))
    write(
        "m-a-p/SuperGPQA/train.jsonl", rows(lambda a, b: choice(a, b) | {"answer_letter": "A", "discipline": "sums"}, 4)
    )
    write("Idavidrein/gpqa/gpqa_diamond/train.jsonl", rows(gpqa, 4))
    splits(root / "Idavidrein/gpqa", "gpqa_diamond", "train")
    write(
        "edinburgh-dawg/mmlu-redux/anatomy/test.jsonl",
        rows(lambda a, b: {"question": ask(a, b), "choices": options(a, b), "answer": 0}, 4),
    )
    splits(root / "edinburgh-dawg/mmlu-redux", "anatomy", "test")
    write("ceval/ceval-exam/accountant/val.jsonl", rows(ceval, 4))
    splits(root / "ceval/ceval-exam", "accountant", "val")
    write("google/IFEval/train.jsonl", [instruction(key) for key in range(4)])


def splits(directory: Path, folder: str, *names: str, name: str = "") -> None:
    """The card that makes `folder` a configuration of the data set."""
    files = "".join(f"  - split: {split}\n    path: {folder}/{split}.jsonl\n" for split in names)
    card = f"---\nconfigs:\n- config_name: {name or folder}\n  data_files:\n{files}---\n"
    (directory / "README.md").write_text(card)


def arrow(directory: Path, rows: list[Row]) -> None:
    datasets.Dataset.from_list(rows).save_to_disk(str(directory))


# --- one row ---------------------------------------------------------------------------------------------------------


def ask(a: int, b: int) -> str:
    return f"What is {a} + {b}?"


def turns(question: str, answer: str) -> list[Row]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def chat(a: int, b: int) -> Row:
    return {"messages": turns(ask(a, b), f"My answer to you is {a + b}.")}


def thoughts(a: int, b: int) -> Row:
    said = f"<think>\n{a} and {b}.\n</think>\n\n{a + b}"
    return {"conversations": [{"from": "human", "value": ask(a, b)}, {"from": "gpt", "value": said}]}


def preference(a: int, b: int) -> Row:
    start = f"\n\nHuman: {ask(a, b)}\n\nAssistant: "
    return {"chosen": start + str(a + b), "rejected": start + "I will not say."}


def feedback(a: int, b: int) -> Row:
    scores = {f"orig_score{i}_description": f"{i} of 5" for i in range(1, 6)}
    return {
        "orig_instruction": ask(a, b),
        "orig_criteria": "Is it right?",
        "orig_reference_answer": str(a + b),
        **scores,
    }


def three_numbers(a: int, b: int) -> Row:
    """Hard enough for the embedded model that it is right sometimes."""
    return {"problem": f"What is {a} + {b} + {b}?", "answer": str(a + b + b)}


def gsm8k(a: int, b: int) -> Row:
    return {"question": ask(a, b), "answer": f"#### {OFTEN_BOXED}"}


def solution(a: int, b: int) -> Row:
    return {"problem": ask(a, b), "solution": f"\\boxed{{{a + b}}}", "level": "Level 1", "type": "Algebra"}


def options(a: int, b: int) -> list[str]:
    return [str(a + b + more) for more in range(4)]


def choice(a: int, b: int) -> Row:
    return {"question": ask(a, b), "options": options(a, b)}


def gpqa(a: int, b: int) -> Row:
    right, *wrong = options(a, b)
    return {
        "Question": ask(a, b),
        "Correct Answer": right,
        **{f"Incorrect Answer {i + 1}": w for i, w in enumerate(wrong)},
    }


def ceval(a: int, b: int) -> Row:
    return {"question": ask(a, b), **dict(zip("ABCD", options(a, b), strict=True)), "answer": "A"}


def instruction(key: int) -> Row:
    asked = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"relation": None}]}
    return {"key": key, "prompt": f"Count to {key} without commas.", **asked}


def science(a: int, b: int) -> Row:
    offered = {"label": list("ABCD"), "text": options(a, b)}
    kind = {"domain": "Chemistry", "details": {"level": "L3"}, "type": "mcq-4-choices"}
    return {"question": ask(a, b), "choices": offered, "answerKey": "A", **kind}


def tool_use(a: int, b: int) -> Row:
    return {"instruction": f"Tell me a story about {a} cats.", "output": "Action: write\nAction Input: {}"}


def science_lesson(a: int, b: int) -> Row:
    said = f"<reasoning>\nAdd them.\n</reasoning>\n<answer>\n{'ABCD'[(a + b) % 4]}\n</answer>"
    return {"messages": [{"role": "system", "content": "Choose."}, *turns(ask(a, b), said)], "output_text": said}


def science_question(a: int, b: int) -> Row:
    asked = [{"role": "system", "content": "Choose."}, {"role": "user", "content": ask(a, b)}]
    return {"prompt": asked, "answer": "ABCD"[(a + b) % 4]}


# --- files that are not lines of JSON --------------------------------------------------------------------------------


def forecasts(path: Path) -> None:
    """Markets that resolve by their name, half of them before and half after the date at which the recipe splits."""
    columns = (
        "submission_id event_ticker title snapshot_time close_time market_outcome category markets sources".split()
    )
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for i in range(80):
            month, market = ("09", "11")[i % 2], ("It rains", "It snows")[i // 2 % 2]
            row = {
                "submission_id": f"s{i}",
                "event_ticker": f"EVENT-{i}",
                "title": f"The weather of day {i}",
                "snapshot_time": f"2025-{month}-01T00:00:00Z",
                "close_time": f"2025-{month}-10T00:00:00Z",
                "market_outcome": json.dumps({market: int(market == "It rains")}),
                "category": "Weather",
                "markets": json.dumps([market]),
                "sources": json.dumps([{"title": "Report", "summary": "Clouds.", "ranking": 1}]),
            }
            writer.writerow(row)


def harbor_task(directory: Path) -> None:
    for name, text in {
        "instruction.md": "Write hello to /tmp/hello.",
        "task.toml": 'version = "1.0"\n',
        "environment/Dockerfile": "FROM scratch\n",
        "tests/test.sh": "exit 1\n",
    }.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def sounds(directory: Path) -> None:
    directory.mkdir()
    with wave.open(str(directory / "clip.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(2 * 16_000))
    clip = {"text": "Hello.", "emotion": "happy", "path": "clip.wav", "num_frames": 16_000, "sample_rate": 16_000}
    for split in ("sft_train", "rl_train", "dev", "test"):
        lines = [json.dumps({"id": f"{split}-{i}", **clip}) + "\n" for i in range(4)]
        (directory / f"{split}.jsonl").write_text("".join(lines))


def pictures(directory: Path) -> None:
    names = ["cup", "tree"]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    rows = {"image": [Image.new("RGB", (64, 96), (40 * i, 0, 0)) for i in range(4)], "label": [0, 1, 0, 1]}
    directory.mkdir(parents=True)
    for split in ("train", "test"):
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(directory / f"{split}.parquet"))
