"""The exact output density of one speculative step over tokens in one dimension, and so its exact distance from p.

A step drafts x ~ q, keeps it with probability a(x), and replaces it otherwise. Its output has the density

    out(x) = q(x) a(x) + replaced(x),

where `replaced` integrates to the rejected mass 1 - A, less what the step loses to an atom (a cap's zero vector).
Integrals are Gauss-Legendre sums over panels that end wherever two densities cross, so that no integrand has a kink
inside a panel: the error is that of rounding for the exact rules. Where crossings move with a second variable, as in
CSpD over trajectories, `Output.error` compares with half the nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from scipy import optimize, special

from specverify.errors import InputError
from specverify.laws import Law

Values = Float[np.ndarray, " nodes"]
LogDensity = Callable[[Values], Values]
ORDER = 16
REACH = 12.0  # standard deviations on either side, beyond which a Gaussian has a mass of 4e-33


def density(law: Law) -> LogDensity:
    """The log density of a single law over R, as a function of an array of points.

    Raises:
        InputError: for laws of another dimension, a batch of more than one, and what is no distribution.
    """
    if law.dim != 1 or int(np.prod(law.shape)) != 1:
        raise InputError(
            f"the law has dimension {law.dim} and shape {law.shape}; quadrature takes one law over R (shape (1,))"
        )
    law.check("the law")

    def log_density(x: Values) -> Values:
        points = torch.from_numpy(x)[(slice(None), *(None,) * len(law.shape), None)]
        # one point at a time along a new first axis, against the one law of the batch
        found: Values = law.log_prob(points).reshape(len(x)).double().cpu().numpy()
        return found

    return log_density


@dataclass(frozen=True, eq=False)
class Line:
    """A part of R with quadrature nodes, in order.

    Attributes:
        x: Float[nodes].
        weight: Float[nodes], what each node counts in an integral.
        order: nodes in a panel.
    """

    x: Values
    weight: Values
    order: int

    def integral(self, values: Values) -> float:
        """The integral of a function from its values at the nodes."""
        return float(values @ self.weight)


def panels(breaks: Sequence[float] | Values, order: int = ORDER) -> Line:
    """Gauss-Legendre nodes between each two breaks.

    Raises:
        InputError: unless there are two distinct finite breaks at least, and an order of 2 or more.
    """
    ends = np.unique(np.asarray(breaks, dtype=np.float64))
    if len(ends) < 2 or not np.isfinite(ends).all() or order < 2:
        raise InputError(
            f"{len(ends)} breaks and order {order}: quadrature needs two distinct finite breaks and two nodes a panel"
        )
    nodes, weights = special.roots_legendre(order)
    half, middle = 0.5 * np.diff(ends), 0.5 * (ends[1:] + ends[:-1])
    return Line((middle[:, None] + half[:, None] * nodes).ravel(), (half[:, None] * weights).ravel(), order)


def line(
    centres: Sequence[float],
    scales: Sequence[float],
    *crossing: tuple[LogDensity, LogDensity],
    order: int = ORDER,
    width: float = 0.5,
) -> Line:
    """Panels for densities made of bumps of given centres and scales, whatever the scales.

    Args:
        centres: of the bumps, such as the means of a mixture's components.
        scales: of the bumps; each gets panels of `width` scales, out to 12 of them.
        crossing: pairs of log densities whose crossings become breaks.
        order: nodes in a panel.
        width: of a panel, in scales.

    Raises:
        InputError: if a scale is not positive, a centre not finite, or the two lists differ in length.
    """
    if not np.isfinite(centres).all() or not np.isfinite(scales).all():
        raise InputError(f"centres {list(centres)} and scales {list(scales)}: bumps lie at finite places")
    if len(centres) != len(scales) or not len(scales) or not min(scales) > 0:
        raise InputError(f"{len(centres)} centres and scales {list(scales)}: give one positive scale for each centre")
    ticks = np.arange(-REACH, REACH + width / 2, width)
    breaks = np.unique(np.concatenate([c + s * ticks for c, s in zip(centres, scales, strict=True)]))
    roots: list[float] = []
    for one, two in crossing:
        fine = panels(breaks, 8).x
        gap = one(fine) - two(fine)
        for i in np.flatnonzero(np.sign(gap[1:]) * np.sign(gap[:-1]) < 0):
            roots.append(
                optimize.brentq(
                    lambda x, one=one, two=two: float((one(np.array([x])) - two(np.array([x])))[0]),
                    fine[i],
                    fine[i + 1],
                    xtol=1e-14 * (1 + abs(fine[i])),
                )
            )
    return panels(np.concatenate([breaks, roots]), order)


@dataclass(frozen=True, eq=False)
class Output:
    """The law of one step's token.

    Attributes:
        line: the nodes.
        p: Float[nodes], the target's density.
        out: Float[nodes], the token's density.
        accepted: A, the probability that the draft is kept.
        atom: probability of a token of no density: what a capped redraw puts on one point.
        error: bound or estimate of the error of `tv` from the quadrature; 0 where it is rounding alone.
    """

    line: Line
    p: Values
    out: Values
    accepted: float
    atom: float = 0.0
    error: float = 0.0

    @property
    def x(self) -> Values:
        """The nodes."""
        return self.line.x

    @cached_property
    def mass(self) -> float:
        """What `out` and the atom integrate to: 1, or the step is no law (or the line too short)."""
        return self.line.integral(self.out) + self.atom

    @cached_property
    def tv(self) -> float:
        """Total variation between the token's law and p, half the integral of |out - p| and the atom."""
        return 0.5 * (self.line.integral(np.abs(self.out - self.p)) + self.atom)

    @cached_property
    def mean(self) -> float:
        """The token's mean, with the atom at 0."""
        return self.line.integral(self.out * self.x)


