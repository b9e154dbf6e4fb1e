"""One correct kernel in replaceable parts: the token rule, or block verification, with coins as an argument.

Known-wrong kernels (`specverify.defects.rounds`) replace one part each, and so differ from what passes every check in
their flaw alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from specverify.laws import at as row
from specverify.model import row_mask
from specverify.rules.token import accept_probability, at, residual
from specverify.subjects.rounds.conventions import tossing
from specverify.subjects.rounds.kernel import NONE, Kernel, Outcome, Round, block


@dataclass(frozen=True)
class Scene:
    """What the parts look at: laws at the slots that hold drafts, and the coins.

    Attributes:
        given: the round.
        p, q: target and draft law of each slot; q is one-hot where the round has none.
        coins: one for each draft.
        pick: one for the token that follows.
    """

    given: Round
    p: Float[Tensor, "batch gamma vocab"]
    q: Float[Tensor, "batch gamma vocab"]
    coins: Float[Tensor, "batch gamma"]
    pick: Float[Tensor, " batch"]

    @property
    def draft(self) -> Int[Tensor, "batch gamma"]:
        """The drafts."""
        return self.given.draft

    @property
    def used(self) -> Bool[Tensor, "batch gamma"]:
        """Slots that hold drafts."""
        return row_mask(self.given.lengths, self.draft.shape[1])


@dataclass(frozen=True)
class Parts:
    """The parts of a kernel; by default the token rule (Leviathan et al., arXiv 2211.17192).

    Attributes:
        target: the laws that drafts are verified against and replaced from.
        bonus: the laws that bonus tokens are drawn from.
        draft_law: the laws that drafts are taken to come from.
        keep: with which probability each draft passes.
        coins: the coins that decide it.
        passes: whether a coin lets a draft with that probability pass.
        count: how many drafts are accepted, of those that pass.
        recover: the law that replaces the draft at each slot.
        pick: the number that chooses the token that follows, given the slot of the rejected draft.
        choose: the token that the number chooses from a law.
    """

    target: Callable[[Round], Tensor] = lambda given: given.p
    bonus: Callable[[Round], Tensor] = lambda given: given.p
    draft_law: Callable[[Tensor, Tensor], Tensor] = lambda q, draft: q
    keep: Callable[[Scene], Tensor] = lambda scene: accept_probability(scene.p, scene.q, scene.draft)
    coins: Callable[[Scene], Tensor] = lambda scene: scene.coins
    passes: Callable[[Tensor, Tensor], Tensor] = lambda coin, keep: coin < keep
    count: Callable[[Tensor, Scene], Tensor] = lambda passed, scene: (passed & scene.used).cumprod(1).sum(1)
    recover: Callable[[Scene], Tensor] = lambda scene: residual(scene.p, scene.q)
    pick: Callable[[Scene, Tensor], Tensor] = lambda scene, slot: scene.pick
    choose: Callable[[Tensor, Tensor], Tensor] = lambda law, pick: inverse(law, pick)


def verify(parts: Parts, given: Round, coins: Tensor, pick: Tensor) -> Outcome:
    """Judge a round with given coins."""
    laws = parts.target(given)
    certain = one_hot(given.draft, laws.shape[-1]).to(laws.dtype) if given.q is None else given.q
    scene = Scene(given, laws[:, :-1], parts.draft_law(certain, given.draft), coins, pick)
    passed = parts.passes(parts.coins(scene), parts.keep(scene))
    accepted = parts.count(passed, scene)
    rejected = accepted < given.lengths
    slot = accepted.clamp(max=given.draft.shape[1] - 1)
    law = torch.where(rejected[:, None], row(parts.recover(scene), slot), row(parts.bonus(given), accepted))
    token = parts.choose(law, torch.where(rejected, parts.pick(scene, slot), pick))
    return block(accepted, token, given)


def kernel(name: str, parts: Parts) -> Kernel:
    """The kernel made of these parts."""

    def with_coins(given: Round, coins: Tensor, pick: Tensor) -> Outcome:
        return verify(parts, given, coins, pick)

    return Kernel(name, tossing(with_coins), with_coins=with_coins)


def inverse(law: Float[Tensor, "batch vocab"], pick: Float[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """The token whose part of [0, 1) holds the number; one of probability 0 has no part."""
    edges = law.cumsum(-1, dtype=torch.float64)  # in half precision a sum over many tokens stands still
    return (edges[:, :-1] <= pick[:, None] * edges[:, -1:]).sum(-1)


def block_weights(scene: Scene) -> Float[Tensor, "batch slots"]:
    """w_0 = 1 and w_i = min(1, w_(i-1) p(x_i) / q(x_i)): block verification (Sun et al., arXiv 2403.10444)."""
    ratio = at(scene.p, scene.draft) / at(scene.q, scene.draft)
    weights = [torch.ones_like(ratio[:, 0])]
    for each in ratio.unbind(1):
        weights.append((weights[-1] * each).clamp(max=1))
    return torch.stack(weights, 1)


def block_keep(scene: Scene) -> Float[Tensor, "batch gamma"]:
    """Z / (Z + 1 - w), with Z the mass of (w p - q)+ at the next slot, and w itself at a row's last draft."""
    weights = block_weights(scene)[:, 1:]
    left = (weights[:, :-1, None] * scene.p[:, 1:] - scene.q[:, 1:]).clamp(min=0).sum(-1)
    # Where both are 0 the next laws are equal, and a later draft is sure to pass.
    inner = (left / (left + 1 - weights[:, :-1])).nan_to_num(0.0)
    last = torch.arange(weights.shape[1]) == scene.given.lengths[:, None] - 1
    return torch.where(last, weights, torch.cat([inner, weights[:, -1:]], 1))


