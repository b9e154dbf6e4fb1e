"""Block verification: lossless where drafts are fresh, faster than the token rule; lossy on coupled ones."""

from functools import cache

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specverify.claims import ClusterLossless, Relaxed
from specverify.decoders import Block, Draft, DraftModel, Jacobi, Speculative, sample
from specverify.errors import ContractError, InputError
from specverify.evidence.budget import Budget
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law
from specverify.model import Checked
from toymodels import TableModel, draft, names, strategies, toy
from toymodels.catalogue import enumerable
from toymodels.tables import prefixes

EXACT = 1e-12
TOYS = [name for name in names() if enumerable(name)]
SMALL = ("dense-2x8", "sparse-3x5", "eos-3x6", "ties-3x5", "penalty-3x6")


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


def both(drafting, window, name):
    """The exact laws of the token rule and of the block, the latter shown to be lossless."""
    token = enumerate_decoder(Speculative(drafting, window), model(name))
    block = enumerate_decoder(Speculative(drafting, window, Block()), model(name))
    assert block.tv(truth(name)) <= EXACT, f"{drafting}, window {window}, {name}: {block.tv(truth(name)):.3g}"
    return token, block


@pytest.mark.thinned(12)
@pytest.mark.parametrize("name", TOYS)
def test_with_a_draft_model_it_is_lossless_and_takes_fewer_passes(name):
    drafting = DraftModel(draft("perturbed", model(name)))
    narrow, wide = (both(drafting, window, name) for window in (1, 3))
    for field in ("passes", "verified", "accepted", "draft_passes"):
        assert getattr(narrow[0], field) == pytest.approx(getattr(narrow[1], field), abs=EXACT)
    assert wide[1].passes < wide[0].passes - 1e-4
    assert wide[1].accepted > wide[0].accepted


@pytest.mark.thinned(6)
@pytest.mark.parametrize("name", TOYS)
def test_with_independent_jacobi_drafts_it_is_lossless_and_takes_fewer_passes(name):
    """Fewer by experience: a step keeps more drafts, but which ones decides what the next drafts are."""
    token, block = both(Jacobi(), 2, name)
    assert block.passes < token.passes + (1e-5 if name == "switch-3x6" else EXACT)
    assert (block.passes > token.passes + EXACT) == (name == "switch-3x6")


@pytest.mark.thinned(6)
@pytest.mark.parametrize("kind", ["independent", "disjoint", "one-hot", "identical"])
@pytest.mark.parametrize("name", SMALL)
def test_it_is_lossless_for_every_draft_model(name, kind):
    for window in (2, 3, model(name).length + 1):
        _, block = both(DraftModel(draft(kind, model(name))), window, name)
        if kind == "identical":
            assert block.acceptance_rate == pytest.approx(1, abs=EXACT)


@pytest.mark.thinned(6)
@pytest.mark.parametrize("initial", ["repeat-left", "zero", "random", "sample-left"])
@pytest.mark.parametrize("name", SMALL)
def test_it_is_lossless_for_every_initial_draft(name, initial):
    """Without a pass that has looked at it a slot is judged as certain, whatever it holds, drawn ahead or not."""
    for window in (2, 3) if initial in ("random", "sample-left") else (2, 3, 5):
        both(Jacobi("independent", initial), window, name)


@pytest.mark.parametrize("name", ["dense-2x8", "eos-3x6"])
@pytest.mark.parametrize("drafting", [DraftModel, lambda _: Jacobi()])
def test_without_a_bonus_token_it_is_lossless_too(name, drafting):
    decoder = Speculative(drafting(draft("perturbed", model(name))), 2, Block(), bonus=False)
    exact = enumerate_decoder(decoder, model(name))
    assert exact.tv(truth(name)) <= EXACT
    assert exact.branches["bonus"] == 0


@given(st.data(), st.integers(1, 4), st.booleans(), st.sampled_from(["repeat-left", "random", "sample-left"]))
@settings(max_examples=25)
def test_it_is_lossless_on_any_model_with_any_draft_model(data, window, eos, initial):
    target = data.draw(strategies.models((2, 3), (2, 4), eos=eos))
    drafting = data.draw(
        st.one_of(strategies.draft_models(target).map(DraftModel), st.just(Jacobi("independent", initial)))
    )
    exact = enumerate_decoder(Speculative(drafting, window, Block()), target)
    assert exact.tv(target_law(target)) <= EXACT


