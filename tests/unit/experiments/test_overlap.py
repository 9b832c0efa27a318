import itertools
import random

import pytest

from hone.experiments.config import OverlapConfig
from hone.experiments.data.parse import parse
from hone.experiments.kinds.contract import RawRow
from hone.experiments.overlap import find_overlap

# Sentences of made-up but unevenly frequent words, as in natural text.
RANDOM = random.Random(0)
LETTERS = "bcdfghklmnprtvz"
WORDS = [
    "".join(RANDOM.choice(LETTERS) + RANDOM.choice("aiou") for _ in range(RANDOM.randint(2, 4))) for _ in range(3000)
]
WEIGHTS = [1 / (rank + 3) for rank in range(len(WORDS))]


def sentence(length=16):
    return " ".join(RANDOM.choices(WORDS, WEIGHTS, k=length))


TEST_TEXTS = [f"In {1500 + i}, the {sentence()} was {sentence(6)}?" for i in range(30)]
TRAIN_TEXTS = [f"In {1700 + i}, the {sentence()} was {sentence(6)}?" for i in range(400)]


def rows(values, kind, name):
    return [parse(RawRow(f"{name}:{number}", value), kind) for number, value in enumerate(values, 1)]


def tasks(texts, answers=None):
    answers = answers or [f"answer {i}" for i in range(len(texts))]
    return rows([{"prompt": p, "answer": a} for p, a in zip(texts, answers, strict=True)], "task", "test")


def chats(texts, answer="Yes."):
    return rows([{"prompt": p, "completion": answer} for p in texts], "chat", "train")


def search(train, test, **config):
    return find_overlap(iter(train), test, OverlapConfig(**config))


def found(report):
    return [(finding.kind, finding.train, finding.test) for finding in report.findings]


def test_nothing_is_found_where_nothing_leaks():
    report = search(chats(TRAIN_TEXTS), tasks(TEST_TEXTS))
    assert found(report) == []
    assert not report.failed
    assert report.as_text() == "none of 30 test rows is among 400 training rows"


def reordered(text):
    """The words in another order, stop words gone, other endings and case."""
    inside = text.split()[3:-1]
    half = len(inside) // 2
    return " ".join([*inside[half:], "of", *inside[:half], text.split()[1], text.split()[-1]]).upper()


