"""vLLM's CPU build with LoRA adapters read from directories. It samples only."""

import json
import os
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

from benchmarks.peers.lora import ALPHA, SITES
from benchmarks.peers.work import Publish, Sample, Setting


class System:
    def __init__(self, model: Path, setting: Setting) -> None:
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"  # GiB; what it would take by itself is most of the memory
        self.pid = os.getpid()
        self._model, self._rank = model, setting.rank
        self._scratch = tempfile.TemporaryDirectory(prefix="vllm-")
        self._llm = LLM(
            model=str(model),
            dtype="float32",
            max_model_len=2048,
            max_num_seqs=64,
            enable_lora=True,
            max_loras=setting.tenants,
            max_lora_rank=setting.rank,
        )
        self._loaded = 0
        self._adapters = [self._new_adapter() for _ in range(setting.tenants)]

    def sample(self, work: Sample, seed: int) -> None:
        # seeds of its own per request would take another, slower way
        params = SamplingParams(n=work.group, max_tokens=work.new, temperature=1.0, ignore_eos=True)
        prompts = [{"prompt_token_ids": prompt.tolist()} for prompt in work.prompts(seed)]
        adapters = [self._adapters[i % work.tenants] for i in range(work.requests)]
        outputs = self._llm.generate(prompts, params, lora_request=adapters, use_tqdm=False)
        drawn = sum(len(sequence.token_ids) for output in outputs for sequence in output.outputs)
        if drawn != work.tokens:
            raise RuntimeError(f"asked for {work.tokens} tokens, got {drawn}")

    def publish(self, work: Publish) -> float:
        """Whoever trains writes a directory; it is read here."""
        start = time.perf_counter()
        self._adapters[0] = self._new_adapter()
        self.sample(Sample(1, 1, work.prompt, 1), 0)
        return time.perf_counter() - start

    def close(self) -> None:
        self._scratch.cleanup()

    def _new_adapter(self) -> LoRARequest:
        self._loaded += 1
        directory = Path(self._scratch.name) / str(self._loaded)
        directory.mkdir()
        config = AutoConfig.from_pretrained(self._model)
        heads, kv, hidden, mlp = (
            config.num_attention_heads * config.head_dim,
            config.num_key_value_heads * config.head_dim,
            config.hidden_size,
            config.intermediate_size,
        )
        sizes = {"q_proj": heads, "k_proj": kv, "v_proj": kv, "gate_proj": mlp, "up_proj": mlp}
        tensors = {}
        for layer in range(config.num_hidden_layers):
            for site in SITES:
                inputs = {"o_proj": heads, "down_proj": mlp}.get(site, hidden)
                part = "self_attn" if site in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
                name = f"base_model.model.model.layers.{layer}.{part}.{site}"
                tensors[f"{name}.lora_A.weight"] = torch.randn(self._rank, inputs) * 0.05
                tensors[f"{name}.lora_B.weight"] = torch.randn(sizes.get(site, hidden), self._rank) * 0.01
        save_file(tensors, directory / "adapter_model.safetensors")
        settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none"}
        settings |= {"r": self._rank, "lora_alpha": ALPHA, "target_modules": list(SITES)}
        (directory / "adapter_config.json").write_text(json.dumps(settings))
        return LoRARequest(f"adapter{self._loaded}", self._loaded, str(directory))
