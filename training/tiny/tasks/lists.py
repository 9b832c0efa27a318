"""Picking from, counting and changing short lists of words. Lists are always written with commas."""

import random

from training.tiny.problem import Problem, Task, fill, registry, single
from training.tiny.words import word, words

ORDINALS = ("first", "second", "third", "fourth", "fifth")


def list_key(items: list[str]) -> str:
    """The same words in another order are the same problem."""
    return "words " + " ".join(sorted(items))


def first_item(rng: random.Random) -> Problem:
    items = words(rng, 2, 6)
    templates = (
        "What is the first word in this list: {items}?",
        "First item of: {items}",
        "Which word comes first? {items}",
        "Give me the first word: {items}",
        "Take the first of these: {items}",
        "Name the first item in {items}.",
        "Here is a list: {items}. What is first?",
        "Pick the first one: {items}",
        "What is the first item? {items}",
    )
    return single(fill(rng, templates, items=", ".join(items)), items[0], list_key(items))


def last_item(rng: random.Random) -> Problem:
    items = words(rng, 2, 6)
    templates = (
        "What is the last word in this list: {items}?",
        "Last item of: {items}",
        "Which word comes last? {items}",
        "Give me the last word: {items}",
        "Take the last of these: {items}",
        "Name the last item in {items}.",
        "Here is a list: {items}. What is last?",
        "Pick the last one: {items}",
        "What is the final item? {items}",
    )
    return single(fill(rng, templates, items=", ".join(items)), items[-1], list_key(items))


def nth_item(rng: random.Random) -> Problem:
    items = words(rng, 3, 6)
    place = rng.randrange(1, min(len(items), 5))
    name = rng.choice((ORDINALS[place], f"number {place + 1}")) if rng.random() < 0.25 else ORDINALS[place]
    templates = (
        "What is the {name} word in this list: {items}?",
        "The {name} item of: {items}",
        "Which word comes {name}? {items}",
        "Give me the {name} word: {items}",
        "Take the {name} of these: {items}",
        "Name the {name} item in {items}.",
        "Here is a list: {items}. What is {name}?",
        "Pick the {name} one: {items}",
    )
    return single(fill(rng, templates, name=name, items=", ".join(items)), items[place], list_key(items))


def count_items(rng: random.Random) -> Problem:
    items = words(rng, 1, 7)
    templates = (
        "How many words are in this list: {items}?",
        "Count the words: {items}",
        "How many items? {items}",
        "How long is this list: {items}?",
        "Count these: {items}",
        "How many words do you see? {items}",
        "Tell me the number of items in: {items}",
        "How many things are listed here: {items}?",
    )
    return single(fill(rng, templates, items=", ".join(items)), str(len(items)), list_key(items))


def reverse_list(rng: random.Random) -> Problem:
    items = words(rng, 2, 5) if rng.random() < 0.8 else [str(rng.randint(0, 99)) for _ in range(rng.randint(2, 5))]
    templates = (
        "Reverse the list: {items}",
        "Reverse this: {items}",
        "Write this list backwards: {items}",
        "Give the list in reverse order: {items}",
        "Turn the list around: {items}",
        "List these from last to first: {items}",
        "What is the reverse of {items}?",
        "Put these in the opposite order: {items}",
    )
    return single(fill(rng, templates, items=", ".join(items)), ", ".join(reversed(items)), list_key(items))


def remove_item(rng: random.Random) -> Problem:
    items = words(rng, 3, 5)
    gone = rng.choice(items)
    templates = (
        "Remove {gone} from this list: {items}",
        "Delete {gone}: {items}",
        "Take {gone} out of: {items}",
        "List without {gone}: {items}",
        "Drop {gone} from {items}.",
        "Write the list without {gone}: {items}",
        "Leave out {gone}: {items}",
        "Here is a list: {items}. Remove {gone}.",
    )
    answer = ", ".join(item for item in items if item != gone)
    return single(fill(rng, templates, gone=gone, items=", ".join(items)), answer, list_key(items))


def add_item(rng: random.Random) -> Problem:
    new, *items = words(rng, 3, 5)
    templates = (
        "Add {new} to the end of this list: {items}",
        "Append {new} to: {items}",
        "Add {new}: {items}",
        "Put {new} at the end: {items}",
        "Here is a list: {items}. Add {new}.",
        "Extend the list {items} with {new}.",
        "Add the word {new} to {items}.",
        "List with {new} added: {items}",
    )
    return single(fill(rng, templates, new=new, items=", ".join(items)), ", ".join((*items, new)), list_key(items))


def contains_item(rng: random.Random) -> Problem:
    items = words(rng, 2, 5)
    asked = rng.choice(items) if rng.random() < 0.5 else word(rng)
    templates = (
        "Is {asked} in this list: {items}?",
        "Does the list contain {asked}? {items}",
        "Yes or no: is {asked} in {items}?",
        "Can you find {asked} here: {items}?",
        "Is the word {asked} listed? {items}",
        "Look for {asked}: {items}. Is it there?",
        "Here is a list: {items}. Is {asked} in it?",
        "Is {asked} one of these: {items}?",
    )
    answer = "yes" if asked in items else "no"
    return single(fill(rng, templates, asked=asked, items=", ".join(items)), answer, list_key(items))


TASKS = registry(
    Task("first_item", first_item, weight=0.8, early=True),
    Task("last_item", last_item, weight=0.8, early=True),
    Task("nth_item", nth_item, weight=2, early=True),
    Task("count_items", count_items, weight=1.5),
    Task("reverse_list", reverse_list, weight=2.5, early=True),
    Task("remove_item", remove_item, weight=2),
    Task("add_item", add_item, weight=1.5),
    Task("contains_item", contains_item, weight=2, guessable=True),
)
