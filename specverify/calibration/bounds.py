"""Rates of the bounds of acceptance and rejection, and of what a claimed ratio of densities must satisfy.

Decisions are drawn from their known laws. The ratios are of normal laws that lie `APART` standard deviations apart, so
that means, spreads and overlaps of a ratio times a factor are formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, special

from specverify.calibration.trial import Measured, gather
from specverify.evidence.bounds import acceptance, at_most
from specverify.evidence.places import RosenblattPlaces
from specverify.evidence.ratio import RatioMean, RatioSymmetry
from specverify.evidence.repeats import Atoms, Repeats
from specverify.evidence.result import Evidence
from specverify.evidence.rosenblatt import RosenblattLags, RosenblattPairs
from specverify.evidence.trials import Trials

OVERLAP, APART, GRID = 0.7, 0.5, 4
CHANCE = 1e-5
"""Of one value, by rounding."""
DELTA = 0.05
"""What misses are measured at."""
Sample = Callable[[np.random.Generator, int, float], tuple[Any, ...]]
"""(generator, n, by how much it is off in the check's metric) -> the arguments of the check."""


def _events(rate: float) -> Sample:
    return lambda generator, n, off: (generator.random(n) < rate + off,)


def _trials(generator: np.random.Generator, n: int, off: float) -> tuple[Any, ...]:
    return geometric(generator, n, moved_overlap(off)), OVERLAP


def _ratios(factor: Callable[[float], float]) -> Sample:
    def draw(generator: np.random.Generator, n: int, off: float) -> tuple[Any, ...]:
        """Log p(x) / q(x) times a factor at x ~ q = N(0, 1), and its negative at x ~ p = N(APART, 1)."""
        under_q, under_p = generator.standard_normal(n), generator.standard_normal(n) + APART
        by = math.log(factor(off))
        first, second = (by + APART * x - APART**2 / 2 for x in (under_q, under_p))
        return first, -second

    return draw


def _pairs(generator: np.random.Generator, n: int, off: float) -> tuple[Any, ...]:
    """One pair of positions a row; the second repeats the first with a chance that makes the cells differ by `off`."""
    first, second = generator.random((2, n))
    second = np.where(generator.random(n) < off / (1 - 1 / GRID), first, second)
    return (np.stack([first, second], 1)[:, :, None],)


def _apart(generator: np.random.Generator, n: int, off: float) -> tuple[Any, ...]:
    """The same at a distance of three, in rows of four."""
    rows = generator.random((n, 4))
    rows[:, 3] = np.where(generator.random(n) < off / (1 - 1 / GRID), rows[:, 0], rows[:, 3])
    return (rows[:, :, None],)


def _values(generator: np.random.Generator, n: int, off: float) -> tuple[Any, ...]:
    """As many values, equally likely, as a check forgives; one in 1 / off is 0, which came first."""
    values = generator.integers(1, round(1 / CHANCE) + 1, n).astype(float)
    values[generator.random(n) < off] = 0.0
    if off:
        values[0] = 0.0
    return (values[:, None],)


@dataclass(frozen=True)
class Tool:
    """A check, and samples for it.

    Attributes:
        check: the check.
        draw: samples that are right where `off` is 0.
        randomised: whether the check draws itself.
    """

    check: Any
    draw: Sample
    randomised: bool = False


TOOLS: dict[str, Tool] = {
    "acceptance": Tool(acceptance(OVERLAP), _events(OVERLAP)),
    "acceptance at most": Tool(at_most(OVERLAP), _events(OVERLAP)),
    "trials": Tool(Trials(), _trials, randomised=True),
    "mean ratio": Tool(RatioMean((1 + DELTA) * math.sqrt(math.expm1(APART**2))), _ratios(lambda off: 1 + off)),
    "overlap from both sides": Tool(RatioSymmetry(), _ratios(lambda off: factor_apart(off))),
    "Rosenblatt pairs": Tool(RosenblattPairs(grid=GRID), _pairs),
    "Rosenblatt pairs at all distances": Tool(RosenblattLags(lags=(1, 2, 3), grid=GRID), _apart),
    "Rosenblatt pairs of places": Tool(RosenblattPlaces(grid=GRID, length=4), _apart),
    "atoms": Tool(Atoms(CHANCE), _values),
    "repeated values": Tool(Repeats(CHANCE), _values),
}


def alarms(trials: int, seed: int, *, check: str, n: int, alpha: float) -> Measured:
    """A check on what is as it should be."""
    generator, tool = np.random.default_rng(seed), TOOLS[check]
    found = [_examine(tool, generator, n, 0.0, alpha, 0.1) for _ in range(trials)]
    return gather(found, n=n)


def misses(trials: int, seed: int, *, check: str, alpha: float, beta: float) -> Measured:
    """A check on what is off by `DELTA` in its metric, at the n that it asks for."""
    generator, tool = np.random.default_rng(seed), TOOLS[check]
    n = tool.check.sample_size(DELTA, alpha=alpha, beta=beta)
    found = [_examine(tool, generator, n, DELTA * (1 + 1e-9), alpha, beta) for _ in range(trials)]
    return gather(found, n=n, delta=DELTA)


def looks(trials: int, seed: int, *, n: int, alpha: float) -> Measured:
    """The e-process of mean ratios, looked at after every ratio."""
    generator, tool = np.random.default_rng(seed), TOOLS["mean ratio"]
    highest = [max(float(RatioMean.log_e(side).max()) for side in tool.draw(generator, n, 0.0)) for _ in range(trials)]
    return Measured(n, np.array(highest) >= math.log(2 / alpha))


def geometric(generator: np.random.Generator, n: int, overlap: float) -> Int[np.ndarray, " n"]:
    """Proposals of n decisions: P(T > k) = (1 - overlap) overlap^k."""
    redrawn = generator.random(n) >= overlap
    return np.where(redrawn, generator.geometric(1 - overlap, n), 0)


def moved_overlap(off: float) -> float:
    """The overlap, below `OVERLAP`, of which trials lie at a Kolmogorov distance from those of `OVERLAP`."""
    k = np.arange(200)

    def beyond(overlap: float) -> Float[np.ndarray, " counts"]:
        return np.asarray((1 - overlap) * overlap**k)

    if not off:
        return OVERLAP
    distance = lambda moved: float(np.abs(beyond(moved) - beyond(OVERLAP)).max()) - off  # noqa: E731
    return float(optimize.brentq(distance, 0.3, OVERLAP, xtol=1e-12))


def overlaps_apart(factor: float) -> float:
    """|E_q min(1, r) - E_p min(1, 1 / r)| of r = factor p / q."""

    def clipped(by: float) -> float:
        """E min(1, exp(y)) of normal y, variance APART^2 and mean log by - APART^2 / 2."""
        mean = math.log(by) - APART**2 / 2
        high = float(special.ndtr(mean / APART))
        low = by * float(special.ndtr(-mean / APART - APART))
        return high + low

    return abs(clipped(factor) - clipped(1 / factor))


def factor_apart(off: float) -> float:
    """The factor above 1 that makes two overlaps differ by `off`."""
    return 1.0 if not off else float(optimize.brentq(lambda by: overlaps_apart(by) - off, 1, 20, xtol=1e-12))


def _examine(tool: Tool, generator: np.random.Generator, n: int, off: float, alpha: float, beta: float) -> Evidence:
    named = {"generator": generator} if tool.randomised else {}
    found: Evidence = tool.check.check(*tool.draw(generator, n, off), alpha=alpha, beta=beta, **named)
    return found
