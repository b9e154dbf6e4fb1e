"""The output density of one step over continuous tokens, by quadrature: exact rules, and CSpD's criterion.

What is judged is the first token of a toy in one dimension, drafted by one of its draft laws. Exact rules are
integrated as they are: what is summed over the nodes are the acceptance, thinning and reflection of `rules`. Heads are
those of the toy with two steps, so that the states before the token can be summed over too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from specverify.errors import InputError
from specverify.evidence import quadrature
from specverify.evidence.quadrature import Line, LogDensity, Output
from specverify.evidence.surrogate import CRITERIA, Trajectories, surrogate, trajectories
from specverify.laws import Chain, ContinuousModel, Denoiser, Gaussian, Law, Mixture, at, repeated, select
from specverify.rules import reflection
from specverify.rules.cspd import Criterion
from specverify.rules.rejection import accept_probability, thin_probability
from specverify.rules.trajectory import Paths
from toymodels import continuous, continuous_drafts

NODES = 48
"""Nodes for each noise that target and draft share."""
_ROWS = 256
_MANY = 16
_WIDTH, _COARSE = 0.25, 1.5
"""Widths of a panel for a token, in scales: the second where kinks of what is kept and what replaces it cancel."""
_REACH = 7.0
"""Scales to either side of a state; 3e-12 of a Gaussian lies beyond."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A target's law of one token, a draft's, and nodes for both.

    Attributes:
        p, q: of shape [1], in one dimension.
        on: nodes.
        log_p, log_q: log densities of a token.
    """

    p: Law
    q: Law
    on: Line
    log_p: LogDensity
    log_q: LogDensity


def pair(model: str, draft: str, order: int = quadrature.ORDER) -> Pair:
    """The first token of a toy beside its draft's.

    Raises:
        InputError: for toys of more than one dimension.
    """
    target = continuous.toy(model)
    if target.dim != 1:
        raise InputError(f"toy {model!r} has {target.dim} dimensions; quadrature takes toys of one, such as gauss-1x6")
    p, q = (_two_steps(law) for law in first_laws(target, draft))
    on, log_p, log_q = _line(marginal(p), marginal(q), order)
    return Pair(p, q, on, log_p, log_q)


def overlap(model: ContinuousModel, draft: str) -> float:
    """1 - TV(p, q) of the first token: in closed form where covariances are equal, else, in one dimension, summed."""
    p, q = (marginal(law) for law in first_laws(model, draft))
    if not isinstance(p, Mixture) and bool(reflection.equal_covariance(p, q).all()):
        return float(reflection.overlap(p, q))
    return quadrature.overlap(*_line(p, q))


def first_laws(target: ContinuousModel, draft: str) -> tuple[Law, Law]:
    """The laws of the first token, the target's and its draft's, of shape [1]."""
    laws = target.laws(target.start(1), torch.zeros(1, 0, target.dim, dtype=target.dtype))
    p = at(laws, torch.zeros(1, dtype=torch.int64))
    return p, continuous_drafts.alter(draft, p)


def marginal(law: Law) -> Any:
    """The law of a token itself, where that is a diffusion head's."""
    return law.marginal() if isinstance(law, Chain) else law


def _two_steps(law: Law) -> Law:
    return Chain(law.condition, Denoiser(1, 2)) if isinstance(law, Chain) else law


def _line(
    p: Gaussian | Mixture, q: Gaussian | Mixture, order: int = quadrature.ORDER, width: float = _WIDTH
) -> tuple[Line, LogDensity, LogDensity]:
    """Nodes for two laws of shape [1] over R, and their log densities."""
    log_p, log_q = quadrature.density(p), quadrature.density(q)
    bumps = [_bumps(law) for law in (p, q)]
    centres, scales = ([value for each in bumps for value in each[k]] for k in (0, 1))
    return quadrature.line(centres, scales, (log_p, log_q), order=order, width=width), log_p, log_q


def _bumps(law: Gaussian | Mixture) -> tuple[list[float], list[float]]:
    """Centres and scales. A mixture of very many is a quadrature's, and smooth: its moments tell where it lies."""
    mean, scale = law.mean.ravel(), law.scale.ravel()
    if isinstance(law, Mixture) and len(mean) > _MANY:
        weight = law.log_weight.ravel().exp()
        centre = weight @ mean
        mean, scale = centre[None], (weight @ (scale.square() + (mean - centre).square())).sqrt()[None]
    return mean.tolist(), scale.tolist()


Rule = Callable[[Pair, int], Output]


