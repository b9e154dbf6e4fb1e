"""Decoders of vectors without a draft model that are right where laws hardly agree, or where heads are all alike."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch

from specverify.decoders.continuous import Coupled, Jacobi, PathRule, Reflection, Speculative
from specverify.decoders.continuous.coupling import split
from specverify.decoders.protocol import Branch, Info, State, begin, commit
from specverify.errors import InputError
from specverify.laws import Chain, Gaussian
from specverify.rules.reflection import reflect
from specverify.rules.rejection import accept, decide, thin
from specverify.rules.trajectory import Paths


def made(couple, view=lambda law: law, drafting=Jacobi, redraw="independent"):
    """What makes a Jacobi decoder with a rule."""
    rule = SimpleNamespace(name="own", bias=0.0, view=view, couple=couple)
    return lambda window: Speculative(drafting(redraw), window, rule)


def exactly(p, q, x, draws, where):
    found = decide(p, q, x, draws, where)
    return Coupled(found.x.where(where[..., None], x), found.accepted)


class Strata:
    """Draws whose normal numbers are spread evenly over the rows of a batch of up to 64: each row's are right."""

    def __init__(self, draws):
        self._draws = draws

    def __getattr__(self, name):
        return getattr(self._draws, name)

    def normal(self, like, where):
        if len(like) > 64:
            return self._draws.normal(like, where)
        first = self._draws.uniform(like[:1].double(), torch.ones_like(where[:1]))
        share = torch.arange(len(like), dtype=torch.float64).reshape(-1, *[1] * (like.ndim - 1)) / len(like)
        return torch.special.ndtri(((first + share) % 1).clamp(1e-15, 1 - 1e-15)).to(like.dtype)


class Stratified(Jacobi):
    def carry(self, before, after, draft, laws, count, draws):
        return super().carry(before, after, draft, laws, count, Strata(draws))


