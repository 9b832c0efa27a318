"""Every answer is right, worked out again from nothing but the text of the conversation."""

import json
import random
import re
from collections.abc import Callable
from itertools import pairwise

import pytest

from training.tiny.problem import Problem
from training.tiny.tasks import TASKS
from training.tiny.tasks.sentiment import BAD, BAD_VERBS, GOOD, GOOD_VERBS
from training.tiny.words import COLOURS, NAMES, PLACES, THINGS

Recompute = Callable[[Problem], object]
"""What the answer should be, or a truth value where there is more than one way to be right."""


def numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


def items(problem: Problem) -> list[str]:
    runs: list[str] = re.findall(r"\w+(?:, \w+)+", problem.question)
    return max(runs, key=len).split(", ")


def ordered(problem: Problem, descending: bool = False) -> str:
    return ", ".join(map(str, sorted(map(int, items(problem)), reverse=descending)))


def mentioned_twice(problem: Problem, candidates: list[str]) -> str:
    (found,) = [name for name in candidates if len(re.findall(rf"\b{name}\b", problem.question)) == 2]
    return found


def coloured(problem: Problem) -> dict[str, str]:
    pairs = re.findall(r"\ban? (\w+) (\w+)", problem.question)
    return {shape: colour for colour, shape in pairs if colour in COLOURS}


def difference(problem: Problem) -> str:
    left, right = numbers(problem.question)
    return str(abs(left - right))


def product(problem: Problem) -> str:
    left, right = numbers(problem.question)
    return str(left * right)


def total(problem: Problem) -> str:
    return str(sum(numbers(problem.question)))


def compared(problem: Problem) -> str:
    most = re.search(r"larger|bigger|greater", problem.question)
    return str((max if most else min)(numbers(problem.question)))


def greater(problem: Problem) -> str:
    left, right = numbers(problem.question)
    return "yes" if (left > right if re.search(r"larger|bigger|greater", problem.question) else left < right) else "no"


def continued(problem: Problem) -> str:
    series = numbers(problem.question)
    assert len({after - before for before, after in pairwise(series)}) == 1
    return str(2 * series[-1] - series[-2])


def repeated(problem: Problem) -> bool:
    times = {"twice": 2, "two": 2, "three": 3, "3": 3, "four": 4}
    (count,) = [number for name, number in times.items() if re.search(rf"\b{name}( times)?\b", problem.question)]
    said = problem.answer.split()
    return len(said) == count and len(set(said)) == 1 and re.search(rf"\b{said[0]}\b", problem.question) is not None


def end_letter(problem: Problem) -> str:
    match = re.search(r"(?:of the word|of|in|does) (\w+)\b|^(\w+):", problem.question)
    assert match
    word = match[1] or match[2]
    return word[-1] if re.search(r"last letter|end with|end\?", problem.question) else word[0]


def nth(problem: Problem) -> str:
    names = ("first", "second", "third", "fourth", "fifth")
    place = next((i for i, name in enumerate(names) if re.search(rf"\b{name}\b|number {i + 1}", problem.question)))
    return items(problem)[place]


def removed(problem: Problem) -> bool:
    before, after = items(problem), problem.answer.split(", ")
    (gone,) = set(before) - set(after)
    return [item for item in before if item != gone] == after and problem.question.count(gone) >= 2


def added(problem: Problem) -> bool:
    *before, new = problem.answer.split(", ")
    return before == items(problem) and new not in before and new in problem.question


def contained(problem: Problem) -> str:
    pattern = r"(?:\b[Ii]s the word|\b[Ii]s(?! the word| a list| it)|contain|find|Look for) (\w+)"
    match = re.search(pattern, problem.question)
    assert match
    return "yes" if match[1] in items(problem) else "no"


def place_of(problem: Problem) -> str:
    facts: dict[str, str] = dict(re.findall(r"(?:put the )?(\w+) (?:is )?in the (\w+)\.", problem.question))
    return "in the " + facts[mentioned_twice(problem, list(facts))]


def owner(problem: Problem) -> str:
    facts: dict[str, str] = {
        thing: name for name, thing in re.findall(r"([A-Z]\w+) (?:has|owns|took|found) the (\w+)\.", problem.question)
    }
    return facts[mentioned_twice(problem, list(facts))]


