"""What is to be shown of a decoder's law, for all laws of its models: that it is a given function of these.

Lossless: the law of sequences is the product of the target's laws. Of relaxed rules, what they keep to exactly: the
clusters' law, of targets whose clusters lump; or the law of one judged token, as a function of the target's law p and
the draft's q.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from specverify.errors import InputError
from specverify.evidence.exact.algebra import Algebra
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.numbers import ONE
from specverify.evidence.sequences import target_law
from specverify.rules import registry
from specverify.rules.clusters import Clusters
from specverify.rules.lantern import Lantern
from specverify.rules.mixture import Mixture
from specverify.rules.relaxation import Relaxation
from specverify.rules.scaling import CoolSchedule, Scaling
from toymodels.tables import prefixes


@dataclass(frozen=True)
class Lossless:
    """The law of sequences is the target's, whose laws are any.

    Attributes:
        judging: the rule that the decoder judges drafts by; None for its own.
    """

    any_laws: ClassVar[bool] = True
    """Whether the models' laws are any, so that every order of them can be gone through."""
    judging: Relaxation | None = field(default=None, kw_only=True)

    @property
    def claim(self) -> str:
        """In words."""
        return "lossless"

    def rows(self, vocab: int, length: int, generator: torch.Generator) -> Float[Tensor, "contexts vocab"]:
        """The target's laws at the real point."""
        return random_laws(prefixes(vocab, length), vocab, generator)

    def names(self, algebra: Algebra, rows: Sequence[Sequence[float]], vocab: int) -> list[list[int]]:
        """Names for the target's laws, which have these values at the real point; an entry that is 0 there is 0."""
        return [algebra.numbers.law(row, [token for token in range(vocab) if row[token] == 0]) for row in rows]

    def due(self, target: Any, drafts: Any) -> Float[Tensor, " outcomes"]:
        """What the chance of each outcome must be."""
        return target_law(target)

    def equal(self, target: Any, drafts: Any) -> list[tuple[Tensor, Tensor]]:
        """What else must be equal."""
        return []

    def outcome(self, sequence: int, vocab: int, length: int) -> int:
        """Which outcome a sequence is, by `sequence_index`; several may be one."""
        return sequence


