"""Bare sums, differences, products and comparisons of whole numbers. Answers are digits or one word."""

import random

from training.tiny.problem import Problem, Task, fill, registry, single

SUM = (
    "What is {a} + {b}?",
    "{a} + {b} = ?",
    "{a}+{b}",
    "{a} + {b}",
    "Add {a} and {b}.",
    "What is {a} plus {b}?",
    "Calculate {a} + {b}.",
    "How much is {a} plus {b}?",
    "What is the sum of {a} and {b}?",
    "{a} + {b} =",
    "Compute {a} + {b}.",
    "Can you add {a} and {b}?",
)
DIFFERENCE = (
    "What is {a} - {b}?",
    "{a} - {b} = ?",
    "{a}-{b}",
    "{a} - {b}",
    "Subtract {b} from {a}.",
    "What is {a} minus {b}?",
    "Calculate {a} - {b}.",
    "How much is {a} minus {b}?",
    "Take {b} away from {a}.",
    "{a} - {b} =",
    "Compute {a} - {b}.",
)
PRODUCT = (
    "What is {a} * {b}?",
    "{a} * {b} = ?",
    "{a}*{b}",
    "{a} x {b}",
    "Multiply {a} by {b}.",
    "What is {a} times {b}?",
    "Calculate {a} * {b}.",
    "How much is {a} times {b}?",
    "What is the product of {a} and {b}?",
    "{a} * {b} =",
    "Compute {a} * {b}.",
)
NUMBER_ONLY = ("", "", "", "", "", " Answer with the number only.", " Just the number.", " Reply with a number.")


def sum_key(a: int, b: int) -> str:
    return f"{min(a, b)}+{max(a, b)}"


def product_key(a: int, b: int) -> str:
    return f"{min(a, b)}*{max(a, b)}"


def add(rng: random.Random, a: int, b: int) -> Problem:
    return single(fill(rng, SUM, a=a, b=b) + rng.choice(NUMBER_ONLY), str(a + b), sum_key(a, b))


def subtract(rng: random.Random, a: int, b: int) -> Problem:
    a, b = max(a, b), min(a, b)
    return single(fill(rng, DIFFERENCE, a=a, b=b) + rng.choice(NUMBER_ONLY), str(a - b), f"{a}-{b}")


def multiply(rng: random.Random, a: int, b: int) -> Problem:
    return single(fill(rng, PRODUCT, a=a, b=b) + rng.choice(NUMBER_ONLY), str(a * b), product_key(a, b))


def sum_one_digit(rng: random.Random) -> Problem:
    return add(rng, rng.randint(0, 9), rng.randint(0, 9))


def sum_two_digit(rng: random.Random) -> Problem:
    low = rng.choice((1, 10, 10))
    a, b = rng.randint(10, 99), rng.randint(low, 99)
    return add(rng, a, b) if rng.random() < 0.5 else add(rng, b, a)


def sum_three_digit(rng: random.Random) -> Problem:
    a, b = rng.randint(100, 999), rng.randint(10, 999)
    return add(rng, a, b) if rng.random() < 0.5 else add(rng, b, a)


def subtract_one_digit(rng: random.Random) -> Problem:
    return subtract(rng, rng.randint(0, 18), rng.randint(0, 9))


def subtract_two_digit(rng: random.Random) -> Problem:
    return subtract(rng, rng.randint(20, 99), rng.randint(10, 99))


def multiply_one_digit(rng: random.Random) -> Problem:
    return multiply(rng, rng.randint(0, 10), rng.randint(0, 10))


def multiply_two_by_one(rng: random.Random) -> Problem:
    a, b = rng.randint(11, 99), rng.randint(2, 9)
    return multiply(rng, a, b) if rng.random() < 0.7 else multiply(rng, b, a)


def sum_three_numbers(rng: random.Random) -> Problem:
    a, b, c = (rng.randint(1, 20) for _ in range(3))
    templates = (
        "What is {a} + {b} + {c}?",
        "{a} + {b} + {c} = ?",
        "Add {a}, {b} and {c}.",
        "What is the sum of {a}, {b} and {c}?",
        "Calculate {a} + {b} + {c}.",
        "{a}+{b}+{c}",
        "How much is {a} plus {b} plus {c}?",
        "Add up these numbers: {a}, {b}, {c}",
    )
    key = "+".join(map(str, sorted((a, b, c))))
    return single(fill(rng, templates, a=a, b=b, c=c), str(a + b + c), key)


