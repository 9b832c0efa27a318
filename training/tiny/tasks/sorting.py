"""Putting numbers and words in order, and finding the extremes."""

import random

from training.tiny.problem import Problem, Task, fill, registry, single
from training.tiny.tasks.lists import list_key
from training.tiny.words import PLAIN

ASCENDING = (
    "Sort these numbers: {items}",
    "Sort ascending: {items}",
    "Sort from smallest to largest: {items}",
    "Put in ascending order: {items}",
    "Order these numbers from low to high: {items}",
    "Sort in increasing order: {items}",
    "Arrange from smallest to biggest: {items}",
    "Sort the list {items} in ascending order.",
    "Sort: {items}",
)
DESCENDING = (
    "Sort these numbers in descending order: {items}",
    "Sort descending: {items}",
    "Sort from largest to smallest: {items}",
    "Put in descending order: {items}",
    "Order these numbers from high to low: {items}",
    "Sort in decreasing order: {items}",
    "Arrange from biggest to smallest: {items}",
    "Sort the list {items} in descending order.",
)
ALPHABETIC = (
    "Sort alphabetically: {items}",
    "Sort these words: {items}",
    "Put these words in alphabetical order: {items}",
    "Order from A to Z: {items}",
    "Sort the words from a to z: {items}",
    "Arrange alphabetically: {items}",
    "Alphabetical order please: {items}",
    "Sort the list {items} alphabetically.",
)


def _numbers(rng: random.Random, low: int, high: int) -> list[int]:
    return rng.sample(range(rng.choice((10, 100, 100))), rng.randint(low, high))


def _order(rng: random.Random, templates: tuple[str, ...], numbers: list[int], descending: bool) -> Problem:
    answer = ", ".join(map(str, sorted(numbers, reverse=descending)))
    question = fill(rng, templates, items=", ".join(map(str, numbers)))
    return single(question, answer, list_key([str(number) for number in numbers]))


def sort_ascending(rng: random.Random) -> Problem:
    return _order(rng, ASCENDING, _numbers(rng, 2, 5), descending=False)


def sort_three_descending(rng: random.Random) -> Problem:
    return _order(rng, DESCENDING, rng.sample(range(100), 3), descending=True)


def sort_words(rng: random.Random) -> Problem:
    items = rng.sample(PLAIN, rng.randint(2, 4))
    return single(fill(rng, ALPHABETIC, items=", ".join(items)), ", ".join(sorted(items)), list_key(items))


def largest_number(rng: random.Random) -> Problem:
    numbers = _numbers(rng, 3, 5)
    templates = (
        "What is the largest number: {items}?",
        "Which is the biggest? {items}",
        "Find the maximum: {items}",
        "Give me the largest of these: {items}",
        "Largest number in {items}?",
        "Pick the highest number: {items}",
        "What is the maximum of {items}?",
        "Which of these is the largest: {items}?",
    )
    question = fill(rng, templates, items=", ".join(map(str, numbers)))
    return single(question, str(max(numbers)), list_key([str(number) for number in numbers]))


def smallest_number(rng: random.Random) -> Problem:
    numbers = _numbers(rng, 3, 5)
    templates = (
        "What is the smallest number: {items}?",
        "Which is the least? {items}",
        "Find the minimum: {items}",
        "Give me the smallest of these: {items}",
        "Smallest number in {items}?",
        "Pick the lowest number: {items}",
        "What is the minimum of {items}?",
        "Which of these is the smallest: {items}?",
    )
    question = fill(rng, templates, items=", ".join(map(str, numbers)))
    return single(question, str(min(numbers)), list_key([str(number) for number in numbers]))


TASKS = registry(
    Task("sort_ascending", sort_ascending, weight=2.5),
    Task("sort_three_descending", sort_three_descending, weight=1),
    Task("sort_words", sort_words, weight=2),
    Task("largest_number", largest_number, weight=1.2),
    Task("smallest_number", smallest_number, weight=1.5),
)
