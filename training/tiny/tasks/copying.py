"""Saying back what was given: whole texts, quoted parts, repeated words, letters."""

import random

from training.tiny.problem import Problem, Task, fill, registry, single
from training.tiny.words import NAMES, PLAIN, made_up, word, words

REPEAT = (
    "Repeat: {text}",
    "Repeat after me: {text}",
    "Copy this: {text}",
    "Say: {text}",
    "Write exactly this: {text}",
    "Say this back to me: {text}",
    "Please repeat the following: {text}",
    "Echo: {text}",
    "Type this text: {text}",
    "Copy the words: {text}",
)
QUOTED = (
    'Repeat the text in quotes: "{text}"',
    'Say "{text}".',
    'Please say "{text}" and nothing else.',
    'Write "{text}"',
    'What is inside the quotes? "{text}"',
    'Copy the part in quotes: {other} "{text}"',
    'Reply with "{text}".',
    'Answer with the quoted words: {other} "{text}" {last}',
    'Can you say "{text}"?',
    'Print "{text}"',
)


def copy_words(rng: random.Random) -> Problem:
    text = " ".join(words(rng, 1, 6))
    if rng.random() < 0.2:
        text = " ".join(
            rng.choice((word(rng), str(rng.randint(0, 999)), rng.choice(NAMES))) for _ in range(rng.randint(2, 5))
        )
    if rng.random() < 0.15:
        text = text.capitalize() + "."
    return single(fill(rng, REPEAT, text=text), text, f"text {text}")


def copy_quoted(rng: random.Random) -> Problem:
    text = " ".join(words(rng, 1, 4))
    return single(fill(rng, QUOTED, text=text, other=word(rng), last=word(rng)), text, f"text {text}")


def copy_made_up(rng: random.Random) -> Problem:
    text = " ".join(made_up(rng) for _ in range(rng.randint(1, 4)))
    return single(fill(rng, REPEAT, text=text), text, f"text {text}")


def repeat_times(rng: random.Random) -> Problem:
    text, (times, name) = (
        word(rng),
        rng.choice(((2, "twice"), (2, "two times"), (3, "three times"), (4, "four times"), (3, "3 times"))),
    )
    templates = (
        "Say {text} {name}.",
        "Write {text} {name}.",
        "Repeat the word {text} {name}.",
        "Print {text} {name}.",
        "Give me {text} {name}.",
        "{name}: {text}",
        "Type the word {text} {name}.",
        "I want to read {text} {name}.",
    )
    return single(fill(rng, templates, text=text, name=name), " ".join([text] * times), f"{times} {text}")


def spell(rng: random.Random) -> Problem:
    text = rng.choice(PLAIN)
    templates = (
        "Spell the word {text}.",
        "Spell {text}.",
        "How do you spell {text}?",
        "Spell out {text}.",
        "Spell this: {text}",
        "Please spell {text}.",
        "Write {text} letter by letter.",
        "Can you spell {text}?",
    )
    return single(fill(rng, templates, text=text), "-".join(text), f"spell {text}")


def first_letter(rng: random.Random) -> Problem:
    text, last = word(rng), rng.random() < 0.4
    templates = (
        "What is the {end} letter of {text}?",
        "Which letter does {text} {verb} with?",
        "{end} letter of {text}?",
        "Give me the {end} letter of the word {text}.",
        "Name the {end} letter of {text}.",
        "With which letter does {text} {verb}?",
        "Tell me the {end} letter in {text}.",
        "{text}: {end} letter?",
    )
    question = fill(rng, templates, text=text, end="last" if last else "first", verb="end" if last else "start")
    return single(question, text[-1] if last else text[0], f"letter {text}")


def reverse_letters(rng: random.Random) -> Problem:
    text = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 5)))
    spaced = " ".join(text)
    templates = (
        "Reverse the letters: {text}",
        "Write these letters backwards: {text}",
        "Backwards: {text}",
        "Reverse: {text}",
        "Say these letters in reverse order: {text}",
        "Turn these letters around: {text}",
        "What is {text} in reverse?",
        "Read these letters from the end: {text}",
    )
    return single(fill(rng, templates, text=spaced), " ".join(text[::-1]), f"letters {spaced}")


TASKS = registry(
    Task("copy_words", copy_words, weight=2, early=True),
    Task("copy_quoted", copy_quoted, weight=1.2, early=True),
    Task("copy_made_up", copy_made_up, weight=1.5, early=True),
    Task("repeat_times", repeat_times, weight=1.5),
    Task("spell", spell, weight=1),
    Task("first_letter", first_letter, weight=0.8),
    Task("reverse_letters", reverse_letters, weight=0.7, early=True),
)
