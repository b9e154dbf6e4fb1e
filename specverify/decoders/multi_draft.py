"""Several chains of drafts at once, from a draft model.

The chains are drawn independently of each other (or, for their first token, without replacement), so that each
slot's candidates are fresh given all that was looked at before.

    Recursive   test one after the other against what the rejected ones leave of p  (arXiv 2305.09781, 2402.14160)
    ListGumbel  the earliest token of the chains' races under p, kept if a chain drafted it  (arXiv 2408.07978, lists)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from specverify.claims import Claim, Lossless
from specverify.decoders import branched
from specverify.decoders.branched import Branched, Candidates, OneByOne, check_number
from specverify.decoders.draft_model import DraftModel
from specverify.decoders.judging import Draft
from specverify.decoders.protocol import State
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.model import Context, Model, row_mask
from specverify.rules.multi_draft import without
from specverify.rules.token import at, residual, total_variation


@runtime_checkable
class Rule(branched.Rule, Protocol):
    """How candidates are drawn and judged."""

    def draw(
        self, law: Float[Tensor, "batch chains vocab"], where: Bool[Tensor, "batch chains"], first: bool, draws: Draws
    ) -> Candidates:
        """Draw a slot's candidates from the draft model's laws after each chain; `first` slots have one law."""


@dataclass(frozen=True)
class Recursive:
    """Recursive rejection.

    Args:
        replacement: whether the chains' first tokens are drawn independently; if not, they are all different.
    """

    replacement: bool = True
    name: str = "multi"

    def draw(
        self, law: Float[Tensor, "batch chains vocab"], where: Bool[Tensor, "batch chains"], first: bool, draws: Draws
    ) -> Candidates:
        """See Rule."""
        if self.replacement or not first:
            return Candidates(draws.categorical(law, where), law, where)
        return siblings(law[:, 0], where, draws)

    def judge(
        self, p: Float[Tensor, "batch vocab"], drawn: Candidates, where: Bool[Tensor, "batch chains"], draws: Draws
    ) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"]]:
        """See Rule."""
        return OneByOne().judge(p, drawn, where, draws)


@dataclass(frozen=True)
class Alike(Recursive):
    """Siblings that the target goes on from alike lend each other their probability. Not lossless.

    The family that CASCADE (arXiv 2605.07230) is of, whose formula is not public: it compares hidden states in the
    draft tree, this the laws of the next token. A draft is kept with the mass of itself and of all other candidates of
    its slot whose next laws lie within `distance` of its own in total variation; the residual is the exact rule's.

    Args:
        distance: between 0, where only what cannot be told apart is alike, and 1, where everything is.
    """

    distance: float = 0.1
    name: str = "alike"

    def __post_init__(self) -> None:
        if not 0 <= self.distance <= 1:
            raise InputError(f"distance = {self.distance}: a total variation lies between 0 and 1")

    def judge(
        self, p: Float[Tensor, "batch vocab"], drawn: Candidates, where: Bool[Tensor, "batch chains"], draws: Draws
    ) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"]]:
        """See Rule."""
        assert drawn.behind is not None  # as `Branched.walk` gives it
        behind = drawn.behind[:, :, None].expand(-1, -1, where.shape[1], -1)
        far = total_variation(behind, behind.transpose(1, 2))
        same = drawn.token[:, :, None] == drawn.token[:, None]
        earlier = torch.ones_like(same[0]).triu(1)
        first = where & ~(same & where[:, :, None] & earlier).any(1)  # a token that two chains hold lends once
        lends = ((far <= self.distance) & ~same & first[:, :, None]).to(p.dtype)
        left, keep = p, []
        for number in range(where.shape[1]):
            mass = at(left, drawn.token[:, number]) + (lends[:, :, number] * left.gather(1, drawn.token)).sum(1)
            law, tested = drawn.law[:, number], where[:, number]
            keep.append((mass / at(law, drawn.token[:, number])).clamp(max=1).where(tested, 0.0))
            left = torch.where(tested[:, None], residual(left, law), left)
        return draws.accept_run(1 - torch.stack(keep, 1), where.any(1, keepdim=True).expand_as(where)), left


@dataclass(frozen=True)
class ListGumbel:
    """Every chain's draft wins its race under q; the earliest token of all races under p is what is emitted."""

    name: str = "list-gumbel"

    def draw(
        self, law: Float[Tensor, "batch chains vocab"], where: Bool[Tensor, "batch chains"], first: bool, draws: Draws
    ) -> Candidates:
        """See Rule."""
        token, race = draws.winner(draws.race(len(law), law.shape[1], law.shape[2], where), law, where)
        return Candidates(token, law, where, race)

    def judge(
        self, p: Float[Tensor, "batch vocab"], drawn: Candidates, where: Bool[Tensor, "batch chains"], draws: Draws
    ) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"]]:
        """See Rule."""
        assert drawn.race is not None  # as `draw` made it
        token = draws.earliest(drawn.race, p, where)
        matches = where & (drawn.token == token[:, None])
        chains = matches.shape[1]
        number = torch.where(matches.any(1), matches.int().argmax(1), chains).where(where.any(1), 0)
        return number, one_hot(token, p.shape[1]).to(p.dtype)