@dataclass(frozen=True)
class ByCluster(Lossless):
    """The law of sequences of clusters is the target's, whose clusters lump: their masses follow from those before.

    Attributes:
        label: the cluster of each token, from 0.
    """

    any_laws: ClassVar[bool] = False
    label: tuple[int, ...]

    @property
    def claim(self) -> str:
        """See Lossless."""
        return f"cluster-lossless({max(self.label) + 1} clusters)"

    def rows(self, vocab: int, length: int, generator: torch.Generator) -> Float[Tensor, "contexts vocab"]:
        """See Lossless."""
        label = torch.tensor(self._of(vocab))
        within = random_laws(prefixes(vocab, length), vocab, generator)
        masses: dict[tuple[int, ...], Tensor] = {}
        for row, history in enumerate(self._histories(vocab, length)):
            if history not in masses:
                masses[history] = random_laws(1, int(label.max()) + 1, generator)[0]
            totals = torch.zeros_like(masses[history]).index_add_(0, label, within[row])
            within[row] = within[row] / totals[label] * masses[history][label]
        return within

    def names(self, algebra: Algebra, rows: Sequence[Sequence[float]], vocab: int) -> list[list[int]]:
        """Each entry is its cluster's mass, which equal histories share, times what it has of it, which is free."""
        length = next(n for n in range(1, 64) if prefixes(vocab, n) >= len(rows) - 1)
        label, masses, named = self._of(vocab), {}, []
        clusters = [[token for token in range(vocab) if label[token] == c] for c in range(max(label) + 1)]
        for history, row in zip(self._histories(vocab, length), rows, strict=False):
            values = [sum(row[token] for token in cluster) for cluster in clusters]
            if history not in masses:
                masses[history] = algebra.numbers.law(values)
            names = [ONE] * vocab
            for cluster, mass, value in zip(clusters, masses[history], values, strict=True):
                parts = algebra.numbers.law([row[token] / value for token in cluster])
                for token, part in zip(cluster, parts, strict=True):
                    names[token] = algebra.apply("mul", mass, part)
            named.append(names)
        return named + [algebra.numbers.law(row) for row in rows[len(named) :]]

    def outcome(self, sequence: int, vocab: int, length: int) -> int:
        """The sequence of its clusters, as one of tokens."""
        found = 0
        for place in range(length):
            found = found * vocab + self.label[sequence // vocab ** (length - 1 - place) % vocab]
        return found

    def _of(self, vocab: int) -> tuple[int, ...]:
        if len(self.label) != vocab:
            raise InputError(f"the clusters of {len(self.label)} tokens, in a box of {vocab}")
        return self.label

    def _histories(self, vocab: int, length: int) -> list[tuple[int, ...]]:
        """The clusters of each prefix, in the order of a table's rows."""
        found: list[tuple[int, ...]] = []
        level: list[tuple[int, ...]] = [()]
        for _ in range(length):
            found += level
            level = [(*history, self.label[token]) for history in level for token in range(vocab)]
        return found


@dataclass(frozen=True)
class Mixed(Lossless):
    """One judged token has the law (1 - share) p + share q, so that its distance from p is share TV(p, q) = gain.

    Attributes:
        share: of the draft's law.
    """

    share: float

    @property
    def claim(self) -> str:
        """See Lossless."""
        return f"one token has the law {1 - self.share:g} p + {self.share:g} q"

    def due(self, target: Any, drafts: Any) -> Float[Tensor, " outcomes"]:
        """See Lossless."""
        p, q = _laws(target, drafts)
        return (1 - self.share) * p + self.share * q

    def equal(self, target: Any, drafts: Any) -> list[tuple[Tensor, Tensor]]:
        """See Lossless: what is kept is min(p, q) + share (q - p)+."""
        p, q = _laws(target, drafts)
        return [(_kept(self.judging, p, q), torch.minimum(p, q) + self.share * (q - p).clamp(min=0))]


@dataclass(frozen=True)
class OneToOne(Lossless):
    """One judged token is as far from p as more of it is kept than an exact rule keeps: bias = gain.

    A draft x is kept with min(1, (p(x) + r(x)) / q(x)) for an r that is nowhere negative, and what replaces it has the
    token rule's law (p - q)+ / Z. With u = q a - min(p, q) the token comes out with p + u - G (p - q)+ / Z, G the sum
    of u, which is the gain. As r >= 0, u is at least 0, and 0 where p > q, so that its distance from p is G, too.

    Attributes:
        more: r, as a multiple of p, at least 0; None of a rule whose own code says what it lends.
    """

    more: float | None = None

    @property
    def claim(self) -> str:
        """See Lossless."""
        if self.more is not None:
            return "one token's bias is its gain"
        rule = _lending(self.judging)
        limit = f"{rule.delta:g}" if rule.odds is None else f"{rule.odds - 1:g} times the draft's probability"
        return f"one token's bias is its gain, where up to {rule.k} nearest ids lend at most {limit}"

    def due(self, target: Any, drafts: Any) -> Float[Tensor, " outcomes"]:
        """See Lossless."""
        p, q = _laws(target, drafts)
        gained, left = self._kept(p, q) - torch.minimum(p, q), (p - q).clamp(min=0)
        return p + gained - gained.sum() * left / left.sum()

    def equal(self, target: Any, drafts: Any) -> list[tuple[Tensor, Tensor]]:
        """See Lossless: what is kept is min(p + r, q), and r is r+."""
        p, q = _laws(target, drafts)
        lent = self._lent(p)
        return [(_kept(self.judging, p, q), self._kept(p, q)), (lent, lent.clamp(min=0))]

    def _kept(self, p: Tensor, q: Tensor) -> Tensor:
        return torch.minimum(p + self._lent(p), q)

    def _lent(self, p: Tensor) -> Tensor:
        if self.more is None:
            draft, shape = _every_draft(p)
            return _lending(self.judging).lent(p.expand(shape), draft)[:, 0]
        if not self.more >= 0:
            raise InputError(f"r = {self.more} p: a rule that keeps less than the token rule is not one to one")
        return self.more * p


def _laws(target: Any, drafts: Any) -> tuple[Tensor, Tensor]:
    """Those of the first token, Float[vocab] each."""
    return target.table[0], drafts.table[0]


def of_box(box: Box) -> Lossless:
    """What is to be shown in a box."""
    return Lossless() if box.rule is None else of_rule(box.rule, box.value, box.vocab)


def of_rule(name: str, value: float | None, vocab: int) -> Lossless:
    """What a relaxed rule keeps to exactly, whatever the laws; clusters are of two tokens each, neighbours by id.

    Raises:
        InputError: nothing that is known here.
    """
    label = tuple(token // 2 for token in range(vocab))
    by_id = torch.arange(vocab, dtype=torch.float64)[:, None]
    judging = registry.build(name, value, registry.Context(by_id, torch.tensor(label)))
    if isinstance(judging, Clusters) and judging.residual == "cluster":
        return ByCluster(label, judging=judging)
    if isinstance(judging, Mixture):
        return Mixed(judging.share, judging=judging)
    if isinstance(judging, Scaling):
        return OneToOne(_less_1(judging.omega), judging=judging)
    if isinstance(judging, CoolSchedule) and judging.mu == 0:
        return OneToOne(max(0.0, _less_1(judging.delta)), judging=judging)
    if isinstance(judging, Lantern):
        return OneToOne(judging=judging)
    raise InputError(f"rule {name!r} keeps to nothing that could be proved for every law")


def _less_1(factor: float) -> float:
    """Of a short decimal, as one."""
    return float(Fraction(repr(factor)) - 1)


def _kept(judging: Relaxation | None, p: Tensor, q: Tensor) -> Tensor:
    """The chance that each token is drafted and kept, Float[vocab]."""
    if judging is None:
        raise InputError("what one token must be depends on the rule that judges it")
    draft, shape = _every_draft(p)
    return q * judging.accept(p.expand(shape), q.expand(shape), draft)[:, 0]


def _every_draft(p: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """Each token as a draft, Int[vocab, 1], and the shape that laws have beside it."""
    return torch.arange(len(p))[:, None], (len(p), 1, len(p))


def _lending(judging: Relaxation | None) -> Lantern:
    if not isinstance(judging, Lantern):
        raise InputError(f"{judging} does not say what it lends; give OneToOne a multiple of p")
    return judging


def random_laws(count: int, vocab: int, generator: torch.Generator) -> Float[Tensor, "count vocab"]:
    """Laws of which no two are alike, and no entry is small."""
    weights = torch.rand(count, vocab, dtype=torch.float64, generator=generator) + 0.1
    return weights / weights.sum(-1, keepdim=True)
