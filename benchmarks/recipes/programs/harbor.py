"""Reinforcement learning on Harbor tasks; the cookbook offers the sandbox as a parameter of its function only.

usage: harbor.py LOG
"""

import asyncio
import sys

from empty_sandbox import make
from tinker_cookbook.recipes.harbor_rl.harbor_env import load_harbor_tasks
from tinker_cookbook.recipes.harbor_rl.train import CLIConfig, cli_main

config = CLIConfig(
    model_name="Qwen/Qwen3-4B-Instruct-2507",
    lora_rank=8,
    max_tokens=24,
    max_turns=2,
    group_size=2,
    groups_per_batch=1,
    eval_every=0,
    max_steps=1,
    log_path=sys.argv[1],
)
asyncio.run(cli_main(config, load_harbor_tasks("terminal-bench-2.0"), sandbox_factory=make))
