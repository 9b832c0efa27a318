import pytest

from hone.experiments.words import is_anchor, stem, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The CAT, (sat)!\n\ton—the mat.", "the cat sat on the mat"),
        ("ﬁne ｃａｔ", "fine cat"),
        ("well-known x-y 3 - 2", "well known x - y 3 - 2"),
        ("1,000 + 2.5 = y", "1,000 + 2.5 = y"),
        ("don’t o'clock", "don’t o'clock"),
        ("東京はどこ", "東 京 は ど こ"),
        ("... ?", ""),
        ("close ( [ { now (see below) and f(x) = (3", "close ( [ { now see below and f ( x ) ( 3"),
        ("cat - dog", "cat dog"),
    ],
)
def test_words(text, expected):
    assert words(text) == expected.split()


def test_stems():
    assert stem("published") == stem("publish") == stem("publishing") == stem("publishes")
    assert stem("1,000") == "1000"
    assert stem("don't") == stem("don’t")
    assert stem("is") == "is"


def test_anchors():
    assert [word for word in "a cat has 3 x + 東".split() if is_anchor(word)] == ["3", "x", "+"]
