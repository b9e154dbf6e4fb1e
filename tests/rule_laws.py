"""Laws for hypothesis to draw, and rules to try on them."""

import torch
from hypothesis import strategies as st

from specverify.rules import registry


def law(weights):
    weights = torch.tensor(weights, dtype=torch.float64)
    return weights / weights.sum()


def laws(vocab):
    """Small integers make zeros and ties; floats make everything else, small masses among it."""
    weight = st.integers(0, 4) | st.floats(1e-9, 1)
    return st.lists(weight, min_size=vocab, max_size=vocab).filter(any).map(law)


pairs = st.integers(2, 7).flatmap(lambda vocab: st.tuples(laws(vocab), laws(vocab)))


def gumbel_collision(p, q):
    """The chance that one race has the same winner under p and under q: sum_j 1 / sum_i max(p_i/p_j, q_i/q_j).

    Daliri et al. (arXiv 2408.07978).

    Tokens with p_j q_j = 0 contribute nothing. Takes memory vocab^2.
    """
    ratio = torch.maximum(p[..., :, None] / p[..., None, :], q[..., :, None] / q[..., None, :])
    possible = (p > 0) & (q > 0)
    # For a possible j the column is finite; the others hold 0/0 and are dropped whole.
    column = ratio.where(possible[..., None, :], 1.0).sum(-2)
    return (1 / column).where(possible, 0.0).sum(-1)


def context(vocab):
    """Token v at (v, v^2 / 7): no two distances tie, but for float rounding. Clusters of two, and what is left."""
    place = torch.arange(vocab, dtype=torch.float64)
    clusters = tuple(tuple(range(first, min(first + 2, vocab))) for first in range(0, vocab, 2))
    return registry.Context(torch.stack([place, place**2 / 7], 1), clusters)


BOLD = {
    "gsd": 4.0,
    "gsd-max": 4.0,
    "lantern": 0.4,
    "lantern++": 5.0,
    "scaling": 2.0,
    "amplify": 3.0,
    "cool": 4.0,
    "mixture": 0.4,
}
"""Values at which the rules do something on a small vocabulary."""


def rules(vocab):
    """Every rule, bold enough to be seen."""
    return {name: registry.build(name, BOLD.get(name), context(vocab)) for name in registry.names()}


def built(kind, **attributes):
    """An instance made past the type checker that tests run under and users do not."""
    instance = object.__new__(kind)
    for name, value in attributes.items():
        object.__setattr__(instance, name, value)
    instance.__post_init__()
