"""What can be asked about a prompt itself: scores of its tokens, of the likeliest, of chosen ones, and other draws.

All scores are log-probabilities of the model itself, without temperature. They are gathered chunk by chunk, so that the
logits of a long prompt are never held at once; no result depends on the chunks.

Legend: P prompt tokens, C rows of a chunk, V vocabulary, k draws per position. Row i predicts prompt token i + 1.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hone.engine.contract import Sample
from hone.engine.sampling.draw import MIN_TEMPERATURE
from hone.engine.sampling.streams import PROMPT_STREAM, uniform_stream
from hone.protocol.types import MASKED_LOGPROB, PromptAltTokens, TopkLogprobs


class PromptScores:
    @staticmethod
    def wanted(op: Sample) -> bool:
        targets = op.target_prompt_logprobs is not None
        return bool(op.prompt_logprobs or op.topk_prompt_logprobs or targets or op.prompt_alt_tokens)

    def __init__(self, op: Sample) -> None:
        self._op = op
        length, rows = len(op.prompt), len(op.prompt) - 1
        self._following = torch.from_numpy(op.prompt[1:].astype(np.int64))
        self._scored = np.full(length, np.nan, np.float32) if op.prompt_logprobs else None
        self._topk = self._targets = self._alt = None
        if k := op.topk_prompt_logprobs:
            ids, logprobs = np.zeros((length, k), np.int32), np.full((length, k), MASKED_LOGPROB, np.float32)
            self._topk = TopkLogprobs(ids, logprobs)
        if op.target_prompt_logprobs is not None:
            self._targets = np.zeros(len(op.target_prompt_logprobs.tokens), np.float32)
        if k := op.prompt_alt_tokens:
            self._alt = PromptAltTokens(np.zeros((rows, k), np.int32), np.zeros((rows, k), np.float32))
            self._uniforms = uniform_stream(op.seed, PROMPT_STREAM).random((rows, k))

    def add(self, start: int, logits_CV: Tensor) -> None:
        """Read the logits of rows `start`, `start + 1`, ...; the prompt's last row predicts nothing of it."""
        rows = slice(start, min(start + len(logits_CV), len(self._following)))
        logits_CV, device = logits_CV[: rows.stop - rows.start].float(), logits_CV.device
        if not len(logits_CV):
            return
        logprobs_CV = torch.log_softmax(logits_CV, dim=-1)
        later = slice(rows.start + 1, rows.stop + 1)  # the prompt tokens that these rows predict
        if self._scored is not None:
            following = self._following[rows].to(device)
            scores = logprobs_CV.gather(1, following.clamp(min=0)[:, None]).squeeze(1)
            scores = scores.masked_fill(following < 0, float("nan"))  # images are no tokens
            self._scored[later] = scores.cpu().numpy()
        if self._topk is not None:
            best = logprobs_CV.topk(self._op.topk_prompt_logprobs, dim=-1)
            self._topk.token_ids[later] = best.indices.cpu().numpy()
            self._topk.logprobs[later] = best.values.cpu().numpy()
        if self._targets is not None:
            self._score_targets(self._targets, rows, logprobs_CV)
        if self._alt is not None:
            drawn_Ck = self._draw(logits_CV, self._uniforms[rows])
            self._alt.tokens[rows] = drawn_Ck.cpu().numpy()
            self._alt.logprobs[rows] = logprobs_CV.gather(1, drawn_Ck).cpu().numpy()

    def fields(self) -> dict[str, Any]:
        """Of a `SampleResult`."""
        return {
            "prompt_logprobs": self._scored,
            "topk_prompt_logprobs": self._topk,
            "target_prompt_logprobs": self._targets,
            "prompt_alt_tokens": self._alt,
        }

    def _score_targets(self, scores: np.ndarray, rows: slice, logprobs_CV: Tensor) -> None:
        targets = self._op.target_prompt_logprobs
        assert targets is not None
        cells = np.flatnonzero((targets.rows >= rows.start) & (targets.rows < rows.stop) & (targets.tokens >= 0))
        asked = (targets.rows[cells] - rows.start, targets.tokens[cells])
        chosen = logprobs_CV[tuple(torch.from_numpy(x.astype(np.int64)).to(logprobs_CV.device) for x in asked)]
        scores[cells] = chosen.cpu().numpy()

    def _draw(self, logits_CV: Tensor, uniforms_Ck: np.ndarray) -> Tensor:
        """By inversion, as samples are drawn."""
        temperature = self._op.params.temperature
        if temperature < MIN_TEMPERATURE:
            return logits_CV.argmax(dim=-1, keepdim=True).expand(-1, uniforms_Ck.shape[1])
        cumulative_CV = torch.softmax(logits_CV / temperature, dim=-1).cumsum(dim=-1, dtype=torch.float64)
        goals_Ck = torch.from_numpy(uniforms_Ck).to(logits_CV.device) * cumulative_CV[:, -1:]
        return torch.searchsorted(cumulative_CV, goals_Ck, right=True).clamp_(max=logits_CV.shape[1] - 1)
