"""Jacobi decoding: the drafts are what the previous iteration's forward pass suggests for the same positions.

The window slides over the sequence. Each forward pass gives, besides the laws that judge the drafts, a new law for
every position behind the first rejection; the next drafts come from these laws, one of four ways:

    independent    drawn afresh from them (SJD, arXiv 2410.01699)
    reuse          the old drafts, where the new laws do not disfavour them, else drawn afresh; their q is then the law
                   of what came of both (SJD++, arXiv 2512.07503, with the label that makes it lossless)
    maximal        maximally coupled with the old drafts (SCD, arXiv 2510.24211, pi_MC); of vectors, by any `Coupling`
    gumbel, noise  made from the noise of their position, which is drawn once: by a race of ids (SCD, arXiv 2510.24211,
                   pi_GS); of vectors, from a standard normal (x = mean + scale * noise)

All are lossless because each draft, given everything that is looked at before its slot is judged, has exactly
the law that is kept beside it as q:

- the law of the pass that a draft was made from is a function of drafts to its left, and of what was committed;
- fresh randomness is independent of these; so is the noise of a position, which nothing to its left depends on and
  which is spent when its slot is judged; and a coupling of the old draft, which given these has the old law, has the
  new one, on average over the old draft.

So q is *never* the law that a draft had before a coupling kept it. Slots that no pass has looked at yet hold an initial
draft: an id whose q is one-hot, which is lossless whatever it is, or a vector that is not judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from specverify.declared import Initial
from specverify.decoders.judging import Coupling, Draft, TokenRule, shown
from specverify.decoders.protocol import State, no_tokens
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import at
from specverify.laws import window as from_slot
from specverify.model import row_mask
from specverify.rules.reuse import reuse_label, reused
from specverify.rules.token import maximal_coupling

Redraw = Literal["independent", "maximal", "gumbel"]
_OF_IDS = ("random", "sample-left")


@dataclass(frozen=True)
class Carried:
    """Drafts for the next window; whatever lies beyond `count` is 0.

    Attributes:
        law: the laws that the drafts are drawn from; of vectors None before the first pass.
        count: how many slots have one.
        token: the drafts; all 0 for ids under `independent`, which are drawn when they are needed.
        race: each slot's noise, if it is kept: a race of ids, a standard normal vector of vectors.
        left: the law of the position left of the first initial draft, under `sample-left`.
    """

    law: Any
    count: Int[Tensor, " batch"]
    token: Num[Tensor, "batch window *width"]
    race: Float[Tensor, "batch window noise"] | None
    left: Float[Tensor, "batch vocab"] | None


@dataclass(frozen=True)
class Jacobi:
    """Drafts from the previous iteration.

    Args:
        redraw: how new drafts depend on the old ones.
        initial: the draft of a slot that no forward pass has looked at: the token on its left, zero, any id at random,
            an id drawn from the law of the position on its left, or a draft from the law of the last position that a
            pass has looked at. By default that for vectors, and for ids the token on its left.
        called: what a decoder with this drafting is called; by default as in the field.

    Raises:
        InputError: for an unknown way, and for a coupling that is biased: the laws of its drafts would not be known.
    """

    redraw: Redraw | Literal["noise", "reuse"] | Coupling = "independent"
    initial: Initial | None = None
    called: str = ""

    def __post_init__(self) -> None:
        ways = (*get_args(Redraw), "noise", "reuse")
        if not isinstance(self.redraw, Coupling) and self.redraw not in ways:
            raise InputError(f"unknown drafting {self.redraw!r}; choose one of {', '.join(ways)}, or a coupling")
        if self.initial is not None and self.initial not in get_args(Initial):
            raise InputError(f"unknown drafting {self.initial!r}; choose one of {', '.join(get_args(Initial))}")
        if isinstance(self.redraw, Coupling) and self.redraw.bias > 0:
            raise InputError(
                f"drafts redrawn by {type(self.redraw).__name__} have no known law: it is biased by up to "
                f"{self.redraw.bias:.3g}; leave out its limit"
            )

    @property
    def name(self) -> str:
        """The decoder's name in the field; `jacobi-` and a coupling's name, which is `maximal` for the token rule."""
        if isinstance(self.redraw, Coupling):
            return self.called or f"jacobi-{self.redraw.name or 'maximal'}"
        known = {
            "independent": "sjd",
            "reuse": "sjd-reuse",
            "maximal": "scd-mc",
            "gumbel": "scd-gs",
            "noise": "jacobi-noise",
        }
        return self.called or known[self.redraw]

    @property
    def coupled(self) -> bool:
        """Whether drafts depend on earlier ones for their position, so that later drafts' laws tell of them."""
        return self.redraw != "independent"

    def start(self, model: Any, batch: int, window: int, draws: Draws) -> Carried:
        """See Drafting.

        Raises:
            InputError: for initial drafts that vectors do not have, or a coupling that ids do not have.
        """
        tokens = no_tokens(model, batch)
        token = tokens.new_zeros(batch, window, *tokens.shape[2:])
        count = torch.zeros(batch, dtype=torch.int64, device=model.device)
        if tokens.is_floating_point():
            if self.initial in _OF_IDS:
                raise InputError(f"initial drafts {self.initial!r} are ids; vectors take repeat-left, zero or left-law")
            if self.redraw == "reuse":
                raise InputError("drafts are reused of ids alone; vectors take independent, noise, or a coupling")
            return Carried(None, count, token, None, None)
        if isinstance(self.redraw, Coupling) and not isinstance(self.redraw, TokenRule):
            raise InputError(f"{type(self.redraw).__name__} redraws no ids; choose {', '.join(get_args(Redraw))}")
        flat = torch.zeros(batch, window, model.vocab, dtype=model.dtype, device=model.device)
        race = draws.race(batch, window, model.vocab) if self._keeps_noise else None
        left = flat[:, 0] + 1 / model.vocab if self.initial == "sample-left" else None
        return Carried(flat, count, token, race, left)

    def propose(self, state: State, model: Any, window: int, draws: Draws) -> Draft:
        """See Drafting."""
        carried: Carried = state.drafting
        has_law, none = row_mask(carried.count, window), torch.zeros_like(state.length)
        if state.tokens.is_floating_point():
            return Draft(self._filled(state, carried.token, has_law[..., None]), carried.law, none, carried.count)
        token = draws.categorical(carried.law, has_law) if self.redraw == "independent" else carried.token
        if self.initial in _OF_IDS:
            in_reach = row_mask((model.length - state.length).where(~state.done, 0), window)
            left = torch.ones_like(carried.law[:, 0]) if carried.left is None else carried.left
            initial = draws.categorical(left[:, None].expand_as(carried.law), in_reach & ~has_law)
            token = token.where(has_law, initial)
        token = self._filled(state, token, has_law)
        # Without a law, the law is 0 so far and becomes one-hot.
        law = carried.law.scatter_add(-1, token[..., None], (~has_law)[..., None].to(carried.law.dtype))
        return Draft(token, law, none)

    def _filled(self, state: State, token: Tensor, has_law: Tensor) -> Tensor:
        """Slots without a law hold the token on their left, if that is asked for."""
        vectors = state.tokens.is_floating_point()
        if (self.initial or ("left-law" if vectors else "repeat-left")) != "repeat-left":
            return token
        count, tokens = state.drafting.count, shown(token, state.tokens)
        committed = at(state.tokens, (state.length - 1).clamp(min=0))
        last = at(tokens, (count - 1).clamp(min=0))
        left = torch.where(count[:, None] > 0 if vectors else count > 0, last, committed)[:, None]
        filled = torch.where(has_law, tokens, left)
        return torch.cat([filled, token[..., filled.shape[-1] :]], -1) if vectors else filled

    def carry(
        self, before: State, after: State, draft: Draft, laws: Any, count: Int[Tensor, " batch"], draws: Draws
    ) -> Carried:
        """See Drafting. Old slot `count + k` becomes new slot k; the last law is new and has no old draft."""
        window, vectors = draft.token.shape[1], before.tokens.is_floating_point()
        room = (after.tokens.shape[1] - after.length).where(~after.done, 0).clamp(max=window)
        from_left = self.initial == "left-law" or (self.initial is None and vectors)
        kept = room if from_left else torch.minimum(window + 1 - count, room)
        valid = row_mask(kept, window)
        old = row_mask((window if draft.count is None else draft.count) - count, window)
        law, noise = from_slot(laws, count, window), None
        if not vectors:
            law.mul_(valid[..., None])
        if self._keeps_noise:
            token, noise = self._from_noise(before.drafting, law, count, old, valid, draws)
        elif self.redraw != "independent" and draft.law is not None:
            q, x = from_slot(draft.law, count, window), from_slot(draft.token, count, window)
            token = self._coupled(law, q, x, old, valid, draws)
            if self.redraw == "reuse":
                law = torch.where((old & valid)[..., None], reuse_label(law, q), law)
        else:
            token = law.sample(draws, valid) if vectors else torch.zeros_like(draft.token)
        token = token.to(after.tokens.dtype).where(valid[..., None] if vectors else valid, 0)
        return Carried(law, kept, token, noise, laws[:, -1] if self.initial == "sample-left" else None)

    def _coupled(
        self, law: Any, q: Any, x: Tensor, old: Bool[Tensor, "b w"], valid: Bool[Tensor, "b w"], draws: Draws
    ) -> Tensor:
        """The old draft x ~ q taken to the new law, where there is one."""
        if isinstance(law, Tensor):
            given = reused(law, q, x) if self.redraw == "reuse" else maximal_coupling(law, q, x)
            return draws.categorical(torch.where(old[..., None], given, law), valid)
        coupling = self.redraw if isinstance(self.redraw, Coupling) else TokenRule()
        old = old & valid
        moved = coupling.couple(law, q, x, draws, old).value
        return torch.where(old[..., None], moved, law.sample(draws, valid & ~old))

    @property
    def _keeps_noise(self) -> bool:
        return self.redraw in ("gumbel", "noise")

    def _from_noise(
        self, carried: Carried, law: Any, count: Tensor, old: Tensor, valid: Tensor, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Drafts made from every position's noise, the old where there is one; and that noise."""
        if isinstance(law, Tensor):
            noise = draws.race(len(old), old.shape[1], law.shape[-1], ~old)
        else:
            like = torch.zeros(*law.shape, law.dim, dtype=torch.float64, device=count.device)
            noise = draws.normal(like, ~old[..., None].expand_as(like))
        if carried.race is not None:
            noise = torch.where(old[..., None], from_slot(carried.race, count, old.shape[1]), noise)
        if isinstance(law, Tensor):
            return draws.winner(noise, law, valid)
        if not hasattr(law, "colour"):
            raise InputError(
                f"a token of a {type(law).__name__} is not made from normal noise alone; redraw independently or by a "
                "coupling, and for diffusion heads judge trajectories: PathRule() or StepRule()"
            )
        return law.colour(noise), noise
