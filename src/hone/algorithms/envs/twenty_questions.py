"""Find a secret word with twenty questions that can be answered with yes or no."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from hone.algorithms.envs.message_env import Checkable, Dialogue, Turn, asked, said, stopped
from hone.algorithms.graders.judges import Judge, fenced
from hone.algorithms.messages import Message, text_of
from hone.errors import UserError
from hone.storage import jsonl

Reply = Literal["yes", "no", "unknown"]

WORDS: dict[str, Sequence[str]] = {
    "animal": "dog cat horse cow pig sheep goat duck chicken lion tiger bear wolf fox rabbit mouse".split(),
    "food": "apple banana orange lemon cherry grape bread cheese butter rice pasta soup egg tomato potato cake".split(),
    "object": "chair table bed lamp clock mirror pillow cup plate fork spoon bottle box key book pen kite".split(),
    "vehicle": "car bus truck train bicycle boat ship airplane helicopter rocket tractor".split(),
    "place": "house school hospital museum park beach forest desert island river lake city castle bridge".split(),
    "clothing": "hat shirt dress coat shoe sock glove scarf belt ring".split(),
    "nature": "sun moon star cloud rain snow wind tree flower grass leaf stone".split(),
    "job": "teacher doctor nurse farmer baker pilot sailor painter singer judge king queen".split(),
}
"""Words by category."""


def read_words(path: Path) -> dict[str, list[str]]:
    """Words from a JSONL file with `word` and `category` on each line."""
    words: dict[str, list[str]] = {}
    for line in jsonl.lines(path):
        row = line.read()
        word, category = row.get("word"), row.get("category")
        if not isinstance(word, str) or not isinstance(category, str):
            raise UserError(f'{line.place} has to be like {{"word": "dog", "category": "animal"}}')
        words.setdefault(category.casefold(), []).append(word.casefold())
    return words


class Answerer(Protocol):
    async def __call__(self, word: str, question: str) -> Reply: ...


@dataclass(frozen=True)
class ByRule:
    """Understands questions about the category, the letters and the length, and guesses; `FORMS` says how they read."""

    words: Mapping[str, Sequence[str]]

    async def __call__(self, word: str, question: str) -> Reply:
        known = known_question(question, self.words)
        return "unknown" if known is None else "yes" if known(word) else "no"


@dataclass(frozen=True)
class ByModel:
    """A model that judges knows the word and answers; anything but yes or no is unknown."""

    judge: Judge

    async def __call__(self, word: str, question: str) -> Reply:
        rule = (
            f"We play twenty questions. The secret word is {word!r}. Answer the question between the tags with yes or "
            "no, and nothing else."
        )
        text = await self.judge([asked(f"{rule}\n\n{fenced('question', question)}")], seed=0)
        found = text.strip().strip(".!").casefold()
        return "yes" if found == "yes" else "no" if found == "no" else "unknown"


SUBJECT = r"(?:it|the word|this word|your word)"
FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Callable[[str], bool]]], ...] = (
    (
        re.compile(rf"does {SUBJECT} (?:start|begin) with (?:the letter |an? )?['\"]?([a-z])['\"]?"),
        lambda found: lambda word: word.startswith(found[1]),
    ),
    (
        re.compile(rf"does {SUBJECT} end with (?:the letter |an? )?['\"]?([a-z])['\"]?"),
        lambda found: lambda word: word.endswith(found[1]),
    ),
    (
        re.compile(rf"does {SUBJECT} (?:contain|have) (?:the letter |an? )['\"]?([a-z])['\"]?"),
        lambda found: lambda word: found[1] in word,
    ),
    (
        re.compile(rf"does {SUBJECT} have more than (\d{{1,2}}) letters"),
        lambda found: lambda word: len(word) > int(found[1]),
    ),
    (
        re.compile(rf"does {SUBJECT} have (?:less|fewer) than (\d{{1,2}}) letters"),
        lambda found: lambda word: len(word) < int(found[1]),
    ),
)
"""Questions about the word itself, as a pattern and what it asks of a word."""
IS_IT = re.compile(
    r"is (?:it|the word|your word|the secret word) (?:an? |the |a kind of |a type of )?['\"]?([a-z]+)['\"]?"
)


def known_question(question: str, words: Mapping[str, Sequence[str]]) -> Callable[[str], bool] | None:
    """What a question asks of a word; None if no form fits it."""
    text = " ".join(question.casefold().split()).strip(" ?!.")
    for form, meaning in FORMS:
        found = form.fullmatch(text)
        if found:
            return meaning(found)
    found = IS_IT.fullmatch(text)
    if not found:
        return None
    name = found[1]
    if name in words:
        return lambda word: word in words[name]
    if any(name in members for members in words.values()):
        return lambda word: word == name
    return None


class TwentyQuestions(Dialogue, Checkable):
    """Reward 1 for the question "Is it a <word>?" with the right word, within `max_turns` questions."""

    def __init__(
        self,
        seed: int,
        *,
        words: Mapping[str, Sequence[str]] = WORDS,
        answerer: Answerer | None = None,
        max_turns: int = 20,
    ) -> None:
        super().__init__()
        self._words = words
        every = [word for members in words.values() for word in members]
        self._secret = random.Random(f"twenty_questions/{seed}").choice(every)
        self._answerer = answerer or ByRule(words)
        self._max_turns, self._turns = max_turns, 0
        self._candidates = every

    def opening(self) -> list[Message]:
        kinds = ", ".join(self._words)
        return [
            asked(
                f"I think of a word. It is one of: {kinds}. Find it with {self._max_turns} questions, such as: "
                "Is it an animal? Does it start with the letter b? Does it contain the letter e? "
                "Does it have more than 4 letters? Is it a dog? Ask one question at a time."
            )
        ]

    async def respond(self, message: Message) -> Turn:
        question = text_of(message)
        self._turns += 1
        known = known_question(question, self._words)
        guess = IS_IT.fullmatch(" ".join(question.casefold().split()).strip(" ?!."))
        if guess and guess[1] == self._secret:
            return Turn([asked("Yes, that is it.")], 1.0, True, stopped("completed") | self._metrics(found=True))
        reply = await self._answerer(self._secret, question)
        if self._turns >= self._max_turns:
            return Turn([], 0.0, True, stopped("max_turns") | self._metrics(found=False))
        if known is not None and reply != "unknown":
            self._candidates = [word for word in self._candidates if known(word) == (reply == "yes")]
        texts = {"yes": "Yes.", "no": "No.", "unknown": "I cannot answer that. Ask in another way."}
        return Turn([asked(texts[reply])])

    def _metrics(self, *, found: bool) -> dict[str, float | int]:
        return {"turns": self._turns, "found": float(found)}

    async def gold_reply(self) -> Message:
        if len(self._candidates) == 1:
            return said(f"Is it a {self._candidates[0]}?")
        return said(min(self._questions(), key=self._imbalance))

    def random_reply(self, rng: random.Random) -> Message:
        every = [word for members in self._words.values() for word in members]
        return said(rng.choice([*self._questions(), *(f"Is it a {word}?" for word in every)]))

    def _questions(self) -> list[str]:
        letters = "abcdefghijklmnopqrstuvwxyz"
        return [
            *(f"Is it a {category}?" for category in self._words),
            *(f"Does it contain the letter {letter}?" for letter in letters),
            *(f"Does it start with the letter {letter}?" for letter in letters),
            *(f"Does it have more than {count} letters?" for count in range(2, 12)),
            *(f"Is it a {word}?" for word in self._candidates),
        ]

    def _imbalance(self, question: str) -> int:
        known = known_question(question, self._words)
        assert known is not None
        return abs(len(self._candidates) - 2 * sum(map(known, self._candidates)))
