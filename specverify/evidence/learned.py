"""Outcomes that came more often in a third of the one log's rows than of the other's: do they so in the rest, too?

Of each outcome, such as a token, two neighbours, or a token behind a prompt, it is learned from a third of the rows in
which log it came more often. The others' places are scored by it, 1 and -1, and rows are compared by signs
(`signs.py`): where logs have one law, what was learned says nothing of the rest, whatever it was, and the rate of false
alarms holds at every n. All places of a row count together, so that outcomes are seen that come seldom at any one; and
places are looked at in groups, too, such as those behind one token, each by itself.

How much is seen depends on how well it could be learned. `delta` is stated for laws in which every outcome is off by
one share, half of them up and half down: of an outcome that came m times in the rows that are learned from, the side is
learned as often as most of m coins of probability (1 + delta) / 2 show it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special, stats

from specverify.evidence.result import Evidence
from specverify.evidence.signs import by_signs, hoeffding, least_shift

BITS = 20
"""Outcomes of more kinds share 2^20 codes, which hides some and makes no false alarm."""
ENOUGH = 30
"""Places that a group has in both logs."""
MOST = 1 << 24
"""Rows times groups: of more groups, those that have most places are looked at."""
TIMES = 1000
"""Times that an outcome came, from which on its side is learned as well as from so many."""
SHARES = np.geomspace(1e-3, 1.0, 100)
"""Of each outcome, by which it may be off."""
Places = Int[np.ndarray, "2 rows places"]


@dataclass(frozen=True)
class View:
    """What the places of both logs' rows are looked at as.

    Attributes:
        outcome: at each place; -1 where there is none.
        what: outcomes, in words.
        groups: by which places are looked at by themselves, too, each with what a group is in words, with its number.
        tokens: how many make an outcome, each of which may be off by rounding.
    """

    outcome: Places
    what: str
    groups: Sequence[tuple[Places, str]] = ()
    tokens: int = 1


@dataclass(frozen=True)
class _Found:
    """What one view shows: a bound for its probability, the share that is larger in the first log, what, and delta."""

    p_value: float
    share: float
    words: str
    delta: float


def third(prompt: Int[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
    """Which rows are learned from: a third of each prompt's, and at least one where there are two."""
    order = np.argsort(prompt, kind="stable")
    first, size = np.unique(prompt[order], return_index=True, return_counts=True)[1:]
    rank = np.arange(len(prompt)) - np.repeat(first, size)
    found = np.zeros(len(prompt), dtype=bool)
    found[order] = rank < np.repeat(np.maximum(size // 3, (size > 1).astype(int)), size)
    return found


def check(
    name: str,
    views: Sequence[View],
    learning: Bool[np.ndarray, " rows"],
    drift: float,
    *,
    alpha: float,
    beta: float,
) -> Evidence:
    """Compare the rows of two logs, which are of one prompt at each place.

    Args:
        name: of the check.
        views: the one that is farthest off is told.
        learning: the rows that are learned from; `third`.
        drift: nats by which log-probabilities may be apart, in laws that count as one: by tanh(drift / 2) in total
            variation, at most.
        alpha: false-alarm rate.
        beta: miss rate that delta is stated for, of the first view.
    """
    tests = sum(1 + len(view.groups) for view in views)
    found = [
        _look(view, learning, math.tanh(drift * view.tokens / 2), alpha / tests, None if number else beta)
        for number, view in enumerate(views)
    ]
    worst = min(found, key=lambda each: each.p_value)
    p_value, delta = min(1.0, tests * worst.p_value), found[0].delta
    return Evidence(
        check=name,
        statistic=worst.share,
        p_value=p_value,
        alpha=alpha,
        beta=beta,
        delta=delta if delta < math.inf else 0.0,
        metric="share of tokens",
        n=len(learning),
        rejected=p_value <= alpha,
        basis="finite-sample bound",
        power="asymptotic",
        vacuous="" if delta < math.inf else f"{len(learning):,} rows are too few to learn from a third of them",
        blind="laws in which few outcomes that come seldom are off",
        detail=worst.words,
        coverage={"rows": len(learning), "views": len(views)},
    )


def _look(view: View, learning: Bool[np.ndarray, " rows"], drift: float, alpha: float, beta: float | None) -> _Found:
    code = _coded(view.outcome)
    kinds = int(code.max(initial=0)) + 2  # the last is for places that have no outcome
    code = np.where(code < 0, kinds - 1, code)
    learned, rest = code[:, learning], code[:, ~learning]
    counts = [np.bincount(part.ravel(), minlength=kinds) for part in learned]
    score = np.sign(counts[0] - counts[1]).astype(np.int8)
    score[-1] = 0
    weight = 1 / np.maximum((rest < kinds - 1).sum(2, keepdims=True), 1)
    scored = score[rest]
    means = (scored * weight).sum(2)
    pairs = (means[0] - means[1]) / 2  # at most the total variation of how often outcomes come
    share, whole = float(pairs.mean()) if len(pairs) else 0.0, by_signs(pairs - drift)
    said = f"of {view.what} that came more often in a third of A's rows than of B's, the rest of A has a share"
    words = f"{said} that is {share:.3g} larger than in B"
    p_value, own = whole, scored * weight
    for group, where in view.groups if len(pairs) else ():
        by_group, which, size = _groups(group[:, ~learning], own, weight * (rest < kinds - 1), drift)
        if by_group < p_value:
            p_value, words = (
                by_group,
                f"{where.format(which)}: {said} that is {share:.3g} larger than in B, {size} here",
            )
    least = math.inf if beta is None else _least(rest, weight, learned, kinds, drift, pairs, alpha, beta)
    return _Found(p_value, share, words, least)


def _groups(
    group: Places, scored: Float[np.ndarray, "2 rows places"], weight: Float[np.ndarray, "2 rows places"], drift: float
) -> tuple[float, int, str]:
    """The group that is farthest off by itself: a bound, its number, and its share, in words."""
    rows, group = group.shape[1], np.where(weight > 0, group, -1)
    if int(group.max(initial=0)) < MOST // 4:
        number, count = group + 1, np.bincount(group.ravel() + 1)
        names = np.arange(len(count)) - 1
    else:
        names, number, count = np.unique(group, return_inverse=True, return_counts=True)
        number = number.reshape(group.shape)
    fit = np.flatnonzero((names >= 0) & (count >= ENOUGH))
    # How often a group came in both together says nothing of the one or the other.
    fit = fit[np.argsort(-count[fit], kind="stable")[: max(1, MOST // rows)]]
    if not len(fit):
        return 1.0, 0, ""
    place = np.full(len(names), len(fit))
    place[fit] = np.arange(len(fit))
    at = place[number] + (len(fit) + 1) * np.arange(rows)[:, None]
    size = rows * (len(fit) + 1)
    sums = [np.bincount(x.ravel(), y.ravel(), size).reshape(rows, -1)[:, :-1] for x, y in zip(at, scored, strict=True)]
    here = [np.bincount(x.ravel(), y.ravel(), size) for x, y in zip(at, weight, strict=True)]
    due = ((here[0] + here[1]) / 2).reshape(rows, -1)[:, :-1]
    tails = hoeffding((sums[0] - sums[1]) / 2 - drift * due)
    worst = int(tails.argmin())
    share = float((sums[0] - sums[1])[:, worst].sum() / 2 / max(due[:, worst].sum(), 1e-300))
    return min(1.0, len(fit) * float(tails[worst])), int(names[fit[worst]]), f"{share:.3g}"


def _least(
    rest: Places,
    weight: Float[np.ndarray, "2 rows 1"],
    learned: Places,
    kinds: int,
    drift: float,
    pairs: Float[np.ndarray, " pairs"],
    alpha: float,
    beta: float,
) -> float:
    """The smallest share of each outcome that is seen but with probability beta; infinite if none is."""
    if not len(pairs) or not learned.shape[1]:
        return math.inf
    needed = drift + least_shift(pairs, by_signs, alpha, beta)
    if needed >= 1:
        return math.inf
    # Outcomes that come again in one row are no new ones: m is their number, squared, by the sum of squares of rows'.
    row = np.arange(2 * learned.shape[1]).reshape(2, -1, 1)
    key, count = np.unique((learned + kinds * row).ravel(), return_counts=True)
    sums, squares = (np.bincount(key % kinds, x, kinds) for x in (count.astype(float), count.astype(float) ** 2))
    times = np.minimum(sums**2 / np.maximum(squares, 1), TIMES).astype(int)
    often = np.bincount(rest.ravel(), np.broadcast_to(weight, rest.shape).ravel(), kinds) / (2 * rest.shape[1])
    often[-1] = 0
    by_times, squared = (np.bincount(times, x, TIMES + 1) for x in (often, often**2))
    held, sure = np.flatnonzero(by_times), float(stats.norm.isf(beta))
    return _share(held, by_times[held], squared[held], sure, needed)


def _share(
    times: Int[np.ndarray, " kinds"],
    often: Float[np.ndarray, " kinds"],
    squared: Float[np.ndarray, " kinds"],
    sure: float,
    needed: float,
) -> float:
    """The smallest of `SHARES` by which rows are off by what is needed, less `sure` standard deviations."""
    few, many = 0, len(SHARES)
    while few < many:
        middle = (few + many) // 2
        coin = (1 + SHARES[middle]) / 2
        more, fewer = 1 - special.bdtr(times // 2, times, coin), special.bdtr((times - 1) // 2, times, coin)
        side = np.where(times > 0, more - np.where(times > 0, fewer, 0.0), 0.0)
        gain = float((often * side).sum()) - sure * math.sqrt(float((squared * (1 - side**2)).sum()))
        few, many = (few, middle) if SHARES[middle] * gain >= needed else (middle + 1, many)
    return float(SHARES[few]) if few < len(SHARES) else math.inf


def _coded(outcome: Places) -> Places:
    """Small numbers of outcomes; -1 stays."""
    if int(outcome.max(initial=0)) < 1 << BITS:
        return outcome
    mixed = (outcome.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - BITS)
    return np.where(outcome < 0, -1, mixed.astype(np.int64))