def _coupled(p: Any, q: Any, on: Line, mirror: bool) -> tuple[np.ndarray, np.ndarray]:
    """The density of drafts that are kept and of what replaces the others, [laws, nodes], of laws of shape [laws]."""
    mine, theirs = repeated(p, len(on.x)), repeated(q, len(on.x))
    x = torch.from_numpy(on.x)[:, None].expand(*mine.shape, 1)
    weight = torch.from_numpy(on.weight)
    kept = theirs.log_prob(x).exp() * accept_probability(mine, theirs, x)
    if mirror:
        draft = reflection.reflect(theirs, mine, x)  # a mirror image's mirror image is the draft, at the same density
        replaced = theirs.log_prob(draft).exp() * (1 - accept_probability(mine, theirs, draft))
    else:
        residual = mine.log_prob(x).exp() * thin_probability(mine, theirs, x)
        replaced = residual * ((1 - kept @ weight) / (residual @ weight))[:, None]
    return kept.numpy(), replaced.numpy()


def _one_step(pair: Pair, nodes: int, mirror: bool = False) -> Output:
    """The token rule, or the coupling by reflection."""
    if mirror:
        mirror = bool(reflection.equal_covariance(cast("Any", pair.p), cast("Any", pair.q)).all())
    kept, replaced = _coupled(pair.p, pair.q, pair.on, mirror)
    return Output(pair.on, np.exp(pair.log_p(pair.on.x)), (kept + replaced)[0], pair.on.integral(kept[0]))


def _shared(pair: Pair, nodes: int) -> Trajectories:
    return trajectories(cast("Chain", pair.p), cast("Chain", pair.q), nodes)


def _last_step(pair: Pair, nodes: int) -> Output:
    """Trajectories of one noise, coupled at their last step."""
    over = _shared(pair, nodes)
    parts = ((over.mean_p, over.scale_p), (over.mean_q, over.scale_q))
    mine, theirs = (Gaussian(*(torch.from_numpy(part)[:, None] for part in law)) for law in parts)
    return _couplings(pair, mine, theirs, over.weight)


def _couplings(pair: Pair, mine: Gaussian, theirs: Gaussian, weight: Float[np.ndarray, " trajectories"]) -> Output:
    """Tokens coupled given what came before, by reflection where covariances are equal, summed over that."""
    on = _coarse(pair)
    out, accepted = np.zeros(len(on.x)), 0.0
    for start in range(0, len(weight), _ROWS):
        rows = torch.arange(start, min(start + _ROWS, len(weight)))
        p, q = select((mine, theirs), rows)
        kept, replaced = _coupled(p, q, on, bool(reflection.equal_covariance(p, q).all()))
        part = weight[rows.numpy()]
        out += part @ (kept + replaced)
        accepted += float(part @ (kept @ on.weight))
    return Output(on, np.exp(pair.log_p(on.x)), out, accepted)


@dataclass(frozen=True)
class _States:
    """The states x_2 and x_1 of two chains of two steps on a grid, x_1 symmetric about the middle of its two means.

    Attributes:
        x2: Float[rows, 1].
        x1: Float[rows, places, 1].
        weight2: of each x_2 in an integral.
        weight1: of each x_1 in one over its row.
    """

    x2: Float[Tensor, "rows 1"]
    x1: Float[Tensor, "rows places 1"]
    weight2: float
    weight1: Float[Tensor, " rows"]


def _states(p: Chain, q: Chain, nodes: int) -> _States:
    """The trapezoid rule, whose error for densities of this kind is rounding alone.

    Acceptance has kinks between the nodes, but what is kept at a node and what replaces it there add up to p, on a grid
    that reflection leaves alone: the errors cancel.
    """
    count, places = nodes // 2, 5 * nodes // 4
    x2 = torch.linspace(-_REACH, _REACH, count, dtype=torch.float64)[:, None]
    laws = [select(chain, torch.zeros(count, dtype=torch.int64)).transition(2, x2) for chain in (p, q)]
    centre = (laws[0].mean + laws[1].mean) / 2
    reach = (laws[0].mean - centre).abs() + _REACH * torch.maximum(laws[0].scale, laws[1].scale)
    x1 = centre + reach * torch.linspace(-1, 1, places, dtype=torch.float64)
    return _States(x2, x1[..., None], 2 * _REACH / (count - 1), (2 * reach / (places - 1))[:, 0])


def _coarse(pair: Pair) -> Line:
    return _line(marginal(pair.p), marginal(pair.q), pair.on.order, _COARSE)[0]


