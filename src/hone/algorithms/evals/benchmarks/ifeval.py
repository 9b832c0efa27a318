"""Instructions whose following a program can check. Zhou et al. 2023 (arXiv 2311.07911).

The score is the strict prompt-level one: an item is followed if all of its instructions are. The loose one, and both
over instructions in place of items, are measured beside it. Rules and names are those of the paper's 25 kinds, written
anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hone.algorithms.evals.benchmark import Item, Measure, Source, question
from hone.algorithms.graders.grade import Grade, GradingError, Task
from hone.algorithms.types import Logs

Check = Callable[[str, Mapping[str, Any]], bool]


@dataclass(frozen=True)
class FollowsInstructions:
    """Strict asks the answer itself. Loose is content if one of its `_variants` follows an instruction."""

    async def __call__(self, task: Task, answer: str) -> Grade:
        names, settings = task.facts["instruction_id_list"], task.facts["kwargs"]
        strict, loose = [], []
        for name, given in zip(names, settings, strict=True):
            known = {key: value for key, value in given.items() if value is not None}
            strict.append(_follows(name, known, [answer]))
            loose.append(strict[-1] or _follows(name, known, _variants(answer)))
        missed = [name for name, one in zip(names, strict, strict=True) if not one]
        details: Logs = {
            "followed": sum(strict) / len(strict),
            "missed": ", ".join(missed) or "none",
            "prompt_loose": float(all(loose)),
            "instructions_strict": sum(strict),
            "instructions_loose": sum(loose),
        }
        return Grade(float(not missed), details)


def _follows(name: str, given: Mapping[str, Any], texts: Sequence[str]) -> bool:
    return any(bool(text.strip()) and CHECKS[name](text, given) for text in texts)


def _variants(answer: str) -> list[str]:
    """Without the first line, the last one or both (a greeting, a closing remark), each also without asterisks."""
    lines = answer.split("\n")
    cut = ["\n".join(part).strip() for part in (lines, lines[1:], lines[:-1], lines[1:-1])]
    return list(dict.fromkeys([*cut, *(text.replace("*", "") for text in cut)]))


def _each(task: Task, followed: int) -> list[float]:
    """A value for each instruction."""
    return [float(number < followed) for number in range(len(task.facts["instruction_id_list"]))]


MEASURES: dict[str, Measure] = {
    "prompt_loose": lambda task, details: [details.get("prompt_loose", 0.0)],
    "instruction_strict": lambda task, details: _each(task, details.get("instructions_strict", 0)),
    "instruction_loose": lambda task, details: _each(task, details.get("instructions_loose", 0)),
}


def read(row: Mapping[str, Any], name: str) -> Item:
    unknown = [kind for kind in row["instruction_id_list"] if kind not in CHECKS]
    if unknown:
        raise ValueError(f"unknown instructions: {', '.join(unknown)}")
    if len(row["kwargs"]) != len(row["instruction_id_list"]):
        raise ValueError(f"{len(row['instruction_id_list'])} instructions have {len(row['kwargs'])} settings")
    facts = {"instruction_id_list": row["instruction_id_list"], "kwargs": row["kwargs"]}
    return Item(str(row.get("key", name)), question(str(row["prompt"])), Task(str(row["prompt"]), "", facts))


# --- rules ----------------------------------------------------------------------------------------------------------


def _compare(found: int, given: Mapping[str, Any], relation: str, number: str) -> bool:
    match given[relation]:
        case "at least":
            return found >= int(given[number])
        case "less than":
            return found < int(given[number])
    raise GradingError(f"{relation} is {given[relation]!r}; it is `at least` or `less than`")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]


def _separated(text: str) -> list[str]:
    """Paragraphs between lines of three stars, as the instruction asks for; an empty one at an end does not count."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    if parts and not parts[0]:
        parts = parts[1:]
    if parts and not parts[-1]:
        parts = parts[:-1]
    return parts


ABBREVIATIONS = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|e\.g|i\.e|Inc|Ltd|[A-Z])\.")


def _sentences(text: str) -> int:
    """A full stop, question or exclamation mark ends one, but not those in numbers and usual abbreviations."""
    plain = ABBREVIATIONS.sub(lambda found: found.group().replace(".", ""), text)
    plain = re.sub(r"(?<=\d)\.(?=\d)", "", plain)
    return sum(bool(re.search(r"\w", part)) for part in re.split(r"[.!?]+(?=\s|[\"')\]]|$)|\n\s*\n", plain))


def _contains(text: str, phrase: str) -> bool:
    return re.search(re.escape(phrase), text, re.IGNORECASE) is not None


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None


def _json(text: str) -> bool:
    fenced = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", text, re.DOTALL | re.IGNORECASE)
    try:
        json.loads(fenced.group(1) if fenced else text)
    except json.JSONDecodeError:
        return False
    return True


def _sections(text: str, given: Mapping[str, Any]) -> bool:
    marks = re.findall(rf"\s?{re.escape(given['section_spliter'])}\s?\d+\s?", text)
    return len(marks) >= int(given["num_sections"])


