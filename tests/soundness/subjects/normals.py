"""Decoders of vectors of which each token alone has the right law, or nearly: what is wrong is between tokens, in a few
of them, or in what is said of them. Each is exact but for its one slip, and takes Gaussian laws alone."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from specverify.claims import Lossless
from specverify.decoders import Branch, Info, begin, commit
from specverify.decoders.continuous import Coupled, DraftModel, Speculative, TokenRule
from specverify.errors import InputError
from specverify.laws import Gaussian
from specverify.rules.rejection import decide


@dataclass(frozen=True)
class Plain:
    """One token a pass, made of normal noise that comes from `source`."""

    source: Any
    name = "plain"
    claim = Lossless()

    def init(self, model, batch, draws):
        kept = torch.zeros(batch, model.length, model.dim, dtype=model.dtype)
        return begin(model, batch, draws.normal(kept, torch.ones_like(kept, dtype=torch.bool)))

    def step(self, state, model, draws):
        law = model.laws(state.context, state.tokens[:, :0])
        if not isinstance(law, Gaussian):
            raise InputError("made for Gaussians whose coordinates are independent")
        active = ~state.done
        place = state.length.clamp(max=model.length - 1)
        noise = self.source(state, place)
        token = law.mean[:, 0] + law.scale[:, 0] * noise
        token = AFTER.get(self.source, unchanged)(token, state, draws)
        after, count = commit(state, model, token[:, None].to(model.dtype), active.long())
        none = torch.zeros_like(count)
        return after, Info(count, none, none, count, (int(Branch.SAMPLED) * count)[:, None], none)


def fresh(state, place):
    return state.drafting[torch.arange(len(place)), place]


def ring(size):
    def noise(state, place):
        return state.drafting[torch.arange(len(place)), place % size]

    return noise


def mirrored(state, place):
    """Every other row has the noise of the one before, with its sign turned."""
    noise = fresh(state, place)
    pairs = len(noise) // 2 * 2
    noise[1:pairs:2] = -noise[0:pairs:2]
    return noise


def diagonal(state, place):
    """A row's noise serves the row below it, one position later."""
    row = (torch.arange(len(place)) - place).remainder(len(place))
    return state.drafting[row, 0]


def shared(state, place):
    """The last coordinate has the noise of the first."""
    noise = fresh(state, place)
    noise[:, -1] = noise[:, 0]
    return noise


def clamped(state, place):
    """No noise lies beyond three standard deviations."""
    return fresh(state, place).clamp(-3, 3)


def narrow(row):
    """One row of each batch has noise that is narrower by a seventh."""

    def noise(state, place):
        found = fresh(state, place)
        if row < len(found):
            found[row] = found[row] * 0.85
        return found

    return noise


def in_steps(state, place):
    """Noise out of a table of a thousand and one."""
    return (fresh(state, place) * 100).round() / 100


def rounding(state, place):
    """Noise that went through single precision, and a logarithm with an epsilon: right, up to rounding."""
    uniform = torch.special.ndtr(fresh(state, place)).float().double()
    return torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9) + 1e-10)


def seldom_zero(state, place):
    return fresh(state, place)


def seldom_again(state, place):
    return fresh(state, place)


def unchanged(token, state, draws):
    return token


def some(token, draws):
    return draws.uniform(token[:, 0], torch.ones(len(token), dtype=torch.bool)) < 0.003


def zero_sometimes(token, state, draws):
    """The last coordinate is lost in three of a thousand tokens."""
    lost = some(token, draws)
    token[:, -1] = token[:, -1].where(~lost, 0.0)
    return token


def previous_sometimes(token, state, draws):
    before = state.tokens[torch.arange(len(token)), (state.length - 1).clamp(min=0)]
    again = some(token, draws) & (state.length > 0)
    return torch.where(again[:, None], before.to(token.dtype), token)


AFTER = {seldom_zero: zero_sometimes, seldom_again: previous_sometimes}
FRESH, ROUNDED = Plain(fresh), Plain(rounding)
RING4, RING9 = Plain(ring(4)), Plain(ring(9))
MIRRORED, DIAGONAL, SHARED = Plain(mirrored), Plain(diagonal), Plain(shared)
ROW2, ROW6, STEPS = Plain(narrow(2)), Plain(narrow(6)), Plain(in_steps)
CLAMPED, ZERO, AGAIN = Plain(clamped), Plain(seldom_zero), Plain(seldom_again)


@dataclass(frozen=True)
class Impatient(TokenRule):
    """The token rule, which keeps a rejected draft after all where `tries` proposals have failed."""

    tries: int = 60

    def couple(self, p, q, draft, draws, where):
        found = decide(p, q, draft, draws, where, self.tries)
        lost = where & ~found.resolved
        return Coupled(torch.where((where & ~lost)[..., None], found.x, draft), found.accepted | lost)


def impatient(window, draft_model):
    return Speculative(DraftModel(draft_model), window, Impatient())


class OneRow(Speculative):
    """A batch of one row keeps whatever is drafted."""

    def step(self, state, model, draws):
        alone = replace(self, judging=KeepsAll()) if len(state.length) == 1 else self
        return Speculative.step(alone, state, model, draws)


class KeepsAll(TokenRule):
    def couple(self, p, q, draft, draws, where):
        return Coupled(draft, where)


def one_row(window, draft_model):
    return OneRow(DraftModel(draft_model), window)


class TwoPasses(Speculative):
    """Looks twice, and says once."""

    def step(self, state, model, draws):
        model.laws(state.context, state.tokens[:, :0])
        return super().step(state, model, draws)


def two_passes(window, draft_model):
    return TwoPasses(DraftModel(draft_model), window)


class Honest(TwoPasses):
    """Looks twice, and says twice."""

    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        return after, replace(info, passes=2 * info.passes)


def honest(window, draft_model):
    return Honest(DraftModel(draft_model), window)


class NeverKeeps(TokenRule):
    """Draws every token anew: lossless, and no speculation."""

    def couple(self, p, q, draft, draws, where):
        return Coupled(p.sample(draws, where), torch.zeros_like(where))


def never_keeps(window, draft_model):
    return Speculative(DraftModel(draft_model), window, NeverKeeps())