LEAKS = {
    "exact": ("exact", lambda text: text),
    "case, punctuation and layout": ("normalised", lambda text: text.upper().replace(" ", "\n  ").replace("?", " ...")),
    "forms of Unicode": ("normalised", lambda text: text.replace("a", "ａ").replace("In", "Ｉｎ")),
    "word order": ("normalised", reordered),
    "without stop words": ("normalised", lambda text: text.replace("the ", "").replace(" was", "")),
    "a word changed": ("normalised", lambda text: text.replace(text.split()[5], "something")),
    "within another text": ("ngram", lambda text: f"{sentence(30)} {text} {sentence(30)}"),
    "its first half": ("ngram", lambda text: " ".join(text.split()[:20]) + " " + sentence(20)),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_caught_alone(leak):
    kind, change = LEAKS[leak]
    for planted in (0, 7, 29):
        train = [*TRAIN_TEXTS[:200], change(TEST_TEXTS[planted]), *TRAIN_TEXTS[200:]]
        report = search(chats(train), tasks(TEST_TEXTS))
        assert found(report) == [(kind, "train:201", f"test:{planted + 1}")]
        assert (report.failed, report.leaked, report.counts) == (True, 1, {kind: 1})


@pytest.mark.parametrize(
    "value",
    [
        ("chat", {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": TEST_TEXTS[3]}]}),
        (
            "chat",
            {
                "messages": [
                    {"role": "user", "content": "Hello"},
                    {"role": "assistant", "content": "Hi."},
                    {"role": "user", "content": TEST_TEXTS[3]},
                    {"role": "assistant", "content": "Yes."},
                ]
            },
        ),
        (
            "chat",
            {
                "messages": [
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": TEST_TEXTS[3]},
                    {"role": "assistant", "content": "x"},
                ]
            },
        ),
        ("preference", {"prompt": TEST_TEXTS[3], "chosen": "a", "rejected": "b"}),
        ("preference", {"prompt": "Hello", "chosen": "a", "rejected": TEST_TEXTS[3]}),
        ("task", {"prompt": TEST_TEXTS[3], "answer": "something else"}),
        ("trajectory", {"messages": [{"role": "user", "content": TEST_TEXTS[3]}], "reward": 1}),
    ],
)
def test_a_leak_is_caught_in_rows_of_every_kind(value):
    kind, value = value
    report = search([*chats(TRAIN_TEXTS), *rows([value], kind, "leak")], tasks(TEST_TEXTS))
    assert found(report) == [("exact", "leak:1", "test:4")]


def test_a_shared_system_prompt_is_no_leak():
    system = {"role": "system", "content": sentence(200)}

    def with_system(texts):
        return [[system, {"role": "user", "content": text}] for text in texts]

    assert not search(chats(with_system(TRAIN_TEXTS)), tasks(with_system(TEST_TEXTS))).findings


@pytest.mark.parametrize("tests", [1, 2, 30])
def test_a_shared_template_is_no_leak_and_a_leak_within_it_is_one(tests):
    template = sentence(60) + ": "
    train, test = [template + sentence(10) for _ in range(300)], [template + sentence(10) for _ in range(tests)]
    assert found(search(chats(train), tasks(test))) == []
    payload = test[0].removeprefix(template)
    report = search(chats([*train, f"{sentence(40)} {payload} {sentence(40)}", template + payload]), tasks(test))
    assert ("exact", "train:302", "test:1") in found(report)


def test_short_questions_that_chance_repeats_are_no_leak():
    """All orders of few words: the same sets of words come about by themselves."""
    orders = [f"Sort: {' '.join(words)}" for words in itertools.permutations("red green blue white black".split())]
    assert found(search(chats(orders[:100]), tasks(orders[100:]))) == []


def test_numbers_letters_and_signs_must_be_equal_and_in_order():
    sums = [f"What does the farmer Brindlewick pay for {a} + {b} turnips?" for a in range(9) for b in range(9)]
    assert found(search(chats(sums[:60]), tasks(sums[60:]))) == []
    assert found(search(chats(["What is 3 - 2?", "What is 2 + 3?", "What is x - y?"]), tasks(["What is 2 - 3?"]))) == []
    assert found(search(chats(["what is  2 - 3 ?"]), tasks(["What is 2 - 3?"]))) == [
        ("normalised", "train:1", "test:1")
    ]


def test_a_short_question_within_another_text():
    test = tasks(["Who tamed the zorblak of Quenntor Vale?", "Who was it?"])
    train = [*TRAIN_TEXTS, f"{sentence(20)}. Who tamed the zorblak of Quenntor Vale? Who was it? {sentence(20)}"]
    assert found(search(chats(train), test)) == [("ngram", "train:401", "test:1")]


def test_a_question_of_several_test_rows_leaks_only_with_its_answer():
    test = tasks(["Tell me a fact.", "Tell me a fact."], ["Snow is cold.", "Fire is hot."])
    assert found(search(chats(["Tell me a fact."], "Water is wet."), test)) == []
    assert found(search(chats(["tell me a fact"], "fire is hot"), test)) == [("normalised", "train:1", "test:2")]
    assert search(rows([{"prompt": "Tell me a fact.", "answer": "Fire is hot."}], "task", "train"), test).leaked == 1


def test_a_test_row_that_is_there_twice_leaks_twice():
    test = tasks([TEST_TEXTS[0], TEST_TEXTS[0], *TEST_TEXTS[1:]], ["same", "same", *map(str, range(29))])
    report = search(chats([*TRAIN_TEXTS, reordered(TEST_TEXTS[0])]), test)
    assert found(report) == [("normalised", "train:401", "test:1"), ("normalised", "train:401", "test:2")]


def test_a_long_gold_answer_is_a_leak_and_a_short_one_is_not():
    test = tasks(["Why?" + sentence(3), "Where? " + sentence(3)], [sentence(40), "yes"])
    assert found(search(chats(["Hello"], f"Well: {test[0].gold}"), test)) == [("ngram", "train:1", "test:1")]
    assert found(search(chats(TRAIN_TEXTS, "yes"), test)) == []


def test_the_configuration_sets_the_edges():
    half = " ".join(TEST_TEXTS[0].split()[:16]) + " " + sentence(20)  # 4 of its 14 runs of 13 words
    assert not search(chats([*TRAIN_TEXTS, half]), tasks(TEST_TEXTS)).findings
    assert search(chats([*TRAIN_TEXTS, half]), tasks(TEST_TEXTS), share=0.2).findings
    changed = TEST_TEXTS[0].replace(TEST_TEXTS[0].split()[5], "something")
    assert search(chats([*TRAIN_TEXTS, changed]), tasks(TEST_TEXTS), share=1.0).counts == {"normalised": 1}
    assert not search(chats([*TRAIN_TEXTS, changed]), tasks(TEST_TEXTS), share=1.0, near=1.0).findings


def test_a_waiver_is_recorded_and_lets_it_pass():
    report = search(chats(TEST_TEXTS), tasks(TEST_TEXTS), waiver="the test set is public")
    assert (report.leaked, report.failed, report.waiver) == (30, False, "the test set is public")
    assert "waived: the test set is public" in report.as_text()
    text = search(chats(TEST_TEXTS), tasks(TEST_TEXTS)).as_text()
    assert text.startswith(
        "30 of 30 test rows are given away by training rows (30 exact):\n  train:1 ~ test:1 (exact, 100%)"
    )
    assert "... and 20 more" in text
    assert TEST_TEXTS[0] not in text


def test_findings_are_the_same_however_rows_are_batched(monkeypatch):
    train = [change(text) for text, (_, change) in zip(TEST_TEXTS, itertools.cycle(LEAKS.values()))] + TRAIN_TEXTS
    whole = search(chats(train), tasks(TEST_TEXTS))
    monkeypatch.setattr("hone.experiments.overlap.BATCH_WORDS", 1)
    assert search(chats(train), tasks(TEST_TEXTS)) == whole
    assert whole.leaked == 30


def test_nothing_to_compare():
    assert not search([], tasks(TEST_TEXTS)).findings
    assert not search(chats(["?!", "..."]), tasks(["!?", " - "])).findings
    assert found(search(chats(["?!"]), tasks(["?!"]))) == [("exact", "train:1", "test:1")]