@dataclass(frozen=True)
class DraftChains:
    """Chains of drafts from a draft model; the arguments are `MultiDraft`'s."""

    model: Model
    chains: int
    rule: Rule

    @property
    def siblings(self) -> int:
        """See Branching."""
        return self.chains

    def start(self, model: Model, batch: int, window: int, draws: Draws) -> Context:
        """See Branching. What is carried is the draft model's context."""
        return DraftModel(self.model).start(model, batch, window, draws)

    def propose(
        self, state: State, wide: State, model: Model, window: int, draws: Draws
    ) -> tuple[list[Candidates], Int[Tensor, " batch"], Any]:
        """See Branching. One forward pass of the draft model for a slot of all chains, and one to carry on."""
        context = begun = wide.drafting
        slots: list[Candidates] = []
        in_reach = row_mask((model.length - wide.length).where(~wide.done, 0), window)
        for slot in range(window):
            law = self.model.laws(context, wide.tokens[:, :0]).unflatten(0, (-1, self.chains))[:, :, 0]
            drawn = self.rule.draw(law, in_reach[:, slot].unflatten(0, (-1, self.chains)), slot == 0, draws)
            token, going = drawn.token.reshape(-1, 1), in_reach[:, slot].long()
            begun = begun if slots else self.model.advance(context, token, torch.zeros_like(going))
            context = self.model.advance(context, token, going)
            slots.append(drawn)
        return slots, in_reach.unflatten(0, (-1, self.chains))[:, 0].sum(1) + 1, begun

    def carry(
        self,
        before: State,
        after: State,
        draft: Draft,
        laws: Float[Tensor, "batch slots vocab"],
        count: Int[Tensor, " batch"],
        draws: Draws,
    ) -> Context:
        """See Branching."""
        return DraftModel(self.model).carry(before, after, draft, laws, count, draws)


@dataclass(frozen=True, init=False)
class MultiDraft(Branched):
    """Speculative decoding with several chains of drafts from a draft model.

    Args:
        model: the draft model, over the target's vocabulary and length.
        window: drafts of each chain, at least 1.
        chains: how many, at least 1.
        rule: how candidates are drawn and judged.

    Raises:
        InputError: for a window or a number of chains below 1.
    """

    def __init__(
        self,
        model: Model,
        window: int,
        chains: int = 2,
        rule: Rule = Recursive(),
        claim: Claim = Lossless(),  # noqa: B008  (frozen)
    ) -> None:
        check_number("chains", chains, "the number of chains")
        super().__init__(DraftChains(model, chains, rule), window, rule, f"sd-{rule.name}", claim)


def siblings(law: Float[Tensor, "batch vocab"], where: Bool[Tensor, "batch chains"], draws: Draws) -> Candidates:
    """Candidates of one law that are all different: drawn without replacement, as long as there are tokens."""
    tokens: list[Tensor] = []
    left, laws, there = law, [], []
    for number in range(where.shape[1]):
        if tokens:
            left = without(left, tokens[-1])
        laws.append(left)
        there.append(where[:, number] & (left.sum(-1) > 0))
        tokens.append(draws.categorical(left, there[-1]))
    return Candidates(torch.stack(tokens, 1), torch.stack(laws, 1), torch.stack(there, 1))
