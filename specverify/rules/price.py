"""What a rule pays for what it gains, token by token and exactly: no sampling, and any laws, logged ones among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from specverify.errors import InputError
from specverify.rules.relaxation import Laws, Rates, Tokens
from specverify.rules.token import total_variation

_BLOCK = 1 << 24


@runtime_checkable
class Priced(Protocol):
    """What is priced: any judging rule, exact ones too.

    One whose `recovers_alike` is true recovers from one law whatever draft was rejected, so that it is asked once.
    """

    def accept(self, p: Laws, q: Laws, draft: Tokens) -> Rates:
        """See Judging."""

    def recover(self, p: Laws, q: Laws, draft: Tokens) -> Laws:
        """See Judging."""


@dataclass(frozen=True)
class Price:
    """Per law, Float[...].

    Attributes:
        acceptance: A, the probability that a draft x ~ q is kept.
        alpha: 1 - TV(p, q), what the token rule accepts: the most that any exact rule can.
        gain: A - alpha.
        bias: TV(P_out, p), with P_out the law of the token that comes out.
        excess: bias - gain; at least 0 for any rule, and 0 on the frontier.
        law: P_out itself, Float[..., vocab].
    """

    acceptance: Tensor
    alpha: Tensor
    gain: Tensor
    bias: Tensor
    excess: Tensor
    law: Tensor


def price(
    p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*alike options"], judging: Priced, block: int = _BLOCK
) -> Price:
    """The price of one judged token, P_out(y) = sum_x q(x) [a(x) 1(x = y) + (1 - a(x)) r(y | x)].

    Every draft that some q can draw is tried. Sums are in double precision.

    Args:
        p, q: laws of one shape, Float[..., vocab]; for rules with a schedule, [..., window, vocab].
        judging: the rule.
        block: most probabilities held at a time; drafts are tried in blocks of block / p.numel().

    Raises:
        InputError: p and q differ in shape.
    """
    if p.shape != q.shape:
        raise InputError(f"p has shape {tuple(p.shape)} and q {tuple(q.shape)}; both are [..., vocab]")
    out = torch.zeros_like(q, dtype=torch.float64)
    acceptance, rejected = torch.zeros_like(out[..., 0]), torch.zeros_like(out[..., 0])
    law = _one_law(p, q, judging)
    possible = (q > 0).reshape(-1, q.shape[-1]).any(0).nonzero().squeeze(1)
    for drafts in possible.split(max(1, block // max(1, p.numel()))):
        # The draft comes first, so that the last axes are what the rule sees in a decoder.
        ps, qs = (law.expand(len(drafts), *law.shape) for law in (p, q))
        draft = drafts.reshape(-1, *[1] * (p.ndim - 1)).expand(ps.shape[:-1])
        drawn = q.index_select(-1, drafts).movedim(-1, 0).double()
        kept = torch.where(drawn > 0, drawn * judging.accept(ps, qs, draft).double(), 0.0)
        if law is None:
            recovered = judging.recover(ps, qs, draft).double()
            out += ((drawn - kept)[..., None] * recovered.where(drawn[..., None] > 0, 0.0)).sum(0)
        out.index_add_(-1, drafts, kept.movedim(0, -1))
        acceptance += kept.sum(0)
        rejected += (drawn - kept).sum(0)
    if law is not None:
        out += rejected[..., None] * law.double()
    alpha = 1 - total_variation(p.double(), q.double())
    bias = total_variation(out, p.double())
    gain = acceptance - alpha
    return Price(acceptance, alpha, gain, bias, bias - gain, out)


def _one_law(p: Laws, q: Laws, judging: Priced) -> Laws | None:
    """The law that every rejected draft is replaced from, if a rule says that there is one and it holds."""
    if not getattr(judging, "recovers_alike", False):
        return None
    law, other = (judging.recover(p, q, draft) for draft in (q.argmax(-1), p.argmax(-1)))
    return law if torch.equal(law, other) else None
