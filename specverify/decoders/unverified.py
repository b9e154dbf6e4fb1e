"""Verification skipped now and then (VVS, arXiv 2511.13587): a random path of the draft tree is taken unseen.

Every step verifies; behind some, one of several chains of fresh drafts is chosen uniformly and committed but for its
last token, without a forward pass of the target, which reads it in its next pass, before the drafts. VVS also skips
where the paths' codes lie near each other, drafts from stale features then, and judges by LANTERN's rule elsewhere;
here is the skipping alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify import tree
from specverify.claims import Claim
from specverify.decoders.branched import Branched
from specverify.decoders.judging import Draft
from specverify.decoders.protocol import Branch, Info, State, commit
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import window as window_of
from specverify.model import Context, Model, row_mask
from specverify.rules.relaxation import NOTHING


@dataclass(frozen=True)
class Counted:
    """What is carried: the verifying decoder's, and how many steps each row has made."""

    inner: Any
    steps: Int[Tensor, " batch"]


@dataclass(frozen=True)
class Unverified:
    """The decoder.

    Args:
        verifying: what verifies; its branching drafts for both.
        every: of so many draftings one is taken unverified, at least 2; published 5.

    Raises:
        InputError: for a number below 2.
    """

    verifying: Branched
    every: int = 5
    name: str = "vvs"
    claim: Claim = NOTHING

    def __post_init__(self) -> None:
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 2:
            raise InputError(f"every {self.every!r}: of so many draftings one is not verified, at least 2")

    @property
    def window(self) -> int:
        """Draft tokens of each chain."""
        return self.verifying.window

    @property
    def chains(self) -> int:
        """See Branched."""
        return self.verifying.chains

    def init(self, model: Model, batch: int, draws: Draws) -> State:
        """See Decoder."""
        state = self.verifying.init(Lagging(model, self.window), batch, draws)
        return replace(state, drafting=Counted(state.drafting, torch.zeros_like(state.length)))

    def step(self, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        model, counted = Lagging(model, self.window), state.drafting
        steps = counted.steps + ~state.done
        seen, info = self.verifying.step(replace(state, drafting=counted.inner), model, draws)
        after, count = self._taken(seen, steps % (self.every - 1) == 0, model, draws)
        emitted, size = info.emitted + count, self.window * 2 + 1
        branch = torch.cat([info.branch, info.branch.new_zeros(len(count), self.window)], 1)
        branch = branch.where(row_mask(info.emitted, size), int(Branch.SAMPLED)) * row_mask(emitted, size)
        spent = info.draft_passes * 2  # rows are drafted for again, whether or not it is their turn
        after = replace(after, drafting=Counted(after.drafting, steps))
        return after, replace(info, emitted=emitted, branch=branch, draft_passes=spent)

    def _taken(
        self, state: State, due: Bool[Tensor, " batch"], model: Lagging, draws: Draws
    ) -> tuple[State, Int[Tensor, " batch"]]:
        """Where it is due, a chain is committed but for its last token; how many tokens that were."""
        branching, window = self.verifying.branching, self.window
        every = torch.arange(len(due), device=due.device)
        wide = tree.rows(state, every.repeat_interleave(branching.chains))
        slots, passes, carried = branching.propose(state, wide, model, window, draws)
        there, due = slots[0].there, due & ~state.done
        even = (there | ~there.any(1, keepdim=True)).to(model.dtype)
        chain = draws.categorical(even, due)
        token, law = (
            torch.stack([getattr(drawn, part) for drawn in slots], 2)[every, chain] for part in ("token", "law")
        )
        after, count = commit(state, model.unread(), token, torch.where(due, max(window - 1, 1), 0))
        no_laws = torch.cat([law, law[:, -1:]], 1)  # the target was not asked
        before = tree.rows(replace(wide, drafting=carried), every * branching.chains + chain)
        carried = branching.carry(before, after, Draft(token, law, passes), no_laws, count, draws)
        return replace(after, drafting=carried), count


@dataclass(frozen=True)
class Behind:
    """A context, and tokens behind it that no pass has read."""

    inner: Context
    token: Int[Tensor, "batch window"]
    count: Int[Tensor, " batch"]


@dataclass(frozen=True)
class Lagging:
    """A model that reads tokens which were committed unread in its next pass, before the drafts.

    Args:
        inner: the model.
        most: how many tokens may be unread.
        reads: whether `advance` is over tokens that the last pass read.
    """

    inner: Model
    most: int
    reads: bool = True

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.inner, attribute)

    def unread(self) -> Lagging:
        """The same, when it advances over tokens that no pass has read."""
        return replace(self, reads=False)

    def start(self, batch: int) -> Behind:
        """See Model."""
        none = torch.zeros(batch, dtype=torch.int64, device=self.inner.device)
        return Behind(self.inner.start(batch), none[:, None].repeat(1, self.most), none)

    def laws(self, context: Behind, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """See Model."""
        laws = self.inner.laws(context.inner, self._behind(context, draft))
        return window_of(laws, context.count, draft.shape[1] + 1)

    def advance(self, context: Behind, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Behind:
        """See Model."""
        every, total = self._behind(context, tokens), context.count + count
        if not self.reads:
            return Behind(context.inner, every[:, : self.most], total)
        total = torch.where(count > 0, total, 0)
        left = torch.where(count > 0, 0, context.count)
        return Behind(self.inner.advance(context.inner, every, total), context.token, left)

    def _behind(self, context: Behind, tokens: Int[Tensor, "batch n"]) -> Int[Tensor, "batch m"]:
        room = torch.cat([context.token, torch.zeros_like(tokens)], 1)
        place = context.count[:, None] + torch.arange(tokens.shape[1], device=tokens.device)
        return room.scatter(1, place, tokens)