def test_s8_two_drafts_of_the_example_of_the_paper(worlds):
    """Of two drafts the token rule keeps 10/9 on average, block verification 11/9."""
    laws = torch.tensor([[1, 2], [2, 1]], dtype=torch.float64) / 3
    p, q = (TableModel("iid", law.repeat(prefixes(2, 3), 1), 3) for law in laws)
    for decoder, due in ((Speculative(DraftModel(q), 2), 10 / 9), (Speculative(DraftModel(q), 2, Block()), 11 / 9)):

        def one_round(draws, decoder=decoder):
            return decoder.step(decoder.init(p, draws.batch, draws), p, draws)[1].accepted

        accepted, weight = worlds(one_round)
        assert float((weight * accepted).sum()) == pytest.approx(due, abs=1e-14)


def test_worlds_run_one_by_one_give_the_same_law_and_costs():
    subject = toy("eos-3x6")
    for drafting in (DraftModel(draft("perturbed", subject)), Jacobi()):
        decoder = Speculative(drafting, 2, Block())
        alone, together = (enumerate_decoder(decoder, subject, Budget(rows=rows)) for rows in (7, 1 << 16))
        assert alone.tv(together.law) <= EXACT
        assert alone.passes == pytest.approx(together.passes, abs=EXACT)


@pytest.mark.parametrize("name", ["dense-3x6", "sparse-4x5", "eos-3x6"])
def test_single_precision_laws_are_enumerated_to_single_precision(name):
    single = toy(name, torch.float32)
    for drafting in (DraftModel(draft("perturbed", single)), Jacobi()):
        assert enumerate_decoder(Speculative(drafting, 3, Block()), single).tv(truth(name)) <= 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_it_runs_in_low_precision_over_wide_windows(dtype, seed):
    subject = toy("markov-8x32", dtype)
    for drafting in (DraftModel(draft("perturbed", subject)), Jacobi()):
        result = sample(Speculative(drafting, 16, Block()), Checked(subject), 400, seed)
        assert float(result.passes.double().mean()) < 32


LOSSY = {
    ("maximal", "ties-3x5", 2): 0.00818894626359,
    ("maximal", "dense-3x6", 3): 0.00511238774446,
    ("maximal", "dense-2x8", 5): 0.00501221351042,
    ("gumbel", "dense-2x8", 5): 0.00508449002642,
}


@pytest.mark.parametrize(("redraw", "name", "window"), LOSSY)
def test_s9_on_coupled_drafts_it_is_at_a_known_distance_and_in_windows_of_one_it_is_the_token_rule(
    redraw, name, window
):
    decoder = Speculative(Jacobi(redraw), window, Block(), Relaxed(0.01))
    exact = enumerate_decoder(decoder, model(name))
    assert exact.tv(truth(name)) == pytest.approx(LOSSY[redraw, name, window], abs=1e-11)
    alone = enumerate_decoder(Speculative(Jacobi(redraw), 1, Block(), Relaxed(0.01)), model(name))
    assert alone.tv(truth(name)) <= EXACT


@pytest.mark.parametrize("redraw", ["maximal", "gumbel"])
def test_on_coupled_drafts_it_must_not_claim_to_be_lossless(redraw):
    name = Jacobi(redraw).name
    with pytest.raises(InputError, match=f"{name}-block is not lossless: .* redraw drafts independently, or say what"):
        Speculative(Jacobi(redraw), 4, Block())
    with pytest.raises(InputError, match="is not lossless"):
        Speculative(Jacobi(redraw), 4, Block(), ClusterLossless(((0,), (1,))))
    assert Speculative(Jacobi(redraw), 4, Block(), Relaxed(0.01)).name == f"{name}-block"
    assert Speculative(Jacobi(redraw), 4).name == name


@pytest.mark.parametrize("window", [0, -1, 1.0, True])
def test_impossible_windows_are_refused(window):
    with pytest.raises(InputError, match=f"window {window!r}: it is the number of draft tokens per forward pass"):
        Speculative(Jacobi(), window, Block())


def test_a_draft_that_neither_law_allows_is_named():
    """The draft model says that it drew another token than it did; the target forbids that one."""
    subject = toy("sparse-3x5")
    forbidden = int(subject.laws(subject.start(1), torch.zeros(1, 0, dtype=torch.int64))[0, 0].argmin())

    class Mislabelled(DraftModel):
        def propose(self, state, model, window, draws):
            proposal = super().propose(state, model, window, draws)
            law = proposal.law.index_fill(2, torch.tensor([forbidden]), 0.0)
            return Draft(torch.full_like(proposal.token, forbidden), law, proposal.passes)

    decoder = Speculative(Mislabelled(draft("perturbed", subject)), 2, Block())
    with pytest.raises(ContractError, match="accept_run was asked with probability nan; a draft with q = 0"):
        enumerate_decoder(decoder, subject)
    with pytest.raises(ContractError, match="drafts need q > 0"):
        sample(decoder, subject, 8, 0)
