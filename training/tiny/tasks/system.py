"""Following a system prompt about the form of every answer, or ignoring one that asks for nothing special."""

import random
from collections.abc import Callable

from training.tiny.problem import Generator, Message, Problem, Task, assistant, registry, user
from training.tiny.tasks import arithmetic, copying, knowledge, lists, scenes, sentiment, sorting

PLAIN_PROMPTS = (
    "You are a helpful assistant.",
    "You are a kind and helpful assistant.",
    "Be helpful.",
    "You are Tiny, a small language model.",
    "Answer the question.",
    "You are a careful assistant.",
    "Solve the problem.",
    "Answer briefly.",
    "You are a maths tutor.",
    "Answer with one word.",
    "Give only the answer.",
    "Keep it short.",
    "Answer with a single word.",
    "Reply with the answer only.",
)
UPPER = (
    "Always answer in upper case.",
    "Answer in capital letters.",
    "Write everything in upper case.",
    "Use only capital letters.",
    "You always shout. Answer in upper case.",
    "All answers must be in uppercase.",
    "Reply in uppercase.",
    "UPPER CASE ONLY.",
)
QUOTES = (
    "Put every answer in quotes.",
    "Answer in quotes.",
    "Always use quotes around your answer.",
    "Quote your answers.",
    "Wrap every answer in quotes.",
    "All answers must be in quotes.",
    "Reply in quotes.",
    "Your answers are always in quotes.",
)
PREFIX = (
    'Start every answer with "{prefix}"',
    'Begin each reply with "{prefix}"',
    'Always start with "{prefix}"',
    'Use the prefix "{prefix}"',
    'Every answer starts with "{prefix}"',
    'Put "{prefix}" before each answer.',
    'Your replies start with "{prefix}"',
    'First write "{prefix}"',
)
ENDING = (
    'End every answer with "{ending}"',
    'Finish each reply with "{ending}"',
    'Always end with "{ending}"',
    'Close every answer with "{ending}"',
    'Your answers end with "{ending}"',
    'Put "{ending}" after each answer.',
    'The last word of each reply is "{ending}"',
    'End with "{ending}"',
)
_MAKERS: tuple[Generator, ...] = (
    arithmetic.sum_one_digit,
    arithmetic.sum_two_digit,
    arithmetic.multiply_one_digit,
    arithmetic.compare,
    copying.copy_words,
    copying.copy_quoted,
    lists.first_item,
    lists.last_item,
    lists.nth_item,
    lists.count_items,
    lists.reverse_list,
    scenes.colour_of_shape,
    scenes.who_has,
    sentiment.sentiment,
    sorting.sort_ascending,
    sorting.largest_number,
    knowledge.opposite,
    knowledge.capital,
    knowledge.plural_of,
    knowledge.calendar,
)
_WORD_MAKERS: tuple[Generator, ...] = (
    copying.copy_quoted,
    lists.first_item,
    lists.last_item,
    scenes.colour_of_shape,
    knowledge.opposite,
    sentiment.sentiment,
)

Style = Callable[[str], str]


def _conversation(rng: random.Random, system: str, makers: tuple[Generator, ...], style: Style = str) -> Problem:
    """One to three turns under the same system prompt, every answer in the style it asks for."""
    turns = [rng.choice(makers)(rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    messages: list[Message] = [{"role": "system", "content": system}]
    for turn in turns:
        messages += [user(turn.question), assistant(style(turn.answer))]
    keys = tuple(key for turn in turns for key in turn.keys)
    return Problem(tuple(messages[:-1]), style(turns[-1].answer), keys)


def system_plain(rng: random.Random) -> Problem:
    return _conversation(rng, rng.choice(PLAIN_PROMPTS), _MAKERS)


def system_upper(rng: random.Random) -> Problem:
    return _conversation(rng, rng.choice(UPPER), _WORD_MAKERS, str.upper)


def system_quotes(rng: random.Random) -> Problem:
    return _conversation(rng, rng.choice(QUOTES), _MAKERS, lambda answer: f'"{answer}"')


def system_prefix(rng: random.Random) -> Problem:
    prefix = rng.choice(("Answer:", "Well,", "Sir:", "Hello!", "Result:", "I think", "Tiny says:", "Sure,"))
    return _conversation(rng, rng.choice(PREFIX).format(prefix=prefix), _MAKERS, lambda answer: f"{prefix} {answer}")


def system_ending(rng: random.Random) -> Problem:
    ending = rng.choice(("sir", "over", "done", "amen", "my friend", "captain", "okay", "thanks"))
    return _conversation(rng, rng.choice(ENDING).format(ending=ending), _MAKERS, lambda answer: f"{answer} {ending}")


TASKS = registry(
    Task("system_plain", system_plain, weight=2.5),
    Task("system_upper", system_upper, weight=1.5),
    Task("system_quotes", system_quotes, weight=0.8),
    Task("system_prefix", system_prefix, weight=1.2),
    Task("system_ending", system_ending, weight=1),
)
