"""Several chains of drafts at once, from a draft model: a tree whose branches part wherever the chains do.

At each slot the chains that agree with the tokens kept so far bring one candidate each. As soon as one is kept, the
chains that hold another token drop out; when none is kept, the step ends with the token that the rule puts in their
place. The chains are drawn independently of each other (or, for their first token, without replacement), so that each
slot's candidates are fresh given all that was looked at before.

    Recursive   test one after the other against what the rejected ones leave of p  (arXiv 2305.09781, 2402.14160)
    ListGumbel  the earliest token of the chains' races under p, kept if a chain drafted it  (arXiv 2408.07978, lists)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from specverify import tree
from specverify.claims import Claim, Lossless
from specverify.decoders.draft_model import DraftModel
from specverify.decoders.judging import Draft
from specverify.decoders.protocol import Branch, Info, State, begin, commit
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.model import Model, row_mask
from specverify.rules.multi_draft import recursive_rejection, without
from specverify.rules.token import at


@dataclass(frozen=True)
class Candidates:
    """One slot's drafts, one of each chain.

    Attributes:
        token: the drafts.
        law: the law q that each was drawn from, given those of this slot before it.
        there: whether a chain has a draft here; without replacement there may be more chains than tokens.
        race: each chain's noise, if they were drawn by races.
    """

    token: Int[Tensor, "batch chains"]
    law: Float[Tensor, "batch chains vocab"]
    there: Bool[Tensor, "batch chains"]
    race: Float[Tensor, "batch chains noise"] | None = None


@runtime_checkable
class Rule(Protocol):
    """How candidates are drawn and judged."""

    @property
    def name(self) -> str:
        """What a decoder with this rule is called, behind `sd`."""

    def draw(
        self, law: Float[Tensor, "batch chains vocab"], where: Bool[Tensor, "batch chains"], first: bool, draws: Draws
    ) -> Candidates:
        """Draw a slot's candidates from the draft model's laws after each chain; `first` slots have one law."""

    def judge(
        self, p: Float[Tensor, "batch vocab"], drawn: Candidates, where: Bool[Tensor, "batch chains"], draws: Draws
    ) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"]]:
        """Which of a row's candidates in `where` is kept, or their number if none is; and the law that follows then."""


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
        tokens: list[Tensor] = []
        left, laws, there = law[:, 0], [], []
        for number in range(law.shape[1]):
            if tokens:
                left = without(left, tokens[-1])
            laws.append(left)
            there.append(where[:, number] & (left.sum(-1) > 0))
            tokens.append(draws.categorical(left, there[-1]))
        return Candidates(torch.stack(tokens, 1), torch.stack(laws, 1), torch.stack(there, 1))

    def judge(
        self, p: Float[Tensor, "batch vocab"], drawn: Candidates, where: Bool[Tensor, "batch chains"], draws: Draws
    ) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"]]:
        """See Rule."""
        keep, left = recursive_rejection(p, drawn.law, drawn.token, where)
        return draws.accept_run(1 - keep, where.any(1, keepdim=True).expand_as(where)), left


