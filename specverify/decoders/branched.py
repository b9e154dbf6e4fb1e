"""The step of every decoder that verifies several chains of drafts at once: a tree, whose branches part where they do.

The chains are rows of one batch. At each slot those that agree with the tokens kept so far bring one candidate each; as
soon as one is kept, the chains that hold another token drop out; when none is kept, the step ends with the token that
the rule puts in their place. Where chains come from is a `Branching` (`multi_draft.py`, `sibling_tree.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify import tree
from specverify.claims import Claim, Lossless
from specverify.decoders.judging import Draft
from specverify.decoders.protocol import Branch, Info, State, begin, commit
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.model import Model, row_mask
from specverify.rules.multi_draft import recursive_rejection
from specverify.rules.token import at


@dataclass(frozen=True)
class Candidates:
    """One slot's drafts, one of each chain.

    Attributes:
        token: the drafts.
        law: the law q that each was drawn from, given those of this slot before it.
        there: whether a chain has a draft here; without replacement there may be more chains than tokens.
        race: each chain's noise, if they were drawn by races.
        node: where chains part for good, the node that each goes through: an ascending number, and the first chain of
            each brings the draft. None where each brings its own, and they part where the drafts differ.
        behind: once they are judged, the target's law behind each; NaN where nothing follows.
    """

    token: Int[Tensor, "batch chains"]
    law: Float[Tensor, "batch chains vocab"]
    there: Bool[Tensor, "batch chains"]
    race: Float[Tensor, "batch chains noise"] | None = None
    node: Int[Tensor, " chains"] | None = None
    behind: Float[Tensor, "batch chains vocab"] | None = None

    @property
    def tested(self) -> Bool[Tensor, "batch chains"]:
        """The drafts that are candidates, each once."""
        if self.node is None:
            return self.there
        return self.there & (self.node.diff(prepend=self.node[:1] - 1) > 0)

    def beside(self, number: Int[Tensor, " batch"]) -> Bool[Tensor, "batch chains"]:
        """Which chains go on with the draft of one of them."""
        if self.node is None:
            return self.there & (self.token == at(self.token, number)[:, None])
        return self.there & (self.node == self.node[number][:, None])


@runtime_checkable
class Rule(Protocol):
    """How candidates are judged."""

    @property
    def name(self) -> str:
        """What a decoder with this rule is called, behind `sd`."""

    def judge(
        self, p: Float[Tensor, "batch vocab"], drawn: Candidates, where: Bool[Tensor, "batch chains"], draws: Draws
    ) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"]]:
        """Which of a row's candidates in `where` is kept, or their number if none is; and the law that follows then."""


@dataclass(frozen=True)
class OneByOne:
    """Recursive rejection (SpecInfer, arXiv 2305.09781): each against what the rejected ones before it leave of p."""

    name: str = "tree"

    def judge(
        self, p: Float[Tensor, "batch vocab"], drawn: Candidates, where: Bool[Tensor, "batch chains"], draws: Draws
    ) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"]]:
        """See Rule."""
        keep, left = recursive_rejection(p, drawn.law, drawn.token, where)
        return draws.accept_run(1 - keep, where.any(1, keepdim=True).expand_as(where)), left


@runtime_checkable
class Branching(Protocol):
    """Where several chains of drafts come from."""

    @property
    def chains(self) -> int:
        """How many there are."""

    @property
    def siblings(self) -> int:
        """How many different drafts they may bring for one position."""

    def start(self, model: Any, batch: int, window: int, draws: Draws) -> Any:
        """What is carried from step to step, before the first."""

    def propose(
        self, state: State, wide: State, model: Any, window: int, draws: Draws
    ) -> tuple[list[Candidates], Int[Tensor, " batch"], Any]:
        """Every slot's candidates, the forward passes of the draft model that they took, and what is carried.

        `wide` is the state with a row for each chain, and so is what is carried: a network's contexts of `state` are
        not to be used once those of `wide` were.
        """

    def carry(
        self, before: State, after: State, draft: Draft, laws: Any, count: Int[Tensor, " batch"], draws: Draws
    ) -> Any:
        """As `Drafting.carry`; drafts and laws are those of the chain that was followed."""


class Walked(NamedTuple):
    """How far the candidates were kept.

    Attributes:
        token: at each slot the draft that was kept; behind `run`, any.
        chain: a chain that holds all drafts that were kept; where it goes on does not depend on what lies there.
        run: how many were.
        rejected: whether it ended with a rejection.
        emits: whether it ends with a token that is drawn from `law`.
        law: what that is drawn from.
    """

    token: Int[Tensor, "batch window"]
    chain: Int[Tensor, " batch"]
    run: Int[Tensor, " batch"]
    rejected: Bool[Tensor, " batch"]
    emits: Bool[Tensor, " batch"]
    law: Float[Tensor, "batch vocab"]