def _highlights(text: str, given: Mapping[str, Any]) -> bool:
    double = re.findall(r"\*\*([^\n*]+)\*\*", text)
    single = re.findall(r"\*([^\n*]+)\*", re.sub(r"\*\*[^\n*]+\*\*", " ", text))
    return sum(bool(part.strip()) for part in double + single) >= int(given["num_highlights"])


def _nth_first_word(text: str, given: Mapping[str, Any]) -> bool:
    parts, wanted = _paragraphs(text), int(given["nth_paragraph"])
    if len(parts) != int(given["num_paragraphs"]) or wanted > len(parts):
        return False
    first = re.match(r"[\"'*_#\s]*([^\s.,?!\"'*_]+)", parts[wanted - 1])
    return first is not None and first.group(1).casefold() == str(given["first_word"]).casefold()


def _postscript(text: str, given: Mapping[str, Any]) -> bool:
    letters = [re.escape(letter) for letter in re.sub(r"[.\s]", "", given["postscript_marker"])]
    return re.search(r"^\s*" + r"\.?\s?".join(letters) + r"\b.*$", text, re.IGNORECASE | re.MULTILINE) is not None


def _two_responses(text: str, given: Mapping[str, Any]) -> bool:
    parts = [part.strip() for part in text.split("******")]
    if parts and not parts[0]:
        parts = parts[1:]
    if parts and not parts[-1]:
        parts = parts[:-1]
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


def _capital_words(text: str, given: Mapping[str, Any]) -> bool:
    found = sum(word.isupper() for word in re.findall(r"[\w'-]+", text))
    return _compare(found, given, "capital_relation", "capital_frequency")


def _language(text: str, language: str) -> bool:
    try:
        from langdetect import DetectorFactory, LangDetectException, detect
    except ImportError:
        raise GradingError("telling languages apart needs `pip install 'hone[evals]'`") from None
    DetectorFactory.seed = 0  # the library draws at random otherwise
    try:
        return bool(detect(text) == language)
    except LangDetectException:
        return False  # no letters at all


OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")

CHECKS: dict[str, Check] = {
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": lambda text, given: text.isupper() and _language(text.lower(), "en"),
    "change_case:english_lowercase": lambda text, given: text.islower() and _language(text, "en"),
    "combination:repeat_prompt": lambda text, given: (
        text.strip().casefold().startswith(str(given["prompt_to_repeat"]).strip().casefold())
    ),
    "combination:two_responses": _two_responses,
    "detectable_content:number_placeholders": lambda text, given: (
        len(re.findall(r"\[[^\[\]]+\]", text)) >= int(given["num_placeholders"])
    ),
    "detectable_content:postscript": _postscript,
    "detectable_format:constrained_response": lambda text, given: any(option in text for option in OPTIONS),
    "detectable_format:json_format": lambda text, given: _json(text),
    "detectable_format:multiple_sections": _sections,
    "detectable_format:number_bullet_lists": lambda text, given: (
        len(re.findall(r"^\s*(?:\*(?!\*)|-)\s*\S.*$", text, re.MULTILINE)) == int(given["num_bullets"])
    ),
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:title": lambda text, given: re.search(r"<<[^\n<>]*[^\s<>][^\n<>]*>>", text) is not None,
    "keywords:existence": lambda text, given: all(_contains(text, word) for word in given["keywords"]),
    "keywords:forbidden_words": lambda text, given: not any(_has_word(text, word) for word in given["forbidden_words"]),
    "keywords:frequency": lambda text, given: _compare(
        len(re.findall(re.escape(given["keyword"]), text, re.IGNORECASE)), given, "relation", "frequency"
    ),
    "keywords:letter_frequency": lambda text, given: _compare(
        text.casefold().count(str(given["letter"]).casefold()), given, "let_relation", "let_frequency"
    ),
    "language:response_language": lambda text, given: _language(text, given["language"]),
    "length_constraints:nth_paragraph_first_word": _nth_first_word,
    "length_constraints:number_paragraphs": lambda text, given: (
        len(parts := _separated(text)) == int(given["num_paragraphs"]) and all(parts)
    ),
    "length_constraints:number_sentences": lambda text, given: _compare(
        _sentences(text), given, "relation", "num_sentences"
    ),
    "length_constraints:number_words": lambda text, given: _compare(len(_words(text)), given, "relation", "num_words"),
    "punctuation:no_comma": lambda text, given: "," not in text,
    "startend:end_checker": lambda text, given: (
        text.strip().strip('"').casefold().endswith(str(given["end_phrase"]).strip().casefold())
    ),
    "startend:quotation": lambda text, given: len(text.strip()) > 1 and text.strip()[0] == text.strip()[-1] == '"',
}

IFEVAL = Source(read, FollowsInstructions, ("google/IFEval", None, "train"), max_tokens=2048, measures=MEASURES)
