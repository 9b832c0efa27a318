"""The problems of the demo: generators, exact-match verifiers, and which problems are never trained on.

Every problem has a key that names what has to be worked out, not how it is phrased. A stable hash of the key puts it on
the training side or the held-out side, so the two never share a key. The same rule, with the same keys where the
embedded model knows the task, kept problems from that model's own training: a held-out problem is new to both.
"""

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "held_out"]

HELD_OUT_PERCENT = 10


@dataclass(frozen=True)
class Problem:
    question: str
    answer: str
    key: str

    @property
    def held_out(self) -> bool:
        return zlib.crc32(self.key.encode()) % 100 < HELD_OUT_PERCENT

    def solved_by(self, text: str) -> bool:
        """The verifier: the answer, the whole answer, and nothing but the answer."""
        return text.strip() == self.answer


@dataclass(frozen=True)
class Task:
    name: str
    summary: str
    generate: Callable[[random.Random], Problem]

    def draw(self, rng: random.Random, split: Split) -> Problem:
        """Draw until a problem falls on the wanted side."""
        while True:
            problem = self.generate(rng)
            if problem.held_out == (split == "held_out"):
                return problem

    def examination(self, size: int) -> list[Problem]:
        """`size` held-out problems, no question twice; the same ones each time."""
        rng = random.Random(f"examination of {self.name}")
        problems: dict[str, Problem] = {}
        for _ in range(100 * size):
            problem = self.draw(rng, "held_out")
            problems[problem.question] = problem
            if len(problems) == size:
                return list(problems.values())
        raise AssertionError(f"task {self.name!r} has fewer than {size} held-out questions; give it more phrasings")


# --- Routing support tickets: what the embedded model has never seen ------------------------------------------------

TOPICS = {
    "billing": (
        "my invoice is wrong",
        "I paid twice",
        "the price on my bill changed",
        "my card was charged again",
        "I need a receipt",
        "the discount is missing",
        "I was billed for nothing",
    ),
    "shipping": (
        "my parcel is late",
        "the box came broken",
        "my order went to the wrong street",
        "the parcel never came",
        "the driver left my box in the rain",
        "I have no tracking number",
        "half of my order is missing",
    ),
    "account": (
        "I cannot log in",
        "my password does not work",
        "please change my email",
        "I want to close my account",
        "my name is wrong in my profile",
        "I am locked out",
        "someone else uses my login",
    ),
    "app": (
        "the app crashes at the start",
        "the page stays white",
        "the search finds nothing",
        "the button does not work",
        "the app is very slow",
        "I see an error on every page",
        "the sound is gone",
    ),
}
URGENCY = {
    "low": ("no hurry", "take your time", "when you have a free minute", "it can wait", "any day is fine"),
    "normal": ("please help", "thank you", "can you look at it?", "what can I do?", "please answer soon"),
    "high": ("this is urgent", "I need it now", "it cannot wait", "help me right now", "we lose money every hour"),
}
OPENINGS = ("Hello,", "Hi,", "Good morning,", "Dear team,", "Hi there,", "Good evening,")


def route_ticket(rng: random.Random) -> Problem:
    """Held out are pairs of a topic and an urgency: each was seen in other company, never together."""
    queue, priority = rng.choice(list(TOPICS)), rng.choice(list(URGENCY))
    topic, urgency = rng.choice(TOPICS[queue]), rng.choice(URGENCY[priority])
    message = rng.choice((f"{topic}, {urgency}", f"{urgency}, {topic}"))
    return Problem(f"Ticket: {rng.choice(OPENINGS)} {message}", f"{queue}/{priority}", f"ticket {topic} + {urgency}")


# --- Sorting downwards: what the embedded model does sometimes ------------------------------------------------------


def sort_down(rng: random.Random) -> Problem:
    """The key is that of the same three numbers in any order, sorted either way."""
    numbers = rng.sample(range(100), 3)
    answer = ", ".join(map(str, sorted(numbers, reverse=True)))
    key = " ".join(sorted(map(str, numbers)))
    return Problem(f"Sort descending: {', '.join(map(str, numbers))}", answer, f"words {key}")


# --- Four small customers, each with a format of its own ------------------------------------------------------------

MONTHS = tuple("January February March April May June July August September October November December".split())
ROOMS = tuple("kitchen garden office cellar attic barn library hall school station".split())
DEVICES = tuple("lamp clock door window music fire bell fan".split())
SETTINGS = tuple("on off up down".split())
THINGS = tuple("ball book box bottle brush candle chair coat cup drum hat key kite map pen plate ring shoe".split())
COLOURS = tuple("red blue green yellow black white pink brown".split())
FIRST_NAMES = tuple("Ada Ben Cora Dan Eva Finn Gina Hugo Iris Jon Kim Leo Mia Nils Olga Paul Rosa Sam Tara Uma".split())
LAST_NAMES = tuple("Adams Brown Clark Davis Evans Fox Green Hill Jones King Lake Moore North Owen Park Reed".split())


def date(rng: random.Random) -> Problem:
    day, month = rng.randint(1, 28), rng.randint(1, 12)
    name = MONTHS[month - 1]
    phrasings = (f"{day} {name}", f"{name} {day}", f"the {day} of {name}", f"on {name} {day}", f"{day}. {name}")
    question = f"Date: {rng.choice(phrasings)}"
    return Problem(question, f"{month:02}-{day:02}", f"date {month} {day}")


def home(rng: random.Random) -> Problem:
    room, device, setting = rng.choice(ROOMS), rng.choice(DEVICES), rng.choice(SETTINGS)
    wish = rng.choice((f"turn the {room} {device} {setting}", f"{setting} with the {device} in the {room}"))
    question = f"Home: {wish}{rng.choice((' please', ''))}"
    return Problem(question, f"{room}.{device}={setting}", f"home {room} {device} {setting}")


def order(rng: random.Random) -> Problem:
    count, colour, thing = rng.randint(2, 9), rng.choice(COLOURS), rng.choice(THINGS)
    opening = rng.choice(("I want", "send me", "we need", "please add"))
    return Problem(
        f"Order: {opening} {count} times {colour} {thing}",
        f"{thing}:{colour}:{count}",
        f"order {count} {colour} {thing}",
    )


def initials(rng: random.Random) -> Problem:
    first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
    phrasings = (
        f"{first} {last}",
        f"I am {first} {last}",
        f"{last}, {first}",
        f"my name is {first} {last}",
        f"it is {first} {last}",
    )
    question = f"Sign: {rng.choice(phrasings)}"
    return Problem(question, f"{first[0]}.{last[0]}.", f"sign {first} {last}")


# The choices of the three stages, in one place.
SFT_TASK = Task("tickets", "route a support ticket to queue/priority", route_ticket)
RL_TASK = Task("sorting", "sort three numbers, largest first", sort_down)
MANY_TASKS = (
    Task("dates", "write a date as month-day", date),
    Task("home", "turn a wish into room.device=setting", home),
    Task("orders", "turn an order into thing:colour:count", order),
    Task("initials", "sign with initials", initials),
)
