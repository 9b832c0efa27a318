"""The background lane: in order, one at a time, all of it."""

import threading
import time

from hone.engine.disk import DiskLane


def test_tasks_run_in_order_on_another_thread_and_closing_waits_for_all() -> None:
    lane, done, threads = DiskLane(), [], set()

    def task(number: int) -> None:
        time.sleep(0.002 * (5 - number % 5))
        threads.add(threading.get_ident())
        done.append(number)

    for i in range(20):
        lane.put(lambda i=i: task(i))  # type: ignore[misc]
    lane.close()
    assert done == list(range(20))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_handing_over_does_not_wait() -> None:
    lane, go, ran = DiskLane(), threading.Event(), threading.Event()

    def wait() -> None:
        go.wait(10)

    lane.put(wait)
    lane.put(ran.set)
    assert not ran.is_set()
    go.set()
    lane.close()
    assert ran.is_set()
