"""One-step stories about amounts. Numbers stay small, so that bare two-digit differences are not learned here."""

import random

from training.tiny.problem import Problem, Task, fill, registry, single
from training.tiny.tasks.arithmetic import product_key, sum_key
from training.tiny.words import ANIMALS, FRUITS, NAMES, THINGS, plural

ENDINGS = ("", "", "", " Answer with a number.", " Give only the number.", " Just the number please.")


def _cast(rng: random.Random) -> dict[str, str]:
    who, other = rng.sample(NAMES, 2)
    return {"who": who, "other": other, "things": plural(rng.choice(FRUITS + THINGS + ANIMALS[:12]))}


def story_sum(rng: random.Random) -> Problem:
    a, b = rng.randint(1, 30), rng.randint(1, 20)
    templates = (
        "{who} has {a} {things} and gets {b} more. How many {things} does {who} have now?",
        "{who} has {a} {things}. {other} gives {who} {b} more. How many {things} does {who} have?",
        "There are {a} {things} in one box and {b} {things} in another. How many {things} are there in total?",
        "{who} buys {a} {things} and {other} buys {b}. How many {things} did they buy together?",
        "{who} found {a} {things} today and {b} yesterday. How many is that in total?",
        "A shop has {a} {things}. Then {b} more arrive. How many {things} are in the shop?",
        "{who} owns {a} {things}. {other} owns {b} {things}. How many {things} do they own together?",
        "On Monday {who} counted {a} {things}, on Tuesday {b}. How many in all?",
    )
    return single(fill(rng, templates, a=a, b=b, **_cast(rng)) + rng.choice(ENDINGS), str(a + b), sum_key(a, b))


def story_difference(rng: random.Random) -> Problem:
    b = rng.randint(1, 9)
    a = b + rng.randint(0, 12)
    templates = (
        "{who} has {a} {things} and gives {b} away. How many {things} are left?",
        "{who} had {a} {things} but lost {b}. How many {things} does {who} have now?",
        "There are {a} {things} on the table. {who} takes {b}. How many {things} are still there?",
        "{who} has {a} {things}. {other} takes {b} of them. How many does {who} keep?",
        "A shop has {a} {things} and sells {b}. How many {things} remain?",
        "{who} made {a} {things} and broke {b}. How many {things} are left?",
        "{who} has {a} {things}, {other} has {b}. How many more does {who} have?",
        "From {a} {things}, {b} were sold. How many {things} are left?",
    )
    return single(fill(rng, templates, a=a, b=b, **_cast(rng)) + rng.choice(ENDINGS), str(a - b), f"{a}-{b}")


def story_product(rng: random.Random) -> Problem:
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    templates = (
        "{who} has {a} bags with {b} {things} in each. How many {things} does {who} have?",
        "There are {a} boxes. Each box holds {b} {things}. How many {things} are there?",
        "{who} buys {a} packs of {b} {things}. How many {things} is that?",
        "{a} friends bring {b} {things} each. How many {things} do they bring?",
        "Each of {a} shelves holds {b} {things}. How many {things} are on the shelves?",
        "{who} puts {b} {things} on each of {a} plates. How many {things} does {who} need?",
        "{who} makes {b} {things} a day. How many {things} are made in {a} days?",
        "{a} baskets hold {b} {things} each. How many {things} are there in total?",
    )
    return single(fill(rng, templates, a=a, b=b, **_cast(rng)) + rng.choice(ENDINGS), str(a * b), product_key(a, b))


TASKS = registry(
    Task("story_sum", story_sum, weight=2),
    Task("story_difference", story_difference, weight=2),
    Task("story_product", story_product, weight=1.5),
)