@dataclass(frozen=True)
class ListGumbel:
    """Every chain's draft wins its race under q; the earliest token of all races under p is what is emitted."""

    name: str = "list-gumbel"

    def draw(
        self, law: Float[Tensor, "batch chains vocab"], where: Bool[Tensor, "batch chains"], first: bool, draws: Draws
    ) -> Candidates:
        """See Rule."""
        token, race = draws.winner(draws.race(*law.shape), law, where)
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
class MultiDraft:
    """Speculative decoding with several chains of drafts.

    The chains are rows of one batch, `chains` times the decoder's: a step is one forward pass of the target over all of
    them, with that many times the cache. Of a slot's candidates `Info` counts one as verified, and as accepted if one
    of them is kept.

    Args:
        model: the draft model, over the target's vocabulary and length.
        window: drafts of each chain, at least 1.
        chains: how many, at least 1.
        rule: how candidates are drawn and judged.

    Raises:
        InputError: for a window or a number of chains below 1.
    """

    model: Model
    window: int
    chains: int = 2
    rule: Rule = Recursive()
    claim: Claim = Lossless()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        for name, value, what in (
            ("window", self.window, "the number of draft tokens per chain"),
            ("chains", self.chains, "the number of chains"),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} {value!r}: it is {what}, at least 1")

    @property
    def name(self) -> str:
        """`sd`, and the rule's name."""
        return f"sd-{self.rule.name}"

    def init(self, model: Model, batch: int, draws: Draws) -> State:
        """See Decoder. What is carried is the draft model's context."""
        return begin(model, batch, DraftModel(self.model).start(model, batch, self.window, draws))

    def step(self, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        batch, device = len(state.length), state.length.device
        every = torch.arange(batch, device=device)
        wide = tree.rows(state, every.repeat_interleave(self.chains))
        slots, passes = self._draft(wide, model, draws)
        token = torch.stack([drawn.token for drawn in slots], 2).flatten(0, 1)
        laws = model.laws(wide.context, token).unflatten(0, (batch, self.chains))

        room = (model.length - state.length).where(~state.done, 0)
        agrees, going, chain = slots[0].there, ~state.done, torch.zeros_like(state.length)
        rejected, run, law, block = torch.zeros_like(going), torch.zeros_like(chain), laws[:, 0, 0], []
        for slot, drawn in enumerate(slots):
            judged = going & (room > slot)
            number, left = self.rule.judge(laws[every, chain, slot], drawn, agrees & judged[:, None], draws)
            kept = judged & (number < self.chains)
            number = number.clamp(max=self.chains - 1)
            block.append(at(drawn.token, number))
            chain = number.where(kept, chain)
            agrees = agrees & (drawn.token == block[-1][:, None])
            law = torch.where((judged & ~kept)[:, None], left, law)
            rejected, run = rejected | (judged & ~kept), run + kept
            going = kept if model.eos is None else kept & (block[-1] != model.eos)

        bonus = going & (room > self.window)
        law = torch.where(bonus[:, None], laws[every, chain, self.window], law)
        block.append(draws.categorical(law, rejected | bonus))
        tokens = torch.stack(block, 1).scatter(1, run[:, None], block[-1][:, None])

        # Only the chain that was followed moves on; the others are dropped with all that they hold.
        followed = torch.arange(self.chains, device=device) == chain[:, None]
        wanted = (run + (rejected | bonus))[:, None].where(followed, 0).flatten()
        after, count = commit(wide, model, tokens.repeat_interleave(self.chains, 0), wanted)
        draft = Draft(token, torch.stack([drawn.law for drawn in slots], 2).flatten(0, 1), passes)
        carried = DraftModel(self.model).carry(wide, after, draft, laws.flatten(0, 1), count, draws)
        chosen = every * self.chains + chain
        after = tree.rows(State(after.context, after.tokens, after.length, after.done, carried), chosen)
        count = count[chosen]

        active = (~state.done).long()
        last = torch.where(rejected, Branch.RECOVERED, Branch.BONUS)[:, None]
        branch = torch.where(row_mask(run, self.window + 1), int(Branch.ACCEPTED), last)
        branch = branch * row_mask(count, self.window + 1)
        return after, Info(active, run + rejected, run, count, branch, passes[chosen] * active)

    def _draft(self, wide: State, model: Model, draws: Draws) -> tuple[list[Candidates], Int[Tensor, " rows"]]:
        """Every slot's candidates, and the forward passes of the draft model: one for a slot of all chains."""
        context, slots = wide.drafting, []
        in_reach = row_mask((model.length - wide.length).where(~wide.done, 0), self.window)
        for slot in range(self.window):
            law = self.model.laws(context, wide.tokens[:, :0]).unflatten(0, (-1, self.chains))[:, :, 0]
            drawn = self.rule.draw(law, in_reach[:, slot].unflatten(0, (-1, self.chains)), slot == 0, draws)
            context = self.model.advance(context, drawn.token.reshape(-1, 1), in_reach[:, slot].long())
            slots.append(drawn)
        return slots, in_reach.sum(1) + 1
