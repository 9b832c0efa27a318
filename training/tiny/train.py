"""Train `hone/tiny` from nothing: python -m training.tiny.train --out src/hone/assets/tiny --minutes 50"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from training.tiny import headroom
from training.tiny.mixture import Batch, Mixture, batches
from training.tiny.tokenizer import CONTEXT, VOCABULARY, save_tokenizer, train_tokenizer

SEED = 20
BATCH_TOKENS = 3072
ROPE_THETA = 10000.0
MATRIX_RATE = 0.02
"""Learning rate of Muon, for the weight matrices."""
OTHER_RATE = 3e-3
"""Learning rate of AdamW, for the embedding and the norms."""
DECAY_FROM = 0.35
"""The part of the run after which the learning rates fall in a straight line to zero."""
PROBE_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Options:
    out: Path
    """Hugging Face folder that is written, again at every checkpoint."""
    minutes: float
    """Wall-clock length of the run; the schedule stretches with it."""
    threads: int
    checkpoint_minutes: float
    """A crash loses at most this much."""
    start: Path | None
    """Folder whose weights and tokenizer to go on from."""


def config(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=384,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the folder file by file, each one replaced whole, so that a reader never meets half a file."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".tiny-") as part:
        model.save_pretrained(part)
        save_tokenizer(tokenizer, Path(part))
        settings = json.loads((Path(part) / "config.json").read_text(encoding="utf-8"))
        settings |= {"rope_theta": ROPE_THETA}  # older readers do not know rope_parameters
        (Path(part) / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        for file in Path(part).iterdir():
            file.chmod(0o644)
            os.replace(file, out / file.name)


def optimizers(model: Qwen3ForCausalLM) -> list[torch.optim.Optimizer]:
    matrices = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embed" not in name]
    others = [weight for name, weight in model.named_parameters() if weight.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=MATRIX_RATE, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def rate(progress: float, step: int) -> float:
    """Share of the full learning rate: a short warm-up by steps, then level, then down, by elapsed time."""
    return min(1.0, (step + 1) / 100) * min(1.0, max(0.0, (1 - progress) / (1 - DECAY_FROM)))


def loss_of(model: Qwen3ForCausalLM, batch: Batch) -> tuple[torch.Tensor, float]:
    """The loss to minimise, and the mean loss of answer tokens alone.

    Prompt tokens are thinned out instead of being weighted down, which spares most of the vocabulary product.
    """
    hidden = model.model(input_ids=batch.tokens[:, :-1], use_cache=False).last_hidden_state
    kept = torch.rand_like(batch.weights[:, 1:]) < batch.weights[:, 1:]
    losses = cross_entropy(model.lm_head(hidden[kept]), batch.tokens[:, 1:][kept], reduction="none")
    answers = batch.weights[:, 1:][kept] == 1
    return losses.mean(), losses.detach()[answers].mean().item()


def train(options: Options) -> None:
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    transformers.logging.disable_progress_bar()
    torch.manual_seed(SEED)
    if options.start:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(options.start)
        model = Qwen3ForCausalLM.from_pretrained(options.start, dtype=torch.float32)
    else:
        tokenizer = train_tokenizer()
        model = Qwen3ForCausalLM(config(tokenizer))
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=1.0, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    mixture = Mixture(early_part=0.0) if options.start else Mixture()
    stream = batches(mixture, tokenizer, BATCH_TOKENS, SEED)
    steppers = optimizers(model)
    full = [group["lr"] for stepper in steppers for group in stepper.param_groups]

    started = last_probe = last_save = time.monotonic()
    step, tokens, smooth = 0, 0, 8.0
    while (progress := (time.monotonic() - started) / (60 * options.minutes)) < 1:
        for stepper, lr in zip(steppers, full, strict=True):
            stepper.param_groups[0]["lr"] = lr * rate(progress, step)
        mixture.progress = progress
        batch = next(stream)
        loss, answer_loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad(set_to_none=True)

        step, tokens, smooth = step + 1, tokens + batch.tokens.numel(), 0.98 * smooth + 0.02 * answer_loss
        now = time.monotonic()
        if step % 100 == 0:
            speed = tokens / (now - started)
            print(f"step {step} at {progress:.1%}: answer loss {smooth:.4f}, {speed:.0f} tokens/s", flush=True)
        if now - last_probe > PROBE_SECONDS:
            scores = headroom.probe(model, tokenizer, seed=step)
            mixture.weights = mixture.weights | headroom.weights(scores)
            print("probe " + ", ".join(f"{name} {score:.0%}" for name, score in scores.items()), flush=True)
            last_probe = time.monotonic()
        if now - last_save > 60 * options.checkpoint_minutes:
            save(model, tokenizer, options.out)
            last_save = now
    save(model, tokenizer, options.out)
    print(f"done: {step} steps, {tokens / 1e6:.1f} M tokens, answer loss {smooth:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("src/hone/assets/tiny"), help="folder to write")
    parser.add_argument("--minutes", type=float, default=50.0, help="length of the run")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; data is prepared on one more")
    parser.add_argument("--checkpoint-minutes", type=float, default=4.0, help="how often the folder is written")
    parser.add_argument("--start", type=Path, help="model folder to go on from; default: random weights")
    given = parser.parse_args()
    train(Options(given.out, given.minutes, given.threads, given.checkpoint_minutes, given.start))


if __name__ == "__main__":
    main()