def amount(problem: Problem) -> str:
    facts: dict[str, str] = {noun: count for count, noun in re.findall(r"(\d+) (\w+)", problem.question)}
    return facts[mentioned_twice(problem, list(facts))]


def praised(problem: Problem) -> bool:
    used = set(re.findall(r"[a-z]+", problem.question))
    good = bool(used & set(GOOD + GOOD_VERBS) - ({"good"} if "good review" in problem.question else set()))
    good = good if "good sign" not in problem.question else bool(used & set(GOOD + GOOD_VERBS) - {"good"})
    assert good or used & set(BAD + BAD_VERBS)
    return good != ("was not" in problem.question)


def styled(pattern: str) -> Recompute:
    """Every assistant turn under the system prompt, and the answer, has the form."""

    def check(problem: Problem) -> bool:
        said = [message["content"] for message in problem.messages if message["role"] == "assistant"]
        return all(re.fullmatch(pattern, text, re.DOTALL) for text in [*said, problem.answer])

    return check


def quoted_in_system(problem: Problem) -> str:
    return problem.messages[0]["content"].split('"')[1]


def parsed(problem: Problem) -> bool:
    data = json.loads(problem.answer)
    return all(str(value) in problem.question for value in (data.values() if isinstance(data, dict) else data))


def list_follow_up(problem: Problem) -> str:
    listed, asked = problem.messages[1]["content"], problem.question.lower()
    words = listed.split(", ")
    if "first" in asked or "last" in asked:
        return words[0] if "first" in asked else words[-1]
    if "upper" in asked or "capital" in asked:
        return listed.upper()
    if "reverse" in asked or "backwards" in asked:
        return ", ".join(words[::-1])
    return str(len(words)) if "many" in asked or "count" in asked else listed


