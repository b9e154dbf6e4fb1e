"""The token rule over continuous tokens: acceptance by the ratio of densities, the residual by thinning.

`p` is the law that a token should have, `q` the law that the draft was really drawn from; both are batches of one
shape. Everything is computed from log densities. With beta = 1 - TV(p, q), and as E_q min(1, p/q) = beta,

    a draft is rejected with probability Z = 1 - beta,
    its residual (p - q)+ / Z lies below p / Z, and a proposal from p is kept with (1 - q/p)+: with probability Z,
    so that a rejected draft costs 1/Z proposals on average, and a decision, over all drafts, exactly one:
    E[T] = 1, Var[T] = 2 beta / (1 - beta).

The rule is that of Leviathan et al. (arXiv 2211.17192) and Chen et al. (arXiv 2302.01318), and with thinning the
maximal coupling of Jacob, O'Leary and Atchade (arXiv 1708.03625). CSpD (arXiv 2411.11925) resamples so, under M = 1/Z.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify import tree
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import Law, check_fit, check_pair, repeated, select

_ROUND_NUMBERS = 1 << 22
"""About how many numbers a round of proposals may hold, where that many proposals are wanted."""
HOPELESS = 10**9
"""Proposals for one row after which p and q cannot be densities: a decision rejects its draft and then so many with
probability 1 / (e HOPELESS) at most (`failure_bound`)."""


class Resolved(NamedTuple):
    """What thinning found.

    Attributes:
        x: Float[*shape, dim], the tokens; 0 where none was asked for.
        trials: Int[*shape], proposals looked at, up to and with the one that was kept; 0 where none was asked for.
        resolved: Bool[*shape], whether one was kept. Without a limit that is everywhere; elsewhere x is a fresh draw
            from p.
        bias: how far from p, in total variation, the limit can have moved the law of one decision: 0 without one,
            and 1, which says nothing, for a ratio with a factor in it.
    """

    x: Float[Tensor, "*shape dim"]
    trials: Int[Tensor, "*shape"]
    resolved: Bool[Tensor, "*shape"]
    bias: float


class Decision(NamedTuple):
    """A draft judged: the token, whether it is the draft, and what thinning took where it is not (see Resolved)."""

    x: Float[Tensor, "*shape dim"]
    accepted: Bool[Tensor, "*shape"]
    trials: Int[Tensor, "*shape"]
    resolved: Bool[Tensor, "*shape"]
    bias: float


def log_ratio(p: Law, q: Law, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape"]:
    """log p(x) - log q(x), in double precision. Its exponential has mean 1 under q (C1).

    Raises:
        InputError: p, q and x do not fit.
    """
    check_fit(p, q, x)
    return p.log_prob(x) - q.log_prob(x)


def accept_probability(p: Law, q: Law, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape"]:
    """min(1, p(x) / q(x)) of the draft x ~ q; its mean is 1 - TV(p, q)."""
    return log_ratio(p, q, x).clamp(max=0).exp()


def thin_probability(p: Law, q: Law, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape"]:
    """(1 - q(x) / p(x))+ of the proposal x ~ p; its mean is TV(p, q)."""
    return -torch.expm1(-log_ratio(p, q, x).clamp(min=0))


def thin(
    p: Law,
    q: Law,
    draws: Draws,
    where: Bool[Tensor, "*shape"],
    limit: int | None = None,
    log_factor: Float[Tensor, "*shape"] | None = None,
) -> Resolved:
    """A token of each residual law (p - q)+ / Z, where one is wanted.

    Proposals come in rounds: each open row gets as many as the others leave room for, and takes the first that is
    kept. Between rounds the host reads which rows are still open; their number falls geometrically, and one row gets
    twice as many proposals in each round. Rows whose p and q have the same parameters have no residual; only rounding
    can have rejected there, and they take a draw from p. Chains are more than their parameters: they have no such rows.

    Args:
        p: the law of the proposals.
        q: the law that is taken off it.
        draws: the randomness.
        where: the rows that need a token: those whose draft was rejected. Elsewhere a nearly equal pair may keep it
            busy for 1/Z proposals.
        limit: proposals per row, None for as many as it takes.
        log_factor: the log of a factor of p inside the ratio, (f p - q)+ / f; None for 1. Other factors belong to
            criteria that are no residual of (p, q).

    Raises:
        InputError: shapes that do not fit, a limit below 1, a factor without a limit, laws that are no distributions,
            or densities of which no residual is found (see HOPELESS).
    """
    check_fit(p, q, where=where)
    check_limit(limit)
    if log_factor is not None and limit is None:
        raise InputError("with a factor in the ratio there may be nothing to keep; set a limit of trials")
    target, draft = select(p, where), select(q, where)
    count = tree.batch_size(target)
    shift = where.new_zeros(count, dtype=torch.float64) if log_factor is None else log_factor[where]
    equal = _same_rows(target, draft) & (shift == 0)
    trials, resolved = torch.ones_like(shift, dtype=torch.int64), where.new_zeros(count)
    places, tokens = [], []
    still, tried, size = (~equal).nonzero().squeeze(1), 0, 1
    room = max(count, _ROUND_NUMBERS // _numbers_per_row(target))
    while len(still) and tried != limit:
        if tried >= HOPELESS and limit is None:
            raise InputError(
                f"none of {tried:,} proposals is in the residual of a rejected draft, which is almost impossible: the "
                "log_prob of p and q are no densities, or the draft is none of q's"
            )
        size = max(1, min(size, room // len(still), limit - tried if limit else room))
        open_rows = (target, draft, shift)
        found, which, kept = _round(*(open_rows if len(still) == count else select(open_rows, still)), draws, size)
        hit = still[found]
        places.append(hit)
        tokens.append(kept[found])
        resolved[hit] = True
        trials[still] = torch.where(found, tried + which + 1, tried + size)
        still, tried, size = still[~found], tried + size, 2 * size
    left = (~resolved).nonzero().squeeze(1)
    places.append(left)
    tokens.append(select(target, left).sample(draws, where.new_ones(len(left))))
    token = torch.cat(tokens)[torch.cat(places).argsort()]
    settled = ~where | _spread(resolved | equal, where)
    bias = 0.0 if limit is None else 1.0 if log_factor is not None else failure_bound(limit)
    return Resolved(_spread(token, where), _spread(trials, where), settled, bias)


def accept(
    p: Law, q: Law, x: Float[Tensor, "*shape dim"], draws: Draws, where: Bool[Tensor, "*shape"]
) -> Bool[Tensor, "*shape"]:
    """Whether each draft x ~ q is kept, where asked: with `accept_probability`.

    Raises:
        InputError: shapes that do not fit, and, naming the value, laws that are no distributions or drafts that are
            not finite. Values are looked at only once a ratio is NaN.
    """
    check_fit(p, q, x, where)
    probability = accept_probability(p, q, x)
    wrong = where & probability.isnan()
    if bool(wrong.any()):
        check_pair(*select((p, q), wrong), x[wrong])
        raise InputError("a draft has no density under p nor under q; drafts are drawn from q")
    return draws.bernoulli(probability, where)


def decide(
    p: Law,
    q: Law,
    x: Float[Tensor, "*shape dim"],
    draws: Draws,
    where: Bool[Tensor, "*shape"],
    limit: int | None = None,
) -> Decision:
    """The token rule: the draft x ~ q if it is accepted, else a token of the residual. Its law is p.

    It is a maximal coupling of p and q, whatever they are: no other keeps the draft more often.
    """
    accepted = accept(p, q, x, draws, where)
    found = thin(p, q, draws, where & ~accepted, limit)
    token = torch.where(accepted[..., None], x, found.x.to(x.dtype))
    return Decision(token, accepted, found.trials, found.resolved, found.bias)


def failure_bound(limit: int) -> float:
    """The most that a decision fails, over all overlaps beta: (1 - beta) beta^K (C4) at beta = K/(K + 1)."""
    check_limit(limit)
    return (limit / (limit + 1)) ** limit / (limit + 1)


def check_limit(limit: object, name: str = "limit") -> None:
    """Raise InputError unless a limit of trials is None or a whole number of at least 1."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise InputError(
            f"{name} = {limit!r}: a rejected draft takes at least one trial; None allows as many as needed"
        )


