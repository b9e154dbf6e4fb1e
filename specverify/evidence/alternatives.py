"""Laws at an exactly known total variation from a given law: what a check of known power must reject.

The kinds differ in how they spread the distance, since a check may be strong against one and weak against another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy import optimize

from specverify.errors import InputError
from specverify.evidence.distance import tv
from specverify.evidence.result import Law, Vector, check_delta, to_law


def alternative(law: Law, delta: float, kind: str) -> Vector:
    """A law at total variation exactly delta from `law`.

    Args:
        law: Float[outcomes].
        delta: the distance.
        kind: a key of `KINDS`.

    Raises:
        InputError: if the kind is unknown or cannot go that far from this law.
    """
    check_delta(delta)
    if kind not in KINDS:
        raise InputError(f"alternative {kind!r} is not known; choose one of {sorted(KINDS)}")
    p = to_law(law)
    moved = KINDS[kind](p, delta)
    if moved is None or (moved < 0).any() or abs(tv(moved, p) - delta) > 1e-9:
        raise InputError(f"no {kind!r} alternative lies at distance {delta:.6g} from this law; choose a smaller one")
    return moved


def _spread(p: Vector, delta: float) -> Vector | None:
    """Every other outcome gains, the rest lose, each in proportion to its probability: hardest for chi-square."""
    gain = np.zeros(len(p), dtype=bool)
    gain[np.argsort(p, kind="stable")[::2]] = True
    gain &= p > 0
    lose = ~gain & (p > 0)
    if not gain.any() or not lose.any() or delta > p[lose].sum():
        return None
    up, down = np.where(gain, p, 0.0) / p[gain].sum(), np.where(lose, p, 0.0) / p[lose].sum()
    return np.asarray(p + delta * (up - down))


def _pair(p: Vector, delta: float) -> Vector | None:
    """The likeliest outcome loses to the next likeliest."""
    order = np.argsort(-p, kind="stable")[: int((p > 0).sum())]
    return _move(p, order[:1], order[1:2], delta)


def _rarest(p: Vector, delta: float) -> Vector | None:
    """All that the likeliest outcomes lose goes to the rarest possible one."""
    order = np.argsort(-p, kind="stable")[: int((p > 0).sum())]
    return _move(p, order[:-1], order[-1:], delta)


def _dropped(p: Vector, delta: float) -> Vector | None:
    """The rarest outcomes are never drawn; the others gain in proportion."""
    order = np.argsort(p, kind="stable")
    mass = np.cumsum(p[order])
    lost = np.zeros(len(p))
    lost[order] = np.diff(np.minimum(mass, delta), prepend=0.0)
    kept = np.where(lost == 0, p, 0.0)
    return np.asarray(np.maximum(p - lost, 0.0) + delta * kept / kept.sum()) if kept.any() else None


def _halved(p: Vector, delta: float) -> Vector | None:
    """The rarer half of the mass loses to the commoner, in proportion: what sums over rare outcomes hardly see."""
    order = np.argsort(p, kind="stable")
    rare = np.zeros(len(p), dtype=bool)
    rare[order[np.cumsum(p[order]) <= 0.5 + 1e-9]] = True
    mass = float(p[rare].sum())
    return np.where(rare, p * (1 - delta / mass), p * (1 + delta / (1 - mass))) if delta < mass < 1 else None


def _tempered(p: Vector, delta: float) -> Vector | None:
    """The law at a higher temperature: flatter."""
    support = p > 0

    def at(power: float) -> Vector:
        raised = np.where(support, p, 1.0) ** power * support
        return np.asarray(raised / raised.sum())

    if 0.5 * np.abs(at(0.0) - p).sum() <= delta:
        return None
    power = optimize.brentq(lambda value: 0.5 * np.abs(at(value) - p).sum() - delta, 0.0, 1.0, xtol=1e-15, rtol=1e-14)
    return at(float(power))


def _move(p: Vector, losers: np.ndarray, winner: np.ndarray, delta: float) -> Vector | None:
    """Take delta from the losers, in order until each is empty, and give it to one winner."""
    available = np.cumsum(p[losers])
    if not len(winner) or not len(losers) or available[-1] < delta:
        return None
    moved = p.copy()
    moved[losers] -= np.diff(np.minimum(available, delta), prepend=0.0)
    moved[winner] += delta
    return np.asarray(np.maximum(moved, 0.0))


KINDS: Mapping[str, Callable[[Vector, float], Vector | None]] = {
    "spread": _spread,
    "pair": _pair,
    "rarest": _rarest,
    "dropped": _dropped,
    "halved": _halved,
    "tempered": _tempered,
}
