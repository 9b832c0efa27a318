from hone.algorithms.data_order import DataOrder


def test_every_epoch_sees_every_example_once_in_another_order() -> None:
    order = DataOrder(examples=10, batch_size=4, epochs=2, seed=3)
    assert order.steps == 6
    first, second = ([order.batch(step) for step in steps] for steps in (range(3), range(3, 6)))
    assert [len(batch) for batch in first] == [4, 4, 2]
    for epoch in (first, second):
        assert sorted(row for batch in epoch for row in batch) == list(range(10))
    assert first != second


def test_a_step_sees_the_same_examples_again() -> None:
    assert DataOrder(10, 4, 2, seed=3).batch(4) == DataOrder(10, 4, 2, seed=3).batch(4)
    assert DataOrder(10, 4, 2, seed=3).batch(4) != DataOrder(10, 4, 2, seed=4).batch(4)


def test_without_shuffling_every_epoch_has_the_rows_in_their_order() -> None:
    order = DataOrder(5, 2, 2, seed=3, shuffle=False)
    assert [order.batch(step) for step in range(6)] == [[0, 1], [2, 3], [4]] * 2
