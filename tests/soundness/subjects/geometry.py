"""Speculative decoders of vectors that are right only where drafts are altered alike in all coordinates, or are few."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import torch

from specverify.decoders.continuous import Coupled, DraftModel, Speculative
from specverify.laws import FullGaussian, Gaussian, Mixture
from specverify.rules.reflection import equal_covariance
from specverify.rules.rejection import accept, decide, thin


def made(couple, drafting=DraftModel, view=lambda law: law):
    """What makes a decoder with a rule."""
    rule = SimpleNamespace(name="own", bias=0.0, view=view, couple=couple)
    return lambda window, draft_model: Speculative(drafting(draft_model), window, rule)


def plain(p, q, x, draws, where, late=None):
    late = torch.zeros_like(where) if late is None else late
    found = decide(p, q, x, draws, where)
    return Coupled(torch.where((where & ~late)[..., None], found.x, x), found.accepted | late)


def about_one_centre(p, q, x, draws, where):
    """The residual as if the draft's Gaussian had the target's mean."""
    kept = accept(p, q, x, draws, where)
    off = replace(q, mean=p.mean) if isinstance(q, Gaussian | FullGaussian) and not equal_covariance(p, q).all() else q
    return Coupled(thin(p, off, draws, where & ~kept).x.to(x.dtype).where((where & ~kept)[..., None], x), kept)


def with_one_weight(p, q, x, draws, where):
    """The draft's density by the weights of the target."""
    return plain(p, replace(q, log_weight=p.log_weight) if isinstance(q, Mixture) else q, x, draws, where)


def as_at_first(p, q, x, draws, where):
    """How far the draft is off at the first slot of a window, or in the first component, is used for all of them."""
    if isinstance(q, Mixture):
        off, wider = (q.mean - p.mean)[..., :1, :], (q.scale / p.scale)[..., :1, :]
        return plain(p, Mixture(q.log_weight, p.mean + off, p.scale * wider), x, draws, where)
    if isinstance(q, Gaussian):
        off, wider = ((q.mean - p.mean) / p.scale)[:, :1], (q.scale / p.scale)[:, :1]
        q = Gaussian(p.mean + off * p.scale, p.scale * wider)
    return plain(p, q, x, draws, where)


def only_components(p, q, x, draws, where):
    """The same for mixtures alone."""
    return (as_at_first if isinstance(q, Mixture) else plain)(p, q, x, draws, where)


def late_ones_kept(p, q, x, draws, where):
    """Coins for six slots alone."""
    return plain(p, q, x, draws, where, where & (torch.arange(where.shape[1]) >= 6))


def by_fours(p, q, x, draws, where):
    """What takes four coordinates of float32 at a time forgets the residual."""
    kept = accept(p, q, x, draws, where)
    forgets = x.dtype == torch.float32 and x.shape[-1] % 4 == 0
    lost = where & ~kept
    other = p.sample(draws, lost) if forgets else thin(p, q, draws, lost).x
    return Coupled(other.to(x.dtype).where(lost[..., None], x), kept)


def by_absolute_length(p, q, x, draws, where):
    """Reflection along a vector whose length is taken from the mean of its absolute coordinates."""
    if not isinstance(p, Gaussian | FullGaussian) or not equal_covariance(p, q).all():
        return plain(p, q, x, draws, where)
    kept = accept(p, q, x, draws, where)
    apart = -p.whiten(q.mean)
    along = apart / (apart.abs().sum(-1, keepdim=True) / p.dim**0.5).clamp(min=1e-12)
    noise = q.whiten(x)
    turned = p.colour(noise - 2 * along * (along * noise).sum(-1, keepdim=True))
    return Coupled(turned.to(x.dtype).where((where & ~kept)[..., None], x), kept)


def _a_quarter_on(noise):
    """A normal number that is a function of another."""
    return torch.special.ndtri(((torch.special.ndtr(noise) + 0.25) % 1).clamp(1e-15, 1 - 1e-15))


@dataclass(frozen=True)
class Stratified(DraftModel):
    """Drafts of a first pass of which row r + 16 takes its noise from row r, in blocks of 32."""

    def propose(self, state, model, window, draws):
        draft = super().propose(state, model, window, draws)
        law = draft.law
        if not isinstance(law, Gaussian) or bool((state.length > 0).any()):
            return draft
        noise = law.whiten(draft.token)
        row = torch.arange(len(noise))
        of = torch.where((row % 32 >= 16)[:, None, None], _a_quarter_on(noise[(row - 16).clamp(min=0)]), noise)
        first = law.colour(of)[:, :1].to(draft.token.dtype)
        return replace(draft, token=torch.cat([first, draft.token[:, 1:]], 1)) if window == 1 else draft


right = made(plain)
CENTRE = made(about_one_centre)
WEIGHT = made(with_one_weight)
FIRST = made(as_at_first)
COMPONENT = made(only_components)
BAND = made(
    plain, view=lambda law: replace(law, cholesky=law.cholesky.triu(-1)) if isinstance(law, FullGaussian) else law
)
LATE = made(late_ones_kept)
FOURS = made(by_fours)
LENGTH = made(by_absolute_length)
SIXTEEN = made(plain, Stratified)
