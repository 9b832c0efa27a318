"""Giving text or an answer the shape that was asked for: case, quotes, lists, JSON, tags, prefixes."""

import json
import random
from dataclasses import replace

from training.tiny.problem import Problem, Task, fill, registry, single, user
from training.tiny.tasks import arithmetic, copying, lists, sorting
from training.tiny.tasks.lists import list_key
from training.tiny.words import NAMES, PLACES, PLAIN, words


def _restyle(problem: Problem, instruction: str, answer: str) -> Problem:
    """The same problem with an instruction about the form of its answer."""
    *before, last = problem.messages
    return replace(problem, messages=(*before, user(last["content"] + instruction)), answer=answer)


def _plain_text(rng: random.Random) -> str:
    return " ".join(rng.sample(PLAIN, rng.randint(1, 3)))


def upper_case(rng: random.Random) -> Problem:
    text = _plain_text(rng)
    templates = (
        "Write in upper case: {text}",
        "Upper case: {text}",
        "Write in capital letters: {text}",
        "Make this uppercase: {text}",
        "Convert to upper case: {text}",
        "In capitals: {text}",
        "Shout: {text}",
        "Turn this into uppercase: {text}",
        "{text} - in upper case please",
    )
    return single(fill(rng, templates, text=text), text.upper(), f"text {text}")


def lower_case(rng: random.Random) -> Problem:
    text = _plain_text(rng)
    templates = (
        "Write in lower case: {text}",
        "Lower case: {text}",
        "Write in small letters: {text}",
        "Make this lowercase: {text}",
        "Convert to lower case: {text}",
        "In small letters: {text}",
        "Turn this into lowercase: {text}",
        "Whisper: {text}",
    )
    return single(fill(rng, templates, text=text.upper()), text, f"text {text}")


def title_case(rng: random.Random) -> Problem:
    text = _plain_text(rng)
    templates = (
        "Write in title case: {text}",
        "Title case: {text}",
        "Capitalize every word: {text}",
        "Make this a title: {text}",
        "Convert to title case: {text}",
        "Start each word with a capital: {text}",
        "Turn this into title case: {text}",
        "Capitalize: {text}",
    )
    return single(fill(rng, templates, text=text), text.title(), f"text {text}")


def in_quotes(rng: random.Random) -> Problem:
    text = " ".join(words(rng, 1, 3))
    templates = (
        "Put in quotes: {text}",
        "Write this in quotes: {text}",
        "Add quotes: {text}",
        "Quote this: {text}",
        "Put quotes around: {text}",
        "Repeat in quotes: {text}",
        "Wrap this in quotes: {text}",
        "Surround with quotes: {text}",
    )
    return single(fill(rng, templates, text=text), f'"{text}"', f"text {text}")


def with_prefix(rng: random.Random) -> Problem:
    prefix = rng.choice(("Answer:", "Answer:", "Result:", "Reply:", "Solution:", "Final answer:", "Output:"))
    problem = _inner(rng)
    templates = (
        ' Start your answer with "{prefix}"',
        ' Begin with "{prefix}"',
        ' Use the prefix "{prefix}"',
        " Start with '{prefix}'.",
        " Write {prefix} before the answer.",
        ' Put "{prefix}" in front.',
        ' Your reply must start with "{prefix}"',
        " Answer in the form {prefix} ...",
    )
    return _restyle(problem, fill(rng, templates, prefix=prefix), f"{prefix} {problem.answer}")


def _inner(rng: random.Random) -> Problem:
    makers = (
        arithmetic.sum_one_digit,
        arithmetic.sum_two_digit,
        arithmetic.multiply_one_digit,
        arithmetic.compare,
        lists.first_item,
        lists.last_item,
        sorting.largest_number,
        copying.first_letter,
    )
    return rng.choice(makers)(rng)


def boxed(rng: random.Random) -> Problem:
    problem = _inner(rng)
    templates = (
        " Put the answer in \\boxed{{}}.",
        " Write your answer in \\boxed{{}}.",
        " Answer in \\boxed{{}}.",
        " Use \\boxed{{}} for the answer.",
        " Give the final answer in \\boxed{{}}.",
        " Put your final answer inside \\boxed{{}}.",
        " Box the answer with \\boxed{{}}.",
        " Your answer must be in \\boxed{{}} format.",
    )
    return _restyle(problem, fill(rng, templates), f"\\boxed{{{problem.answer}}}")


