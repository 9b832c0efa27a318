"""What the model reads: documents drawn from all tasks, as batches of tokens with a loss weight for each token."""

import queue
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedTokenizerFast

from training.tiny.problem import Message, Task, assistant
from training.tiny.tasks import TASKS
from training.tiny.tokenizer import TURN_END, TURN_START

EARLY_PART = 0.12
"""The part of the run in which only the early tasks are drawn."""
TURNS = {1: 0.66, 2: 0.18, 3: 0.09, 5: 0.05, 16: 0.02}
"""How many problems are joined into one conversation, and how often. The last kind reaches about 500 tokens."""
LONGEST = 512
PROMPT_WEIGHT = 0.05
"""Loss weight of a prompt token. Questions are mostly random words; a little is enough to learn their form."""
POOL = 1200
"""Documents sorted by length together, so that a batch is nearly free of padding."""


@dataclass(frozen=True, slots=True)
class Batch:
    tokens: torch.Tensor
    weights: torch.Tensor
    """1 on answers (with the token that ends them), `PROMPT_WEIGHT` on the rest, 0 on padding."""


@dataclass
class Mixture:
    """Draws documents. The trainer replaces `progress` and `weights` while the run goes on."""

    early_part: float = EARLY_PART
    progress: float = 0.0
    weights: dict[str, float] = field(default_factory=lambda: {name: task.weight for name, task in TASKS.items()})

    def conversation(self, rng: random.Random) -> list[Message]:
        problems = [self._task(rng).sample(rng) for _ in range(rng.choices(list(TURNS), list(TURNS.values()))[0])]
        # A system prompt governs a whole conversation: problems that bring their own stay alone.
        if any(problem.messages[0]["role"] == "system" for problem in problems):
            problems = [next(problem for problem in problems if problem.messages[0]["role"] == "system")]
        return [message for problem in problems for message in (*problem.messages, assistant(problem.answer))]

    def _task(self, rng: random.Random) -> Task:
        early = self.progress < self.early_part
        names = [name for name, task in TASKS.items() if task.early or not early]
        return TASKS[rng.choices(names, [self.weights[name] for name in names])[0]]


class Encoder:
    """Turns conversations into tokens and loss weights, exactly as the chat template lays them out."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._encode = tokenizer.backend_tokenizer.encode_batch

    def __call__(self, messages: list[Message]) -> tuple[list[int], list[float]]:
        tokens: list[int] = []
        weights: list[float] = []
        texts = [part for message in messages for part in _turn(message)]
        for message, start in zip(messages, range(0, len(texts), 3), strict=True):
            for place, piece in enumerate(self._encode(texts[start : start + 3], add_special_tokens=False)):
                tokens += piece.ids
                answer = message["role"] == "assistant" and place == 1
                weights += [1.0 if answer else PROMPT_WEIGHT] * len(piece.ids)
        return tokens[:LONGEST], weights[:LONGEST]


def _turn(message: Message) -> tuple[str, str, str]:
    return f"{TURN_START}{message['role']}\n", message["content"] + TURN_END, "\n"


def batches(mixture: Mixture, tokenizer: PreTrainedTokenizerFast, size: int, seed: int) -> Iterator[Batch]:
    """Endless batches of about `size` tokens, prepared one step ahead on a second thread."""
    ready: queue.Queue[Batch] = queue.Queue(maxsize=16)
    encode, pad = Encoder(tokenizer), int(tokenizer.pad_token_id)

    def prepare() -> None:
        rng = random.Random(seed)
        while True:
            pool = sorted(
                (encode(mixture.conversation(rng)) for _ in range(POOL)), key=lambda document: len(document[0])
            )
            groups = list(_groups(pool, size))
            rng.shuffle(groups)
            for group in groups:
                ready.put(_pad(group, pad))

    threading.Thread(target=prepare, daemon=True).start()
    while True:
        yield ready.get()


def _groups(pool: list[tuple[list[int], list[float]]], size: int) -> Iterator[list[tuple[list[int], list[float]]]]:
    group: list[tuple[list[int], list[float]]] = []
    for document in pool:
        if group and len(document[0]) * (len(group) + 1) > size:
            yield group
            group = []
        group.append(document)
    yield group


def _pad(group: list[tuple[list[int], list[float]]], pad: int) -> Batch:
    longest = max(len(tokens) for tokens, _ in group)
    tokens = [ids + [pad] * (longest - len(ids)) for ids, _ in group]
    weights = [loss + [0.0] * (longest - len(loss)) for _, loss in group]
    return Batch(torch.tensor(tokens), torch.tensor(weights))
