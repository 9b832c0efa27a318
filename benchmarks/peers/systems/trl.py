"""TRL's SFTTrainer with a PEFT adapter. It trains one adapter, from a data set, for a number of steps."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from benchmarks.peers.lora import ALPHA, SITES
from benchmarks.peers.work import Setting, Train

STEPS = 3
"""Of a run, after a first one that is not counted."""


class System:
    def __init__(self, model: Path, setting: Setting) -> None:
        self.pid, self._path, self._rank = os.getpid(), model, setting.rank
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._scratch = tempfile.TemporaryDirectory(prefix="trl-")

    def train(self, work: Train) -> float:
        rows = [row[:-1].tolist() for row in work.batch(0)] * (STEPS + 1)
        clock = _Clock()
        config = SFTConfig(
            output_dir=self._scratch.name,
            max_steps=STEPS + 1,
            per_device_train_batch_size=work.sequences,
            max_length=work.length,
            learning_rate=1e-5,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(self._path, dtype=torch.float32),
            args=config,
            train_dataset=Dataset.from_dict({"input_ids": rows}),
            processing_class=self._tokenizer,
            peft_config=LoraConfig(r=self._rank, lora_alpha=ALPHA, target_modules=list(SITES)),
            callbacks=[clock],
        )
        trainer.train()
        return (clock.ends[-1] - clock.ends[0]) / STEPS

    def close(self) -> None:
        self._scratch.cleanup()


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.ends.append(time.perf_counter())