def block_count(passed: Bool[Tensor, "batch gamma"], scene: Scene) -> Int[Tensor, " batch"]:
    """As many drafts as end with the last that passes."""
    place = torch.arange(1, passed.shape[1] + 1)
    return (place * (passed & scene.used)).amax(1)


def block_recover(scene: Scene) -> Float[Tensor, "batch gamma vocab"]:
    """(w p - q)+ normalised."""
    left = (block_weights(scene)[:, :-1, None] * scene.p - scene.q).clamp(min=0)
    mass = left.sum(-1, keepdim=True)
    return torch.where(mass > 0, left / mass, scene.p)


BLOCK = Parts(keep=block_keep, count=block_count, recover=block_recover)
"""Block verification: the longest block that can be kept, which is seldom shorter than the token rule's."""


def sample_and_match(given: Round, coins: Tensor, pick: Tensor) -> Outcome:
    """Draw a token from p at each slot, emit it, and go on while it equals the draft: the draft law plays no part."""
    drawn = torch.stack(
        [inverse(law, coin) for law, coin in zip(given.p[:, :-1].unbind(1), coins.unbind(1), strict=True)], 1
    )
    used = row_mask(given.lengths, drawn.shape[1])
    accepted = ((drawn == given.draft) & used).cumprod(1).sum(1)
    slot = accepted.clamp(max=drawn.shape[1] - 1)
    bonus = inverse(row(given.p, accepted), pick)
    return block(accepted, torch.where(accepted < given.lengths, at(drawn, slot), bonus), given)


def without_bonus(given: Round, coins: Tensor, pick: Tensor) -> Outcome:
    """The token rule without a bonus token, but in rows that have no drafts."""
    outcome = verify(Parts(), given, coins, pick)
    full = (outcome.accepted == given.lengths) & (given.lengths > 0)
    last = torch.arange(outcome.tokens.shape[1]) == outcome.accepted[:, None]
    return Outcome(outcome.tokens.masked_fill(full[:, None] & last, NONE), outcome.accepted)
