"""Next-token laws at every prefix, from counts of whole sequences.

A joint test says that the law of the sequence is wrong; this one says where. Given how often a prefix was visited, the
tokens after it are, under the null, independent draws of its next-token law, so each prefix has a test of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special, stats

from specverify.errors import InputError
from specverify.evidence import design
from specverify.evidence.discrete import forbidden_note
from specverify.evidence.finite import entropy_tail, entropy_visible
from specverify.evidence.result import (
    TOTAL_VARIATION,
    Counts,
    Evidence,
    Law,
    Vector,
    check_delta,
    check_rates,
    check_size,
    nothing_below_one,
    to_counts,
    to_law,
)


@dataclass(frozen=True)
class Prefix:
    """A prefix that is tested: its tokens, its probability and the law of the next token."""

    tokens: tuple[int, ...]
    probability: float
    law: Vector


@dataclass(frozen=True, eq=False)
class Conditionals:
    """Test of the next-token law at each prefix that is common enough, at alpha / (number of such prefixes).

    Which prefixes are tested depends on the law alone. Each is tested by `finite.entropy_tail`, given its visits; the
    smallest p-value times the number of prefixes is the p-value of the whole (Bonferroni, valid under any dependence),
    and Holm's method names the prefixes that are off. All rates hold at every n.

    `delta` is the distance of the next-token law at a tested prefix, given the visits that the prefix had.

    Attributes:
        law: Float[vocab ** length], the law of the sequence, last position fastest.
        vocab: number of token ids.
        rare: prefixes of smaller probability are left out. n * rare is the least expected number of visits.
    """

    law: Law
    vocab: int
    rare: float = 1e-3

    def __post_init__(self) -> None:
        check_delta(self.rare, "rare")
        if self.vocab < 2:
            raise InputError(f"vocab is {self.vocab}; a next-token law needs at least two tokens")
        if self.vocab**self.length != len(self._p):
            raise InputError(f"the law has {len(self._p)} outcomes, not a power of the vocabulary {self.vocab}")

    @cached_property
    def _p(self) -> Vector:
        return to_law(self.law)

    @cached_property
    def length(self) -> int:
        """Number of positions of a sequence."""
        return max(1, round(math.log(len(self._p)) / math.log(self.vocab)))

    @cached_property
    def prefixes(self) -> tuple[Prefix, ...]:
        """The prefixes that are tested: common enough, and leaving a choice."""
        found = []
        for position in range(self.length):
            joint = self._p.reshape(self.vocab**position, self.vocab, -1).sum(-1)
            reached = joint.sum(1)
            for index in np.flatnonzero(reached >= self.rare):
                law = joint[index] / reached[index]
                if (law > 0).sum() > 1:
                    tokens = np.unravel_index(index, (self.vocab,) * position) if position else ()
                    found.append(Prefix(tuple(int(token) for token in tokens), float(min(1.0, reached[index])), law))
        return tuple(found)

    def check(self, counts: Counts, *, alpha: float, beta: float) -> Evidence:
        """Test the counts of whole sequences, Int[vocab ** length]."""
        check_rates(alpha, beta)
        observed = to_counts(counts, len(self._p))
        n = int(observed.sum())
        forbidden = int(observed[self._p == 0].sum())
        table = observed.reshape((self.vocab,) * self.length)
        after = [table[prefix.tokens].reshape(self.vocab, -1).sum(-1) for prefix in self.prefixes]
        visits = [int(row.sum()) for row in after]
        # a prefix never visited has statistic 0, p-value 1 and sees nothing
        statistics = [
            float(special.rel_entr(row.astype(np.float64), count * prefix.law).sum())
            for prefix, row, count in zip(self.prefixes, after, visits, strict=True)
        ]
        p_values = [
            entropy_tail(statistic, int((prefix.law > 0).sum()))
            for prefix, statistic in zip(self.prefixes, statistics, strict=True)
        ]
        rejected = design.holm(p_values, alpha)
        p_value = 0.0 if forbidden else min([1.0, *(len(p_values) * p for p in p_values)])
        delta = self._visible(visits, alpha=alpha, beta=beta)
        where = ""
        if self.prefixes:
            worst = int(np.argmin(p_values))
            where = f"; most deviant after {list(self.prefixes[worst].tokens)}, p = {p_values[worst]:.3g}"
        return Evidence(
            check="next-token laws",
            statistic=math.inf if forbidden else max([0.0, *statistics]),
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=TOTAL_VARIATION,
            n=n,
            rejected=p_value <= alpha,
            basis="finite-sample bound",
            power="finite-sample bound",
            vacuous=nothing_below_one(delta, n) if self.prefixes else "no prefix is tested; make `rare` smaller",
            blind=f"prefixes of probability below {self.rare:.3g}" if self.covered < 1 else "",
            detail=f"{int(rejected.sum())} of {len(p_values)} prefixes rejected{where}{forbidden_note(forbidden)}",
            coverage={"prefixes": len(p_values), "covered": self.covered, "forbidden": forbidden},
            data={
                "prefix": [list(prefix.tokens) for prefix in self.prefixes],
                "p_value": p_values,
                "visits": visits,
                "rejected": rejected.tolist(),
            },
        )

    @cached_property
    def covered(self) -> float:
        """The probability that the prefix at a position is tested or leaves no choice, where this is least."""
        mass = []
        for position in range(self.length):
            joint = self._p.reshape(self.vocab**position, self.vocab, -1).sum(-1)
            reached = joint.sum(1)
            mass.append(float(reached[(reached >= self.rare) | ((joint > 0).sum(1) <= 1)].sum()))
        return min(1.0, *mass) if min(mass) < 1 - 1e-12 else 1.0

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The distance at any tested prefix that n sequences miss with probability at most beta, at most 1.

        This supposes that the prefix is visited as often as the target law says. Its visits fall below their beta / 2
        quantile with probability at most beta / 2, and given them the test misses with probability at most beta / 2.
        """
        check_rates(alpha, beta)
        check_size(n)
        visits = [int(stats.binom.ppf(beta / 2, n, prefix.probability)) for prefix in self.prefixes]
        return self._visible(visits, alpha=alpha, beta=beta / 2)

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of sequences that sees distance delta at every tested prefix."""
        check_delta(delta)
        start = max(1, round(10 / (self.rare * delta**2)))
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta, start=start)

    def _visible(self, visits: list[int], *, alpha: float, beta: float) -> float:
        fewest: dict[int, int] = {}  # by number of possible tokens, on which the test's power depends
        for prefix, count in zip(self.prefixes, visits, strict=True):
            size = int((prefix.law > 0).sum())
            fewest[size] = min(fewest.get(size, count), count)
        share = alpha / max(1, len(self.prefixes))
        return max(
            (entropy_visible(count, size, alpha=share, beta=beta) if count else 1.0 for size, count in fewest.items()),
            default=1.0,
        )
