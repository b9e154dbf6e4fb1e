"""What each context puts at stake: how its target law p and draft law q are made at every node.

dense             both laws have all tokens
near, equal       q close to p (the residual is small), and p itself (there is none)
sparse target     p forbids tokens that q proposes
sparse draft      q never proposes tokens that p has
other support     both have zeros, at their own tokens
disjoint          nothing that q proposes is possible
sharp             p has more than 0.99 on the token that a one-hot q proposes
one-hot draft     q is certain, p is not
cool, warm        p is made at temperature 0.5 and 2
top-k             p keeps 2 tokens
greedy            temperature 0: p is certain of the most probable token
greedy tie        and the next one is less probable by a thousandth
partly equal      p and q are equal to the last bit: at every second node for all tokens, elsewhere for all but two
sparse equal      p and q are equal, and have the same zeros
one-hot target    p has a single token, q has all
tiny              each has a token of probability 1e-8, 1e-15 or 1e-30
cut               p has passed temperature 0.7, top-k, top-p and min-p, q a top-p of its own
tied              probabilities are small multiples of each other, so that most ratios are 1/2, 1 or 2
early, late       mass falls from id to id, and the last is forbidden; or rises, and the first is
sixteenths        p and q are multiples of 1/16, so that no dtype rounds them
certain sixteenths  p is the same, and q certain
tiles             half of the tiles of 128 tokens have three times the mass of the others, in q the others do
equal tiles       the same, and q is p, so that drafts are kept and a bonus token follows
slot k of 8       p and q are certain of one token but at positions k, k + 8, ..., where they differ by 0.4
barred slot k of 8  the same, where q knows no better than a coin, and p is certain there as well
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from specverify import processors
from toymodels.hashing import branches, high_bits, seed


@dataclass(frozen=True)
class Laws:
    """Laws at every node, by name."""

    key: str
    nodes: int
    tokens: int

    @property
    def position(self) -> Int[Tensor, " nodes"]:
        """Where in a sequence each node is."""
        sizes = [1]
        while sum(sizes) < self.nodes:
            sizes.append(sizes[-1] * self.tokens)
        return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))

    def hashes(self, what: str) -> Int[Tensor, "nodes tokens"]:
        """A number for every token at every node."""
        start = torch.tensor(seed(f"{self.key}: {what}"))
        return branches(branches(start, self.nodes), self.tokens)

    def dense(self, what: str) -> Float[Tensor, "nodes tokens"]:
        """Weights 1 to 8."""
        return _normalised(1 + high_bits(self.hashes(what), 3))

    def favourite(self) -> Int[Tensor, " nodes"]:
        """A token for every node."""
        return high_bits(self.hashes("favourite"), 31).argmax(-1)

    def sparse(self, what: str) -> Float[Tensor, "nodes tokens"]:
        """Weights 1 to 8, half of them made 0, at least one of each kind."""
        hashes = self.hashes(what)
        order = high_bits(hashes, 31)
        keep = ((hashes & 1 == 0) | (order == order.amax(-1, keepdim=True))) & (order != order.amin(-1, keepdim=True))
        return _normalised((1 + high_bits(hashes, 3)) * keep)


def _normalised(weights: Tensor) -> Tensor:
    return weights.double() / weights.sum(-1, keepdim=True)


def _disjoint(laws: Laws) -> tuple[Tensor, Tensor]:
    p = laws.sparse("p")
    return p, _normalised(laws.dense("q") * (p == 0))


def _sharp(laws: Laws) -> tuple[Tensor, Tensor]:
    sure = one_hot(laws.favourite(), laws.tokens).double()
    return 0.993 * sure + 0.007 * laws.dense("p"), sure


def _tied(laws: Laws) -> tuple[Tensor, Tensor]:
    p = laws.dense("p")
    best = one_hot(p.argmax(-1), laws.tokens) * p.amax(-1, keepdim=True)
    second = one_hot((p - best).argmax(-1), laws.tokens)
    return _normalised(torch.where(second == 1, 0.999 * p.amax(-1, keepdim=True), p)), laws.dense("q")


def _plain(laws: Laws) -> tuple[Tensor, Tensor]:
    return laws.dense("p"), laws.dense("q")


def _partly_equal(laws: Laws) -> tuple[Tensor, Tensor]:
    p = laws.dense("p")
    most, least = (one_hot(index, laws.tokens) for index in (p.argmax(-1), (-p.flip(-1)).argmax(-1)))
    least = least.flip(-1)  # the last of the least, so that it is never the first of the most
    moved = 0.5 * p.amax(-1, keepdim=True) * (1 - torch.arange(len(p)) % 2)[:, None]
    return p, p - moved * most + moved * least


def _sparse_equal(laws: Laws) -> tuple[Tensor, Tensor]:
    return laws.sparse("p"), laws.sparse("p")


def _tiny(laws: Laws) -> tuple[Tensor, Tensor]:
    size = torch.tensor([1e-8, 1e-15, 1e-30], dtype=torch.float64)[torch.arange(laws.nodes) % 3, None]

    def with_one(what: str) -> Tensor:
        law = laws.dense(what)
        least = one_hot(law.argmin(-1), laws.tokens) == 1
        return torch.where(least, size, law / law.masked_fill(least, 0.0).sum(-1, keepdim=True) * (1 - size))

    return with_one("p"), with_one("q")


def _cut(laws: Laws) -> tuple[Tensor, Tensor]:
    p = processors.top_p(processors.top_k(processors.temperature(laws.dense("p"), 0.7), max(2, laws.tokens - 1)), 0.9)
    p = _normalised(p * (p >= 0.05 * p.amax(-1, keepdim=True)))
    return p, processors.top_p(laws.dense("q"), 0.8)


def _multiples(laws: Laws) -> tuple[Tensor, Tensor]:
    return tuple(_normalised(1 + high_bits(laws.hashes(what), 1)) for what in ("p", "q"))  # type: ignore[return-value]


def _falling(laws: Laws) -> Tensor:
    fall = 0.5 ** (8 * torch.arange(laws.tokens) / laws.tokens).double()
    return _normalised(laws.dense("p") * fall * (torch.arange(laws.tokens) < max(1, laws.tokens - 1)))


def _halves(laws: Laws) -> tuple[Tensor, Tensor]:
    sure = one_hot(laws.favourite(), laws.tokens)
    p, q = (_normalised(laws.dense(what) * (1 - sure)) for what in ("p", "q"))
    return 0.5 * sure + 0.5 * p, 0.95 * sure + 0.05 * q


def _sixteenths(laws: Laws) -> tuple[Tensor, Tensor]:
    parts = torch.tensor({2: (5, 11), 3: (1, 6, 9), 4: (0, 2, 5, 9)}[laws.tokens], dtype=torch.float64) / 16
    return tuple(parts[high_bits(laws.hashes(what), 31).argsort(-1)] for what in ("p", "q"))  # type: ignore[return-value]


def _certain(laws: Laws) -> Tensor:
    return one_hot(laws.favourite(), laws.tokens).double()


TILE = 128
"""Tokens beside each other that are counted together where there are too many to count each."""


def _tiles(laws: Laws) -> tuple[Tensor, Tensor]:
    tiles = -(-laws.tokens // TILE)
    order = high_bits(branches(torch.tensor(seed(f"{laws.key}: heavy")), tiles), 31).argsort().argsort()
    heavy = (order < tiles // 2).repeat_interleave(TILE)[: laws.tokens].expand(laws.nodes, -1)
    weights = (1.0 + 2 * half.double() for half in (heavy, ~heavy))
    return tuple(each / each.sum(-1, keepdim=True) for each in weights)  # type: ignore[return-value]


STRIDE = 8
SLOTS = tuple(f"slot {slot} of {STRIDE}" for slot in range(STRIDE))
BARRED = tuple(f"barred {name}" for name in SLOTS)


def _open_at(slot: int) -> Callable[[Laws], tuple[Tensor, Tensor]]:
    def laws(at: Laws) -> tuple[Tensor, Tensor]:
        sure = one_hot(at.favourite(), at.tokens).double()
        open, common = (at.position % STRIDE == slot)[:, None], 0.6 * at.dense("p")
        return tuple(torch.where(open, common + 0.4 * one, sure) for one in (sure.roll(1, -1), sure))  # type: ignore[return-value]

    return laws


def _barred_at(slot: int) -> Callable[[Laws], tuple[Tensor, Tensor]]:
    def laws(at: Laws) -> tuple[Tensor, Tensor]:
        sure = one_hot(at.favourite(), at.tokens).double()
        open = (at.position % STRIDE == slot)[:, None]
        return sure, torch.where(open, torch.full_like(sure, 1 / at.tokens), sure)

    return laws


KINDS: dict[str, tuple[Callable[[Laws], tuple[Tensor, Tensor]], float, int | None]] = {
    "dense": (_plain, 1.0, None),
    "near": (lambda laws: (laws.dense("p"), (15 * laws.dense("p") + laws.dense("q")) / 16), 1.0, None),
    "equal": (lambda laws: (laws.dense("p"), laws.dense("p")), 1.0, None),
    "sparse target": (lambda laws: (laws.sparse("p"), laws.dense("q")), 1.0, None),
    "sparse draft": (lambda laws: (laws.dense("p"), laws.sparse("q")), 1.0, None),
    "other support": (lambda laws: (laws.sparse("p"), laws.sparse("q")), 1.0, None),
    "disjoint": (_disjoint, 1.0, None),
    "sharp": (_sharp, 1.0, None),
    "one-hot draft": (lambda laws: (laws.dense("p"), _certain(laws)), 1.0, None),
    "cool": (_plain, 0.5, None),
    "warm": (_plain, 2.0, None),
    "top-k": (_plain, 1.0, 2),
    "greedy": (_plain, 0.0, None),
    "greedy tie": (_tied, 0.0, None),
    "partly equal": (_partly_equal, 1.0, None),
    "sparse equal": (_sparse_equal, 1.0, None),
    "one-hot target": (lambda laws: (one_hot(laws.favourite(), laws.tokens).double(), laws.dense("q")), 1.0, None),
    "tiny": (_tiny, 1.0, None),
    "cut": (_cut, 1.0, None),
    "tied": (_multiples, 1.0, None),
    "early": (lambda laws: (_falling(laws), laws.dense("q")), 1.0, None),
    "late": (lambda laws: (_falling(laws).flip(-1), laws.dense("q")), 1.0, None),
    "halves": (_halves, 1.0, None),
    "sixteenths": (_sixteenths, 1.0, None),
    "certain sixteenths": (lambda laws: (_sixteenths(laws)[0], _certain(laws)), 1.0, None),
    "tiles": (_tiles, 1.0, None),
    "equal tiles": (lambda laws: _tiles(laws)[:1] * 2, 1.0, None),
    **{name: (_open_at(slot), 1.0, None) for slot, name in enumerate(SLOTS)},
    **{name: (_barred_at(slot), 1.0, None) for slot, name in enumerate(BARRED)},
}
"""How each makes p and q, and the temperature and top-k that p is then processed with."""
