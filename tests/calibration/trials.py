"""Trials that end soon, what comes of them, and a check that is broken on purpose."""

import json
from dataclasses import replace
from functools import partial

from specverify.calibration import (
    Trial,
    carry_out,
    counts,
)  # fmt: skip
from specverify.calibration.sources import Source
from specverify.evidence.discrete import ChiSquare

LEVEL = 1e-8
WRONG = Source("residual-rewarped", "ties-3x5")
ROW = {
    "check", "what", "on", "stated", "delta", "tv", "n", "trials", "events", "interval", "p_value", "holds", "seconds"
}  # fmt: skip


def alarms(check="joint law (g)", alpha=0.05, law="flat-4", trials=200, n=2000):
    return Trial(
        check, "false alarms", law, alpha, trials, partial(counts.alarms, check=check, law=law, n=n, alpha=alpha)
    )


def misses(check="joint law (g)", trials=200):
    measure = partial(counts.misses, check=check, law="flat-4", kind="spread", delta=0.05, alpha=0.01, beta=0.05)
    return Trial(check, "misses", "flat-4", 0.05, trials, measure)


def row_of(trial, seed=0):
    row = carry_out(trial, seed=seed, level=LEVEL)
    assert set(row) == ROW
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    low, high = row["interval"]
    assert 0 <= low <= row["events"] / row["trials"] <= high <= 1
    return row


def without_times(rows):
    return [row | {"seconds": 0} for row in rows]


class Broken:
    """The G-test with what it finds changed."""

    def __init__(self, law, change):
        self.inner, self.change = ChiSquare(law), change

    def check(self, observed, *, alpha, beta):
        evidence = self.inner.check(observed, alpha=alpha, beta=beta)
        return replace(evidence, **self.change(evidence, alpha))

    def sample_size(self, delta, *, alpha, beta):
        return self.inner.sample_size(delta, alpha=alpha, beta=beta)


def broken(monkeypatch, change):
    monkeypatch.setitem(counts.TOOLS, "joint law (g)", lambda law, vocab: Broken(law, change))
