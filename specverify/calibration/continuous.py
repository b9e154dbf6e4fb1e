"""Rates of the checks of continuous samples: moments, projections, energy and Rosenblatt's transforms.

The samples are Gaussian, so that the size of a flaw in each check's own metric is a formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import optimize, special

from specverify.calibration.trial import Measured, gather
from specverify.evidence.energy import Energy
from specverify.evidence.moments import Moments
from specverify.evidence.projections import Projected, directions
from specverify.evidence.result import Evidence
from specverify.evidence.rosenblatt import RosenblattUniformity

AXES = directions(1, 1)
TOOLS: dict[str, Callable[[], Any]] = {
    "moments": lambda: Moments(np.zeros(1), np.eye(1)),
    "projections of two samples": lambda: Projected(AXES),
    "energy distance": lambda: Energy(199),
    "Rosenblatt uniformity": RosenblattUniformity,
}
"""Checks of samples of one coordinate, standard normal."""


def alarms(trials: int, seed: int, *, check: str, n: int, alpha: float) -> Measured:
    """A check on standard normal samples."""
    generator, tool = np.random.default_rng(seed), TOOLS[check]()
    found = [_examine(check, tool, generator, n, 0.0, alpha, 0.1) for _ in range(trials)]
    return gather(found, n=n)


def misses(trials: int, seed: int, *, check: str, delta: float, alpha: float, beta: float) -> Measured:
    """A check on samples that are shifted as far as makes its own metric delta, at the n that it asks for."""
    generator, tool = np.random.default_rng(seed), TOOLS[check]()
    n = tool.sample_size(delta, alpha=alpha, beta=beta)
    moved = shift(check, delta)
    found = [_examine(check, tool, generator, n, moved, alpha, beta) for _ in range(trials)]
    return gather(found, n=n, delta=delta, tv=kolmogorov(moved))


def kolmogorov(moved: float) -> float:
    """Total variation of shifted standard normal laws, and their Kolmogorov distance: they are equal."""
    return float(2 * special.ndtr(moved / 2) - 1)


def energy(moved: float) -> float:
    """The energy coefficient of shifted standard normal laws."""
    apart = 2 / math.sqrt(math.pi)  # the mean distance of two draws of one of them
    across = apart * math.exp(-(moved**2) / 4) + moved * math.erf(moved / 2)
    return (2 * across - 2 * apart) / (2 * across)


def shift(check: str, delta: float) -> float:
    """How far apart normal laws are whose distance is delta in a check's metric, or a billionth more."""
    if check == "moments":
        return delta * (1 + 1e-9)
    measure = energy if check == "energy distance" else kolmogorov
    return float(optimize.brentq(lambda moved: measure(moved) - delta, 1e-9, 10, xtol=1e-12)) * (1 + 1e-9)


def _examine(
    check: str, tool: Any, generator: np.random.Generator, n: int, moved: float, alpha: float, beta: float
) -> Evidence:
    rates = {"alpha": alpha, "beta": beta}
    first = generator.standard_normal((n, 1)) + moved
    found: Evidence
    if check == "energy distance":
        found = tool.check(first, generator.standard_normal((n, 1)), generator=generator, **rates)
    elif check == "projections of two samples":
        found = tool.check(first, generator.standard_normal((n, 1)), **rates)
    elif check == "Rosenblatt uniformity":
        found = tool.check(special.ndtr(first)[:, None], **rates)
    else:
        found = tool.check(first, **rates)
    return found
