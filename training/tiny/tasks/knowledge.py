"""A few facts the model simply knows.

A fact cannot be held out, so its phrasings are: each fact is trained in most of its phrasings and tested in the others.
"""

import random

from training.tiny.problem import Problem, Task, fill, registry, single
from training.tiny.words import ANIMALS, COLOURS, FRUITS, NAMES, THINGS, VEGETABLES, VEHICLES, article, listed, plural

_PAIRS = (
    "hot cold, big small, up down, left right, fast slow, good bad, happy sad, old young, open closed, day night, "
    "wet dry, light dark, hard soft, full empty, early late, long short, rich poor, clean dirty, true false, in out, "
    "black white, first last, loud quiet, high low, near far, strong weak, yes no, summer winter, north south, "
    "east west, start end, win lose, buy sell, love hate, push pull"
)
OPPOSITES = {a: b for pair in _PAIRS.split(", ") for a, b in (pair.split(), pair.split()[::-1])}
CAPITALS = {
    "France": "Paris", "Spain": "Madrid", "Italy": "Rome", "Germany": "Berlin", "Japan": "Tokyo", "China": "Beijing",
    "Egypt": "Cairo", "Greece": "Athens", "Norway": "Oslo", "Sweden": "Stockholm", "Poland": "Warsaw",
    "Portugal": "Lisbon", "Cuba": "Havana", "Peru": "Lima", "Kenya": "Nairobi", "Canada": "Ottawa",
    "Austria": "Vienna", "Ireland": "Dublin", "Finland": "Helsinki", "Denmark": "Copenhagen", "Hungary": "Budapest",
    "Belgium": "Brussels",
}  # fmt: skip
COLOUR_OF = {
    "grass": "green", "the sky": "blue", "snow": "white", "coal": "black", "a banana": "yellow", "a lemon": "yellow",
    "blood": "red", "a tomato": "red", "a carrot": "orange", "milk": "white", "a leaf": "green", "chocolate": "brown",
    "a cherry": "red", "the night": "black", "a plum": "purple", "a pea": "green", "the sun": "yellow", "a pig": "pink",
}  # fmt: skip
SOUNDS = {
    "dog": "woof", "cat": "meow", "cow": "moo", "duck": "quack", "sheep": "baa", "lion": "roar", "frog": "ribbit",
    "owl": "hoot", "pig": "oink", "mouse": "squeak", "horse": "neigh", "bee": "buzz",
}  # fmt: skip
NUMBER_WORDS = listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
DAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = listed("January February March April May June July August September October November December")
KINDS = {
    "an animal": ANIMALS,
    "a fruit": FRUITS,
    "a vegetable": VEGETABLES,
    "a colour": COLOURS[:8],
    "a vehicle": VEHICLES,
}
IRREGULAR = listed("mouse sheep wolf leaf child man woman foot tooth goose knife")


def opposite(rng: random.Random) -> Problem:
    word = rng.choice(list(OPPOSITES))
    templates = (
        "What is the opposite of {word}?",
        "Opposite of {word}?",
        "Give me the opposite of {word}.",
        "The opposite of {word} is",
        "Name the opposite of {word}.",
        "What word means the opposite of {word}?",
        "{word}: what is the opposite?",
        "Not {word}, but",
        "Tell me the opposite of {word}.",
        "Which word is the opposite of {word}?",
    )
    return single(fill(rng, templates, word=word), OPPOSITES[word])


def plural_of(rng: random.Random) -> Problem:
    noun = rng.choice(IRREGULAR) if rng.random() < 0.2 else rng.choice(ANIMALS + FRUITS + THINGS + VEHICLES)
    templates = (
        "What is the plural of {noun}?",
        "Plural of {noun}?",
        "Give the plural: {noun}",
        "One {noun}, two",
        "Write {noun} in the plural.",
        "What do you call more than one {noun}?",
        "Make this plural: {noun}",
        "The plural of {noun} is",
    )
    return single(fill(rng, templates, noun=noun), plural(noun))


def capital(rng: random.Random) -> Problem:
    country = rng.choice(list(CAPITALS))
    templates = (
        "What is the capital of {country}?",
        "Capital of {country}?",
        "Name the capital of {country}.",
        "Tell me the capital of {country}.",
        "Which city is the capital of {country}?",
        "The capital of {country} is",
        "What is the capital city of {country}?",
        "Which capital does {country} have?",
        "{country}: what is the capital?",
    )
    return single(fill(rng, templates, country=country), CAPITALS[country])


