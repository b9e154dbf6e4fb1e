"""Checks of continuous tokens by Rosenblatt's transform (1952): they need the target's laws at the emitted tokens.

If token t is drawn from the target's law given the tokens before it, and u_tk is the distribution function of its
coordinate k given coordinates 0 .. k - 1, at the value drawn, then all u are independent uniforms. So each false-alarm
rate here holds at every n. This is `pit.py` for densities; no randomisation is needed, and its miss rates hold for the
same reason: a discrepancy is one of the law of u given everything before it, averaged over the tokens of a group, and
at most the total variation between the laws of the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from specverify.errors import InputError
from specverify.evidence import design
from specverify.evidence.distance import deviation
from specverify.evidence.pit import PitPairs, PitUniformity
from specverify.evidence.result import KOLMOGOROV, Evidence, check_rates, check_size, nothing_below_one
from specverify.evidence.tokens import TILTS, TokenStatistics
from specverify.laws import ContinuousModel, Law

BLIND = "differences that cancel over the tokens of a group"
Transforms = Float[np.ndarray, "n length dim"]
GROUPS = {"all": (), "position": (1,), "dimension": (2,), "coordinate": (1, 2)}
"""The axes of the transforms that tell groups apart."""
AXES = {"row": 0, "position": 1, "dimension": 2}


def transforms(model: ContinuousModel, tokens: Float[Tensor, "n length dim"], rows: int = 4096) -> Transforms:
    """The transforms of whole sequences under a model's laws, in teacher-forced forward passes.

    Args:
        model: the target.
        tokens: what a sampler emitted.
        rows: sequences in a pass; laws whose densities are found by quadrature need a megabyte or more for each token.

    Raises:
        InputError: if the tokens are not sequences of the model, or are not finite.
    """
    n, length, dim = tokens.shape
    if (length, dim) != (model.length, model.dim) or n < 1:
        raise InputError(
            f"the tokens have shape {tuple(tokens.shape)}, but model {model.name!r} emits {model.length} tokens of "
            f"{model.dim} coordinates; pass whole sequences"
        )
    check_size(rows, "rows")
    parts = [part.to(model.device, model.dtype) for part in tokens.split(rows)]
    return np.concatenate([transform(model.laws(model.start(len(part)), part[:, :-1]), part) for part in parts])


def transform(law: Law, tokens: Float[Tensor, "n length dim"]) -> Transforms:
    """The transforms of tokens under laws of shape [n, length], each given the tokens before it.

    Raises:
        InputError: if a token is not finite, shapes differ, or the law's conditional distributions are not known.
    """
    if not hasattr(law, "rosenblatt"):
        raise InputError(f"{type(law).__name__} has no rosenblatt transform; test projections or moments instead")
    if tuple(tokens.shape) != (*law.shape, law.dim):
        raise InputError(
            f"the tokens have shape {tuple(tokens.shape)}, but the laws are for {(*law.shape, law.dim)}; "
            "pass one law for each token"
        )
    if not bool(tokens.isfinite().all()):
        raise InputError(f"the tokens hold {float(tokens[~tokens.isfinite()][0])}; tokens are finite")
    found: Transforms = law.rosenblatt(tokens.double()).double().cpu().numpy()
    return found


@dataclass(frozen=True)
class RosenblattUniformity:
    """Kolmogorov-Smirnov tests that the transforms are uniform, one for each group, at alpha / groups.

    Kolmogorov's null law is exact at every n, below the bound of Dvoretzky, Kiefer, Wolfowitz and Massart. `delta` is
    the Kolmogorov distance from uniform in any one group, and the interval's upper end holds that of every group
    (Azuma's inequality). Holm's method names the groups that are off.

    Attributes:
        by: what a group is: "all" tokens, one "position", one "dimension" or one "coordinate" (of both).
        length: positions of a sequence, for planning alone; `check` uses the data's own.
        dim: coordinates of a token, for planning alone.
    """

    by: str = "coordinate"
    length: int = 1
    dim: int = 1

    def __post_init__(self) -> None:
        if self.by not in GROUPS:
            raise InputError(f"by is {self.by!r}; choose one of {sorted(GROUPS)}")
        check_size(self.length, "length")
        check_size(self.dim, "dim")

    def check(self, uniforms: Transforms, *, alpha: float, beta: float) -> Evidence:
        """Test the transforms of n sequences."""
        check_rates(alpha, beta)
        _check_uniforms(uniforms)
        n, length, dim = uniforms.shape
        axes = GROUPS[self.by]
        groups = np.moveaxis(uniforms, axes, range(len(axes)))
        groups = groups.reshape(int(np.prod([uniforms.shape[axis] for axis in axes])), -1)
        found = [stats.kstest(group, "uniform", method="exact") for group in groups]
        p_values = [float(test.pvalue) for test in found]
        rejected = design.holm(p_values, alpha)
        p_value = min(1.0, len(groups) * min(p_values))
        worst = int(np.argmin(p_values))
        distances = [float(test.statistic) for test in found]
        index = np.unravel_index(worst, [uniforms.shape[axis] for axis in axes]) if axes else ()
        where = ", ".join(f"{('', 'position', 'dimension')[axis]} {i}" for axis, i in zip(axes, index, strict=True))
        delta = replace(self, length=length, dim=dim).smallest_detectable(n, alpha=alpha, beta=beta)
        return Evidence(
            check=f"Rosenblatt by {self.by}" if axes else "Rosenblatt uniformity",
            statistic=max(distances),
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=KOLMOGOROV,
            n=n,
            rejected=p_value <= alpha,
            basis="exact",
            power="finite-sample bound",
            estimate=max(distances),
            interval=(0.0, min(1.0, max(distances) + deviation(groups.shape[1], alpha / len(groups)))),
            vacuous=nothing_below_one(delta, n),
            blind=BLIND,
            detail=f"{int(rejected.sum())} of {len(groups)} groups rejected; most deviant: {where or 'all tokens'}, "
            f"{float(found[worst].statistic_sign) * distances[worst]:+.4g} at level "
            f"{float(found[worst].statistic_location):.3g}, p = {p_values[worst]:.3g}",
            coverage={"sequences": n, "tokens": n * length, "groups": len(groups)},
            data={
                "distance": distances,
                "p_value": p_values,
                "rejected": rejected.tolist(),
                "histogram": [np.histogram(group, bins=50, range=(0, 1))[0].tolist() for group in groups],
            },
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The Kolmogorov distance in any one group that n sequences miss with probability at most beta, at most 1."""
        check_size(n)
        groups = {"all": 1, "position": self.length, "dimension": self.dim, "coordinate": self.length * self.dim}
        pooled = n * self.length * self.dim // groups[self.by]
        return PitUniformity().smallest_detectable(pooled, alpha=alpha / groups[self.by], beta=beta)

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of sequences that misses distance delta in a group with probability at most beta."""
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)


@dataclass(frozen=True)
class RosenblattPairs:
    """Test that pairs of transforms are uniform on the unit square: noise used twice, couplings that leak.

    Pairs are `lag` apart along the sequence at one dimension, along the dimensions of one token, or across rows of the
    batch. The test, its n (pairs of a phase) and its `delta` are those of `PitPairs`.

    Attributes:
        along: the axis on which the members of a pair differ.
        lag: by how much.
        grid: cells along each side of the square.
    """

    along: str = "position"
    lag: int = 1
    grid: int = 4

    def __post_init__(self) -> None:
        if self.along not in AXES:
            raise InputError(f"along is {self.along!r}; choose one of {sorted(AXES)}")
        self._pairs  # noqa: B018 - checks lag and grid

    @property
    def _pairs(self) -> PitPairs:
        return PitPairs(lag=self.lag, grid=self.grid)

    def check(self, uniforms: Transforms, *, alpha: float, beta: float) -> Evidence:
        """Test the pairs of n sequences."""
        _check_uniforms(uniforms)
        axis = AXES[self.along]
        lines = np.moveaxis(uniforms, axis, -1).reshape(-1, uniforms.shape[axis])
        found = self._pairs.check(_trace(lines), alpha=alpha, beta=beta)
        return replace(
            found,
            check=f"Rosenblatt pairs, {self.along}s {self.lag} apart",
            blind=f"dependence within a cell of the {self.grid} x {self.grid} grid; {BLIND}",
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The total variation of a pair's cell that n pairs miss with probability at most beta, at most 1."""
        return self._pairs.smallest_detectable(n, alpha=alpha, beta=beta)

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of pairs in a phase that misses total variation delta with probability at most beta."""
        return self._pairs.sample_size(delta, alpha=alpha, beta=beta)


@dataclass(frozen=True)
class RosenblattLags:
    """`RosenblattPairs` at several distances, each with its share of alpha: noise kept in rings, shared or mirrored.

    `delta` is that of the distance with the fewest pairs; n counts its pairs, of a phase.

    Attributes:
        along: the axis on which the members of a pair differ.
        lags: by how much; those that the data have no pairs for are left out. Empty for all.
        grid: cells along each side of the square.
    """

    along: str = "position"
    lags: tuple[int, ...] = ()
    grid: int = 4

    def __post_init__(self) -> None:
        for lag in self.lags or (1,):
            RosenblattPairs(self.along, lag, self.grid)

    def check(self, uniforms: Transforms, *, alpha: float, beta: float) -> Evidence:
        """Test the pairs of n sequences at every distance."""
        _check_uniforms(uniforms)
        size = uniforms.shape[AXES[self.along]]
        lags = [lag for lag in self.lags or range(1, size) if lag < size]
        if not lags:
            raise InputError(f"no two {self.along}s of {size} are {self.lags or 1} apart; give more, or smaller lags")
        each = [
            RosenblattPairs(self.along, lag, self.grid).check(uniforms, alpha=alpha / len(lags), beta=beta)
            for lag in lags
        ]
        p_values = [item.p_value or 0.0 for item in each]
        worst = int(np.argmin(p_values))
        least = min(each, key=lambda item: item.n)
        return replace(
            each[worst],
            check=f"Rosenblatt pairs, {self.along}s apart",
            alpha=alpha,
            p_value=min(1.0, len(lags) * p_values[worst]),
            rejected=any(item.rejected for item in each),
            delta=max(item.delta for item in each),
            n=least.n,
            vacuous=least.vacuous,
            detail=f"at {len(lags)} distances; most deviant: {self.along}s {lags[worst]} apart, {each[worst].detail}",
            coverage=dict(each[worst].coverage) | {"distances": len(lags)},
            data=dict(each[worst].data) | {"lags": lags, "p_value": p_values},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The total variation of a pair's cell that n pairs at one of `lags` miss with probability at most beta."""
        pairs = RosenblattPairs(self.along, grid=self.grid)
        return pairs.smallest_detectable(n, alpha=alpha / max(1, len(self.lags)), beta=beta)

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of pairs of a phase at each distance that misses total variation delta at rate beta."""
        pairs = RosenblattPairs(self.along, grid=self.grid)
        return pairs.sample_size(delta, alpha=alpha / max(1, len(self.lags)), beta=beta)


def _check_uniforms(uniforms: Transforms) -> None:
    if not uniforms.size:
        raise InputError(f"the transforms have shape {uniforms.shape}; give at least one sequence of one token")
    bad = ~((uniforms >= 0) & (uniforms <= 1))
    if bad.any():
        raise InputError(f"the transforms hold {uniforms[bad][0]}; a distribution function lies between 0 and 1")


def _trace(uniforms: Float[np.ndarray, "lines places"]) -> TokenStatistics:
    """What the checks of `pit.py` read of a trace: the transforms; every token had a choice."""
    pit = torch.from_numpy(np.ascontiguousarray(uniforms, dtype=np.float64))
    zero = torch.zeros_like(pit)
    everywhere = torch.ones_like(pit, dtype=torch.bool)
    return TokenStatistics(
        pit, zero, zero, zero, zero[..., None].expand(*pit.shape, len(TILTS)), everywhere, ~everywhere
    )
