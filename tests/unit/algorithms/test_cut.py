"""What `max_length` takes from rows is counted and named."""

import numpy as np
import tinker

from hone.algorithms.data.cut import NAMED, CutRow, cut_row, summary
from hone.algorithms.datums import supervised_datum
from hone.algorithms.renderers import SupervisedExample


def example(*weights: float) -> SupervisedExample:
    tokens = tinker.ModelInput.from_ints(list(range(len(weights))))
    return SupervisedExample(tokens, np.array(weights, dtype=np.float32))


def test_a_row_is_cut_when_something_to_learn_is_lost() -> None:
    assert cut_row([example(0, 1, 1, 1)], "a:1", 4) is None
    assert cut_row([example(0, 1, 1, 1)], "a:1", 3) == CutRow("a:1", 4, 1)
    assert cut_row([example(0, 1, 0, 0)], "a:1", 2) is None
    assert cut_row([example(0, 1), example(0, 0, 0, 1, 1)], "a:1", 4) == CutRow("a:1", 5, 1)


def test_what_is_counted_is_what_a_datum_loses() -> None:
    one = example(0, 1, 1, 1, 1)
    for length in (2, 3, 4, 5, 6):
        learned = np.count_nonzero(supervised_datum(*one, max_length=length).loss_fn_inputs["weights"].data)
        cut = cut_row([one], "a:1", length)
        assert learned + (cut.lost if cut else 0) == 4


def test_a_sentence_names_some_and_counts_the_rest() -> None:
    cut = [CutRow(f"a:{line}", 9, 1) for line in range(1, NAMED + 3)]
    told = summary(cut, 20, 8)
    assert told.startswith("7 of 20 rows are cut at max_length = 8 and learned without their end: a:1 (9 tokens), a:2")
    assert told.endswith("a:5 (9 tokens), 2 more")
