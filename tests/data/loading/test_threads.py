import threading
import time

import pytest

from milpath.data.loading.threads import map_in_threads


@pytest.mark.parametrize("num_threads", [None, 0, 1, 4])
def test_results_come_in_order(num_threads):
    def slow(value):
        time.sleep(0.002 * (value % 3))
        return value * value

    assert list(map_in_threads(slow, range(30), num_threads)) == [value * value for value in range(30)]


def test_only_a_few_are_computed_ahead():
    started = []
    results = map_in_threads(started.append, range(1000), num_threads=2)
    next(results)
    time.sleep(0.05)
    assert len(started) <= 5
    results.close()


def test_work_is_done_in_other_threads_unless_there_are_none():
    names = set(map_in_threads(lambda _: threading.current_thread().name, range(8), num_threads=2))
    assert all(name.startswith("milpath-data") for name in names)
    assert set(map_in_threads(lambda _: threading.current_thread().name, range(2), 0)) == {
        threading.current_thread().name
    }


def test_an_error_is_raised_where_its_result_is_taken():
    def fail_at_three(value):
        if value == 3:
            raise ValueError("three")
        return value

    results = map_in_threads(fail_at_three, range(10), num_threads=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
