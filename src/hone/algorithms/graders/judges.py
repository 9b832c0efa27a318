"""Models that judge: anything that continues a conversation with text."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import httpx
import tinker

from hone.algorithms.graders.grade import GradingError
from hone.algorithms.messages import Message, text_of
from hone.algorithms.renderers import Renderer

RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}
FENCES = ("question", "reference", "criteria", "answer", "answer_a", "answer_b")
"""Tags in which judges are shown what they judge."""


class Judge(Protocol):
    async def __call__(self, messages: Sequence[Message], *, seed: int) -> str:
        """The text of the answer. Another seed may give another answer."""
        ...


@dataclass(frozen=True)
class TinkerJudge:
    """A model behind a sampling client of the Tinker protocol."""

    sampler: tinker.SamplingClient
    renderer: Renderer
    max_tokens: int = 1024
    temperature: float = 0.0
    concurrency: int = 64
    """Requests under way at once, however many answers wait to be judged."""

    @cached_property
    def _slots(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(self.concurrency)

    async def __call__(self, messages: Sequence[Message], *, seed: int) -> str:
        prompt = self.renderer.build_generation_prompt(messages)
        params = tinker.SamplingParams(
            max_tokens=self.max_tokens,
            # Asked once more, a judge at temperature 0 would say the same again.
            temperature=self.temperature if seed == 0 else max(self.temperature, 0.7),
            stop=self.renderer.get_stop_sequences(),
            seed=seed,
        )
        async with self._slots:
            answer = await self.sampler.sample(prompt, 1, params)
        message, _ = self.renderer.parse_response(answer.sequences[0].tokens)
        return text_of(message)


@dataclass(frozen=True)
class OpenAIJudge:
    """A model behind an endpoint that speaks OpenAI's chat completions."""

    base_url: str
    """Up to and with `/v1`."""
    model: str
    api_key: str = field(default="", repr=False)
    max_tokens: int = 1024
    temperature: float = 0.0
    timeout_seconds: float = 120.0
    attempts: int = 4
    concurrency: int = 64
    """Requests under way at once, however many answers wait to be judged."""

    @cached_property
    def _slots(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(self.concurrency)

    async def __call__(self, messages: Sequence[Message], *, seed: int) -> str:
        body = {
            "model": self.model,
            "messages": list(messages),
            "max_tokens": self.max_tokens,
            "temperature": self.temperature if seed == 0 else max(self.temperature, 0.7),
            "seed": seed,
        }
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        problem = ""
        async with httpx.AsyncClient(timeout=self.timeout_seconds, headers=headers) as client:
            for attempt in range(self.attempts):
                try:
                    async with self._slots:
                        response = await client.post(f"{self.base_url.rstrip('/')}/chat/completions", json=body)
                except httpx.HTTPError as error:
                    problem = f"{type(error).__name__}: {error}"
                else:
                    if response.status_code == 200:
                        return _content(response)
                    problem = f"status {response.status_code}: {response.text[:300]}"
                    if response.status_code not in RETRIED:
                        break
                if attempt + 1 < self.attempts:
                    await asyncio.sleep(0.5 * 2**attempt)
        raise GradingError(f"the judge {self.model} at {self.base_url} does not answer: {problem}")


@dataclass(frozen=True)
class Verdict:
    """What a judge decided, and how often it was asked in vain before."""

    line: str
    unparsable: int
    text: str


async def ask_for_line(judge: Judge, messages: Sequence[Message], form: re.Pattern[str], attempts: int) -> Verdict:
    """The judge's last line, which has to have the given form and nothing else; its first group is the verdict.

    Raises:
        GradingError: it did not have it `attempts` times over.
    """
    text = ""
    for attempt in range(attempts):
        text = await judge(messages, seed=attempt)
        lines = text.strip().splitlines()
        found = form.fullmatch(lines[-1].strip()) if lines else None
        if found:
            return Verdict(found.group(1), attempt, text)
    raise GradingError(
        f"the judge gave no verdict in {attempts} attempts; its last line has to read like {form.pattern!r}, "
        f"and it said {text[-200:]!r}"
    )


def fenced(name: str, text: str) -> str:
    """Text that a judge reads as a thing to be judged: no tag in it can close its own, or open another's."""
    inside = re.sub(rf"<(?=/?(?:{'|'.join(FENCES)})\b)", "&lt;", text, flags=re.IGNORECASE)
    return f"<{name}>\n{inside}\n</{name}>"


def criteria_of(given: str | None, facts: object) -> str:
    found = given if given is not None else facts
    if not isinstance(found, str) or not found.strip():
        raise GradingError("no criteria: give criteria=... or the task's fact `rubric`")
    return found


def _content(response: httpx.Response) -> str:
    try:
        content = response.json()["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise GradingError(f"the judge's endpoint answered in an unknown form: {response.text[:300]}") from None
    return content if isinstance(content, str) else ""
