"""Are tokens right by where they came from: sampled, bonus tokens, and those at each slot of a window?

Whether a token has a draft, and how many drafts were kept just before it, is known before the token is, so that its
transform is uniform whatever those are: a wrong bonus token, which is one of many tokens, is seen among bonus tokens
alone. Whether a draft was kept is not, and kept drafts are likelier than others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.decoders.protocol import Branch
from specverify.evidence import design
from specverify.evidence.martingale import mixed_edge, mixed_log_e
from specverify.evidence.result import TOTAL_VARIATION, Evidence, check_delta, check_rates
from specverify.evidence.sums import any_of, smallest_share
from specverify.evidence.tokens import TokenStatistics

SLOTS = 8
"""Slots of a window that are looked at apart; the last one stands for all that come later, too."""
LEVELS = tuple(eighth / 8 for eighth in range(1, 8))
KINDS = ("sampled tokens", "bonus tokens", *(f"drafts at slot {slot}" for slot in range(SLOTS)))
STREAMS = len(KINDS) * (2 * len(LEVELS) + 1)
"""Sums at most: the levels by probability and by id, and the surprisal."""


def kinds(branch: Int[Tensor, "rows length"], counted: Bool[Tensor, "rows length"]) -> Int[Tensor, "rows length"]:
    """Which of `KINDS` each token is; -1 where it does not count, or where nobody says where it came from."""
    slot = torch.zeros_like(branch[:, 0])
    found = []
    for here in branch.unbind(1):
        drafted = (here == Branch.ACCEPTED) | (here == Branch.RECOVERED)
        kind = torch.where(drafted, slot.clamp(max=SLOTS - 1) + 2, -1)
        kind = torch.where(here == Branch.SAMPLED, 0, torch.where(here == Branch.BONUS, 1, kind))
        found.append(kind)
        slot = torch.where(here == Branch.ACCEPTED, slot + 1, 0)
    return torch.where(counted, torch.stack(found, 1), -1)


@dataclass(frozen=True)
class Branches:
    """Test of each kind of token: its transforms by how many lie below each eighth, and its surprisal by its mean.

    Each is a sum of differences of mean 0 and known variance (`martingale.mixed_log_e`); the mean of the e-values is
    one, so that the false-alarm rate holds at every n, and whatever decides how many tokens a kind has. `delta` is the
    share of all tokens that lie on the wrong side of one level at one kind; n counts those that had a choice.
    """

    def check(
        self,
        statistics: TokenStatistics,
        transforms: tuple[Float[np.ndarray, "rows length"], ...],
        kind: Int[Tensor, "rows length"],
        *,
        alpha: float,
        beta: float,
    ) -> Evidence:
        """Test a trace.

        Args:
            statistics: of each token.
            transforms: by probability, and by id if that is known.
            kind: `kinds` of the tokens that had a choice, -1 for others.
            alpha: false-alarm rate.
            beta: miss rate that delta is stated for.
        """
        check_rates(alpha, beta)
        n, nothing = int((kind >= 0).sum()), "no token says where it came from"
        found = [
            stream
            for k in range(len(KINDS))
            if bool((kind == k).any())
            for stream in _streams(statistics, transforms, kind == k, KINDS[k])
        ] or [(0.0, 0.0, nothing)]
        total = float(np.logaddexp.reduce([log_e for log_e, *_ in found])) - math.log(STREAMS)
        _, off, detail = max(found)
        p_value = min(1.0, math.exp(-max(total, 0.0)))
        return Evidence(
            check="branches",
            statistic=total,
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=self.smallest_detectable(max(n, 1), alpha=alpha, beta=beta),
            metric=TOTAL_VARIATION,
            n=n,
            rejected=p_value <= alpha,
            basis="finite-sample bound",
            power="asymptotic",
            estimate=off / max(n, 1),
            vacuous="" if n else nothing,
            blind="differences within an eighth of the mass, and those that cancel over the tokens of a kind",
            detail=detail,
            coverage={name: int((kind == place).sum()) for place, name in enumerate(KINDS)},
            data={
                "unseen": [
                    (name, here, _nats(here, float(statistics.variance[kind == place].mean()), alpha, beta))
                    for place, name in enumerate(KINDS)
                    if (here := int((kind == place).sum()))
                ]
            },
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The share of n tokens beyond a level that is missed with probability at most beta, at most 1."""
        return smallest_share(n, STREAMS, alpha=alpha, beta=beta)

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of tokens that misses delta with probability at most beta."""
        check_delta(delta)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)


def unseen(evidence: Sequence[Evidence]) -> list[str]:
    """What the test of branches has not seen of each kind, as a line; none where it was not carried out."""
    found = [item for item in evidence if item.check == "branches" and not item.vacuous]
    return [
        "tokens of one kind alone, where their surprisal is off by less than "
        + ", ".join(f"{nats:.2g} nats ({n:,} {name})" for name, n, nats in item.data["unseen"])
        for item in found
    ]


def _nats(n: int, variance: float, alpha: float, beta: float) -> float:
    """The mean surprisal of n tokens of so much variance each that is missed with probability at most beta."""
    edge = mixed_edge(n * variance / 2, math.log(STREAMS / alpha))
    return (edge + math.sqrt(2 * n * variance * math.log(1 / beta))) / n


def _streams(
    statistics: TokenStatistics, transforms: tuple[np.ndarray, ...], here: Tensor, name: str
) -> Iterator[tuple[float, float, str]]:
    """The logarithm of an e-value, how far the sum is off, and what it is, of each sum of a kind of token."""
    n, levels = int(here.sum()), torch.tensor(LEVELS, dtype=torch.float64)
    for each, what in zip(transforms, ("of the mass, likeliest first,", "of the mass, by id,"), strict=False):
        sums = any_of(levels.expand(n, -1), torch.from_numpy(each)[here][:, None] <= levels)
        for log_e, came, due, level in zip(sums.log_e(), sums.came.tolist(), sums.due.tolist(), LEVELS, strict=True):
            said = f"of {n:,} {name} {int(came):,} are in the first {level:g} {what} {due:,.1f} are due"
            yield float(log_e), abs(came - due), said
    # what is impossible refutes elsewhere, and has no surprisal
    excess = torch.where(statistics.impossible, 0.0, statistics.surprisal - statistics.entropy)[here]
    spread = (excess**2 + 2 * statistics.variance[here]).sum() / 6
    (log_e,) = mixed_log_e(excess.sum()[None].numpy(), spread[None].numpy())
    mean = float(excess.mean())
    yield float(log_e), 0.0, f"the surprisal of {n:,} {name} is {mean:+.3g} nats off what their laws make due"
