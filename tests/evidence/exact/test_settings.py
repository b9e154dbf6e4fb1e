"""Numbers of laws, and outcomes of tests of them, where torch takes a plain number, a size, a place or a flag.

What a function is set by is read by code that no name goes through. Each decoder here is wrong at some law, which is
shown in floats; at others it is right, so that only a look at its settings can tell.
"""

import pytest
import torch
from evidence.exact.fooling import judging, off
from torch.nn import functional as F

from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import prove
from specverify.rules.token import accept_probability, at

EVEN, ODD = (0.5, 0.4, 0.1), (0.1, 0.2, 0.7)


def left(law):
    """Rejected drafts are replaced from this law."""
    return judging(replace=lambda p, q, draft: law(p, q))


def halved(asked):
    """Drafts are kept half as often where something is true of p and q."""
    return judging(lambda p, q, draft: accept_probability(p, q, draft) * (0.5 if asked(p, q) else 1.0))


def first(mask):
    return mask.reshape(-1)[0]


def flagged(p, q):
    """In place, if a test says so: what is read later is then the positive part, or what was there before."""
    gap = p - q
    F.relu(gap, inplace=first(4 * p > q))
    return gap.abs()


WRONG = {
    "alpha of sub": (left(lambda p, q: torch.sub(p, q, alpha=first(4 * p > q).double()).clamp(min=0)), ODD, EVEN),
    "a flag": (left(flagged), ODD, EVEN),
    "a size of new memory": (halved(lambda p, q: torch.empty((first(4 * p < q).long(), 2)).shape[0]), ODD, EVEN),
    "an amount of padding": (
        halved(lambda p, q: F.pad(p, (0, first(4 * p < q).long())).shape[-1] != p.shape[-1]),
        ODD,
        EVEN,
    ),
    "how often numbers are repeated": (
        halved(lambda p, q: torch.repeat_interleave((p == q).long().flatten()).shape[0]),
        EVEN,
        (0.5, 0.3, 0.2),
    ),
    "the type of a view": (
        left(lambda p, q: (p != 0.5).double().view(torch.float64) * torch.relu(p - q)),
        EVEN,
        (0.3, 0.2, 0.5),
    ),
}
"""And the laws p and q at which it shows."""


@pytest.mark.parametrize("name", WRONG)
def test_a_setting_that_depends_on_laws_is_no_proof(name):
    build, p, q = WRONG[name]
    assert off(build, p, q) > 0.01, "it must be wrong"
    found = prove(build, Box(3, 1, 1, drafts=True), seed=3)
    assert not found.proved, found


def test_the_type_of_a_view_that_was_used_in_the_acceptance():
    def keep(p, q, draft):
        mask = (p != 0.314).double()
        return (at(mask.view(mask.dtype) * p, draft) / at(q, draft)).clamp(max=1)

    build = judging(keep)
    assert off(build, (0.314, 0.3, 0.386), (0.4, 0.3, 0.3)) > 0.3
    assert not prove(build, Box(3, 2, 2, drafts=True)).proved


@pytest.mark.parametrize("setting", ["size", "alpha", "pad"])
def test_the_same_settings_by_constants_are_followed(setting):
    """So that it is the laws that are refused, and not the functions."""
    law = {
        "size": lambda p, q: torch.relu(p - q)[..., : p.size(-1)],
        "alpha": lambda p, q: torch.sub(p, q, alpha=1).clamp(min=0),
        "pad": lambda p, q: F.pad(torch.relu(p - q), (0, 1))[..., :-1],
    }[setting]
    assert prove(left(law), Box(3, 1, 1, drafts=True)).proved


def test_a_minimum_is_not_compared_with_its_own_where_rounding_decides():
    """p - (p - q)+ is the smaller of both, and in floats it may be a little more than q."""

    def law(p, q):
        r = torch.relu(p - q)
        return torch.where(p - r <= q, r / r.sum(-1, keepdim=True), q)

    assert off(left(law), EVEN, (0.98, 0.01, 0.01)) > 0.3
    assert not prove(left(law), Box(3, 2, 2, drafts=True)).proved
    clamped = left(lambda p, q: torch.where(torch.minimum(p, q) <= q, torch.relu(p - q), q))
    assert prove(clamped, Box(3, 2, 2, drafts=True)).proved  # which no rounding comes into
