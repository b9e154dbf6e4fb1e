"""Jacobi decoding of continuous tokens: the drafts are what the previous iteration suggests for the same positions.

The window slides over the sequence. Each forward pass gives, besides the laws that judge the drafts, a new law for
every position behind the first rejection; the next drafts come from these laws, one of three ways:

    independent  drawn afresh from them
    a Coupling   coupled with the old drafts, by reflection for Gaussians: the old draft is kept as often as can be
    noise        made from the standard normal noise of their position, which is drawn once (x = mean + scale * noise)

These carry SJD (arXiv 2410.01699) and SCD (arXiv 2510.24211) over to densities. All three are lossless because each
draft, given everything that is looked at before its slot is judged, has exactly the law that is kept beside it as q:

- the law of the pass that a draft was made from is a function of drafts to its left, and of what was committed;
- fresh randomness is independent of these; so is the noise of a position, which nothing to its left depends on and
  which is spent when its slot is judged; and a coupling of the old draft, which given these has the old law, has the
  new one whatever the old draft was.

So q is *never* the law that a draft had before a coupling kept it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.decoders.continuous.coupling import split
from specverify.decoders.judging import Coupling, Draft
from specverify.decoders.protocol import State
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import ContinuousModel, FullGaussian, Gaussian, Law, at
from specverify.laws import window as laws_from
from specverify.model import row_mask
from specverify.rules.trajectory import Paths

Redraw = Literal["independent", "noise"]
Initial = Literal["left-law", "repeat-left", "zero"]


@dataclass(frozen=True)
class Carried:
    """Drafts for the next window.

    Attributes:
        law: the laws that the drafts were drawn from; None before the first pass.
        count: how many slots have one.
        value: the drafts; 0 in slots behind these.
        noise: what they were made from, under `noise`.
    """

    law: Law | None
    count: Int[Tensor, " batch"]
    value: Float[Tensor, "batch window width"]
    noise: Float[Tensor, "batch window width"] | None


@dataclass(frozen=True)
class Jacobi:
    """Drafts from the previous iteration.

    Args:
        redraw: how new drafts depend on the old ones: "independent", "noise", or a coupling.
        initial: what a slot that no forward pass has looked at holds: a draft from the law of the last position that
            one has looked at, or a placeholder, which is the token on its left or 0. A placeholder is never accepted.

    Raises:
        InputError: for an unknown way, and for a coupling that is biased: the laws of its drafts would not be known.
    """

    redraw: Redraw | Coupling = "independent"
    initial: Initial = "left-law"

    def __post_init__(self) -> None:
        if not isinstance(self.redraw, Coupling) and self.redraw not in get_args(Redraw):
            raise InputError(f"unknown redraw {self.redraw!r}; choose {', '.join(get_args(Redraw))}, or a coupling")
        if self.initial not in get_args(Initial):
            raise InputError(f"unknown initial draft {self.initial!r}; choose one of {', '.join(get_args(Initial))}")
        if isinstance(self.redraw, Coupling) and self.redraw.bias > 0:
            raise InputError(
                f"drafts redrawn by {type(self.redraw).__name__} have no known law: it is biased by up to "
                f"{self.redraw.bias:.3g}; leave out its limit"
            )

    @property
    def name(self) -> str:
        """`jacobi`, and what couples its drafts: `noise`, a coupling's name, or `maximal` for the token rule."""
        if isinstance(self.redraw, Coupling):
            return f"jacobi-{self.redraw.name or 'maximal'}"
        return "jacobi" if self.redraw == "independent" else "jacobi-noise"

    def start(self, model: ContinuousModel, batch: int, window: int, draws: Draws) -> Carried:
        """See Drafting."""
        empty = torch.zeros(batch, window, model.dim, dtype=model.dtype, device=model.device)
        return Carried(None, torch.zeros(batch, dtype=torch.int64, device=model.device), empty, None)

    def propose(self, state: State, model: ContinuousModel, window: int, draws: Draws) -> Draft:
        """See Drafting."""
        carried: Carried = state.drafting
        value = carried.value
        if self.initial == "repeat-left":
            tokens = value[..., : model.dim]
            before = at(state.tokens, (state.length - 1).clamp(min=0))
            left = torch.where((carried.count > 0)[:, None], at(tokens, (carried.count - 1).clamp(min=0)), before)
            held = row_mask(carried.count, window)[..., None]
            value = torch.cat([torch.where(held, tokens, left[:, None]), value[..., model.dim :]], -1)
        return Draft(value, carried.law, torch.zeros_like(state.length), carried.count)

    def carry(
        self, before: State, after: State, draft: Draft, laws: Law, count: Int[Tensor, " batch"], draws: Draws
    ) -> Carried:
        """See Drafting. Old slot `count + k` becomes new slot k; the last law is new and has no old draft."""
        window = draft.token.shape[1]
        room = (after.tokens.shape[1] - after.length).where(~after.done, 0).clamp(max=window)
        kept = room if self.initial == "left-law" else torch.minimum(window + 1 - count, room)
        valid = row_mask(kept, window)
        # Old slots that hold a draft from a known law, at the place that they move to.
        old = row_mask(before.drafting.count - count, window) & valid
        law = laws_from(laws, count, window)
        noise = None
        if self.redraw == "noise":
            noise = self._noise(before.drafting, law, count, old, draws)
            value = colour(law, noise).to(draft.token.dtype)
        elif self.redraw == "independent" or draft.law is None:
            value = law.sample(draws, valid)
        else:
            moved = _moved(draft.token, count)
            coupled = self._coupling().couple(law, laws_from(draft.law, count, window), moved, draws, old).value
            value = torch.where(old[..., None], coupled, law.sample(draws, valid & ~old))
        return Carried(law, kept, value.to(before.tokens.dtype).where(valid[..., None], 0.0), noise)

    def _coupling(self) -> Coupling:
        assert isinstance(self.redraw, Coupling)  # seen to at construction
        return self.redraw

    def _noise(
        self, carried: Carried, law: Law, count: Tensor, old: Bool[Tensor, "batch window"], draws: Draws
    ) -> Float[Tensor, "batch window width"]:
        """Every position's noise: the old where there is one."""
        like = torch.zeros(*law.shape, law.dim, dtype=torch.float64, device=count.device)
        fresh = draws.normal(like, ~old[..., None].expand_as(like))
        return fresh if carried.noise is None else torch.where(old[..., None], _moved(carried.noise, count), fresh)


def colour(law: Any, noise: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape width"]:
    """What a law makes of standard normal noise: a token, or a trajectory from the noise of all its steps.

    Raises:
        InputError: laws that are not made from such noise.
    """
    if isinstance(law, Gaussian | FullGaussian):
        return law.colour(noise)
    if not isinstance(law, Paths):
        raise InputError(
            f"a token of a {type(law).__name__} is not made from normal noise alone; redraw independently or by a "
            "coupling, and for diffusion heads judge trajectories: PathRule() or StepRule()"
        )
    chain, each = law.chain, split(law, noise)
    states = [chain.first().colour(each[..., chain.steps, :])]
    for t in range(chain.steps, 0, -1):
        states.append(chain.transition(t, states[-1]).colour(each[..., t - 1, :]))
    return torch.stack(states[::-1], -2).flatten(-2)


def _moved(values: Float[Tensor, "batch window width"], count: Int[Tensor, " batch"]) -> Tensor:
    """Values at the slots count .. count + window - 1; past the last one, something."""
    return laws_from(values, count, values.shape[1])