def compare(rng: random.Random) -> Problem:
    a, b = rng.sample(range(rng.choice((20, 100, 100, 1000))), 2)
    larger = rng.random() < 0.5
    templates = (
        "Which is {word}, {a} or {b}?",
        "Which number is {word}: {a} or {b}?",
        "{a} or {b}: which is {word}?",
        "Tell me the {word} number: {a} or {b}.",
        "Which of these is {word}, {a} or {b}?",
        "What is {word}: {a} or {b}?",
        "Of {a} and {b}, which is {word}?",
        "Pick the {word} one: {a} or {b}.",
    )
    word = rng.choice(("larger", "bigger", "greater") if larger else ("smaller", "lower", "less"))
    answer = max(a, b) if larger else min(a, b)
    return single(fill(rng, templates, a=a, b=b, word=word), str(answer), f"compare {min(a, b)} {max(a, b)}")


def is_greater(rng: random.Random) -> Problem:
    a, b = rng.sample(range(100), 2)
    word, truth = rng.choice(
        (("greater", a > b), ("larger", a > b), ("bigger", a > b), ("less", a < b), ("smaller", a < b))
    )
    templates = (
        "Is {a} {word} than {b}?",
        "Is {a} {word} than {b}? Answer yes or no.",
        "Yes or no: is {a} {word} than {b}?",
        "Is it true that {a} is {word} than {b}?",
        "Would you say {a} is {word} than {b}?",
        "{a} is {word} than {b}. Yes or no?",
        "Tell me if {a} is {word} than {b}.",
        "Is the number {a} {word} than {b}?",
    )
    answer = "yes" if truth else "no"
    return single(fill(rng, templates, a=a, b=b, word=word), answer, f"compare {min(a, b)} {max(a, b)}")


def even_or_odd(rng: random.Random) -> Problem:
    a = rng.randrange(rng.choice((10, 100, 1000)))
    templates = (
        "Is {a} even or odd?",
        "Even or odd: {a}?",
        "Tell me whether {a} is even or odd.",
        "Is the number {a} odd or even?",
        "{a}: even or odd?",
        "Is {a} odd or even?",
        "Say if {a} is even or odd.",
        "What is {a}, even or odd?",
    )
    return single(fill(rng, templates, a=a), "odd" if a % 2 else "even", f"parity {a}")


def next_number(rng: random.Random) -> Problem:
    start, step = rng.randint(0, 30), rng.choice((1, 2, 2, 3, 4, 5, 5, 10, 10))
    series = ", ".join(str(start + step * index) for index in range(rng.choice((3, 4))))
    templates = (
        "What comes next: {series}?",
        "Continue: {series}",
        "{series}, ... What is next?",
        "Which number follows {series}?",
        "Find the next number: {series}",
        "What number comes next? {series}",
        "Next number in the series {series}?",
        "Complete the pattern: {series}, ?",
    )
    answer = start + step * (series.count(",") + 1)
    return single(fill(rng, templates, series=series), str(answer), f"series {start} {step}")


TASKS = registry(
    Task("sum_one_digit", sum_one_digit, weight=2, early=True),
    Task("sum_two_digit", sum_two_digit, weight=5, early=True),
    Task("sum_three_digit", sum_three_digit, weight=3),
    Task("subtract_one_digit", subtract_one_digit, weight=2.5, early=True),
    Task("subtract_two_digit", subtract_two_digit, weight=3.5),
    Task("multiply_one_digit", multiply_one_digit, weight=2.5),
    Task("multiply_two_by_one", multiply_two_by_one, weight=0.6),
    Task("sum_three_numbers", sum_three_numbers, weight=1.5),
    Task("compare", compare, weight=1.5, guessable=True),
    Task("is_greater", is_greater, weight=2, guessable=True),
    Task("even_or_odd", even_or_odd, weight=1.2, guessable=True),
    Task("next_number", next_number, weight=1.5),
)
