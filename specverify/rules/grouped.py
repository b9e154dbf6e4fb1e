"""Grouped speculative decoding with dynamic groups (GSD, arXiv 2508.07747, Algorithm 3): neighbours by rank of p.

The group C of a draft x holds x and its neighbours in the order of p, `below` less likely and `above` more likely ones,
without those whose probability differs by more than `gap` or whose embedding is farther than `distance`. The draft is
kept with probability min(1, p(C) / q(C)), and replaced from (p - q)+, token by token.

Groups of different drafts overlap: they are no partition. So GSD's theorem, that grouping accepts at least as often as
the token rule, does not carry over, and there are laws on which this rule accepts less: with neighbours 2 below and 1
above, p = (.001, .002, .007, .24, .27, .48) and q = (.01, .74, .005, .235, .005, .005), .1449 against .2530.
`at_least_token` mends that, and never with more bias: accept with the larger of the two probabilities, and the gain is
paid for exactly one to one.

One selection of the nearest ranks per position replaces the sort of the whole vocabulary, but where many drafts are
tried on one law; nothing loops over tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from specverify.claims import Claim
from specverify.errors import InputError
from specverify.rules.neighbours import check_embedding, order_key
from specverify.rules.relaxation import NOTHING, Laws, Rates, Tokens, of_one_law
from specverify.rules.token import accept_probability, at, residual

Edge = Literal["clip", "token", "repeat"]
_BEHIND = 1 << 62
"""More than any two order keys are apart."""


@dataclass(frozen=True, eq=False)
class Grouped:
    """GSD with dynamic groups. Equal probabilities are ranked by token id.

    Args:
        below, above: neighbours by rank, less and more likely than the draft.
        gap: largest |p(y) - p(x)| of a member y.
        distance: largest *squared* Euclidean distance of its embedding from the draft's.
        embedding: a row per token, on the laws' device; needed unless `distance` is infinite.
        edge: what happens where ranks end. `clip`: there are fewer neighbours. `token`: with fewer than `below` of them
            below, the token rule. `repeat`: the last rank is counted again for each one missing.
        strict: whether members lie strictly within `gap` and `distance`.
        at_least_token: never accept less than the token rule (not in the paper).

    Raises:
        InputError: an impossible setting, or, when judging, an embedding of another vocabulary.
    """

    recovers_alike: ClassVar[bool] = True
    below: int
    above: int
    gap: float = math.inf
    distance: float = math.inf
    embedding: Float[Tensor, "vocab dim"] | None = field(default=None, repr=False)
    edge: Edge = "clip"
    strict: bool = False
    at_least_token: bool = False

    def __post_init__(self) -> None:
        if self.below < 0 or self.above < 0:
            raise InputError(f"{self.below} neighbours below and {self.above} above; both are at least 0")
        least = 0 if not self.strict else math.nextafter(0, 1)
        if not (self.gap >= least and self.distance >= least):
            raise InputError(
                f"gap = {self.gap}, distance = {self.distance}: they are at least 0, and more than 0 if strict, "
                "so that a draft belongs to its own group"
            )
        if self.edge not in get_args(Edge):
            raise InputError(f"unknown edge {self.edge!r}; choose one of {', '.join(get_args(Edge))}")
        if self.embedding is not None:
            check_embedding(self.embedding)
        elif self.distance < math.inf:
            raise InputError(
                f"distance = {self.distance} needs an embedding; pass one row per token, or distance=math.inf"
            )

    @classmethod
    def paper(
        cls,
        size: int = 10,
        gap: float = 0.15,
        distance: float = 0.5,
        embedding: Tensor | None = None,
        at_least_token: bool = False,
    ) -> Grouped:
        """Algorithm 3: `size` // 2 neighbours either side. Without an embedding there is no filter by distance.

        The paper reports sizes 3 to 50, and not its thresholds; these are those of the released code.
        """
        if size < 0:
            raise InputError(f"size {size}: how many neighbours a group has, at least 0")
        half = size // 2
        bound = math.inf if embedding is None else distance
        return cls(half, half, gap, bound, embedding, at_least_token=at_least_token)

    @classmethod
    def released(cls, embedding: Tensor | None = None) -> Grouped:
        """As the paper's code has it: 7 below and 6 above, gaps below 0.15, squared distances below 0.5.

        With fewer than 7 ranks below the draft it falls into an exception handler, which applies the token rule. (That
        code measures distances between rows of the language model's input embedding, for its image tokens only; and in
        vocabularies of fewer than 14 tokens its slice would wrap round, which is not reproduced.)
        """
        return cls(7, 6, 0.15, math.inf if embedding is None else 0.5, embedding, edge="token", strict=True)

    @classmethod
    def cosmos(cls, size: int = 4) -> Grouped:
        """As the port to Cosmos in SCD's code has it: `size` neighbours either side, ranks clamped, no filter."""
        return cls(size, size, edge="repeat")

    @property
    def claim(self) -> Claim:
        """Nothing."""
        return NOTHING

    def accept(self, p: Laws, q: Laws, draft: Tokens) -> Rates:
        """See Judging."""
        member, present, whole = self._window(p, draft)
        near = p.gather(-1, member)
        keep = present & self._within((near - at(p, draft)[..., None]).abs(), self.gap)
        if self.embedding is not None:
            check_embedding(self.embedding, p.shape[-1])
            place = self.embedding.to(p.device)
            keep &= self._within((place[member] - place[draft][..., None, :]).square().sum(-1), self.distance)
        group = (near * keep).sum(-1) / (q.gather(-1, member) * keep).sum(-1)
        accept = group.clamp(max=1)
        if self.edge == "token":
            accept = torch.where(whole, accept, accept_probability(p, q, draft))
        return torch.maximum(accept, accept_probability(p, q, draft)) if self.at_least_token else accept

    def recover(self, p: Laws, q: Laws, draft: Tokens) -> Laws:
        """See Judging."""
        return residual(p, q)

    def _within(self, value: Tensor, bound: float) -> Tensor:
        return value < bound if self.strict else value <= bound

    def _window(self, p: Tensor, draft: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Token ids by rank around the draft, Int[..., 1 + below + above]; which are there; whether all below are."""
        return self._sorted(p, draft) if of_one_law(p) else self._selected(p, draft)

    def _sorted(self, p: Tensor, draft: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `_window`; of laws that are the same over the first axis."""
        order = order_key(p[0]).argsort(dim=-1)
        rank = torch.empty_like(order).scatter_(-1, order, torch.arange(p.shape[-1], device=p.device).expand_as(order))
        own = at(rank.expand_as(p), draft)[..., None]
        down, up = (torch.arange(1, size + 1, device=p.device) for size in (self.below, self.above))
        place = own + torch.cat([down.new_zeros(1), -down, up])
        inside = place.clamp(0, p.shape[-1] - 1)
        present = torch.ones_like(place, dtype=torch.bool) if self.edge == "repeat" else inside == place
        return order.expand_as(p).gather(-1, inside), present, own[..., 0] >= self.below

    def _selected(self, p: Tensor, draft: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `_window`; one selection a law and draft."""
        key, vocab = order_key(p), p.shape[-1]
        own = at(key, draft)[..., None]
        lower = _steps(own - key).topk(min(self.below, vocab), dim=-1, largest=False)
        upper = _steps(key - own).topk(min(self.above, vocab), dim=-1, largest=False)
        missing = (0, self.below - lower.values.shape[-1]), (0, self.above - upper.values.shape[-1])
        down, up = pad(lower.values < _BEHIND, missing[0]), pad(upper.values < _BEHIND, missing[1])
        member = torch.cat([draft[..., None], pad(lower.indices, missing[0]), pad(upper.indices, missing[1])], -1)
        whole = down.all(-1)
        if self.edge == "repeat":
            ends = key.argmin(-1, keepdim=True).expand_as(down), key.argmax(-1, keepdim=True).expand_as(up)
            member = torch.where(torch.cat([own >= 0, down, up], -1), member, torch.cat([draft[..., None], *ends], -1))
            return member, torch.ones_like(member, dtype=torch.bool), whole
        return member, torch.cat([own >= 0, down, up], -1), whole


def _steps(ahead: Tensor) -> Tensor:
    """What lies ahead, nearest least; what does not, wrapped round to `_BEHIND` or more. Far faster than `where`."""
    return ahead.sub_(1).bitwise_and_(torch.iinfo(torch.int64).max)