def _heads(pair: Pair) -> tuple[Chain, Chain]:
    p, q = cast("Chain", pair.p), cast("Chain", pair.q)
    first, other = p.first(), q.first()
    if not (torch.equal(first.mean, other.mean) and torch.equal(first.scale, other.scale)):
        raise InputError("the two chains begin with different noise, over whose couplings this does not sum")
    return p, q


def _path(pair: Pair, nodes: int) -> Output:
    """The token rule on whole trajectories."""
    p, q = _heads(pair)
    grid, on = _states(p, q, nodes), _coarse(pair)
    weight = (grid.weight1 * grid.weight2)[:, None].expand(grid.x1.shape[:2]).ravel()
    before = torch.stack([grid.x1[..., 0], grid.x2.expand(grid.x1.shape[:2])], -1).flatten(0, 1)
    token = torch.from_numpy(on.x)
    kept, residual = torch.zeros_like(token), torch.zeros_like(token)
    for start in range(0, len(weight), _ROWS):
        rows = before[start : start + _ROWS]
        path = torch.cat([token.expand(len(rows), -1)[..., None], rows[:, None].expand(-1, len(token), -1)], -1)
        every = torch.zeros(len(rows), dtype=torch.int64)
        mine, theirs = (Paths(repeated(select(chain, every), len(token))) for chain in (p, q))
        part = weight[start : start + _ROWS]
        kept += part @ (theirs.log_prob(path).exp() * accept_probability(mine, theirs, path))
        residual += part @ (mine.log_prob(path).exp() * thin_probability(mine, theirs, path))
    accepted, found = (on.integral(part.numpy()) for part in (kept, residual))
    out = kept.numpy() + (1 - accepted) / found * residual.numpy()
    return Output(on, np.exp(pair.log_p(on.x)), out, accepted)


def _steps(pair: Pair, nodes: int) -> Output:
    """Trajectories coupled at every step, by reflection where covariances are equal."""
    p, q = _heads(pair)
    grid = _states(p, q, nodes)
    rows, places = grid.x1.shape[:2]
    every = torch.zeros(rows, dtype=torch.int64)
    mine, theirs = (select(chain, every).transition(2, grid.x2) for chain in (p, q))
    start = select(p, every).first().log_prob(grid.x2).exp() * grid.weight2
    mirror = bool(reflection.equal_covariance(mine, theirs).all())
    mine, theirs = repeated((mine, theirs), places)
    drafted, accept = theirs.log_prob(grid.x1).exp(), accept_probability(mine, theirs, grid.x1)
    weight = (start * grid.weight1)[:, None]
    kept, rejected = weight * drafted * accept, weight * drafted * (1 - accept)
    if mirror:
        after, other, share = reflection.reflect(mine, theirs, grid.x1), grid.x1, rejected
    else:
        residual = mine.log_prob(grid.x1).exp() * thin_probability(mine, theirs, grid.x1)
        share = (residual / residual.sum(1, keepdim=True))[:, :, None] * rejected[:, None, :]
        after, other = (x.expand(rows, places, places, 1) for x in (grid.x1[:, :, None], grid.x1[:, None, :]))
    of_target, of_draft = (torch.cat([grid.x1.reshape(-1, 1), x.reshape(-1, 1)]) for x in (after, other))
    weights = torch.cat([kept.ravel(), share.ravel()])
    some = weights > 1e-14 / len(weights)
    every = torch.zeros(int(some.sum()), dtype=torch.int64)
    last, of_last = select(p, every).transition(1, of_target[some]), select(q, every).transition(1, of_draft[some])
    return _couplings(pair, last, of_last, weights[some].numpy())


def _surrogate(pair: Pair, nodes: int, criterion: Criterion) -> Output:
    return surrogate(pair.on, pair.log_p, _shared(pair, nodes), criterion)


EXACT: Mapping[str, Rule] = {
    "thinning": _one_step,
    "reflection": partial(_one_step, mirror=True),
    "maximal": partial(_one_step, mirror=True),
    "last-step": _last_step,
    "path": _path,
    "steps": _steps,
}
"""Rules that are lossless; "maximal" is the coupling of "reflection" where scales differ."""
CSPD: Mapping[str, Rule] = {
    # The paper sets no limit to its proposals.
    "cspd": partial(_surrogate, criterion=Criterion(limit=None)),
    **{
        f"cspd-{name.replace(' ', '-')}": partial(_surrogate, criterion=criterion)
        for name, criterion in CRITERIA.items()
        if name != "published"
    },
}
"""CSpD as published, with each departure of its code, and with all of them but its last step without noise."""
