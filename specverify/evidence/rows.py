"""What a row has as a whole in two logs: the mean of its surprisals, and how many of its tokens differ.

Tokens may have the law that is due in all rows together and be too hot in some and too cold in others, as where each
request has settings of its own. So the law of what a row has is compared (Smirnov's one-sided tests, whose law for two
samples of one size is that of a path of coin tosses). A log-probability that may be off by `drift` moves a mean by no
more, so that each law is held against the other one moved by this much.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int
from scipy import special, stats

from specverify.evidence.result import KOLMOGOROV, Evidence, nothing_below_one

Tokens = Int[np.ndarray, "rows length"]
LogProbs = Float[np.ndarray, "rows length"]


def check(
    tokens: tuple[Tokens, Tokens],
    logprobs: tuple[LogProbs, LogProbs] | None,
    drift: float,
    *,
    alpha: float,
    beta: float,
) -> Evidence:
    """Compare what rows have as wholes.

    Args:
        tokens: of the two logs, as many rows of each; -1 behind an end.
        logprobs: of these tokens; None if they are not logged.
        drift: nats that means may be apart; shares of tokens, in law, by no more.
        alpha: false-alarm rate.
        beta: miss rate that delta is stated for, the distance of the laws of what a row has.
    """
    n = len(tokens[0])
    lengths = [np.maximum((each >= 0).sum(1), 1) for each in tokens]
    found = {
        "share of tokens that did not come before": [_new(x) / size for x, size in zip(tokens, lengths, strict=True)]
    }
    if logprobs is not None:
        found["mean surprisal"] = [-x.sum(1) / size for x, size in zip(logprobs, lengths, strict=True)]
    tests = 2 * len(found)
    worst, told = 1.0, ""
    for what, (one, two) in found.items():
        for first, second, which in ((one, two, "AB"), (two, one, "BA")):
            steps, place = _farthest(first, second, drift)
            if (tail := tests * _tail(n, steps)) < worst:
                worst, more = tail, f"{steps:,} rows of {n:,} more of {which[0]} than of {which[1]}"
                told = f"a row's {what} is at most {place:.3g} in {more}"
    least = next((steps for steps in range(1, n + 1) if tests * _tail(n, steps) <= alpha), n + 1)
    delta = min(1.0, least / n + float(stats.norm.isf(beta)) / math.sqrt(2 * n))
    return Evidence(
        check="rows as wholes",
        statistic=worst,
        p_value=worst,
        alpha=alpha,
        beta=beta,
        delta=delta,
        metric=KOLMOGOROV,
        n=n,
        rejected=worst <= alpha,
        basis="asymptotic",
        power="asymptotic",
        vacuous=nothing_below_one(delta, n),
        detail=told or "what rows have as wholes is alike",
    )


def _new(tokens: Tokens) -> Int[np.ndarray, " rows"]:
    """How many different tokens a row has."""
    ordered = np.sort(tokens, 1)
    return np.asarray(
        (ordered[:, :1] >= 0).sum(1) + ((ordered[:, 1:] != ordered[:, :-1]) & (ordered[:, 1:] >= 0)).sum(1)
    )


def _farthest(first: Float[np.ndarray, " rows"], second: Float[np.ndarray, " rows"], drift: float) -> tuple[int, float]:
    """By how many rows the first log has more at most, up to some value, than the second up to as much and drift."""
    first, second = np.sort(first), np.sort(second)
    more = np.searchsorted(first, first, "right") - np.searchsorted(second, first + drift + 1e-9, "right")
    place = int(more.argmax())
    return int(more[place]), float(first[place])


def _tail(n: int, steps: int) -> float:
    """The probability that two samples of one law are that far apart, on one side (Gnedenko and Korolyuk, 1951)."""
    if steps <= 0:
        return 1.0
    logs = 2 * special.gammaln(n + 1) - special.gammaln(n - steps + 1) - special.gammaln(n + steps + 1)
    return float(np.exp(logs)) if steps <= n else 0.0
