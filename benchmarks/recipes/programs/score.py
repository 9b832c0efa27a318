"""Runs the cookbook's benchmarks, which it offers as functions, and prints their scores as one line of JSON."""

import asyncio
import json
import sys

import tinker
from tinker_cookbook import renderers
from tinker_cookbook.eval.benchmarks import BenchmarkConfig, run_benchmarks
from tinker_cookbook.tokenizer_utils import get_tokenizer

MODEL = "Qwen/Qwen3-4B-Instruct-2507"
NAMES = ["gsm8k", "math500", "aime_2025", "aime_2026", "mmlu_pro", "mmlu_redux", "gpqa", "supergpqa", "ceval", "ifeval"]


async def main() -> None:
    client = await tinker.ServiceClient().create_sampling_client_async(base_model=MODEL)
    renderer = renderers.get_renderer("qwen3_instruct", get_tokenizer(MODEL))
    config = BenchmarkConfig(max_examples=4, max_tokens=24, num_samples=2, save_dir=sys.argv[1])
    results = await run_benchmarks(NAMES, client, renderer, config)
    print(
        json.dumps(
            {n: {"score": r.score, "examples": r.num_examples, "errors": r.num_errors} for n, r in results.items()}
        )
    )


asyncio.run(main())
