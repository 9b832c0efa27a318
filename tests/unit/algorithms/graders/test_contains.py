import asyncio

import pytest

from hone.algorithms.graders.contains import Contains
from hone.algorithms.graders.grade import GradingError, Task


def right(answer, gold="Ada Moss", **settings):
    return asyncio.run(Contains(**settings)(Task("q", gold), answer)).right


def test_the_gold_answer_stands_in_the_answer_as_words():
    assert right("I think it was ada\nmoss.")
    assert not right("Ada Mossberg")
    assert right("Ada Mossberg", whole_words=False)
    assert not right("ada moss", ignore_case=False)
    assert right("x = (1+2)*3", gold="(1+2)")
    assert right("of course", text="course")


def test_nothing_to_look_for_is_no_verdict():
    with pytest.raises(GradingError, match="nothing to look for"):
        right("anything", gold=" ")
