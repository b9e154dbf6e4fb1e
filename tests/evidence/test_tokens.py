"""What `reduce` makes of a trace, by exact integration and enumeration over small vocabularies."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specverify import tree
from specverify.decoders import registry, sample
from specverify.errors import InputError
from specverify.evidence import tokens
from specverify.evidence.tokens import TILTS, reduce, traced
from specverify.model import Checked
from toymodels import toy


@st.composite
def laws(draw):
    weights = draw(st.lists(st.integers(0, 20), min_size=1, max_size=8).filter(any))
    return np.array(weights) / sum(weights)


def reduce_all(law, seed=0):
    """Statistics of every possible token under one law, and the uniforms that went in."""
    support = np.flatnonzero(law > 0)
    found = reduce(np.tile(law, (len(support), 1, 1)), support[:, None], np.random.default_rng(seed))
    return found, np.random.default_rng(seed).random((len(support), 1))[:, 0], law[support]


@given(laws())
def test_the_transform_is_exactly_uniform(law):
    # given the token, the transform is uniform on an interval as long as its probability; the intervals tile [0, 1]
    found, uniforms, p = reduce_all(law)
    low = found.pit[:, 0].numpy() - uniforms * p
    order = np.argsort(low)
    ends = np.append(low[order], 1.0)
    np.testing.assert_allclose(np.diff(ends), p[order], atol=1e-12)
    assert ends[0] == pytest.approx(0, abs=1e-12)
    assert (np.diff(p[order]) <= 1e-15).all(), "likely tokens come first"


@given(laws())
def test_moments_and_tilts_are_those_of_the_law(law):
    found, _, p = reduce_all(law)
    excess = (found.surprisal - found.entropy)[:, 0].numpy()
    assert (p * excess).sum() == pytest.approx(0, abs=1e-12)
    assert (p * excess**2).sum() == pytest.approx(float(found.variance[0, 0]), abs=1e-12)
    for i, tilt in enumerate(TILTS):
        bets = np.exp(tilt * found.surprisal[:, 0].numpy() - found.tilted[:, 0, i].numpy())
        assert (p * bets).sum() == pytest.approx(1, abs=1e-12)
    assert bool(found.open.all()) == (len(p) > 1)
    assert not found.impossible.any()


def test_ties_keep_the_order_of_token_ids():
    law = np.array([0.25, 0.25, 0.5])
    found, uniforms, _ = reduce_all(law)
    low = found.pit[:, 0].numpy() - uniforms * law
    np.testing.assert_allclose(low, [0.5, 0.75, 0.0], atol=1e-15)


def test_impossible_tokens_are_told_and_do_not_poison():
    found = reduce(torch.tensor([[[0.5, 0.5, 0.0]]]), torch.tensor([[2]]), np.random.default_rng(0))
    assert found.impossible.tolist() == [[True]]
    assert found.surprisal.isfinite().all()
    assert float(found.pit) == 1.0


def test_positions_that_do_not_count_are_uniform_and_silent():
    law = torch.tensor([0.9, 0.1, 0.0]).expand(200, 2, 3)
    tokens = torch.tensor([0, 2]).expand(200, 2)
    counted = torch.tensor([True, False]).expand(200, 2)
    found = reduce(law, tokens, np.random.default_rng(0), counted=counted)
    assert found.open.tolist() == counted.tolist()
    assert not found.impossible.any()
    np.testing.assert_array_equal(found.pit[:, 1].numpy(), np.random.default_rng(0).random((200, 2))[:, 1])


def test_a_certain_token_is_uniform_and_closed():
    found = reduce(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[1]]), np.random.default_rng(3))
    assert float(found.pit) == np.random.default_rng(3).random((1, 1))[0, 0]
    assert not found.open.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_blocks_join_to_the_whole(dtype):
    generator = torch.Generator().manual_seed(0)
    laws = torch.softmax(torch.randn(6, 5, 40, generator=generator, dtype=torch.float64), -1).to(dtype)
    tokens = torch.randint(40, (6, 5), generator=generator)
    whole = reduce(laws, tokens, np.random.default_rng(0))
    stream = np.random.default_rng(0)
    blocks = tree.join([reduce(laws[i : i + 2], tokens[i : i + 2], stream) for i in (0, 2, 4)])
    for name in ("pit", "surprisal", "entropy", "variance", "tilted", "open", "impossible"):
        assert torch.equal(getattr(whole, name), getattr(blocks, name))
    assert whole.pit.dtype == torch.float64


def test_bad_input_is_named():
    law, generator = torch.full((1, 1, 2), 0.5), np.random.default_rng(0)
    with pytest.raises(InputError, match=r"tokens have shape \(1, 2\), but the laws are for \(1, 1\)"):
        reduce(law, np.zeros((1, 2), dtype=np.int64), generator)
    with pytest.raises(InputError, match=r"tokens hold 2..2, outside 0..1"):
        reduce(law, torch.tensor([[2]]), generator)
    with pytest.raises(InputError, match="a law of the trace does not sum to 1"):
        reduce(law * 2, torch.tensor([[0]]), generator)
    with pytest.raises(InputError, match="there are no tokens"):
        reduce(law[:0], torch.zeros(0, 1, dtype=torch.int64), generator)


def test_a_trace_read_in_parts_is_the_trace_read_at_once(monkeypatch, seed):
    model = Checked(toy("dense-4x6"))
    drawn = sample(registry.build("ar", registry.Settings()), model, 50, seed=seed).tokens
    whole = traced(model, drawn, 20, np.random.default_rng(0))
    calls = model.inner.laws
    asked = []
    monkeypatch.setattr(model.inner, "laws", lambda *given: asked.append(given[1].shape[1]) or calls(*given))
    monkeypatch.setattr(tokens, "AT_ONCE", 20 * 4 * 4 + 3)
    parts = traced(model, drawn, 20, np.random.default_rng(0))
    assert asked == [3, 1, 3, 1, 5]  # of 20, 20 and 10 rows
    for field in ("surprisal", "entropy", "variance", "tilted", "open", "impossible"):
        torch.testing.assert_close(getattr(parts, field), getattr(whole, field))
