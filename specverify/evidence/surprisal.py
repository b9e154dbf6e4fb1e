"""Are the emitted tokens as surprising as the target says they should be?

Given the tokens before it, a token drawn from p has surprisal -log p(x) of mean H(p), so the sum of the differences is
a martingale whose conditional variances are known exactly too, from the laws alone. A sampler that keeps surprising
tokens too often (a relaxed acceptance rule) drives the sum up; one that prefers likely tokens (a lower temperature,
typical acceptance, a re-warped residual) drives it down.

* `Surprisal`: the sum against the martingale's own variance, by a bound that holds at every n.
* `Tempering`: an e-process on the same sum, which may be stopped at any time.

Both see only samplers whose mean surprisal is off: `delta` is that mean less the target's, in nats per open token. The
mean says little of tokens that are very improbable: a leak of 1e-30 moves it by 69 nats at once, and as far as it is
asked for before a single one may have come. Those are seen by `leaks.Leaks`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from specverify.errors import InputError
from specverify.evidence import design
from specverify.evidence.martingale import edge, least_even_shift, least_shift, log_e
from specverify.evidence.result import NATS, Evidence, check_delta, check_rates, check_size
from specverify.evidence.tokens import TILTS, TokenStatistics

BLIND = "samplers whose tokens are, on average, as surprising as the target's"
SPREAD = 1.25
"""How far a wrong sampler's sum may spread, in standard deviations of the target's, for the miss rate to hold."""
SPREADING = f"beta is for sums that spread at most {SPREAD:g} times as far as the target's"
NO_SURPRISE = "every law is uniform over the tokens that it allows: none is more surprising than another"
TOO_EVEN = "tokens are so few, or their laws so even, that no shift of the mean surprisal is sure to be seen"


@dataclass(frozen=True)
class Surprisal:
    """Two-sided test of sum(surprisal - entropy) against the sum of its conditional variances (`martingale.log_e`).

    The false-alarm rate holds at every n, however few tokens have a choice and however improbable some are. The miss
    rate is asymptotic and for samplers whose sum spreads at most `SPREAD` times as far as the target's: one that is too
    flat has rarer tokens, and is off by more after some beginnings than after others. A sampler that shifts the mean by
    few, very improbable tokens spreads farther, and is missed more often: see `leaks.Leaks`.

    Attributes:
        deviation: standard deviation of a token's surprisal under the target, in nats; for planning alone. `check` uses
            the trace's own.
    """

    deviation: float = 1.0

    def __post_init__(self) -> None:
        _check_deviation(self.deviation)

    def check(self, statistics: TokenStatistics, *, alpha: float, beta: float) -> Evidence:
        """Test every open token of a trace. `statistic` is the sum in standard deviations."""
        check_rates(alpha, beta)
        excess, variance, n = differences(statistics)
        impossible = int(statistics.impossible.sum())
        total, spread = float(excess.sum()), math.sqrt(float(variance.sum()))
        z = math.inf if impossible else total / spread if spread else 0.0
        evidence = math.inf if impossible else log_e(excess.ravel(), variance.ravel(), alpha)
        p_value = min(1.0, math.exp(-evidence))
        seen = _least_shift(n, variance.ravel(), alpha, beta)
        half = edge(alpha) * spread / max(n, 1)
        estimate = total / max(n, 1)
        return Evidence(
            check="surprisal",
            statistic=z,
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=seen,
            metric=NATS,
            n=n,
            rejected=p_value <= alpha,
            basis="finite-sample bound",
            power="asymptotic",
            estimate=estimate,
            interval=(estimate - half, estimate + half),
            vacuous=_vacuous(variance, seen),
            blind=f"{BLIND}; {SPREADING}, not for a few very improbable tokens",
            detail=f"z = {z:+.3f}{_direction(estimate, p_value <= alpha)}",
            coverage={"tokens": statistics.open.numel(), "open": n, "impossible": impossible},
            data={"excess by position": excess.sum(0).tolist(), "variance by position": variance.sum(0).tolist()},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The shift of the mean surprisal, in nats, that n open tokens miss with probability at most beta."""
        check_rates(alpha, beta)
        check_size(n)
        return least_even_shift(n, self.deviation, alpha, beta, SPREAD)

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of open tokens that misses a shift of delta nats with probability at most beta."""
        check_delta(delta, NATS)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)


ENTROPIES = (0.03, 0.1, 0.3, 1.0, 2.0, 3.0, 5.0)
"""Entropies, in nats, between which tokens are tested apart."""


@dataclass(frozen=True)
class SurprisalGroups:
    """`Surprisal` at each position, and at each level of the entropy that the law is said to have.

    Sees laws that are flatter or sharper than their tokens in one place and not in all. The groups are fixed by what
    comes before a token, and the mean of their e-values is one: the false-alarm rate holds at every n.

    `delta` is the shift of the mean surprisal at one position, whichever it is, and n counts sequences.

    Attributes:
        length: positions of a sequence; for planning alone, `check` takes the trace's own.
        deviation: as of `Surprisal`, at the position where it is largest.
    """

    length: int = 1
    deviation: float = 1.0

    def __post_init__(self) -> None:
        check_size(self.length, "length")
        _check_deviation(self.deviation)

    def check(self, statistics: TokenStatistics, *, alpha: float, beta: float) -> Evidence:
        """Test every open token of a trace."""
        check_rates(alpha, beta)
        excess, variance, n = differences(statistics)
        length = excess.shape[1]
        level = np.searchsorted(ENTROPIES, statistics.entropy.numpy())
        share = alpha / (length + len(ENTROPIES) + 1)
        found = {f"position {t}": log_e(excess[:, t], variance[:, t], share) for t in range(length)}
        for number, low in enumerate((0.0, *ENTROPIES)):
            here = (level == number).ravel()
            found[f"entropies from {low:g}"] = log_e(
                np.where(here, excess.ravel(), 0.0), np.where(here, variance.ravel(), 0.0), share
            )
        impossible = int(statistics.impossible.sum())
        total = math.inf if impossible else float(np.logaddexp.reduce(list(found.values()))) - math.log(len(found))
        p_value = min(1.0, math.exp(-total))
        varied = np.flatnonzero(variance.any(0))  # at others nothing surprises
        each = [_least_shift(len(excess), variance[:, t], share, beta) for t in varied]
        seen = max((shift for shift in each if shift < math.inf), default=math.inf)
        few = sum(shift == math.inf for shift in each)
        return Evidence(
            check="surprisal by position and entropy",
            statistic=total,
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=seen,
            metric=NATS,
            n=len(excess),
            rejected=p_value <= alpha,
            basis="finite-sample bound",
            power="asymptotic",
            vacuous=_vacuous(variance, seen),
            blind=f"{BLIND}, at one position of all rows and at each level of entropy; {SPREADING}"
            + (f"; and any at {few} of {length} positions, where too few rows have a choice" if few else ""),
            detail=f"most off: {max(found, key=lambda name: found[name])}, log e-value {max(found.values()):.4g}",
            coverage={"tokens": statistics.open.numel(), "open": n, "impossible": impossible},
            data={"log_e": list(found.values()), "of": list(found)},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The shift at one position, in nats, that n sequences miss with probability at most beta."""
        share = alpha / (self.length + len(ENTROPIES) + 1)
        return Surprisal(self.deviation).smallest_detectable(n, alpha=share, beta=beta)

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of sequences that misses a shift of delta nats at one position with probability at most beta."""
        check_delta(delta, NATS)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)


@dataclass(frozen=True)
class Tempering:
    """E-process that bets on the sampler running at a higher or lower temperature than the target.

    For any tilt t, E_p[exp(t surprisal)] = sum p ** (1 - t) is known from the law, so the product over tokens of
    exp(t surprisal) / sum p ** (1 - t), the likelihood ratio of p ** (1 - t) against p, is a martingale of mean 1. The
    e-value is the mean over the ten `TILTS`; by Ville's inequality its running maximum over sequences reaches
    1 / alpha with probability at most alpha. No limit theorem is used and surprisals need no bound.

    Attributes:
        deviation: standard deviation of a token's surprisal under the target, in nats; for planning alone.
    """

    deviation: float = 1.0

    def __post_init__(self) -> None:
        _check_deviation(self.deviation)

    def check(self, statistics: TokenStatistics, *, alpha: float, beta: float) -> Evidence:
        """Test every open token of a trace, sequence by sequence."""
        check_rates(alpha, beta)
        excess, variance, n = differences(statistics)
        impossible = int(statistics.impossible.sum())
        path = self.log_e(statistics)
        highest = math.inf if impossible else float(path.max())
        spread = math.sqrt(float(variance.sum()) / max(n, 1))
        seen = Tempering(spread).smallest_detectable(n, alpha=alpha, beta=beta) if spread else math.inf
        estimate = float(excess.sum()) / max(n, 1)
        rejected = highest >= -math.log(alpha)
        return Evidence(
            check="tempering",
            statistic=highest,
            p_value=min(1.0, math.exp(-highest)),
            alpha=alpha,
            beta=beta,
            delta=seen,
            metric=NATS,
            n=n,
            rejected=rejected,
            basis="finite-sample bound",
            power="asymptotic",
            estimate=estimate,
            vacuous="" if spread else NO_SURPRISE,
            blind=f"{BLIND}; {SPREADING}",
            detail=f"log e-value at most {highest:.4g}, {-math.log(alpha):.4g} rejects{_direction(estimate, rejected)}",
            coverage={"tokens": statistics.open.numel(), "open": n, "impossible": impossible},
            data={"log_e": path.tolist()},
        )

    def log_e(self, statistics: TokenStatistics) -> np.ndarray:
        """Logarithm of the e-value after each sequence, Float[sequences]."""
        used = statistics.open.numpy()[..., None]
        bets = statistics.surprisal.numpy()[..., None] * np.array(TILTS) - statistics.tilted.numpy()
        sums = np.where(used, bets, 0.0).sum(1).cumsum(0)
        return np.asarray(np.logaddexp.reduce(sums, axis=1) - math.log(len(TILTS)))

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The shift of the mean surprisal, in nats, that n open tokens miss with probability at most beta.

        The log e-value of tilt t is near t (sum - t n deviation^2 / 2), and one of the tilts has to reach
        log(number of tilts / alpha).
        """
        check_rates(alpha, beta)
        check_size(n)
        tilts = np.array([tilt for tilt in TILTS if tilt > 0])
        needed = math.log(len(TILTS) / alpha) / (n * tilts) + tilts * self.deviation**2 / 2
        return float(needed.min()) + _reach(n, self.deviation, beta)

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of open tokens that misses a shift of delta nats with probability at most beta."""
        check_delta(delta, NATS)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)


def differences(statistics: TokenStatistics) -> tuple[np.ndarray, np.ndarray, int]:
    """Surprisal less entropy, and its variance, 0 where a position is not open; and the number of open tokens.

    What rounding leaves where all allowed tokens are equally surprising is made 0, lest its ratio be taken for a score.
    """
    used = statistics.open.numpy()
    entropy, variance = statistics.entropy.numpy(), statistics.variance.numpy()
    excess = statistics.surprisal.numpy() - entropy
    excess = np.where(used & (np.abs(excess) > 1e-12 * (1 + entropy)), excess, 0.0)
    return excess, np.where(used & (variance > 1e-24), variance, 0.0), int(used.sum())


def _least_shift(n: int, variance: Float[np.ndarray, " tokens"], alpha: float, beta: float) -> float:
    """The shift of the mean surprisal of n tokens that is seen, at the stakes that go with the variances of theirs."""
    varied = variance[variance > 0]
    return least_shift(varied, alpha, beta, SPREAD) * varied.size / n if varied.size else math.inf


def _vacuous(variance: Float[np.ndarray, "sequences length"], seen: float) -> str:
    if not variance.any():
        return NO_SURPRISE
    return TOO_EVEN if seen == math.inf else ""


def _reach(n: int, deviation: float, beta: float) -> float:
    """How far the mean of n tokens strays from where it is, but for a probability of beta."""
    reach = float(stats.norm.isf(beta))
    return max(reach, SPREAD * reach) * deviation / math.sqrt(n)


def _direction(estimate: float, rejected: bool) -> str:
    if not rejected:
        return ""
    if estimate > 0:
        return f": {estimate:+.3g} nats per token; surprising tokens are kept too often"
    return f": {estimate:+.3g} nats per token; likely tokens are preferred"


def _check_deviation(deviation: float) -> None:
    if not 0 <= deviation < math.inf:
        raise InputError(f"deviation is {deviation}; a standard deviation is finite and at least 0")