def step(
    on: Line, log_p: LogDensity, log_q: LogDensity, accept: Values, replaced: Values, *, atom: float = 0.0
) -> Output:
    """The output of any step, from its acceptance probabilities and the density of what replaces rejected drafts.

    Args:
        on: the nodes.
        log_p: the target.
        log_q: the draft.
        accept: Float[nodes], a(x).
        replaced: Float[nodes], of mass 1 - A - atom.
        atom: mass of the tokens that have no density.

    Raises:
        InputError: for acceptance outside [0, 1], or masses that do not add up to 1 within 1e-6.
    """
    if not ((accept >= 0) & (accept <= 1)).all():
        raise InputError(f"acceptance probabilities span {accept.min()} to {accept.max()}, outside 0 to 1")
    kept = np.exp(log_q(on.x)) * accept
    found = Output(on, np.exp(log_p(on.x)), kept + replaced, on.integral(kept), atom)
    if not abs(found.mass - 1) <= 1e-6:
        raise InputError(
            f"the step's output has mass {found.mass:.8g}; check what replaces rejected drafts, or the line"
        )
    return found


def thinning(on: Line, log_p: LogDensity, log_q: LogDensity, *, cap: int | None = None, zero: bool = False) -> Output:
    """The exact rule: accept with min(1, p / q), else draw from (p - q)+ / Z by thinning p.

    With a cap of K proposals a rejected draft finds none with probability A^K, A the overlap; the token is then a fresh
    draw from p, or, with `zero`, the zero vector.

    Raises:
        InputError: for a cap below 1.
    """
    if cap is not None and cap < 1:
        raise InputError(f"cap is {cap}; a rejected draft needs at least one proposal")
    p, ratio = np.exp(log_p(on.x)), log_p(on.x) - log_q(on.x)
    accept = np.exp(np.minimum(ratio, 0))
    overlap = min(1.0, on.integral(np.exp(log_q(on.x)) * accept))
    unresolved = 0.0 if cap is None else overlap**cap
    residual = -np.expm1(-np.maximum(ratio, 0)) * p
    lost = (1 - overlap) * unresolved
    replaced = (1 - unresolved) * residual + (0.0 if zero else lost) * p
    return step(on, log_p, log_q, accept, replaced, atom=lost if zero else 0.0)


def mapped(
    on: Line,
    log_p: LogDensity,
    log_q: LogDensity,
    accept: LogDensity,
    inverse: Callable[[Values], Values],
    slope: float,
) -> Output:
    """A step that maps a rejected draft to a token: the reflection coupling, with `inverse` its reflection.

    Args:
        on: the nodes.
        log_p: the target.
        log_q: the draft.
        accept: the acceptance probability a(x).
        inverse: the draft that is mapped to a given token.
        slope: absolute value of the inverse's derivative.
    """
    draft = inverse(on.x)
    replaced = np.exp(log_q(draft)) * (1 - accept(draft)) * slope
    return step(on, log_p, log_q, accept(on.x), replaced)


def overlap(on: Line, log_p: LogDensity, log_q: LogDensity) -> float:
    """1 - TV(p, q), the integral of min(p, q)."""
    return on.integral(np.exp(np.minimum(log_p(on.x), log_q(on.x))))
