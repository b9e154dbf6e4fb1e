import threading
import time

import pytest

from specverify.deadline import Deadline, Late, within


def test_time_that_others_take_does_not_count() -> None:
    limit = Deadline(0.5)
    time.sleep(0.6)
    assert limit.left > 0.3
    assert not limit.over


def test_computing_counts() -> None:
    limit = Deadline(0.05)
    while not limit.over:
        sum(range(1000))
    assert limit.left == 0


def test_waiting_ends_too() -> None:
    limit = Deadline(0.02)
    time.sleep(0.25)
    assert limit.over


def test_what_ends_in_time_is_handed_over() -> None:
    assert within(5.0, divmod, 17, 5) == (3, 2)
    with pytest.raises(ZeroDivisionError):
        within(5.0, divmod, 17, 0)


def test_what_computes_for_too_long_is_stopped() -> None:
    rounds = [0]

    def computes() -> None:
        while True:
            try:
                rounds[0] += 1
            except Exception:
                continue

    with pytest.raises(Late):
        within(0.2, computes)
    reached = rounds[0]
    time.sleep(0.05)
    assert rounds[0] == reached > 0


def test_what_waits_for_too_long_is_left_behind() -> None:
    start = time.monotonic()
    with pytest.raises(Late):
        within(0.02, time.sleep, 30.0)
    assert time.monotonic() - start < 10


def test_what_is_begun_in_another_thread_is_limited_there() -> None:
    found: list[BaseException] = []

    def elsewhere() -> None:
        try:
            within(0.02, time.sleep, 30.0)
        except Late as late:
            found.append(late)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(found) == 1
