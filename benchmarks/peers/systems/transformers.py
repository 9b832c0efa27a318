"""Hugging Face transformers with PEFT adapters: its own forward and backward pass, `generate` for sampling."""

import os
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from benchmarks.peers.lora import ALPHA, SITES
from benchmarks.peers.work import Publish, Sample, Setting, Train


class System:
    def __init__(self, model: Path, setting: Setting) -> None:
        self.pid = os.getpid()
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        base.generation_config.eos_token_id = None  # every sequence is as long as it was asked to be
        base.generation_config.pad_token_id = 0
        config = LoraConfig(r=setting.rank, lora_alpha=ALPHA, target_modules=list(SITES))
        names = [f"tenant{i}" for i in range(setting.tenants)]
        self._model: Any = get_peft_model(base, config, adapter_name=names[0])
        for name in names[1:]:
            self._model.add_adapter(name, config)
        self._optimizers = {}
        for name in names:
            self._model.set_adapter(name)
            trained = [p for p in self._model.parameters() if p.requires_grad]
            self._optimizers[name] = torch.optim.AdamW(trained, lr=1e-5)

    def train(self, work: Train) -> None:
        self._model.train()
        for tenant, (name, optimizer) in enumerate(list(self._optimizers.items())[: work.tenants]):
            if len(self._optimizers) > 1:
                self._model.set_adapter(name)
            rows = torch.from_numpy(work.batch(tenant))
            logits = self._model(input_ids=rows[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum")
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()

    @torch.inference_mode()
    def sample(self, work: Sample, seed: int) -> None:
        self._model.eval()
        prompts = torch.from_numpy(work.prompts(seed))
        for tenant in range(work.tenants):  # one adapter is active at a time
            if len(self._optimizers) > 1:
                self._model.set_adapter(f"tenant{tenant}")
            rows = prompts[tenant :: work.tenants].repeat_interleave(work.group, 0)
            self._model.generate(
                input_ids=rows, max_new_tokens=work.new, do_sample=True, temperature=1.0, top_k=0, top_p=1.0
            )

    def publish(self, work: Publish) -> float:
        """There is nothing to publish: the weights that were trained are those that `generate` reads."""
        self.train(Train(1, 8))
        start = time.perf_counter()
        self.sample(Sample(1, 1, work.prompt, 1), 0)
        return time.perf_counter() - start

    def close(self) -> None:
        pass
