"""Reading two or three short facts and answering about one of them: colours, places, owners, amounts."""

import random

from training.tiny.problem import Problem, Task, fill, registry, single
from training.tiny.words import COLOURS, NAMES, PLACES, SHAPES, THINGS, article, plural


def _scene_key(kind: str, *parts: str) -> str:
    return " ".join((kind, *sorted(parts)))


def _coloured(rng: random.Random) -> tuple[list[str], list[str]]:
    count = rng.choice((2, 2, 3))
    pool = SHAPES if rng.random() < 0.6 else THINGS
    return rng.sample(COLOURS, count), rng.sample(pool, count)


def _picture(rng: random.Random, colours: list[str], shapes: list[str]) -> str:
    parts = [article(f"{colour} {shape}") for colour, shape in zip(colours, shapes, strict=True)]
    joined = ", ".join(parts[:-1]) + " and " + parts[-1]
    templates = (
        "There is {parts}.",
        "I see {parts}.",
        "Picture: {parts}.",
        "I drew {parts}.",
        "On the table: {parts}.",
        "{parts}.",
    )
    return fill(rng, templates, parts=joined)


def colour_of_shape(rng: random.Random) -> Problem:
    colours, shapes = _coloured(rng)
    asked = rng.randrange(len(shapes))
    templates = (
        "{picture} What colour is the {shape}?",
        "{picture} Which colour does the {shape} have?",
        "{picture} Colour of the {shape}?",
        "What colour is the {shape}? {picture}",
        "{picture} The {shape} is what colour?",
        "{picture} Tell me the colour of the {shape}.",
        "{picture} What color is the {shape}?",
        "{picture} Name the colour of the {shape}.",
    )
    question = fill(rng, templates, picture=_picture(rng, colours, shapes), shape=shapes[asked])
    return single(question, colours[asked], _scene_key("scene", *colours, *shapes))


def shape_of_colour(rng: random.Random) -> Problem:
    colours, shapes = _coloured(rng)
    asked = rng.randrange(len(shapes))
    templates = (
        "{picture} What is {colour}?",
        "{picture} Which one is {colour}?",
        "{picture} Which thing is {colour}?",
        "What is {colour} here? {picture}",
        "{picture} Name the {colour} thing.",
        "{picture} Which item is {colour}?",
        "{picture} Tell me what is {colour}.",
        "{picture} The {colour} one is what?",
    )
    question = fill(rng, templates, picture=_picture(rng, colours, shapes), colour=colours[asked])
    return single(question, shapes[asked], _scene_key("scene", *colours, *shapes))


def where_is(rng: random.Random) -> Problem:
    things, places, names = rng.sample(THINGS, 2), rng.sample(PLACES, 2), rng.sample(NAMES, 2)
    asked = rng.randrange(2)
    if rng.random() < 0.5:
        facts = [f"{names[i]} put the {things[i]} in the {places[i]}." for i in range(2)]
        subject = f"the {things[asked]}"
    else:
        facts = [f"{names[i]} is in the {places[i]}." for i in range(2)]
        subject = names[asked]
    templates = (
        "{facts} Where is {subject}?",
        "{facts} In which place is {subject}?",
        "{facts} Tell me where {subject} is.",
        "Where is {subject}? {facts}",
        "{facts} Where can I find {subject}?",
        "{facts} Do you know where {subject} is?",
        "{facts} So where is {subject}?",
        "{facts} Find {subject}.",
    )
    question = fill(rng, templates, facts=" ".join(facts), subject=subject)
    return single(question, f"in the {places[asked]}", _scene_key("where", *things, *places, *names))


def who_has(rng: random.Random) -> Problem:
    names, things = rng.sample(NAMES, 3), rng.sample(THINGS, 3)
    count = rng.choice((2, 2, 3))
    asked = rng.randrange(count)
    verb = rng.choice(("has", "has", "owns", "took", "found"))
    facts = " ".join(f"{names[i]} {verb} the {things[i]}." for i in range(count))
    templates = (
        "{facts} Who {verb} the {thing}?",
        "{facts} Who is it that {verb} the {thing}?",
        "{facts} Which person {verb} the {thing}?",
        "Who {verb} the {thing}? {facts}",
        "{facts} Name the person who {verb} the {thing}.",
        "{facts} The {thing}: who {verb} it?",
        "{facts} Tell me who {verb} the {thing}.",
        "{facts} So who {verb} the {thing}?",
    )
    question = fill(rng, templates, facts=facts, verb=verb, thing=things[asked])
    return single(question, names[asked], _scene_key("who", *names[:count], *things[:count]))


def how_many_of(rng: random.Random) -> Problem:
    name, things = rng.choice(NAMES), [plural(thing) for thing in rng.sample(THINGS, 2)]
    counts = rng.sample(range(2, 30), 2)
    asked = rng.randrange(2)
    templates = (
        "{name} has {a} {x} and {b} {y}. How many {asked} does {name} have?",
        "There are {a} {x} and {b} {y}. How many {asked}?",
        "{name} sees {a} {x} and {b} {y}. How many {asked} does {name} see?",
        "{a} {x}, {b} {y}. Count the {asked}.",
        "{name} bought {a} {x} and {b} {y}. How many {asked} did {name} buy?",
        "In the box: {a} {x} and {b} {y}. How many {asked}?",
        "How many {asked} are there? There are {a} {x} and {b} {y}.",
        "I have {a} {x} and {b} {y}. How many {asked} do I have?",
    )
    question = fill(rng, templates, name=name, a=counts[0], b=counts[1], x=things[0], y=things[1], asked=things[asked])
    return single(question, str(counts[asked]), _scene_key("amount", *things, *map(str, counts)))


TASKS = registry(
    Task("colour_of_shape", colour_of_shape, weight=3, early=True, guessable=True),
    Task("shape_of_colour", shape_of_colour, weight=2, guessable=True),
    Task("where_is", where_is, weight=2, guessable=True),
    Task("who_has", who_has, weight=2.5, guessable=True),
    Task("how_many_of", how_many_of, weight=1.2, guessable=True),
)
