"""Several threads at a time; nobody computes any more when a failure is told."""

import threading
import time

import pytest
import torch

from hone.engine.workers import Workers


def computing_threads() -> int:
    return sum(thread.name.startswith("pass") for thread in threading.enumerate())


@pytest.mark.parametrize("count", [1, 2, 16])
def test_the_threads_are_there_from_the_start(count: int) -> None:
    before = computing_threads()
    workers = Workers(count)
    assert computing_threads() == before + (count if count > 1 else 0)
    assert workers.run([torch.get_num_threads] * count) == [1] * count, "with a math library of one thread"
    assert workers.run([lambda: 1, lambda: 2, lambda: 3]) == [1, 2, 3]
    workers.close()
    assert computing_threads() == before


@pytest.mark.parametrize("verb", ["run", "help"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_failure_waits_for_the_others(verb: str, place: int) -> None:
    workers, ended = Workers(2), []

    def fails() -> None:
        raise RuntimeError("broken")

    def takes_long() -> None:
        time.sleep(0.1)
        ended.append(True)

    tasks = [takes_long, takes_long]
    tasks[place] = fails
    with pytest.raises(RuntimeError, match="broken"):
        getattr(workers, verb)(tasks)
    assert ended == [True]
    workers.close()


def test_the_caller_helps_itself() -> None:
    workers, by = Workers(2), []
    workers.help([lambda: by.append(threading.current_thread().name)] * 3)
    assert threading.current_thread().name in by
    assert len(by) == 3
    workers.close()