def called(problem: Problem) -> bool:
    call = json.loads(problem.answer.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
    offered = f"{call['name']}({', '.join(call['arguments'])})" in problem.messages[0]["content"]
    return offered and all(str(value) in problem.question for value in call["arguments"].values())


def thought(problem: Problem) -> bool:
    steps = re.findall(r"(\d+) \+ (\d+) = (\d+)", problem.answer)
    assert all(int(a) + int(b) == int(c) for a, b, c in steps)
    return problem.answer.endswith(f"</think>\n\n{total(problem)}")


def told(problem: Problem) -> bool:
    asked = problem.question
    known = [message["content"] for message in problem.messages[:-1] if message["role"] == "user"]
    kind = "name" if re.search(r"name|Who", asked) else "favourite"
    wanted = [text for text in known if ("favourite" in text) == (kind == "favourite")]
    return any(problem.answer in text for text in wanted)


CHECKS: dict[str, Recompute] = {
    **dict.fromkeys(("sum_one_digit", "sum_two_digit", "sum_three_digit", "sum_three_numbers", "story_sum"), total),
    **dict.fromkeys(("subtract_one_digit", "subtract_two_digit", "story_difference"), difference),
    **dict.fromkeys(("multiply_one_digit", "multiply_two_by_one", "story_product"), product),
    "compare": compared,
    "is_greater": greater,
    "even_or_odd": lambda p: ("even", "odd")[numbers(p.question)[0] % 2],
    "next_number": continued,
    "copy_words": lambda p: p.question.split(": ", 1)[1],
    "copy_made_up": lambda p: p.question.split(": ", 1)[1],
    "copy_quoted": lambda p: p.question.split('"')[1],
    "repeat_times": repeated,
    "spell": lambda p: p.answer.replace("-", "") in re.findall(r"\w+", p.question) and len(p.answer) % 2 == 1,
    "first_letter": end_letter,
    "reverse_letters": lambda p: re.findall(r"\b[a-z](?: [a-z])+\b", p.question)[-1][::-1],
    "first_item": lambda p: items(p)[0],
    "last_item": lambda p: items(p)[-1],
    "nth_item": nth,
    "count_items": lambda p: str(p.question.count(",") + 1),
    "reverse_list": lambda p: ", ".join(items(p)[::-1]),
    "remove_item": removed,
    "add_item": added,
    "contains_item": contained,
    "sort_ascending": ordered,
    "sort_three_descending": lambda p: ordered(p, descending=True),
    "sort_words": lambda p: ", ".join(sorted(items(p))),
    "largest_number": lambda p: str(max(map(int, items(p)))),
    "smallest_number": lambda p: str(min(map(int, items(p)))),
    "colour_of_shape": lambda p: coloured(p)[mentioned_twice(p, list(coloured(p)))],
    "shape_of_colour": lambda p: coloured(p)[p.answer] == mentioned_twice(p, list(coloured(p).values())),
    "where_is": place_of,
    "who_has": owner,
    "how_many_of": amount,
    "sentiment": lambda p: "positive" if praised(p) else "negative",
    "is_happy": lambda p: "yes" if praised(p) else "no",
    "upper_case": lambda p: p.answer.isupper() and p.answer.lower() in p.question,
    "lower_case": lambda p: p.answer.islower() and p.answer.upper() in p.question,
    "title_case": lambda p: p.answer.istitle() and p.answer.lower() in p.question,
    "in_quotes": lambda p: p.answer.strip('"') in p.question and p.answer[0] == p.answer[-1] == '"',
    "with_prefix": lambda p: re.findall(r"([A-Z][a-z ]*:)", p.question)[-1] == p.answer.split(":")[0] + ":",
    "boxed": lambda p: re.fullmatch(r"\\boxed\{\w+\}", p.answer) is not None,
    "answer_tags": lambda p: re.fullmatch(r"<answer>\w+</answer>", p.answer) is not None,
    "json_answer": lambda p: set(json.loads(p.answer)) == {"answer"},
    "json_object": parsed,
    "json_list": parsed,
    "separators": lambda p: set(re.findall(r"[a-z]+", p.answer)) <= set(re.findall(r"[a-z]+", p.question)),
    "remember_name": told,
    "change_the_list": list_follow_up,
    "add_more": lambda p: str(sum(numbers(p.messages[0]["content"] + " " + p.question))),
    "same_again": total,
    "system_plain": styled(r".+"),
    "system_upper": styled(r"[^a-z]+"),
    "system_quotes": styled(r'".+"'),
    "system_prefix": lambda p: styled(re.escape(quoted_in_system(p)) + " .+")(p),
    "system_ending": lambda p: styled(".+ " + re.escape(quoted_in_system(p)))(p),
    "tool_call": called,
    "tool_result": lambda p: p.messages[-1]["content"],
    "think_sum": thought,
}
FACTS = {
    "opposite": ("hot", "cold"),
    "plural_of": ("mouse", "mice"),
    "capital": ("France", "Paris"),
    "usual_colour": ("snow", "white"),
    "animal_sound": ("owl", "hoot"),
    "number_word": ("12", "twelve"),
    "calendar": ("after Monday", "Tuesday"),
    "kind_of": ("cherry", "a fruit"),
    "is_animal": ("horse", "yes"),
}
FREE = {"small_talk", "story", "animal_line", "write_opinion"}
"""No single right answer; the task's own check must accept what it generates."""


def test_every_task_is_checked() -> None:
    assert CHECKS.keys() | FACTS.keys() | FREE == TASKS.keys()


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("split", ["train", "held_out"])
def test_answer_follows_from_the_text(name: str, split: str) -> None:
    rng = random.Random(f"{name} {split}")
    for _ in range(40):
        problem = TASKS[name].sample(rng, split)  # type: ignore[arg-type]
        assert CHECKS[name](problem) in (True, problem.answer), problem


@pytest.mark.parametrize("name", FACTS)
def test_facts(name: str) -> None:
    rng, (subject, answer) = random.Random(0), FACTS[name]
    asked = [problem for problem in (TASKS[name].sample(rng) for _ in range(4000)) if f" {subject}" in problem.question]
    assert asked
    assert {problem.answer for problem in asked} == {answer}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_accepts_its_own_answers_and_nothing_else(name: str) -> None:
    rng = random.Random(6)
    for _ in range(20):
        problem = TASKS[name].sample(rng)
        assert TASKS[name].check(problem, problem.answer)
        assert not TASKS[name].check(problem, "")
        assert not TASKS[name].check(problem, "zzz")


def test_word_lists_do_not_overlap_where_questions_would_become_ambiguous() -> None:
    assert not set(THINGS) & set(PLACES)
    assert not {name.lower() for name in NAMES} & set(THINGS)
