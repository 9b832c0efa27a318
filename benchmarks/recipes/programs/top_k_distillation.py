"""Off-policy distillation of a teacher's likeliest tokens, which the cookbook offers as a function, not as a command.

usage: top_k_distillation.py TEACHER LOG, where TEACHER is the path of sampler weights
"""

import asyncio
import sys

from tinker_cookbook.distillation import train_off_policy
from tinker_cookbook.distillation.datasets import TeacherConfig
from tinker_cookbook.recipes.chat_sl.chat_datasets import NoRobotsBuilder
from tinker_cookbook.supervised.types import ChatDatasetBuilderCommonConfig

MODEL, RENDERER = "Qwen/Qwen3.5-9B-Base", "role_colon"

data = NoRobotsBuilder(
    common_config=ChatDatasetBuilderCommonConfig(
        model_name_for_tokenizer=MODEL, renderer_name=RENDERER, max_length=512, batch_size=8
    )
)
teacher = TeacherConfig(base_model=MODEL, load_checkpoint_path=sys.argv[1])
domain = train_off_policy.DatasetWithTeacher(dataset_builder=data, teacher_config=teacher)
asyncio.run(
    train_off_policy.main(
        train_off_policy.Config(
            learning_rate=3e-3,
            dataset_configs=[domain],
            model_name=MODEL,
            renderer_name=RENDERER,
            recipe_name="top_k_distillation",
            lora_rank=8,
            n_teacher_targets=8,
            batch_size=8,
            max_steps=8,
            eval_every=0,
            log_path=sys.argv[2],
        )
    )
)
