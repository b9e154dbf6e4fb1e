"""How benchmarks measure: the least of several rounds; and work of a fixed size."""

import time

import torch


def seconds(work, rounds=5):
    """The least that a piece of work takes."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


ROWS = torch.arange(1 << 21).reshape(-1, 16)
ORDER = torch.randperm(len(ROWS), generator=torch.Generator().manual_seed(0))


def fixed_work():
    """Some tenths of a second: rows are gathered, mixed, sorted and added up, and many small tensors are made."""
    for _ in range(4):
        rows = ROWS.index_select(0, ORDER)
        rows = rows * 0x9E3779B1 ^ (rows >> 7)
        rows.sum(1).sort()
        (rows.double() / 3).cumsum(1)
    small = torch.zeros(16)
    for _ in range(5000):
        small = (small + 1).clamp(max=3)
