"""Several chains of drafts: lossless for every rule, and accepted as often as the rules' closed forms say."""

from functools import cache

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_laws import gumbel_collision

from specverify.decoders import DraftModel, ListGumbel, MultiDraft, Recursive, Speculative, run, sample
from specverify.draws import Sampled
from specverify.errors import BudgetError, ContractError, InputError
from specverify.evidence.budget import Budget
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import sequence_index, target_law
from specverify.model import Checked
from tests.rules.acceptance import best_acceptance, list_gumbel_bound, recursive_acceptance
from toymodels import TableModel, draft, names, strategies, toy
from toymodels.catalogue import enumerable

EXACT = 1e-12
RULES = {"multi": Recursive(), "different": Recursive(replacement=False), "list-gumbel": ListGumbel()}
BOTH = pytest.mark.parametrize("replacement", [True, False], ids=["independent", "different"])
TOYS = [name for name in names() if enumerable(name)]


@pytest.fixture(scope="module", autouse=True)
def unchecked():
    """Without type checks, which `test_step.py` makes of these decoders and which would take most of the time here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        yield


@cache
def model(name):
    return toy(name)


@cache
def truth(name):
    return target_law(model(name))


def assert_lossless(decoder, name):
    exact = enumerate_decoder(decoder, model(name))
    assert exact.tv(truth(name)) <= EXACT, f"{decoder} on {name}: total variation {exact.tv(truth(name)):.3g}"
    return exact


@pytest.mark.thinned(28)
@BOTH
@pytest.mark.parametrize("name", TOYS)
def test_two_chains_are_lossless_and_take_fewer_passes_than_one(name, replacement):
    other = draft("perturbed", model(name))
    for window in (1, 2) if model(name).vocab <= 3 else (1,):
        exact = assert_lossless(MultiDraft(other, window, 2, Recursive(replacement)), name)
        alone = enumerate_decoder(Speculative(DraftModel(other), window), model(name))
        assert exact.passes < alone.passes - 1e-6
        if window == 1:
            assert exact.acceptance_rate > alone.acceptance_rate


@pytest.mark.thinned(6)
@BOTH
@pytest.mark.parametrize("kind", ["independent", "disjoint", "one-hot", "identical"])
@pytest.mark.parametrize("name", ["dense-2x8", "sparse-3x5", "eos-3x6", "recurrent-3x6"])
def test_two_chains_are_lossless_for_every_draft_model(name, kind, replacement):
    exact = assert_lossless(MultiDraft(draft(kind, model(name)), 2, 2, Recursive(replacement)), name)
    if kind == "identical":
        assert exact.acceptance_rate == pytest.approx(1, abs=EXACT)
    if kind == "one-hot":  # all chains are the same, or there is one
        alone = enumerate_decoder(Speculative(DraftModel(draft(kind, model(name))), 2), model(name))
        assert exact.passes == pytest.approx(alone.passes, abs=EXACT)


@pytest.mark.thinned(2)
@BOTH
@pytest.mark.parametrize(("name", "window", "chains"), [("dense-3x6", 1, 4), ("sparse-3x5", 2, 3), ("dense-2x8", 3, 2)])
def test_more_chains_and_wider_windows_are_lossless(name, window, chains, replacement):
    """Among them more chains than tokens, of which some without replacement have no draft at all."""
    assert_lossless(MultiDraft(draft("perturbed", model(name)), window, chains, Recursive(replacement)), name)


@pytest.mark.thinned(8)
@pytest.mark.parametrize("kind", ["perturbed", "independent", "disjoint", "one-hot", "identical"])
@pytest.mark.parametrize(("window", "chains"), [(1, 1), (1, 4), (2, 2), (3, 2)])
def test_lists_of_races_are_lossless_over_two_tokens(kind, window, chains):
    exact = assert_lossless(MultiDraft(draft(kind, model("dense-2x8")), window, chains, ListGumbel()), "dense-2x8")
    if kind == "identical":
        assert exact.acceptance_rate == pytest.approx(1, abs=1e-9)


@given(st.data(), st.integers(1, 2), st.integers(1, 3), st.booleans(), st.sampled_from(list(RULES)))
@settings(max_examples=25)
def test_every_rule_is_lossless_on_any_model_with_any_draft_model(data, window, chains, eos, rule):
    target = data.draw(strategies.models((2, 2) if rule == "list-gumbel" else (2, 3), (2, 3), eos=eos))
    decoder = MultiDraft(data.draw(strategies.draft_models(target)), window, chains, RULES[rule])
    assert enumerate_decoder(decoder, target).tv(target_law(target)) <= EXACT


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["dense-3x6", "eos-3x6", "sparse-4x5"])
@pytest.mark.parametrize("window", [1, 2])
@BOTH
def test_one_chain_is_plain_speculative_decoding(name, window, replacement):
    other = draft("perturbed", model(name))
    one = assert_lossless(MultiDraft(other, window, 1, Recursive(replacement)), name)
    plain = enumerate_decoder(Speculative(DraftModel(other), window), model(name))
    for field in ("passes", "verified", "accepted", "draft_passes"):
        assert getattr(one, field) == pytest.approx(getattr(plain, field), abs=EXACT)
    assert one.branches == pytest.approx(plain.branches, abs=EXACT)


def one_token(*weights):
    law = torch.tensor([weights], dtype=torch.float64)
    return TableModel("one-token", law / law.sum(), 1)


def pair():
    """The laws of `tests/rules/test_multi_draft.py`, as models of one token."""
    return one_token(8, 6, 3, 2, 1), one_token(2, 2, 4, 4, 8)


@pytest.mark.parametrize(("chains", "due"), [(1, 0.5), (2, 0.6), (4, 0.744)])
def test_t10_the_acceptance_of_independent_drafts_is_that_of_the_closed_form(chains, due):
    target, other = pair()
    p, q = target.table[0], other.table[0]
    exact = enumerate_decoder(MultiDraft(other, 1, chains), target)
    assert exact.acceptance_rate == pytest.approx(due, abs=EXACT)
    assert exact.acceptance_rate == pytest.approx(float(recursive_acceptance(p, q, chains)), abs=EXACT)
    assert exact.acceptance_rate <= float(best_acceptance(p, q, chains)) + EXACT
    different = enumerate_decoder(MultiDraft(other, 1, chains, Recursive(replacement=False)), target)
    assert different.acceptance_rate >= exact.acceptance_rate - EXACT


laws_of_two = st.integers(1, 15).map(lambda weight: one_token(weight, 16 - weight))


@given(laws_of_two, laws_of_two, st.integers(1, 4))
@settings(max_examples=60)
def test_t11_the_acceptance_of_a_list_of_races_lies_between_its_bound_and_the_optimum(target, other, chains):
    exact = enumerate_decoder(MultiDraft(other, 1, chains, ListGumbel()), target)
    p, q = target.table[0], other.table[0]
    assert exact.tv(p) <= EXACT
    assert exact.acceptance_rate >= float(list_gumbel_bound(p, q, chains)) - EXACT
    assert exact.acceptance_rate <= float(best_acceptance(p, q, chains)) + EXACT
    if chains == 1:
        assert exact.acceptance_rate == pytest.approx(float(gumbel_collision(p, q)), abs=EXACT)


@pytest.mark.parametrize("chains", [2, 4])
def test_t11_a_list_of_races_over_five_tokens(chains, seed, agrees):
    """Sampled, since races over more than two tokens cannot be enumerated."""
    target, other = pair()
    p, q, n = target.table[0], other.table[0], 100_000
    result = sample(MultiDraft(other, 1, chains, ListGumbel()), target, n, seed)
    agrees(torch.bincount(result.tokens[:, 0], minlength=5), p, 0.02)
    error = 5 * 0.5 / n**0.5
    assert result.acceptance_rate >= float(list_gumbel_bound(p, q, chains)) - error
    assert result.acceptance_rate <= float(best_acceptance(p, q, chains)) + error


@pytest.mark.thinned(4)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["eos-3x6", "penalty-3x6"])
def test_three_chains_keep_the_law_where_they_are_sampled(rule, name, seed, agrees):
    subject = Checked(model(name))
    result = run(MultiDraft(draft("perturbed", model(name)), 4, 3, RULES[rule]), subject, 60_000, Sampled(seed))
    index = sequence_index(result.tokens, subject.vocab)
    agrees(torch.bincount(index, minlength=subject.vocab**subject.length), truth(name), 0.05)


@pytest.mark.parametrize("rule", RULES)
def test_worlds_run_one_by_one_give_the_same_law_and_costs(rule):
    weights = torch.tensor([[1, 3], [2, 1], [1, 1], [4, 1], [1, 5], [1, 2], [3, 1]], dtype=torch.float64)
    subject = TableModel("small", weights / weights.sum(1, keepdim=True), 3)
    decoder = MultiDraft(draft("perturbed", subject), 2, 2, RULES[rule])
    alone, together = (enumerate_decoder(decoder, subject, Budget(rows=rows)) for rows in (1, 1 << 16))
    assert alone.tv(target_law(subject)) <= EXACT
    assert alone.tv(together.law) <= EXACT
    for field in ("passes", "verified", "accepted", "draft_passes", "states", "worlds"):
        assert getattr(alone, field) == pytest.approx(getattr(together, field), abs=EXACT)


@pytest.mark.parametrize("rule", RULES)
def test_a_pass_over_all_chains_counts_once(rule, seed):
    subject, passes = toy("dense-3x6"), []

    class Counted(Checked):
        def laws(self, context, drafts):
            passes.append(drafts.shape)
            return super().laws(context, drafts)

    target, other = Counted(subject), draft("perturbed", subject)
    result = run(MultiDraft(other, 3, 4, RULES[rule]), target, 1, Sampled(seed))
    assert passes == [(4, 3)] * int(result.passes)
    assert result.draft_passes <= 4 * result.passes


def test_what_cannot_be_built_or_enumerated_says_so():
    target = model("dense-3x6")
    other = draft("perturbed", target)
    for chains in (0, -1, True, 1.5):
        with pytest.raises(InputError, match=f"chains {chains!r}: it is the number of chains, at least 1"):
            MultiDraft(other, 2, chains)
    for window in (0, 2.0):
        with pytest.raises(InputError, match=f"window {window!r}: it is the number of draft tokens per chain, at lea"):
            MultiDraft(other, window)
    with pytest.raises(InputError, match="has vocab 2, the target 'dense-3x6' 3"):
        MultiDraft(draft("perturbed", model("dense-2x8")), 2).init(target, 1, Sampled(0))
    with pytest.raises(ContractError, match="a race over 3 tokens cannot be enumerated"):
        enumerate_decoder(MultiDraft(other, 1, rule=ListGumbel()), target)
    with pytest.raises(BudgetError, match="takes more than 20,000 worlds; a length of 1 fits for certain"):
        enumerate_decoder(MultiDraft(other, 4), target, Budget(worlds=20_000))
