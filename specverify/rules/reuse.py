"""Reuse of drafts (SJD++, arXiv 2512.07503): behind a rejection a draft stays where its new law does not disfavour it.

A draft x ~ q stays if p(x) > threshold q(x), and is else drawn anew from p. What then stands there has neither the law
q nor p, but

    m(v) = q(v) [p(v) > threshold q(v)] + p(v) sum_x q(x) [p(x) <= threshold q(x)],

and with m as its label decoding stays lossless. No official code is known; reimplementations label it p, which is not.
Pure functions on laws, over any leading shape.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from specverify.rules.token import at

THRESHOLD = 0.5
"""Nothing is published on a ratio; the paper speaks of confident drafts."""


def stays(
    p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], threshold: float = THRESHOLD
) -> Float[Tensor, "*shape vocab"]:
    """1 for each token that stays if it is the draft, else 0."""
    return (p > threshold * q).to(p.dtype)


def reused(
    p: Float[Tensor, "*shape vocab"],
    q: Float[Tensor, "*shape vocab"],
    draft: Int[Tensor, "*shape"],
    threshold: float = THRESHOLD,
) -> Float[Tensor, "*shape vocab"]:
    """The law of what stands in the place of a draft: the draft itself, or p."""
    kept = at(stays(p, q, threshold), draft)[..., None]
    return kept * one_hot(draft, p.shape[-1]).to(p.dtype) + (1 - kept) * p


def reuse_label(
    p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], threshold: float = THRESHOLD
) -> Float[Tensor, "*shape vocab"]:
    """m, the law of `reused` over drafts x ~ q."""
    kept = q * stays(p, q, threshold)
    return torch.addcmul(kept, (q - kept).sum(-1, keepdim=True), p)
