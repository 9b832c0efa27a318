import numpy as np

from hone.experiments.data import stored
from hone.experiments.data.rows import ChatRow
from hone.experiments.data.stored import RowStore


def row(number):
    return ChatRow(str(number), f"f:{number}", [{"role": "user", "content": "x" * number}])


def test_rows_come_back_in_any_order_from_memory_and_from_disk(monkeypatch):
    for in_memory in (1000, 10**9):
        monkeypatch.setattr(stored, "IN_MEMORY", in_memory)
        store = RowStore()
        for number in range(100):
            store.append(row(number))
        assert store._file._rolled is (in_memory == 1000)
        assert len(store) == 100
        order = np.random.default_rng(0).permutation(100)
        rows = store.in_order(order)
        assert list(rows) == [row(number) for number in order]
        assert rows[-1] == row(order[-1])
        assert list(rows[10:20:3]) == [row(number) for number in order[10:20:3]]
        assert len(rows[:7]) == 7


def test_rows_outlive_the_store_that_made_them():
    store = RowStore()
    store.append(row(1))
    rows = store.in_order(np.array([0, 0]))
    del store
    assert list(rows) == [row(1), row(1)]
