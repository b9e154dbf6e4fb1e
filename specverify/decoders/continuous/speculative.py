"""The speculative step over continuous tokens: draft, one forward pass, judge left to right, commit, carry on.

It is `decoders/speculative.py` with densities in place of tables. Where drafts come from is a `Drafting`, a draft model
(`draft_model.py`) or the previous Jacobi iteration (`jacobi.py`); how they are judged, a `Coupling`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify import tree
from specverify.claims import Claim, Lossless, Relaxed
from specverify.decoders.continuous.coupling import Coupling, TokenRule
from specverify.decoders.judging import check_window
from specverify.decoders.protocol import Branch, Info, State, begin, commit
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import ContinuousModel, Law, at
from specverify.model import row_mask

L = TypeVar("L")


@dataclass(frozen=True)
class Draft:
    """The drafts of one window.

    Attributes:
        value: slot k holds a draft for the k-th position after the committed ones: a token, or a trajectory, the
            token first.
        law: the law q that each draft was drawn from, given all that was looked at before its slot is judged; None
            where no slot has one.
        count: how many leading slots hold drafts from `law`. Behind them are placeholders: they are not judged, which
            is lossless whatever they are, and only the laws behind them depend on them.
        passes: forward passes of the draft model that this took, per row.
    """

    value: Float[Tensor, "batch window width"]
    law: Law | None
    count: Int[Tensor, " batch"]
    passes: Int[Tensor, " batch"]


@runtime_checkable
class Drafting(Protocol):
    """Where drafts come from."""

    @property
    def name(self) -> str:
        """What a decoder with this drafting is called."""

    def start(self, model: ContinuousModel, batch: int, window: int) -> Any:
        """What drafting carries from step to step, before the first."""

    def propose(self, state: State, model: ContinuousModel, window: int, coupling: Coupling, draws: Draws) -> Draft:
        """The next window's drafts, from laws as `coupling` views them."""

    def carry(
        self, before: State, after: State, draft: Draft, laws: Law, count: Int[Tensor, " batch"], draws: Draws
    ) -> Any:
        """What to carry into the next step, after `count` tokens were committed; `laws` are the window's p, viewed."""


@dataclass(frozen=True)
class Speculative:
    """A decoder that drafts, verifies and recovers.

    Args:
        drafting: where drafts come from.
        window: draft tokens verified in one forward pass, at least 1.
        coupling: how they are judged, and what replaces those that are rejected.
        claim: what this combination claims.
        bonus: whether a full acceptance emits one more token, drawn from p.

    Raises:
        InputError: for a window below 1, and for a biased coupling that is claimed to be lossless.
    """

    drafting: Drafting
    window: int
    coupling: Coupling = TokenRule()  # noqa: RUF009  (frozen)
    claim: Claim = Lossless()  # noqa: RUF009  (frozen)
    bonus: bool = True

    def __post_init__(self) -> None:
        check_window(self.window)
        if self.coupling.bias > 0 and not isinstance(self.claim, Relaxed):
            raise InputError(
                f"{self.name} is not lossless: {type(self.coupling).__name__} can move the law of each token by "
                f"{self.coupling.bias:.3g} in total variation; leave out its limit if it has one, or say what to hold "
                "it to, such as claim=Relaxed(tv=0.01)"
            )

    @property
    def name(self) -> str:
        """The drafting's name, and behind it the coupling's, unless drafts are redrawn by it."""
        own, judged = self.drafting.name, self.coupling.name
        return own if own.endswith(judged) else f"{own}-{judged}"

    def init(self, model: ContinuousModel, batch: int, draws: Draws) -> State:
        """See Decoder."""
        return begin(model, batch, self.drafting.start(model, batch, self.window))

    def step(self, state: State, model: ContinuousModel, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        draft = self.drafting.propose(state, model, self.window, self.coupling, draws)
        token = draft.value[..., : model.dim]
        laws = self.coupling.view(model.laws(state.context, token))

        # Slots beyond the end of the sequence are not judged.
        room = (model.length - state.length).where(~state.done, 0)
        drafted = torch.minimum(draft.count, room.clamp(max=self.window))
        run, recovered = torch.zeros_like(drafted), torch.zeros_like(token[:, 0])
        if draft.law is not None:
            judged = row_mask(drafted, self.window)
            found = self.coupling.couple(leading(laws, self.window), draft.law, draft.value, draws, judged)
            run = (found.kept & judged).long().cumprod(1).sum(1)
            recovered = row(found.value, run.clamp(max=self.window - 1))[:, : model.dim]

        rejected = run < drafted
        more = ~rejected & (room > drafted) & (self.bonus | (drafted == 0))
        fresh = at(laws, run).sample(draws, more)[:, : model.dim]
        last = torch.where(rejected[:, None], recovered, fresh).to(token.dtype)

        size = self.window + 1
        place = torch.arange(size, device=run.device)
        block = torch.where((place == run[:, None])[..., None], last[:, None], padded(token))
        after, count = commit(state, model, block, run + (rejected | more))
        after = replace(after, drafting=self.drafting.carry(state, after, draft, laws, count, draws))

        active = (~state.done).long()
        ended = torch.where(drafted > 0, int(Branch.BONUS), int(Branch.SAMPLED))
        ended = torch.where(rejected, int(Branch.RECOVERED), ended)
        branch = torch.where(row_mask(run, size), int(Branch.ACCEPTED), ended[:, None]) * row_mask(count, size)
        return after, Info(active, run + rejected, run, count, branch, draft.passes * active)


def leading(law: L, size: int) -> L:
    """Each row's laws at its first slots."""
    return tree.map_tensors(law, lambda tensor: tensor[:, :size])


def row(values: Float[Tensor, "batch slots width"], slot: Int[Tensor, " batch"]) -> Float[Tensor, "batch width"]:
    """Each row's value at its own slot."""
    return values[torch.arange(len(slot), device=slot.device), slot]


def padded(token: Float[Tensor, "batch window dim"]) -> Float[Tensor, "batch slots dim"]:
    """Tokens with room for one more."""
    return torch.cat([token, torch.zeros_like(token[:, :1])], 1)
