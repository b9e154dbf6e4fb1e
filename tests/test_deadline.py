import time

from specverify.deadline import Deadline


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
