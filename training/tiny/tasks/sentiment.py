"""Telling praise from complaint by its words, and writing a line of either kind."""

import random
import re

from training.tiny.problem import Problem, Task, fill, registry, single
from training.tiny.words import NAMES, listed

GOOD = listed(
    "great good wonderful lovely excellent amazing fantastic delightful brilliant superb charming perfect beautiful "
    "nice fun exciting pleasant clever funny tasty"
)
BAD = listed(
    "bad terrible awful boring dreadful horrible dull disappointing poor ugly nasty weak stupid slow unpleasant "
    "annoying broken useless sad bland"
)
GOOD_VERBS = ("loved", "liked", "enjoyed", "adored", "recommend", "admire")
BAD_VERBS = ("hated", "disliked", "regret", "avoided", "despise", "returned")
NOUNS = listed("movie film book song meal show game story trip hotel concert phone cake class play service room soup")


def opinion(rng: random.Random, positive: bool) -> str:
    """A sentence whose cue words are all of one kind, or one negated cue of the other kind."""
    words, verbs = (GOOD, GOOD_VERBS) if positive else (BAD, BAD_VERBS)
    opposite = BAD if positive else GOOD
    templates = (
        "The {noun} was {word}.",
        "What a {word} {noun}!",
        "I {verb} this {noun}.",
        "This {noun} is {word} and {other}.",
        "I {verb} the {noun}, it was so {word}.",
        "{name} said the {noun} was really {word}.",
        "A {word} {noun}.",
        "My {noun} was {word} from start to end.",
        "Such a {word} and {other} {noun}.",
        "We {verb} the {noun}.",
        "The {noun}? Very {word}.",
        "Honestly, the {noun} was quite {word}.",
        "The {noun} was not {negated}.",
        "It was a {word} {noun}, truly {other}.",
        "{name} and I {verb} that {noun}.",
    )
    word, other = rng.sample(words, 2)
    fields = {
        "noun": rng.choice(NOUNS),
        "word": word,
        "other": other,
        "verb": rng.choice(verbs),
        "name": rng.choice(NAMES),
    }
    return fill(rng, templates, negated=rng.choice(opposite), **fields)


def sentiment(rng: random.Random) -> Problem:
    positive = rng.random() < 0.5
    text = opinion(rng, positive)
    templates = (
        "Is this review positive or negative? {text}",
        "Sentiment: {text}",
        "Positive or negative? {text}",
        "Classify the sentiment as positive or negative: {text}",
        "{text} Is that positive or negative?",
        "Review: {text} Sentiment?",
        'What is the sentiment of "{text}"?',
        "Decide if this is positive or negative: {text}",
        "Does this sound positive or negative? {text}",
        "Label this text positive or negative: {text}",
    )
    return single(fill(rng, templates, text=text), "positive" if positive else "negative", f"opinion {text}")


def is_happy(rng: random.Random) -> Problem:
    positive = rng.random() < 0.5
    text = opinion(rng, positive)
    templates = (
        "{text} Did they like it? Answer yes or no.",
        "Did the writer like it? {text}",
        "Yes or no: is this praise? {text}",
        "{text} Is the writer happy?",
        "Is this a good review? {text}",
        "{text} Is that a good sign?",
        "Is the writer pleased? {text}",
        "Would you call this praise? {text}",
    )
    return single(fill(rng, templates, text=text), "yes" if positive else "no", f"opinion {text}")


def _has_the_mood(problem: Problem, text: str) -> bool:
    used = set(re.findall(r"[a-z]+", text.lower()))
    good, bad = len(used.intersection(GOOD + GOOD_VERBS)), len(used.intersection(BAD + BAD_VERBS))
    asked_good = "positive" in problem.question or "good" in problem.question
    noun = next(noun for noun in NOUNS if f" {noun}" in problem.question)
    return noun in text and (good > bad if asked_good else bad > good)


def write_opinion(rng: random.Random) -> Problem:
    positive = rng.random() < 0.5
    word, noun = rng.choice(GOOD if positive else BAD), rng.choice(NOUNS)
    verb = rng.choice((GOOD_VERBS if positive else BAD_VERBS)[: 3 if positive else 2])
    answer = fill(
        rng,
        ("The {noun} was {word}.", "What a {word} {noun}!", "I {verb} this {noun}."),
        noun=noun,
        word=word,
        verb=verb,
    )
    templates = (
        "Write a {mood} sentence about a {noun}.",
        "Give me a {mood} review of a {noun}.",
        "Say something {mood} about a {noun}.",
        "Write something {mood} about the {noun}.",
        "A {mood} sentence about a {noun} please.",
        "Review a {noun}. Be {mood}.",
        "Make up a {mood} line about a {noun}.",
        "Invent a {mood} review of the {noun}.",
    )
    return single(fill(rng, templates, mood="positive" if positive else "negative", noun=noun), answer)


TASKS = registry(
    Task("sentiment", sentiment, weight=3, guessable=True),
    Task("is_happy", is_happy, weight=1.5, guessable=True),
    Task("write_opinion", write_opinion, weight=0.7, check=_has_the_mood),
)
