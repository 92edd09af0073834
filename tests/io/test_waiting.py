"""Threads that wait for storage."""

import threading
import time

import pytest

from facedis_core.io.waiting import in_threads, within


def test_results_are_in_order_and_at_the_same_time():
    barrier = threading.Barrier(4)  # passed by four at once

    def work(item):
        barrier.wait(10)
        time.sleep(0.01 * (3 - item % 4))
        return item * item

    assert list(in_threads(work, range(8), 4)) == [n * n for n in range(8)]


def test_no_more_than_some_are_ahead():
    taken = []

    def items():
        for n in range(100):
            taken.append(n)
            yield n

    for done, result in enumerate(in_threads(lambda n: n, items(), 4)):
        assert result == done and len(taken) <= done + 5


def test_an_error_is_raised_in_its_place():
    results = in_threads(lambda n: 6 // (2 - n), range(5), 3)
    assert [next(results), next(results)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_has_not_begun_is_dropped_and_what_has_is_waited_for():
    begun, done = [], []

    def work(n):
        begun.append(n)
        time.sleep(0.05)
        done.append(n)

    results = in_threads(work, range(100), 2, last_seconds=2.0)
    next(results)
    results.close()
    assert len(begun) <= 4 and sorted(done) == sorted(begun)
    time.sleep(0.1)
    assert len(begun) <= 4


def test_a_call_without_an_answer_is_left():
    never = threading.Event()
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        within(0.05, never.wait)
    assert time.monotonic() - started < 5
    assert within(5, lambda: 1) == 1
    with pytest.raises(KeyError):
        within(5, lambda: {}["absent"])
    never.set()
