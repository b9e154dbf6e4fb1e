"""Block verification's functions: by hand, against the token rule, and the number of drafts that it keeps."""

import itertools
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from specverify.rules.block import block_residual, keep_probability, prefix_weights
from specverify.rules.token import accept_probability, residual
from toymodels.strategies import laws

EXACT = {"rtol": 0, "atol": 1e-12}


def windows(p, q, window):
    """Every window of drafts that a tree of laws can bring: (p, q, drafts, chance), p and q [rows, window, vocab].

    Args:
        p, q: one law per prefix, shortest prefixes first.
    """
    vocab = p.shape[1]
    drafts = torch.tensor(list(itertools.product(range(vocab), repeat=window)))
    place, prefix = [], torch.zeros(len(drafts), dtype=torch.int64)
    for slot in range(window):
        place.append(sum(vocab**n for n in range(slot)) + prefix)
        prefix = prefix * vocab + drafts[:, slot]
    index = torch.stack(place, 1)
    chance = q[index].gather(2, drafts[..., None]).squeeze(2).prod(1)
    possible = chance > 0
    return p[index][possible], q[index][possible], drafts[possible], chance[possible]


def kept(keep):
    """The expected last slot whose coin passes, counted from 1."""
    window = keep.shape[1]
    none_later = torch.cat([(1 - keep).flip(1).cumprod(1).flip(1)[:, 1:], torch.ones_like(keep[:, :1])], 1)
    return (keep * none_later * torch.arange(1, window + 1)).sum(1)


def full(draft):
    return torch.full((len(draft),), draft.shape[1])


@st.composite
def trees(draw):
    vocab, window = draw(st.sampled_from([(2, 1), (2, 2), (2, 3), (3, 2)]))
    rows = sum(vocab**n for n in range(window))
    p, q = (torch.stack(draw(st.lists(laws(vocab), min_size=rows, max_size=rows))) for _ in range(2))
    return p, q, window