def answer_tags(rng: random.Random) -> Problem:
    problem = _inner(rng)
    templates = (
        " Put the answer in <answer> tags.",
        " Answer inside <answer></answer>.",
        " Use <answer> tags.",
        " Wrap the answer in <answer> tags.",
        " Write the answer between <answer> and </answer>.",
        " Give the answer in <answer></answer> tags.",
        " Your answer goes in <answer> tags.",
        " Answer in <answer> tags only.",
    )
    return _restyle(problem, rng.choice(templates), f"<answer>{problem.answer}</answer>")


def json_answer(rng: random.Random) -> Problem:
    problem = _inner(rng)
    templates = (
        ' Answer in JSON with the key "answer".',
        " Answer in JSON.",
        " Reply as JSON.",
        " Give the answer as JSON.",
        " Use JSON.",
        ' Reply with JSON: {{"answer": ...}}',
        " Your answer must be JSON.",
        " Return a JSON object.",
    )
    value = int(problem.answer) if problem.answer.isdigit() else problem.answer
    return _restyle(problem, fill(rng, templates), json.dumps({"answer": value}))


def json_object(rng: random.Random) -> Problem:
    fields: dict[str, object] = {"name": rng.choice(NAMES), "age": rng.randint(1, 99), "place": rng.choice(PLACES)}
    chosen = {key: fields[key] for key in rng.sample(list(fields), rng.randint(1, 3))}
    facts = ", ".join(f"{key} is {value}" for key, value in chosen.items())
    templates = (
        "Write as JSON: {facts}",
        "Make a JSON object: {facts}",
        "JSON for this: {facts}",
        "Turn this into JSON: {facts}",
        "Convert to JSON: {facts}",
        "Give me JSON where {facts}.",
        "Return a JSON object where {facts}.",
        "As JSON please: {facts}",
    )
    return single(fill(rng, templates, facts=facts), json.dumps(chosen), f"json {facts}")


def json_list(rng: random.Random) -> Problem:
    items = words(rng, 2, 4)
    templates = (
        "Write as a JSON list: {items}",
        "Make a JSON list: {items}",
        "As a JSON array: {items}",
        "Turn into a JSON list: {items}",
        "Convert to a JSON array: {items}",
        "JSON list of: {items}",
        "Give me a JSON array of {items}.",
        "Return a JSON list with {items}.",
    )
    return single(fill(rng, templates, items=", ".join(items)), json.dumps(items), list_key(items))


def separators(rng: random.Random) -> Problem:
    """The same items, written apart in another way."""
    items = words(rng, 2, 5)
    spaced, commas = " ".join(items), ", ".join(items)
    name, answer, given = rng.choice(
        (
            ("separated by commas", commas, spaced),
            ("with commas", commas, spaced),
            ("one per line", "\n".join(items), commas),
            ("each on its own line", "\n".join(items), spaced),
            ("without commas", spaced, commas),
            ("separated by spaces", spaced, commas),
            ("with dashes between them", "-".join(items), spaced),
            ("as a bullet list", "\n".join(f"- {item}" for item in items), commas),
            ("as a numbered list", "\n".join(f"{place}. {item}" for place, item in enumerate(items, 1)), commas),
        )
    )
    templates = (
        "Write these words {name}: {given}",
        "List these {name}: {given}",
        "Put them {name}: {given}",
        "{given} - write this {name}",
        "Give me these words {name}: {given}",
        "Rewrite {name}: {given}",
        "Print the words {name}: {given}",
        "Show these {name}: {given}",
    )
    return single(fill(rng, templates, name=name, given=given), answer, list_key(items))


TASKS = registry(
    Task("upper_case", upper_case, weight=3),
    Task("lower_case", lower_case, weight=2),
    Task("title_case", title_case, weight=1),
    Task("in_quotes", in_quotes, weight=0.5),
    Task("with_prefix", with_prefix, weight=1.2),
    Task("boxed", boxed, weight=1.2),
    Task("answer_tags", answer_tags, weight=0.8),
    Task("json_answer", json_answer, weight=1.2),
    Task("json_object", json_object, weight=0.6),
    Task("json_list", json_list, weight=1),
    Task("separators", separators, weight=2),
)
