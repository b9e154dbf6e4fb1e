"""Decoders whose chances depend on whether probabilities are 0, and those that use fused functions of torch."""

from __future__ import annotations

import torch
from evidence.exact.fooling import judging

from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import prove
from specverify.rules.token import at

ONE_STEP = Box(2, 1, 1, drafts=True)


def of_an_einsum(p, q, draft):
    """p(x) / q(x), of which p(x) is found as a product of p and of a law that is certain."""
    certain = torch.zeros_like(p).scatter(-1, draft[..., None], 1.0)
    return (torch.einsum("bwv,bwv->bw", p, certain) / at(q, draft)).clamp(max=1)


def test_what_einsum_gives_is_a_view_that_nobody_keeps():
    found = prove(judging(of_an_einsum), ONE_STEP, seed=1)
    assert found.proved, found.why