def test_by_hand():
    p = torch.tensor([[[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]], dtype=torch.float64)
    q = torch.tensor([[[0.25, 0.5, 0.25], [0.125, 0.125, 0.75]]], dtype=torch.float64)
    draft = torch.tensor([[1, 2]])
    weights = prefix_weights(p, q, draft)
    assert weights.tolist() == [[1, 1 / 2, 1 / 6]]
    # Behind the first draft P p - q = (1/8, 0, -5/8): h_1 = (1/8) / (1/8 + 1/2).
    assert_close(
        keep_probability(p, q, weights, torch.tensor([2])), torch.tensor([[0.2, 1 / 6]], dtype=torch.float64), **EXACT
    )
    assert keep_probability(p, q, weights, torch.tensor([1])).tolist() == [[0.5, 0]]
    assert keep_probability(p, q, weights, torch.tensor([0])).tolist() == [[0, 0]]
    assert block_residual(p[:, 1], q[:, 1], weights[:, 1]).tolist() == [[1, 0, 0]]
    assert block_residual(p[:, 0], q[:, 0], weights[:, 0]).tolist() == [[1, 0, 0]]


def test_s8_the_example_of_the_paper():
    """p = (1/3, 2/3), q = (2/3, 1/3): of two drafts the token rule keeps 10/9, block verification 11/9."""
    p, q = (torch.tensor([law] * 3, dtype=torch.float64) / 3 for law in ([1, 2], [2, 1]))
    p, q, draft, chance = windows(p, q, 2)
    block = float(chance @ kept(keep_probability(p, q, prefix_weights(p, q, draft), full(draft))))
    token = float(chance @ accept_probability(p, q, draft).cumprod(1).sum(1))
    assert token == pytest.approx(float(Fraction(10, 9)), abs=1e-15)
    assert block == pytest.approx(float(Fraction(11, 9)), abs=1e-15)


@given(trees())
@settings(max_examples=150)
def test_no_fewer_drafts_are_kept_than_by_the_token_rule(tree):
    p, q, window = tree
    p, q, draft, chance = windows(p, q, window)
    weights = prefix_weights(p, q, draft)
    block = float(chance @ kept(keep_probability(p, q, weights, full(draft))))
    token = float(chance @ accept_probability(p, q, draft).cumprod(1).sum(1))
    assert block >= token - 1e-12
    # A prefix is kept with chance P: the part of it that the target asks for.
    assert block == pytest.approx(float(chance @ weights[:, 1:].sum(1)), abs=1e-12)


@given(trees())
@settings(max_examples=100)
def test_what_comes_out_of_a_window_has_the_target_law(tree):
    """Over the drafts of a window, the coins, and the tokens that follow."""
    p_table, q_table, window = tree
    vocab = p_table.shape[1]
    p, q, draft, chance = windows(p_table, q_table, window)
    weights = prefix_weights(p, q, draft)
    keep = keep_probability(p, q, weights, full(draft))
    none_later = torch.cat([(1 - keep).flip(1).cumprod(1).flip(1), torch.ones_like(keep[:, :1])], 1)
    due = windows(q_table, p_table, window)  # every sequence that the target can bring
    law = torch.zeros(vocab**window, dtype=torch.float64)

    def index(tokens):
        return int(sum(token * vocab ** (window - 1 - place) for place, token in enumerate(tokens)))

    def spread(prefix, mass):
        """Mass on all continuations of a prefix, by the target law."""
        for tokens, weight in zip(due[2].tolist(), due[3].tolist(), strict=True):
            if tokens[: len(prefix)] == prefix:
                law[index(tokens)] += mass * weight / under(prefix)

    def under(prefix):
        return sum(w for t, w in zip(due[2].tolist(), due[3].tolist(), strict=True) if t[: len(prefix)] == prefix)

    for row, tokens in enumerate(draft.tolist()):
        for tau in range(window + 1):
            mass = float(chance[row] * (keep[row, tau - 1] if tau else 1.0) * none_later[row, tau])
            if mass < 1e-15:
                continue
            if tau == window:
                law[index(tokens)] += mass
                continue
            follows = block_residual(p[row, tau], q[row, tau], weights[row, tau])
            for token in follows.nonzero().flatten().tolist():
                spread([*tokens[:tau], token], mass * float(follows[token]))
    target = torch.zeros_like(law)
    for tokens, weight in zip(due[2].tolist(), due[3], strict=True):
        target[index(tokens)] += weight
    assert_close(law, target, **EXACT)


@given(st.integers(2, 4).flatmap(lambda vocab: st.tuples(laws(vocab), laws(vocab))), st.data())
def test_one_draft_is_judged_as_by_the_token_rule(pair, data):
    p, q = (law[None, None] for law in pair)
    draft = torch.tensor([[data.draw(st.sampled_from(q[0, 0].nonzero().flatten().tolist()))]])
    weights = prefix_weights(p, q, draft)
    assert torch.equal(keep_probability(p, q, weights, full(draft)), accept_probability(p, q, draft))
    assert torch.equal(block_residual(p[:, 0], q[:, 0], weights[:, 0]), residual(p[:, 0], q[:, 0]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_drafts_of_the_target_itself_are_all_kept(dtype):
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(50, 6, 5, dtype=dtype, generator=generator).softmax(-1)
    draft = torch.randint(5, (50, 6), generator=generator)
    drafted = torch.arange(50) % 7
    keep = keep_probability(p, p, prefix_weights(p, p, draft), drafted)
    assert torch.equal(keep, (torch.arange(6) < drafted[:, None]).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_probabilities_stay_probabilities_whatever_is_rounded(dtype):
    generator = torch.Generator().manual_seed(1)
    p, q = ((6 * torch.randn(4000, 8, 4, generator=generator)).softmax(-1).to(dtype) for _ in range(2))
    close = (p.float() * (1 + 1e-3 * torch.randn(p.shape, generator=generator))).to(dtype)
    for law in (q, close):
        draft = torch.multinomial(law.float().flatten(0, 1), 1, generator=generator).view(4000, 8)
        weights = prefix_weights(p, law, draft)
        keep = keep_probability(p, law, weights, full(draft))
        assert ((keep >= 0) & (keep <= 1)).all()
        assert ((weights >= 0) & (weights <= 1)).all()
        follows = block_residual(p[:, 1:], law[:, 1:], weights[:, 1:-1])
        assert (follows >= 0).all()
        assert (follows.sum(-1) > 0.5).all()