def usual_colour(rng: random.Random) -> Problem:
    thing = rng.choice(list(COLOUR_OF))
    templates = (
        "What colour is {thing}?",
        "What color is {thing}?",
        "Which colour is {thing}?",
        "Tell me the colour of {thing}.",
        "What is the colour of {thing}?",
        "Name the colour of {thing}.",
        "Colour of {thing}?",
        "Which colour does {thing} have?",
    )
    return single(fill(rng, templates, thing=thing), COLOUR_OF[thing])


def animal_sound(rng: random.Random) -> Problem:
    animal = rng.choice(list(SOUNDS))
    templates = (
        "What sound does {animal} make?",
        "What does {animal} say?",
        "Which sound does {animal} make?",
        "The sound of {animal}?",
        "How does {animal} sound?",
        "Tell me the sound of {animal}.",
        "What noise does {animal} make?",
        "Name the sound {animal} makes.",
    )
    return single(fill(rng, templates, animal=article(animal)), SOUNDS[animal])


def number_word(rng: random.Random) -> Problem:
    number = rng.randrange(len(NUMBER_WORDS))
    to_word = (
        "Write {x} as a word.",
        "Write the number {x} in words.",
        "How do you write {x} in words?",
        "{x} in words?",
        "Spell the number {x}.",
        "Which word is {x}?",
        "Turn {x} into a word.",
        "Say {x} in words.",
    )
    to_digits = (
        "Write {x} as a number.",
        "Write {x} in digits.",
        "Which number is {x}?",
        "{x} in digits?",
        "Give me {x} as digits.",
        "Turn {x} into a number.",
        "What number is {x}?",
        "Write the word {x} as a number.",
    )
    if rng.random() < 0.5:
        return single(fill(rng, to_word, x=number), NUMBER_WORDS[number])
    return single(fill(rng, to_digits, x=NUMBER_WORDS[number]), str(number))


def calendar(rng: random.Random) -> Problem:
    names, kind = rng.choice(((DAYS, "day"), (MONTHS, "month")))
    place, after = rng.randrange(len(names)), rng.random() < 0.65
    templates = (
        "Which {kind} comes {side} {name}?",
        "What {kind} is {side} {name}?",
        "What comes {side} {name}?",
        "The {kind} {side} {name}?",
        "Name the {kind} {side} {name}.",
        "Tell me the {kind} {side} {name}.",
        "{name}: which {kind} is {side} it?",
        "Give me the {kind} that comes {side} {name}.",
    )
    question = fill(rng, templates, kind=kind, name=names[place], side="after" if after else "before")
    return single(question, names[(place + (1 if after else -1)) % len(names)])


def kind_of(rng: random.Random) -> Problem:
    kind = rng.choice(list(KINDS))
    thing = rng.choice(KINDS[kind])
    other = rng.choice([name for name in KINDS if name != kind and thing not in KINDS[name]])
    first, second = (kind, other) if rng.random() < 0.5 else (other, kind)
    templates = (
        "Is {thing} {first} or {second}?",
        "What is {thing}: {first} or {second}?",
        "{thing}: {first} or {second}?",
        "Would you call {thing} {first} or {second}?",
        "{first} or {second}: what is {thing}?",
        "Tell me, is {thing} {first} or {second}?",
        "Which is {thing}, {first} or {second}?",
        "Say if {thing} is {first} or {second}.",
    )
    return single(fill(rng, templates, thing=thing, first=first, second=second), kind)


def is_animal(rng: random.Random) -> Problem:
    thing = rng.choice(ANIMALS) if rng.random() < 0.5 else rng.choice(FRUITS + THINGS + VEHICLES + NAMES)
    templates = (
        "Is {thing} an animal?",
        "Is {thing} an animal? Answer yes or no.",
        "Yes or no: is {thing} an animal?",
        "{thing}: is it an animal?",
        "Do you think {thing} is an animal?",
        "Would you say {thing} is an animal?",
        "Can {thing} be an animal?",
        "Tell me if {thing} is an animal.",
    )
    named = thing if thing in NAMES else article(thing)
    return single(fill(rng, templates, thing=named), "yes" if thing in ANIMALS else "no")


TASKS = registry(
    Task("opposite", opposite, weight=1.2),
    Task("plural_of", plural_of, weight=1),
    Task("capital", capital, weight=0.8),
    Task("usual_colour", usual_colour, weight=0.8),
    Task("animal_sound", animal_sound, weight=0.4),
    Task("number_word", number_word, weight=1),
    Task("calendar", calendar, weight=1),
    Task("kind_of", kind_of, weight=1, guessable=True),
    Task("is_animal", is_animal, weight=0.8, guessable=True),
)
