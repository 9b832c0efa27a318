"""Small talk and tiny stories. There is no single right answer; a story counts when it is about what was asked."""

import random
import re

from training.tiny.problem import Problem, Task, fill, registry, single
from training.tiny.words import ANIMALS, NAMES, PLACES, THINGS, article

TALK: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("Hello", "Hello!", "Hi", "Hi!", "Hey", "Hi there", "Hello there!", "hello", "hi"),
        ("Hello! How can I help you?", "Hi! What can I do for you?"),
    ),
    (("Good morning", "Good morning!"), ("Good morning! How can I help you?",)),
    (("Good evening", "Good evening!"), ("Good evening! How can I help you?",)),
    (("Good night", "Good night!", "Sleep well."), ("Good night! Sleep well.",)),
    (
        ("How are you?", "How are you today?", "How do you do?", "How is it going?", "Are you well?"),
        ("I am fine, thank you. And you?",),
    ),
    (
        (
            "Who are you?",
            "What are you?",
            "Tell me about yourself.",
            "Introduce yourself.",
            "What kind of model are you?",
            "who are you",
        ),
        ("I am Tiny, a very small language model.",),
    ),
    (
        ("What is your name?", "Your name?", "How are you called?", "Do you have a name?", "what is your name"),
        ("My name is Tiny.",),
    ),
    (
        ("What can you do?", "How can you help me?", "Help", "What are you good at?", "Can you help me?", "help"),
        ("I can do small sums, sort and change lists, and tell tiny stories.",),
    ),
    (("Thank you!", "Thanks", "Thanks a lot!", "Thank you very much.", "thanks"), ("You are welcome!",)),
    (("Bye", "Goodbye", "See you later!", "Bye bye!", "bye"), ("Goodbye! See you soon.",)),
    (
        ("Who made you?", "Who trained you?", "Where do you come from?", "Who built you?"),
        ("I was trained from scratch on generated text by Hone.",),
    ),
    (
        ("Are you a human?", "Are you a person?", "Are you real?", "Are you a robot?"),
        ("No human here: I am a small language model.",),
    ),
    (
        ("I am sad.", "I feel sad today.", "I had a bad day.", "I feel bad."),
        ("I am sorry to hear that. Shall I tell you a story?",),
    ),
    (("I am happy.", "I feel great today!", "I had a good day.", "I am so happy!"), ("That is lovely to hear!",)),
    (
        ("Tell me a joke.", "Make me laugh.", "Do you know a joke?", "A joke please."),
        ("Why did the bee hum? It did not know the words.", "What is brown and sticky? A stick."),
    ),
    (("Do you like music?", "Do you like books?", "Do you like stories?"), ("Yes, I like small things best.",)),
)


def small_talk(rng: random.Random) -> Problem:
    questions, answers = rng.choice(TALK)
    return single(rng.choice(questions), rng.choice(answers), "talk")


def _known_reply(problem: Problem, text: str) -> bool:
    return any(problem.question in questions and text.strip() in answers for questions, answers in TALK)


def _tell(rng: random.Random, who: str, friend: str, thing: str) -> str:
    place, feeling = rng.choice(PLACES), rng.choice(("happy", "glad", "proud", "full of joy"))
    opening = (
        "One day, {who} went to the {place}.",
        "{who} lived near the {place}.",
        "It was a sunny day and {who} was in the {place}.",
        "Once upon a time, {who} walked to the {place}.",
    )
    event = (
        "There, {who} found {a_thing}.",
        "{who} was looking for {a_thing}.",
        "{who} wanted to find {a_thing}.",
        "Suddenly {who} saw {a_thing}.",
    )
    turn = (
        "{friend} came to help.",
        'Then {friend} said: "What a nice {thing}!"',
        "{friend} wanted to play with the {thing} too.",
        "The {thing} was old, so {friend} cleaned it.",
    )
    end = (
        "In the end, {who} and {friend} were {feeling}.",
        "They played until night and were {feeling}.",
        "{who} went home {feeling}.",
        "They shared the {thing} and were {feeling}.",
    )
    fields = {
        "who": who,
        "friend": friend,
        "thing": thing,
        "a_thing": article(thing),
        "place": place,
        "feeling": feeling,
    }
    return " ".join(fill(rng, part, **fields) for part in (opening, event, turn, end))


def story(rng: random.Random) -> Problem:
    who, friend = rng.sample(NAMES, 2)
    thing = rng.choice(THINGS)
    about_name = (
        "Tell me a story about {who}.",
        "Write a short story about {who}.",
        "A story about {who} please.",
        "Make up a story with {who} in it.",
    )
    about_thing = (
        "Tell me a story about {a_thing}.",
        "Write a short story about {a_thing}.",
        "A story about {a_thing} please.",
        "Make up a story with {a_thing} in it.",
    )
    about_both = ("Tell me a story about {who} and {a_thing}.", "Write a tiny story: {who} finds {a_thing}.")
    free = ("Tell me a story.", "Write a short story.", "I want to hear a story.", "A story please.")
    kind = rng.choice((about_name, about_thing, about_both, free))
    return single(
        fill(rng, kind, who=who, a_thing=article(thing)), _tell(rng, who, friend, thing), f"story {who} {thing}"
    )


def _about_what_was_asked(problem: Problem, text: str) -> bool:
    question = problem.question.rstrip(".")
    asked = [word for word in NAMES + THINGS if re.search(rf"\b{word}\b", question)]
    return text.endswith(".") and text.count(".") >= 3 and all(word in text for word in asked)


def animal_line(rng: random.Random) -> Problem:
    animal, place = rng.choice(ANIMALS), rng.choice(PLACES)
    answer = fill(
        rng,
        ("The {animal} sleeps in the {place}.", "{a_animal} runs to the {place}.", "I saw {b_animal} in the {place}."),
        animal=animal,
        place=place,
        a_animal=article(animal).capitalize(),
        b_animal=article(animal),
    )
    templates = (
        "Write a sentence about {a_animal}.",
        "Give me a sentence with the word {animal}.",
        "Use {animal} in a sentence.",
        "Say something about {a_animal}.",
        "One sentence about {a_animal} please.",
        "Make a sentence with {animal}.",
        "Write one line about {a_animal}.",
        "Tell me something about {a_animal}.",
    )
    return single(fill(rng, templates, animal=animal, a_animal=article(animal)), answer)


def _names_the_animal(problem: Problem, text: str) -> bool:
    animal = next(name for name in ANIMALS if re.search(rf"\b{name}\b", problem.question))
    return animal in text and text.endswith(".")


TASKS = registry(
    Task("small_talk", small_talk, weight=1, check=_known_reply, memorised=True),
    Task("story", story, weight=1, check=_about_what_was_asked, max_tokens=110),
    Task("animal_line", animal_line, weight=0.5, check=_names_the_animal),
)
