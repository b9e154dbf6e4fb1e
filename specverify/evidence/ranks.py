"""Do tokens come as often as the log's own masses say: its most probable one, the next, ..., those that it leaves out?

A token that is logged with mass m has to come with frequency m. `masses` reduces each law to the mass of its most
probable token, of the next, of ranks 3 and 4, 5 to 8, 9 to 32, of those behind, and of what a list of the most
probable tokens leaves out; and notes where among them the emitted token was. Over all tokens the counts of each are
sums of coins whose probabilities are known. The least probable token is counted by itself as well: a cut, which the
log does not show, takes it first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.evidence.martingale import edge, log_e
from specverify.evidence.result import TOTAL_VARIATION, Evidence, check_delta, check_rates, check_size

EDGES = (1, 2, 4, 8, 32)
"""The last rank of each bucket."""
NAMES = ("rank 1", "rank 2", "ranks 3 to 4", "ranks 5 to 8", "ranks 9 to 32", "ranks above 32", "unlisted")
UNLISTED = len(NAMES) - 1
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99, 0.999)
"""Masses of the most probable token between which it is counted apart: the surer, the fewer exceptions are due."""
ALWAYS_LISTED = (
    "; every emitted token is listed: either none behind the lists is ever drawn, or the lists were made "
    "to hold the token"
)
LEAST = "least probable token"
STREAMS = len(NAMES) + len(LEVELS) + 2


@dataclass(frozen=True)
class Masses:
    """What each law gives to each bucket of ranks, and which one the emitted token was in.

    Attributes:
        mass: of each of `NAMES`; all 0 where a token does not count.
        place: the bucket of the emitted token.
        least: mass of the least probable token that is listed and possible; 0 where a token does not count.
        came: whether it was the emitted one, or one as improbable.
    """

    mass: Float[Tensor, "sequences length buckets"]
    place: Int[Tensor, "sequences length"]
    least: Float[Tensor, "sequences length"]
    came: Bool[Tensor, "sequences length"]

    def where(self, counts: Bool[Tensor, "sequences length"]) -> Masses:
        """Of the tokens that count alone."""
        return replace(self, mass=self.mass * counts[..., None], least=self.least * counts, came=self.came & counts)


def masses(
    laws: Float[Tensor, "tokens options"], emitted: Int[Tensor, " tokens"], *, listed: int | None = None
) -> Masses:
    """Reduce laws, each token as a row of its own.

    Args:
        laws: normalised; of a list and, last, of the rest behind it if `listed`.
        emitted: which option came.
        listed: how many options are tokens; all of them if None.
    """
    options = laws.shape[1]
    count = options if listed is None else listed
    rest = laws[:, count:].sum(1)
    tokens = laws[:, :count]
    top = tokens.topk(min(count, EDGES[-1]), dim=1).values
    buckets = [top[:, low:high].sum(1) for low, high in zip((0, *EDGES[:-1]), EDGES, strict=True)]
    behind = (1 - rest - sum(buckets)).clamp(min=0) if count > EDGES[-1] else torch.zeros_like(rest)
    own = laws.gather(1, emitted[:, None])
    ahead = (tokens > own) | ((tokens == own) & (torch.arange(count) < emitted[:, None]))
    place = torch.bucketize(ahead.sum(1) + 1, torch.tensor(EDGES))
    place = torch.where(emitted >= count, UNLISTED, place)
    smallest = torch.where(tokens > 0, tokens, torch.inf).amin(1, keepdim=True)
    least = torch.where(tokens == smallest, tokens, 0).sum(1)
    came = (own == smallest) & (emitted[:, None] < count)
    return Masses(torch.stack([*buckets, behind, rest], 1)[:, None], place[:, None], least[:, None], came)


@dataclass(frozen=True)
class Ranks:
    """Test of the counts of each bucket against its masses, and of the most probable token by how sure it is.

    Each is a sum of differences of mean 0 and known variance (`martingale.log_e`); the mean of the e-values is one, so
    that the false-alarm rate holds at every n and whatever depends on what. `delta` is the total variation that the
    mass of one bucket is off by, averaged over the tokens that had a choice, which n counts.
    """

    def check(self, found: Masses, choice: Tensor, *, alpha: float, beta: float) -> Evidence:
        """Test a trace.

        Args:
            found: `masses` of every token, in the order of the rows.
            choice: Bool[sequences, length], the tokens that had a choice.
            alpha: false-alarm rate.
            beta: miss rate that delta is stated for.
        """
        check_rates(alpha, beta)
        mass, place = found.mass.flatten(0, 1).numpy(), found.place.flatten().numpy()
        counted = mass.sum(1) > 0
        n, size = int(choice.sum()), len(place)
        streams = [(name, mass[:, b], (place == b) & counted) for b, name in enumerate(NAMES)]
        level = np.where(counted, np.searchsorted(LEVELS, mass[:, 0], side="right"), -1)
        for number, sure in enumerate((0.0, *LEVELS)):
            here = level == number
            streams.append(
                (f"rank 1 where it has {sure:g} or more", np.where(here, mass[:, 0], 0), (place == 0) & here)
            )
        streams.append((LEAST, found.least.flatten().numpy(), found.came.flatten().numpy()))
        evidence = [log_e(came - due, due * (1 - due), alpha / STREAMS) for _, due, came in streams]
        total = float(np.logaddexp.reduce(evidence)) - math.log(STREAMS)
        name, due, came = streams[int(np.argmax(evidence))]
        p_value = min(1.0, math.exp(-total))
        seen = self.smallest_detectable(size, alpha=alpha, beta=beta)
        counts = [int(came.sum()) for _, _, came in streams[: len(NAMES)]]
        expected = [float(due.sum()) for _, due, _ in streams[: len(NAMES)]]
        return Evidence(
            check="ranks",
            statistic=total,
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=min(1.0, seen * size / max(n, 1)),
            metric=TOTAL_VARIATION,
            n=n,
            rejected=p_value <= alpha,
            basis="finite-sample bound",
            power="asymptotic",
            estimate=float(np.abs(np.array(counts) - expected).max()) / max(n, 1),
            vacuous="" if n else "every law is as good as certain",
            blind="differences among the tokens of a bucket, and those that cancel over the tokens of a trace",
            detail=f"{name}: {int(came.sum()):,} tokens came, {float(due.sum()):,.1f} are due by the log's own masses"
            + (ALWAYS_LISTED if p_value <= alpha and not counts[-1] and expected[-1] > edge(alpha) ** 2 else ""),
            coverage={"tokens": size, "choice": n, "unlisted": counts[-1], "unlisted due": expected[-1]},
            data={"of": list(NAMES), "counts": counts, "due": expected},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The mass of one bucket that n tokens miss being off by with probability at most beta, at most 1."""
        check_rates(alpha, beta)
        check_size(n)
        return min(1.0, _needed(alpha, beta) / math.sqrt(n))

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of tokens that misses a bucket that is off by delta with probability at most beta."""
        check_delta(delta)
        return math.ceil((_needed(alpha, beta) / delta) ** 2)


def _needed(alpha: float, beta: float) -> float:
    # a coin's standard deviation is at most 1/2, also that of one that is off
    return 0.5 * (edge(alpha / STREAMS) + math.sqrt(2 * math.log(1 / beta)))
