"""Conversations whose last turn only makes sense together with earlier ones."""

import random

from training.tiny.problem import Problem, Task, assistant, fill, registry, user
from training.tiny.tasks.arithmetic import sum_key
from training.tiny.tasks.lists import list_key
from training.tiny.words import ANIMALS, COLOURS, FRUITS, NAMES, words


def remember_name(rng: random.Random) -> Problem:
    name = rng.choice(NAMES)
    facts = {"colour": rng.choice(COLOURS), "animal": rng.choice(ANIMALS), "fruit": rng.choice(FRUITS)}
    kind = rng.choice(list(facts))
    hello = fill(
        rng, ("My name is {name}.", "Hi, I am {name}.", "Hello, my name is {name}.", "I am {name}."), name=name
    )
    fact = fill(
        rng,
        ("My favourite {kind} is {fact}.", "I like {fact} best. It is my favourite {kind}."),
        kind=kind,
        fact=facts[kind],
    )
    turns = [(hello, f"Nice to meet you, {name}!"), (fact, f"I will remember: {facts[kind]}.")]
    if rng.random() < 0.3:
        turns.reverse()
    if rng.random() < 0.5:
        asks: tuple[str, ...] = (
            "What is my name?",
            "Who am I?",
            "Do you know my name?",
            "What was my name again?",
            "Tell me my name.",
        )
        question, answer = rng.choice(asks), name
        turns = turns if rng.random() < 0.5 else [(hello, f"Nice to meet you, {name}!")]
    else:
        asks = (
            f"What is my favourite {kind}?",
            f"Which {kind} do I like best?",
            f"Do you remember my favourite {kind}?",
            f"My favourite {kind}?",
        )
        question, answer = rng.choice(asks), facts[kind]
    messages = [message for said, reply in turns for message in (user(said), assistant(reply))]
    return Problem((*messages, user(question)), answer, (f"memory {name} {facts[kind]}",))


def change_the_list(rng: random.Random) -> Problem:
    """A list is repeated, then asked about or changed."""
    items = words(rng, 3, 4)
    listed = ", ".join(items)
    opening = fill(
        rng,
        ("Repeat this list: {listed}", "Here is a list: {listed}. Say it.", "Say this list: {listed}"),
        listed=listed,
    )
    questions = {
        "first": (("And the first?", "Which one is first?", "What is the first word?"), items[0]),
        "last": (("And the last?", "Which one is last?", "What is the last word?"), items[-1]),
        "upper": (("Now in upper case.", "Now in capital letters.", "Write it in upper case."), listed.upper()),
        "reverse": (("Now reverse it.", "Now backwards.", "Reverse it."), ", ".join(reversed(items))),
        "count": (("How many words is that?", "How many?", "Count them."), str(len(items))),
        "again": (("Again please.", "Once more.", "Say it again."), listed),
    }
    asked, answer = questions[rng.choice(list(questions))]
    return Problem((user(opening), assistant(listed), user(rng.choice(asked))), answer, (list_key(items),))


def add_more(rng: random.Random) -> Problem:
    """A sum, then something added to its result."""
    a, b, c = rng.randint(1, 20), rng.randint(1, 20), rng.randint(1, 10)
    first = fill(rng, ("What is {a} + {b}?", "{a} + {b}", "Add {a} and {b}.", "{a} plus {b}?"), a=a, b=b)
    more = (
        "Add {c} to that.",
        "And {c} more?",
        "Plus {c}?",
        "Now add {c}.",
        "What if I add {c}?",
        "And if you add {c}?",
        "Then add {c}.",
        "{c} more?",
    )
    messages = (user(first), assistant(str(a + b)), user(fill(rng, more, c=c)))
    return Problem(messages, str(a + b + c), (sum_key(a, b), sum_key(a + b, c)))


def same_again(rng: random.Random) -> Problem:
    """The first turn shows what to do; the second only names the new numbers."""
    a, b, c, d = (rng.randint(1, 30) for _ in range(4))
    ask = fill(rng, ("What is {a} + {b}?", "{a} + {b}", "Add {a} and {b}.", "{a} plus {b}?"), a=a, b=b)
    more = (
        "And {c} + {d}?",
        "And {c} and {d}?",
        "Now {c} and {d}.",
        "What about {c} and {d}?",
        "The same for {c} and {d}.",
        "{c} and {d}?",
    )
    messages = (user(ask), assistant(str(a + b)), user(fill(rng, more, c=c, d=d)))
    return Problem(messages, str(c + d), (sum_key(a, b), sum_key(c, d)))


TASKS = registry(
    Task("remember_name", remember_name, weight=1.5),
    Task("change_the_list", change_the_list, weight=2),
    Task("add_more", add_more, weight=1),
    Task("same_again", same_again, weight=1),
)
