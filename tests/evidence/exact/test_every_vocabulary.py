"""Few tokens stand for many: what carries a proof from four tokens to any number, seen in floats; and proofs at many.

Where a law is used token by token, and beyond that in sums over tokens of what doubles when their entries double, all
tokens but the one that is emitted can be exchanged for as many as there are such sums, with scaled entries, and no sum
changes (docs/proofs.md). A decoder with a draft model that looks at nothing else of laws, and is proved at as many
tokens, and one, is then right at all.
"""

import numpy as np
import pytest
import torch
from evidence.exact.fooling import judging, off
from scipy.optimize import linprog

from specverify.decoders.registry import Settings, build
from specverify.defects import registry as defects
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.exact.proof import Box, prove
from specverify.rules.token import accept_probability
from toymodels.tables import TableModel

MANY, SUMS = 7, 3
"""Tokens, and sums over them that the token rule takes: of p, of q and of (p - q)+."""
OTHERS = ["inverted-ratio", "residual-softmaxed", "missing-sync-partial-residual-sum"]
"""They take another sum, one of what does not double, and one over half of the tokens."""


def fewer(p, q):
    """Which tokens stand for all but the first, beside it, and by what their entries are multiplied."""
    rest = np.stack([p, q, np.maximum(p - q, 0)])[:, 1:]
    found = linprog(np.arange(MANY - 1), A_eq=rest, b_eq=rest.sum(1), method="highs-ds")
    kept = np.flatnonzero(found.x > 1e-12)
    assert len(kept) <= SUMS
    kept = np.concatenate([kept, np.setdiff1d(np.arange(MANY - 1), kept)[: SUMS - len(kept)]])
    return np.concatenate([[0], kept + 1]), np.concatenate([[1.0], found.x[kept]])


def models(first, second):
    """Target and draft model whose laws are these: of the first token, and of the second whatever the first."""
    return [
        TableModel(name, torch.from_numpy(np.concatenate([one[None], two])), 2)
        for name, one, two in zip(("p", "q"), first, second, strict=True)
    ]


def chance(make, target, draft):
    """Of the sequence of two first tokens."""
    decoder = make(Settings(window=2, draft_model=draft))
    return float(enumerate_decoder(decoder, target).law[0])


def before_and_after(make, seed):
    generator = np.random.default_rng(seed)
    first = generator.dirichlet(np.ones(MANY), 2)
    second = generator.dirichlet(np.ones(MANY), (2, MANY))
    kept, factors = fewer(*first)
    behind = []
    for before in kept:  # what hangs on a token goes with it, itself of fewer tokens
        tokens, scaled = fewer(second[0, before], second[1, before])
        behind.append(second[:, before, tokens] * scaled)
    few = first[:, kept] * factors
    assert few.sum(1) == pytest.approx(1, abs=1e-12)
    return chance(make, *models(first, second)), chance(make, *models(few, np.stack(behind, 1)))


def right(settings):
    return build("sd", settings)


@pytest.mark.parametrize("name", ["sd", "recovered-from-target"])
def test_four_tokens_stand_for_seven(name, seed):
    make = right if name == "sd" else defects.get(name).build
    for number in range(20):
        many, few = before_and_after(make, seed + number)
        assert few == pytest.approx(many, abs=1e-12)


@pytest.mark.parametrize("name", OTHERS)
def test_not_where_a_law_is_used_otherwise(name, seed):
    apart = [abs(np.subtract(*before_and_after(defects.get(name).build, seed + number))) for number in range(20)]
    assert max(apart) > 1e-6


def keeps_by_five(p, q, draft):
    """As the token rule, but for the sum of all products of five entries, which four tokens have none of."""
    sums = [torch.ones_like(p[..., 0])] + [torch.zeros_like(p[..., 0])] * 5
    for entry in p.unbind(-1):
        sums = [sums[0], *(sums[k] + sums[k - 1] * entry for k in range(1, 6))]
    return accept_probability(p, q, draft) * (1 - sums[5])


def test_four_are_few_for_another_sum():
    """The argument is of the token rule's own sums, and no proof sees which a decoder takes."""
    build_wrong = judging(keeps_by_five)
    assert prove(build_wrong, Box(4, 2, 1, drafts=True)).proved
    assert off(build_wrong, *[[0.2] * 5, [0.4, 0.15, 0.15, 0.15, 0.15]]) > 1e-5
    assert not prove(build_wrong, Box(5, 2, 1, drafts=True)).proved


SIZES = [(5, 3, 2), (8, 2, 1)]


@pytest.mark.thinned(2)
@pytest.mark.parametrize("sizes", [*SIZES, pytest.param((16, 2, 1), marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("name", ["sd", "sjd", "scd-mc"])
def test_they_are_proved_at_many_tokens(name, sizes):
    found = prove(lambda settings: build(name, settings), Box(*sizes, drafts=name == "sd"))
    assert found.proved, found
    assert found.error_bits > 80
