import math

import pytest

from hone.experiments.config import SplitConfig
from hone.experiments.data.parse import RowError
from hone.experiments.data.split import side_of
from hone.experiments.kinds.contract import RawRow


def rows(count, groups=50):
    return [RawRow(f"f:{i}", {"prompt": f"q{i}", "meta": {"group": i % groups}}) for i in range(count)]


def sides(rows, **split):
    return {row.value["prompt"]: side_of(row, SplitConfig(**split)) for row in rows}


def test_sides_have_their_shares():
    found = list(sides(rows(20_000), validation=0.1, test=0.2).values())
    for side, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert abs(found.count(side) / 20_000 - share) < 4 * math.sqrt(share * (1 - share) / 20_000)


def test_growing_and_shuffling_the_data_moves_no_row():
    before = sides(rows(500), validation=0.2, test=0.1)
    after = sides(reversed(rows(5000)), validation=0.2, test=0.1)
    assert all(after[prompt] == side for prompt, side in before.items())


def test_another_share_for_validation_moves_no_test_row():
    one, other = (sides(rows(2000), validation=share, test=0.1) for share in (0.05, 0.4))
    assert [p for p, side in one.items() if side == "test"] == [p for p, side in other.items() if side == "test"]


def test_another_salt_is_another_division():
    assert sides(rows(200)) != sides(rows(200), salt="x")


def test_no_group_lies_on_two_sides():
    found = {}
    for row in rows(2000):
        side = side_of(row, SplitConfig(by="group", key="meta.group", validation=0.3, test=0.2))
        found.setdefault(row.value["meta"]["group"], set()).add(side)
    assert all(len(sides) == 1 for sides in found.values())
    assert {side for sides in found.values() for side in sides} == {"train", "validation", "test"}


def test_transforms_move_no_row():
    for row in rows(200):
        changed = row.changed({"messages": "new"}).changed({"messages": "newer"})
        for split in (SplitConfig(validation=0.5), SplitConfig(by="group", key="meta.group", validation=0.5)):
            assert side_of(changed, split) == side_of(row, split)


def test_a_group_may_come_from_a_transform():
    row = RawRow("f:1", {"a": 1}).changed({"a": 1, "bucket": "x"})
    assert side_of(row, SplitConfig(by="group", key="bucket", validation=0.5)) in ("train", "validation")


def test_a_row_without_its_group_is_named():
    with pytest.raises(RowError, match="f:1: it has no 'who', by which the data is split; it has a"):
        side_of(RawRow("f:1", {"a": 1}), SplitConfig(by="group", key="who"))
