"""The token rule as an identity between laws: exact, over laws with zeros, ties, one outcome, or p = q."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from rule_laws import gumbel_collision
from torch.testing import assert_close

from specverify.rules.token import accept_probability, at, maximal_coupling, residual, total_variation

EXACT = {"rtol": 0, "atol": 1e-12}


def law(weights):
    weights = torch.tensor(weights, dtype=torch.float64)
    return weights / weights.sum()


def laws(vocab):
    """Small integers make zeros and ties; floats make everything else, small masses among it."""
    weight = st.integers(0, 4) | st.floats(1e-9, 1)
    return st.lists(weight, min_size=vocab, max_size=vocab).filter(any).map(law)


pairs = st.integers(1, 7).flatmap(lambda vocab: st.tuples(laws(vocab), laws(vocab)))
disjoint, equal, tied = (law([1, 0]), law([0, 1])), (law([1, 2, 3]),) * 2, (law([1, 1, 2]), law([2, 1, 1]))


def tabulated(p, q):
    """The tokens that q can draw, their probability, the chance to keep each, and the law that each turns into."""
    token = (q > 0).nonzero().squeeze(1)
    spread = (p.expand(len(token), -1), q.expand(len(token), -1), token)
    return token, at(q.expand(len(token), -1), token), accept_probability(*spread), maximal_coupling(*spread)


@given(pairs)
@example(disjoint)
@example(equal)
@example(tied)
def test_t1_the_emitted_token_has_law_p_and_is_the_draft_with_probability_one_minus_tv(pair):
    p, q = pair
    token, mass, keep, coupled = tabulated(p, q)
    distance = total_variation(p, q)
    assert_close(mass @ coupled, p, **EXACT)
    assert_close(mass @ keep, 1 - distance, **EXACT)
    assert_close((p - q).clamp(min=0).sum(), distance, **EXACT)
    # The same by hand: what is accepted, and what the residual adds.
    accepted = torch.zeros_like(p).index_add(0, token, mass * keep)
    assert_close(accepted, torch.minimum(p, q), **EXACT)
    assert_close(accepted + distance * residual(p, q), p, **EXACT)


@given(pairs, st.integers(0, 6))
def test_t2_a_one_hot_draft_is_kept_with_its_own_probability_and_leaves_p_without_it(pair, token):
    p = pair[0]
    token %= len(p)
    q = torch.zeros_like(p)
    q[token] = 1
    _, _, keep, coupled = tabulated(p, q)
    assert_close(keep, p[token, None], **EXACT)
    assert_close(coupled[0], p, **EXACT)
    if p[token] < 1:
        rest = p.clone()
        rest[token] = 0
        assert_close(residual(p, q), rest / rest.sum(), **EXACT)


def transport_plan(p, q, generator):
    """A random coupling of p and q: blends of the independent one and of north-west corner plans in random orders."""
    plan, blend = np.zeros((len(p), len(q))), generator.dirichlet(np.ones(4))
    plan += blend[0] * np.outer(p, q)
    for weight in blend[1:]:
        rows, columns = generator.permutation(len(p)), generator.permutation(len(q))
        edges = np.unique(np.concatenate([[0], p[rows].cumsum(), q[columns].cumsum()]).clip(0, 1))
        middle = (edges[:-1] + edges[1:]) / 2
        row = rows[np.searchsorted(p[rows].cumsum(), middle).clip(max=len(p) - 1)]
        column = columns[np.searchsorted(q[columns].cumsum(), middle).clip(max=len(q) - 1)]
        np.add.at(plan, (row, column), weight * np.diff(edges))
    return plan


@given(pairs, st.integers(0, 2**32 - 1))
@example(tied, 0)
def test_t3_no_coupling_keeps_a_draft_more_often(pair, key):
    p, q = pair
    plan = transport_plan(p.numpy(), q.numpy(), np.random.default_rng(key))
    np.testing.assert_allclose(plan.sum(1), p, atol=1e-12)
    np.testing.assert_allclose(plan.sum(0), q, atol=1e-12)
    assert np.trace(plan) <= float(1 - total_variation(p, q)) + 1e-12
    token, mass, _, coupled = tabulated(p, q)
    assert_close((mass * at(coupled, token)).sum(), 1 - total_variation(p, q), **EXACT)


@given(pairs)
@example(equal)
def test_t4_independent_redraws_collide_at_most_exp_of_minus_the_mean_collision_entropy(pair):
    p, q = pair
    bound = torch.exp((p.square().sum().log() + q.square().sum().log()) / 2)
    assert (p * q).sum() <= bound + 1e-12
    assert_close((p * p).sum(), torch.exp(p.square().sum().log()), **EXACT)  # attained at q = p


@given(pairs)
@example(disjoint)
@example(equal)
def test_t6_and_t7_gumbel_collisions_lie_between_weighted_minhash_and_the_maximal_coupling(pair):
    p, q = pair
    distance, collision = total_variation(p, q), gumbel_collision(p, q)
    # Weighted MinHash collides with the Jaccard similarity of the weights, sum min / sum max.
    minhash = torch.minimum(p, q).sum() / torch.maximum(p, q).sum()
    assert_close(minhash, (1 - distance) / (1 + distance), **EXACT)
    assert minhash - 1e-12 <= collision <= 1 - distance + 1e-12
    if torch.equal(p, q):
        assert_close(collision, torch.ones_like(collision), **EXACT)
    if len(p) == 2:
        assert_close(collision, 1 - distance, **EXACT)


@given(st.integers(2, 5).flatmap(lambda vocab: st.lists(st.tuples(laws(vocab), laws(vocab)), min_size=6, max_size=6)))
def test_rules_act_on_every_law_of_a_batch_alone(pairs_of_laws):
    p, q = (torch.stack(part) for part in zip(*pairs_of_laws, strict=True))
    draft = q.argmax(-1)
    shape = (2, 3)
    for rule, arguments in (
        (accept_probability, (p, q, draft)),
        (maximal_coupling, (p, q, draft)),
        (residual, (p, q)),
        (total_variation, (p, q)),
        (gumbel_collision, (p, q)),
    ):
        alone = torch.stack([rule(*(argument[row] for argument in arguments)) for row in range(6)])
        batched = rule(*(argument.view(*shape, *argument.shape[1:]) for argument in arguments))
        assert_close(batched.flatten(0, 1), alone, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_where_p_equals_q_nothing_is_rejected_and_the_residual_is_p(dtype):
    p = law([0.3, 0, 0.7]).to(dtype)
    assert accept_probability(p, p, torch.tensor(2)) == 1
    assert torch.equal(residual(p, p), p)
    assert residual(p, p).dtype == dtype


def test_a_draft_that_neither_law_can_draw_gives_nan_and_never_a_decision():
    p, q = law([1, 0, 1]), law([1, 0, 2])
    assert accept_probability(p, q, torch.tensor(1)).isnan()