def _round(
    p: Law, q: Law, shift: Float[Tensor, " rows"], draws: Draws, size: int
) -> tuple[Bool[Tensor, " rows"], Int[Tensor, " rows"], Float[Tensor, "rows dim"]]:
    """`size` proposals for each row: whether one was kept, which one first, and that one."""
    if size > 1:
        p, q, shift = repeated((p, q, shift), size)
    everywhere = torch.ones_like(shift, dtype=torch.bool)
    proposal = p.sample(draws, everywhere)
    ratio = log_ratio(p, q, proposal) + shift
    if bool(ratio.isnan().any()):
        check_pair(p, q, proposal)
        raise InputError("a proposal of p has the log density NaN; mend the log_prob of p or q")
    kept = draws.bernoulli(-torch.expm1(-ratio.clamp(min=0)), everywhere)
    if size == 1:
        return kept, torch.zeros_like(kept, dtype=torch.int64), proposal
    which = kept.int().argmax(1)
    return kept.any(1), which, proposal[torch.arange(len(which), device=which.device), which]


def _same_rows(p: Law, q: Law) -> Bool[Tensor, " rows"]:
    """Where p and q have the same parameters, for laws of one kind that are nothing but their tensors."""
    parts = list(zip(tree.tensors(p), tree.tensors(q), strict=False))
    same = torch.ones(p.shape, dtype=torch.bool, device=parts[0][0].device)
    bare = all(isinstance(value, Tensor) for value in vars(p).values())
    if type(p) is not type(q) or not bare or any(mine.shape != other.shape for mine, other in parts):
        return ~same
    for mine, other in parts:
        same &= (mine == other).flatten(1).all(1) if mine.ndim > 1 else mine == other
    return same


def _numbers_per_row(law: Law) -> int:
    return max(law.dim, sum(tensor[:1].numel() for tensor in tree.tensors(law)))


def _spread(values: Tensor, where: Tensor) -> Tensor:
    """Values of the rows that were asked for, at their places; 0 elsewhere."""
    full = values.new_zeros((*where.shape, *values.shape[1:]))
    full[where] = values
    return full
