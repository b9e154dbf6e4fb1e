import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import toymodels
from specverify import tree
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.laws import Chain, CheckedContinuous, ContinuousModel, Gaussian, at, select
from specverify.rules.reflection import equal_covariance, overlap
from specverify.rules.rejection import accept_probability
from toymodels.continuous import digest, fixed_tokens, known, names, toy
from toymodels.continuous_drafts import alter, draft, kinds

DIGESTS = json.loads((Path(toymodels.__file__).parent / "continuous_digests.json").read_text())


def law_of_row(laws, slot):
    """The laws of all rows at one slot."""
    return at(laws, torch.full((laws.shape[0],), slot))


def same(laws, other):
    return all(torch.equal(a, b) for a, b in zip(tree.tensors(laws), tree.tensors(other), strict=True))


def test_every_toy_has_its_digest_on_file():
    assert tuple(DIGESTS) == names()
    assert len(set(DIGESTS.values())) == len(DIGESTS)


@pytest.mark.parametrize("name", names())
def test_a_name_fixes_its_law_for_ever(name):
    assert digest(toy(name)) == DIGESTS[name]


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind != "identical"])
def test_digests_differ_between_a_target_and_its_drafts(kind):
    for name in ("gauss-2x6", "full-2x4", "mix-1x6", "chain-2x4"):
        assert digest(draft(kind, toy(name))) != DIGESTS[name]


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", names())
def test_toys_are_models_of_the_size_that_they_say(name):
    model = toy(name, torch.float32)
    dim, length = (int(part) for part in name.split("-")[1].split("x"))
    assert isinstance(model, ContinuousModel)
    assert (model.name, model.dim, model.length) == (name, dim, length)
    assert (model.dtype, model.device) == (torch.float32, torch.device("cpu"))
    checked = CheckedContinuous(model)
    laws = checked.laws(checked.start(5), fixed_tokens(5, length, dim).float())
    assert laws.shape == (5, length + 1)
    assert {part.dtype for part in tree.tensors(laws)} == {torch.float32}
    x = laws.sample(Sampled(0), torch.ones(laws.shape, dtype=torch.bool))
    assert (x.shape, x.dtype) == ((5, length + 1, dim), torch.float32)
    double = toy(name).laws(toy(name).start(5), fixed_tokens(5, length, dim).float().double())
    for mine, other in zip(tree.tensors(laws), tree.tensors(double), strict=True):
        assert_close(mine, other.float(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", names())
def test_a_window_gives_the_laws_that_single_steps_give_whatever_the_batch(name):
    model = toy(name)
    tokens = fixed_tokens(4, model.length, model.dim)
    whole = model.laws(model.start(4), tokens)
    context = model.start(4)
    for k in range(model.length):
        alone = model.laws(context, tokens[:, :0])
        assert same(law_of_row(whole, k), law_of_row(alone, 0))
        context = model.advance(context, tokens[:, k:], torch.ones(4, dtype=torch.int64))
    row = model.laws(model.start(1), tokens[2:3])
    assert same(row, select(whole, torch.tensor([2])))


@pytest.mark.parametrize("name", names())
def test_rows_advance_by_counts_of_their_own(name):
    model = toy(name)
    tokens = fixed_tokens(3, 3, model.dim)
    ragged = model.advance(model.start(3), tokens, torch.tensor([0, 3, 1]))
    for row, count in enumerate([0, 3, 1]):
        alone = model.advance(model.start(1), tokens[row : row + 1, :count], torch.tensor([count]))
        assert torch.equal(ragged.state[row], alone.state[0])


@pytest.mark.parametrize("name", names())
def test_every_law_depends_on_every_token_before(name):
    """On the last one alone in the long toy: what lies further back fades."""
    model = toy(name)
    tokens = fixed_tokens(1, model.length, model.dim)
    last = law_of_row(model.laws(model.start(1), tokens[:, :-1]), model.length - 1)
    for k in range(0 if model.length < 40 else model.length - 2, model.length - 1):
        other = tokens.clone()
        other[0, k, -1] += 1
        moved = law_of_row(model.laws(model.start(1), other[:, :-1]), model.length - 1)
        change = max(float((a - b).abs().max()) for a, b in zip(tree.tensors(last), tree.tensors(moved), strict=True))
        assert change > 1e-4
    later = tokens.clone()
    later[0, -1] += 1
    laws = (model.laws(model.start(1), sequence) for sequence in (tokens, later))
    assert same(*(law_of_row(law, model.length - 1) for law in laws))


@pytest.mark.parametrize("name", ["equal-1x6", "equal-4x4", "equal-16x4"])
def test_equal_toys_have_one_covariance_whatever_came_before(name):
    """To the last bit, which is what a reflection asks for; means differ."""
    model, other = toy(name), toy(name.replace("equal", "gauss").replace("4x4", "8x4"))
    laws, varied = (m.laws(m.start(50), fixed_tokens(50, m.length - 1, m.dim)) for m in (model, other))
    assert bool((laws.scale == laws.scale[0, 0]).all())
    assert float(varied.scale.std(0)[1:].min()) > 0.01
    assert float(laws.mean[:, 1:].std((0, 1)).min()) > 0.1
    assert len(laws.scale[0, 0].unique()) == model.dim


@pytest.mark.parametrize("name", ["gauss-1x6", "gauss-16x4", "full-2x4", "full-8x4", "equal-4x4"])
def test_gaussian_drafts_overlap_as_their_kind_says(name):
    model = toy(name)
    p = model.laws(model.start(8), fixed_tokens(8, 2, model.dim))
    shifted = alter("shifted", p)
    assert bool(equal_covariance(p, shifted).all())
    assert_close(overlap(p, shifted), torch.full(p.shape, 0.6170750774519738, dtype=torch.float64))
    assert_close(overlap(p, alter("near", p)), torch.full(p.shape, 0.9900266, dtype=torch.float64))
    assert float(overlap(p, alter("disjoint", p)).max()) < 1e-80
    for kind, factor in (("wider", 1.5), ("narrower", 1 / 1.5)):
        other = alter(kind, p)
        assert torch.equal(other.mean, p.mean)
        spread = [list(tree.tensors(law))[1] for law in (p, other)]
        assert_close(spread[1], spread[0] * factor ** (model.dim**-0.5))


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", [name for name in names() if name != "score-1x4"])
def test_drafts_of_any_kind_overlap_alike_in_any_dimension(name, seed):
    model = toy(name)
    everywhere = torch.ones(4000, 1, dtype=torch.bool)
    rates = {}
    for kind in kinds():
        p, q = (m.laws(m.start(4000), torch.zeros(4000, 0, m.dim).double()) for m in (model, draft(kind, model)))
        rates[kind] = float(accept_probability(p, q, q.sample(Sampled(seed), everywhere)).mean())
    assert rates["identical"] == 1
    assert 0.98 < rates["near"] < 1
    assert rates["disjoint"] < 1e-12
    assert 0.45 < rates["shifted"] < 0.75
    assert 0.7 < rates["wider"] < 0.9
    assert 0.7 < rates["narrower"] < 0.9


@pytest.mark.parametrize("kind", kinds())
def test_drafts_are_models(kind):
    model = draft(kind, toy("chain-2x4"))
    checked = CheckedContinuous(model)
    laws = checked.laws(checked.start(2), fixed_tokens(2, 1, 2))
    context = checked.advance(checked.start(2), fixed_tokens(2, 1, 2), torch.tensor([1, 1]))
    assert same(law_of_row(laws, 1), law_of_row(model.laws(context, torch.zeros(2, 0, 2).double()), 0))
    assert (model.length, model.dim) == (4, 2)
    assert model.name == ("chain-2x4" if kind == "identical" else f"{kind}:chain-2x4")


@pytest.mark.parametrize("kind", ["shifted", "near", "disjoint", "wider", "narrower"])
def test_drafts_of_chains_share_covariances_where_only_the_data_moved(kind):
    model = toy("score-1x4")
    laws = [m.laws(m.start(1), torch.zeros(1, 0, 1).double()) for m in (model, draft(kind, model))]
    state = torch.zeros(1, 1, 1).double()
    equal = [equal_covariance(*(law.transition(t, state) for law in laws)).all() for t in range(1, 7)]
    assert all(equal) == (kind in ("shifted", "near", "disjoint"))
    assert any(equal) == (kind in ("shifted", "near", "disjoint"))
    # Marginals are known for each of them.
    for law in laws:
        assert law.marginal().shape == (1, 1)


def test_fixed_tokens_are_fixed_and_spread():
    tokens = fixed_tokens(100, 6, 3)
    assert torch.equal(tokens[:10, :2, :1], fixed_tokens(10, 2, 1))
    assert tokens.abs().max() < 2
    assert abs(float(tokens.mean())) < 0.1


def test_unknown_names_list_close_ones():
    for name in ("gaus-1x6", "gauss-0x6", "gauss-1x0", "gauss-1x06", "gauss-100x6"):
        with pytest.raises(InputError, match=rf"unknown continuous toy '{name}'; did you mean .*gauss-1x6.*\?"):
            toy(name)
        assert not known(name)
    with pytest.raises(InputError, match=r"unknown continuous toy '!'; known: gauss-1x6, .*score-1x4"):
        toy("!")
    with pytest.raises(InputError, match=r"unknown draft model 'wide'; did you mean wider"):
        draft("wide", toy("gauss-1x6"))


@pytest.mark.parametrize("name", ["gauss-3x7", "full-7x2", "mix-3x5", "chain-5x2", "equal-17x3"])
def test_a_family_has_toys_of_any_size(name):
    assert known(name)
    assert name not in names()
    model, (dim, length) = toy(name), map(int, name.partition("-")[2].split("x"))
    assert (model.name, model.dim, model.length) == (name, dim, length)
    tokens = fixed_tokens(2, length, dim).to(model.dtype)
    law = model.laws(model.start(2), tokens[:, :-1])
    assert law.sample(Sampled(0), torch.ones(2, length, dtype=torch.bool)).shape == (2, length, dim)


def test_laws_of_networks_need_drafts_of_their_own():
    class Head:
        dim, steps = 1, 1

        def first(self, condition):
            return Gaussian(condition, condition.exp())

        def transition(self, condition, t, x):
            return Gaussian(x, condition.exp())

    for kind in ("shifted", "wider"):
        with pytest.raises(InputError, match="no draft is known for this Chain; give a draft model of your own"):
            alter(kind, Chain(torch.zeros(2, 1), Head()))