class Mirrored(Strata):
    """Draws whose normal numbers of the second half of a batch are those of the first in reverse, a quarter on."""

    def normal(self, like, where):
        noise = self._draws.normal(like, where)
        if len(noise) % 4:
            return noise
        half = torch.special.ndtr(noise[: len(noise) // 2].double())
        turned = torch.special.ndtri(((half + 0.25) % 1).clamp(1e-15, 1 - 1e-15)).flip(0)
        return torch.cat([noise[: len(noise) // 2], turned.to(noise.dtype)])


class Reversed(Jacobi):
    def carry(self, before, after, draft, laws, count, draws):
        return super().carry(before, after, draft, laws, count, Mirrored(draws))


class Alternating:
    """Single images come in pairs: every second one has the noise of the one before with the other sign."""

    def __init__(self, window):
        self.inner, self.kept, self.second = right(window), [], False

    def init(self, model, batch, draws):
        if batch == 1:
            self.second = bool(self.kept) and not self.second
            self.left = list(self.kept) if self.second else None
            self.kept = [] if not self.second else self.kept
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        return self.inner.step(state, model, Signed(draws, self) if len(state.length) == 1 else draws)


class Signed(Strata):
    """Draws that are kept, or are those that were kept, with the other sign."""

    def __init__(self, draws, of):
        super().__init__(draws)
        self._of = of

    def normal(self, like, where):
        noise = self._draws.normal(like, where)
        if self._of.left is None:
            self._of.kept.append(noise)
            return noise
        earlier = self._of.left.pop(0) if self._of.left else noise
        return -earlier if earlier.shape == noise.shape else noise


@dataclass(frozen=True)
class Handed:
    """Plain decoding whose noise goes on to the next coordinate, of the token two behind, at two positions of four."""

    def init(self, model, batch, draws):
        return begin(model, batch, torch.zeros(batch, 2, model.dim, dtype=torch.float64))

    def step(self, state, model, draws):
        active, kept = ~state.done, state.drafting
        law = model.laws(state.context, state.tokens[:, :0])
        if not isinstance(law, Gaussian):
            raise InputError("a head or a mixture is none of independent coordinates")
        fresh = draws.normal(kept[:, 0], torch.ones_like(kept[:, 0], dtype=torch.bool))
        noise = fresh.clone()
        if int(state.length.max()) % 4 >= 2:
            noise[:, 1:] = 0.6 * fresh[:, 1:] + 0.8 * kept[:, 0, :-1]
        token = law.colour(noise[:, None]).to(state.tokens.dtype)
        state = State(state.context, state.tokens, state.length, state.done, torch.stack([kept[:, 1], noise], 1))
        after, count = commit(state, model, token, active.long())
        none = torch.zeros_like(count)
        return after, Info(count, none, none, count, count[:, None] * Branch.SAMPLED, none)


def by_one_schedule(p, q, x, draws, where):
    """Trajectories are judged as if draft and target had the target's standard deviations."""
    kept = draws.bernoulli(_log_ratio(p.chain, q.chain, split(p, x)).clamp(max=0).exp(), where)
    found, lost = x.clone(), where & ~kept
    while bool(lost.any()):
        other = p.sample(draws, lost)
        share = 1 - (-_log_ratio(p.chain, q.chain, split(p, other)).clamp(min=0)).exp()
        taken = draws.bernoulli(share, lost)
        found, lost = other.to(x.dtype).where(taken[..., None] & lost[..., None], found), lost & ~taken
    return Coupled(found, kept)


def _log_ratio(p, q, path):
    total = 0.0
    for step in range(p.steps, 0, -1):
        one, two = (chain.transition(step, path[..., step, :]) for chain in (p, q))
        state = path[..., step - 1, :]
        off = (state - two.mean).square() - (state - one.mean).square()
        total = total + 0.5 * (off / one.scale.square()).sum(-1).double()
    return total


def by_mirrors(p, q, x, draws, where):
    """What is rejected at a denoising step is reflected, whether or not its standard deviations are the draft's."""
    path, steps, states = split(p, x), p.chain.steps, []
    for step in range(steps, -1, -1):
        laws = [chain.first() if step == steps else None for chain in (p.chain, q.chain)]
        if step < steps:
            laws = [p.chain.transition(step + 1, states[-1]), q.chain.transition(step + 1, path[..., step + 1, :])]
        state = path[..., step, :]
        kept = accept(*laws, state, draws, where)
        states.append(torch.where((where & ~kept)[..., None], reflect(*laws, state).to(state.dtype), state))
    return Coupled(torch.stack(states[::-1], -2).flatten(-2).where(where[..., None], x), kept)


def first_order(law):
    """A head's token as the Gaussian that it would be if the head were linear about no noise."""
    if not isinstance(law, Chain):
        raise InputError("for diffusion heads alone")
    paths = Paths(law)
    none = torch.zeros(*law.shape, paths.dim, dtype=torch.float64)
    mean, variance = paths.colour(none)[..., : law.dim], 0.0
    for step in range(law.steps + 1):
        push = none.clone()
        push[..., step * law.dim : (step + 1) * law.dim] = 1e-3
        variance = variance + ((paths.colour(push)[..., : law.dim] - mean) / 1e-3).square()
    dtype = law.first().mean.dtype
    return Gaussian(mean.to(dtype), variance.sqrt().to(dtype))


def without_residual_where_wide(p, q, x, draws, where):
    kept = accept(p, q, x, draws, where)
    lost = where & ~kept
    other = p.sample(draws, lost) if x.shape[-1] >= 8 else thin(p, q, draws, lost).x
    return Coupled(other.to(x.dtype).where(lost[..., None], x), kept)


right = made(exactly)
STRATA = made(exactly, drafting=Stratified, redraw="noise")
HANDED = Handed
SCHEDULE = made(by_one_schedule, view=PathRule().view)
MIRRORS = made(by_mirrors, view=PathRule().view)
LINEAR = made(Reflection().couple, view=first_order, redraw="noise")
WIDE = made(without_residual_where_wide)
MIRRORED = made(exactly, drafting=Reversed, redraw="noise")
ALTERNATING = Alternating