@dataclass(frozen=True)
class Branched:
    """Speculative decoding with several chains of drafts.

    A step is one forward pass of the target over all chains, with that many times the cache. Of a slot's candidates
    `Info` counts one as verified, and as accepted if one of them is kept.

    Args:
        branching: where the chains come from.
        window: drafts of each chain, at least 1.
        rule: how candidates are judged.

    Raises:
        InputError: for a window below 1.
    """

    branching: Branching
    window: int
    rule: Rule = OneByOne()
    name: str = "sd-tree"
    claim: Claim = Lossless()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        check_number("window", self.window, "the number of draft tokens per chain")

    @property
    def chains(self) -> int:
        """Candidates for one position, at most: what enumerating takes worlds to the power of."""
        return self.branching.siblings

    def init(self, model: Model, batch: int, draws: Draws) -> State:
        """See Decoder. What is carried is the branching's."""
        return begin(model, batch, self.branching.start(model, batch, self.window, draws))

    def step(self, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        batch, device, chains = len(state.length), state.length.device, self.branching.chains
        every = torch.arange(batch, device=device)
        wide = tree.rows(state, every.repeat_interleave(chains))
        slots, passes, carried = self.branching.propose(state, wide, model, self.window, draws)
        token = torch.stack([drawn.token for drawn in slots], 2)
        laws = model.laws(wide.context, token.flatten(0, 1)).unflatten(0, (batch, chains))

        kept, chain, run, rejected, emits, law = self.walk(state, model, slots, laws, draws)
        drafts, block = token[every, chain], torch.cat([kept, torch.zeros_like(kept[:, :1])], 1)
        block = block.scatter(1, run[:, None], draws.categorical(law, emits)[:, None])

        # Only the chain that was followed moves on; the others are dropped with all that they hold.
        followed = torch.arange(chains, device=device) == chain[:, None]
        wanted = (run + emits)[:, None].where(followed, 0).flatten()
        after, count = commit(wide, model, block.repeat_interleave(chains, 0), wanted)
        chosen = every * chains + chain
        after, count = tree.rows(State(after.context, after.tokens, after.length, after.done), chosen), count[chosen]
        q = torch.stack([drawn.law for drawn in slots], 2)[every, chain]
        before = tree.rows(replace(wide, drafting=carried), chosen)
        carried = self.branching.carry(before, after, Draft(drafts, q, passes), laws[every, chain], count, draws)
        after = State(after.context, after.tokens, after.length, after.done, carried)

        active = (~state.done).long()
        last = torch.where(rejected, int(Branch.RECOVERED), int(Branch.BONUS))[:, None]
        branch = torch.where(row_mask(run, self.window + 1), int(Branch.ACCEPTED), last)
        return after, Info(
            active, run + rejected, run, count, branch * row_mask(count, self.window + 1), passes * active
        )

    def walk(
        self,
        state: State,
        model: Model,
        slots: list[Candidates],
        laws: Float[Tensor, "batch chains slots vocab"],
        draws: Draws,
    ) -> Walked:
        """Judge slot by slot, until one keeps none of its candidates, or the sequence or the window ends."""
        batch, chains = laws.shape[:2]
        every = torch.arange(batch, device=laws.device)
        room = (model.length - state.length).where(~state.done, 0)
        agrees, going, chain = slots[0].there, ~state.done, torch.zeros_like(state.length)
        rejected, run, law, tokens = torch.zeros_like(going), torch.zeros_like(chain), laws[:, 0, 0], []
        for slot, drawn in enumerate(slots):
            judged = going & (room > slot)
            where = agrees & drawn.tested & judged[:, None]
            behind = laws[:, :, slot + 1].where((room > slot + 1)[:, None, None], torch.nan)
            drawn = replace(drawn, behind=behind)
            number, left = self.rule.judge(laws[every, chain, slot], drawn, where, draws)
            kept = judged & (number < chains)
            number = number.clamp(max=chains - 1)
            tokens.append(at(drawn.token, number))
            chain = number.where(kept, chain)
            agrees = agrees & drawn.beside(number)
            law = torch.where((judged & ~kept)[:, None], left, law)
            rejected, run = rejected | (judged & ~kept), run + kept
            going = kept if model.eos is None else kept & (tokens[-1] != model.eos)
        bonus = going & (room > self.window)
        law = torch.where(bonus[:, None], laws[every, chain, self.window], law)
        return Walked(torch.stack(tokens, 1), chain, run, rejected, rejected | bonus, law)


def check_number(name: str, value: object, what: str) -> None:
    """Raise InputError for a number below 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} {value!r}: it is {what}, at least 1")
