"""Where a law goes wrong, and each branch's exact part in it."""

import itertools
from fractions import Fraction

import pytest
import torch

from specverify import defects
from specverify.claims import ClusterLossless, Lossless
from specverify.decoders import Branch, DraftModel, Info, Jacobi, MultiDraft, Speculative, begin, commit
from specverify.decoders.registry import Settings
from specverify.defects.defect import Judge
from specverify.errors import InputError
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.guard import Guarded
from specverify.evidence.localise import localise, quotient
from specverify.evidence.rational import as_fraction, numbers
from specverify.evidence.sequences import target_law
from specverify.rules.token import accept_probability, residual
from toymodels import draft, toy
from toymodels.tables import TableModel

LAWS = {"p": [1 / 3, 2 / 3], "q": [1 / 2, 1 / 2]}
LOSSY = [name for name in defects.names() if defects.get(name).lossy]


def at_smallest(name):
    defect = defects.get(name)
    toy_name, window, initial, kind = defect.smallest
    model = toy(toy_name)
    return defect.build(Settings(window, initial or "repeat-left", draft(kind, model) if kind else None)), model


def conditional(law, vocab, length, prefix):
    """The next token's law after a prefix, and the prefix's probability, by brute force."""
    table = dict(zip(itertools.product(range(vocab), repeat=length), law.tolist(), strict=True))
    here = [sum(p for x, p in table.items() if x[: len(prefix) + 1] == (*prefix, token)) for token in range(vocab)]
    return [p / sum(here) for p in here], sum(here)


@pytest.mark.thinned(24)
@pytest.mark.parametrize("name", LOSSY)
def test_the_place_and_the_shares_agree_with_the_law(name):
    decoder, model = at_smallest(name)
    exact, target = enumerate_decoder(decoder, model), target_law(model)
    found = localise(Guarded(decoder), model)
    assert found is not None

    came, reached = conditional(exact.law, model.vocab, model.length, found.prefix)
    due, _ = conditional(target, model.vocab, model.length, found.prefix)
    assert found.came == pytest.approx(came, abs=1e-12)
    assert found.due == pytest.approx(due, abs=1e-12)
    assert found.probability == pytest.approx(reached, abs=1e-12), "the prefix itself is right"
    assert found.too_often == tuple(x for x in range(model.vocab) if came[x] > due[x] + 1e-12)
    assert len(found.prefix) == found.position

    # The first: no shorter prefix has a wrong law.
    for length in range(found.position):
        for prefix in itertools.product(range(model.vocab), repeat=length):
            if conditional_mass(target, model, prefix) > 0:
                ours, theirs = (conditional(law, model.vocab, model.length, prefix)[0] for law in (exact.law, target))
                assert ours == pytest.approx(theirs, abs=1e-11)

    for token in range(model.vocab):
        assert sum(share.came[token] for share in found.shares) == pytest.approx(found.came[token], abs=1e-12)
        assert sum(share.due[token] for share in found.shares) == pytest.approx(found.due[token], abs=1e-12)
    assert sum(found.by_position) == pytest.approx(exact.tv(target), abs=1e-12)
    assert all(part <= 1e-12 for part in found.by_position[: found.position])
    assert min(found.by_position) >= 0
    assert found.branch in {share.name for share in found.shares}
    assert found.finding


def test_an_acceptance_that_is_halved_is_not_blamed_on_the_residual():
    """More is drawn from a residual that is right. The law of guesses is nearer to both branches, and not meant."""
    p, q = (TableModel(name, torch.tensor([row], dtype=torch.float64), 1) for name, row in LAWS.items())
    keep, replace = lambda p, q, d: accept_probability(p, q, d) / 2, lambda p, q, d: residual(p, q)
    found = localise(Guarded(Speculative(DraftModel(q), 1, Judge(keep, replace))), p)
    assert found is not None
    assert found.branch == "accepted (initial)"
    assert found.finding == (
        "draft 1 is kept with probability 1/2; of drafts with the law that these have, (1/2, 1/2), "
        "the token rule keeps 1"
    )
    due = {share.branch: share.due for share in found.shares}
    assert due["accepted"] == pytest.approx((1 / 3, 1 / 2))
    assert due["recovered"] == pytest.approx((0, 1 / 6))


def conditional_mass(law, model, prefix):
    view = law.reshape([model.vocab] * model.length)
    for token in prefix:
        view = view[token]
    return float(view.sum())


@pytest.mark.thinned(6)
@pytest.mark.parametrize(
    ("name", "branch"),
    [
        ("accept-all-prefix-count", "accepted (initial)"),
        ("first-draft-unverified", "accepted (initial)"),
        ("recovered-from-target", "recovered (initial)"),
        ("residual-softmaxed", "recovered (initial)"),
        ("residual-rewarped", "recovered (initial)"),
        ("missing-sync-partial-residual-sum", "recovered (initial)"),
        ("q-clamped-0.99-in-residual", "recovered (redraft)"),
        ("stale-scores-after-coupling", "accepted (redraft)"),
        ("race-not-shifted", "accepted (redraft)"),
        ("cache-not-trimmed", "accepted (redraft)"),
        ("bonus-from-draft", "bonus"),
        ("bonus-unwarped", "bonus"),
        ("eos-inside-block-ignored", "bonus"),
    ],
)
def test_the_branch_that_is_wrong_is_named(name, branch):
    decoder, model = at_smallest(name)
    assert localise(Guarded(decoder), model).branch == branch


def test_a_right_decoder_has_no_such_place():
    model = toy("ties-3x5")
    assert localise(Guarded(Speculative(Jacobi("maximal"), 2)), model) is None


def test_right_shares_of_drafts_follow_the_token_rule():
    """The parts of a wrong decoder that are right: the recovered law of one whose bonus alone is wrong, and so on."""
    decoder, model = at_smallest("bonus-from-draft")
    found = localise(Guarded(decoder), model)
    for share in found.shares:
        if share.name != "bonus":
            assert share.error <= 1e-12
    decoder, model = at_smallest("residual-softmaxed")
    accepted = next(s for s in localise(Guarded(decoder), model).shares if s.branch == "accepted")
    assert accepted.error <= 1e-12


def single(p):
    return TableModel("one-token", torch.tensor([p], dtype=torch.float64), 1)


def test_shares_of_one_token_follow_from_the_closed_form():
    """Rejected drafts are replaced from p = (5, 4, 1)/10, not from the residual (4, 1, 0)/5; q = (1, 3, 6)/10."""
    target, drafts = single([0.5, 0.4, 0.1]), single([0.1, 0.3, 0.6])
    decoder = defects.get("recovered-from-target").build(Settings(1, draft_model=drafts))
    found = localise(Guarded(decoder), target)
    shares = {share.name: share for share in found.shares}
    assert set(shares) == {"accepted (initial)", "recovered (initial)"}
    accepted, recovered = shares["accepted (initial)"], shares["recovered (initial)"]
    assert accepted.drafts == pytest.approx((0.1, 0.3, 0.6), abs=1e-15)
    assert accepted.came == pytest.approx((0.1, 0.3, 0.1), abs=1e-15)
    assert accepted.due == pytest.approx((0.1, 0.3, 0.1), abs=1e-15)
    assert recovered.came == pytest.approx((0.25, 0.2, 0.05), abs=1e-15)
    assert recovered.due == pytest.approx((0.4, 0.1, 0.0), abs=1e-15)
    assert found.too_often == (1, 2)
    assert found.finding == "recovered tokens have the law (1/2, 2/5, 1/10); due is the residual, (4/5, 1/5, 0)"


def test_drafts_of_several_chains_are_judged_together():
    decoder, model = at_smallest("duplicate-node-reverified")
    found = localise(Guarded(decoder), model)
    assert {share.name for share in found.shares} == {"verified"}
    assert found.finding.startswith("verified tokens have the law (")
    assert localise(Guarded(MultiDraft(draft("perturbed", model), 2)), model) is None


def test_an_end_that_comes_too_early_is_a_share_of_its_own():
    class Ends:
        """Takes the sequence to be over after its first token, where that is eos or 0."""

        name, claim, window = "ends", Lossless(), 1
        inner = Speculative(Jacobi(), 1)

        def init(self, model, batch, draws):
            return self.inner.init(model, batch, draws)

        def step(self, state, model, draws):
            from dataclasses import replace

            after, info = self.inner.step(state, model, draws)
            over = (after.tokens[:, 0] == model.eos) | (after.tokens[:, 0] == 0)
            tokens = torch.where(over[:, None] & (torch.arange(model.length) > 0), model.eos, after.tokens)
            return replace(after, tokens=tokens, done=after.done | over, length=after.length), info

    model = TableModel("three", torch.full((4, 3), 1 / 3, dtype=torch.float64), 2, eos=2)
    # Told by the law alone: such a decoder breaks the protocol, so that it is not put behind the guard.
    exact = enumerate_decoder(Ends(), model)
    assert exact.tv(target_law(model)) > 0.2


@pytest.mark.parametrize("partition", [((0, 1), (2,)), ((2, 0), (1,)), ((0, 1, 2),), ((0,), (1,), (2,))])
def test_laws_of_clusters(partition):
    model = toy("ties-3x5")
    law = target_law(model)
    clustered, size = quotient(law, ClusterLossless(partition), 3)
    assert size == len(partition)
    number = {token: k for k, cluster in enumerate(partition) for token in cluster}
    due = dict.fromkeys(itertools.product(range(size), repeat=5), 0.0)
    for tokens, probability in zip(itertools.product(range(3), repeat=5), law.tolist(), strict=True):
        due[tuple(number[token] for token in tokens)] += probability
    assert clustered.tolist() == pytest.approx(list(due.values()), abs=1e-15)
    assert torch.equal(quotient(law, Lossless(), 3)[0], law)


def test_a_partition_of_another_vocabulary_is_refused():
    with pytest.raises(InputError, match="the partition covers 2 tokens, but the vocabulary has 3"):
        quotient(target_law(toy("ties-3x5")), ClusterLossless(((0,), (1,))), 3)


def test_places_of_a_cluster_claim_are_of_clusters():
    """The last two tokens are one cluster: what they exchange is no error."""
    decoder, model = at_smallest("recovered-from-target")
    claim = ClusterLossless(((0,), (1,)))
    assert localise(Guarded(decoder), model, claim).due == localise(Guarded(decoder), model).due
    model = toy("synonyms-4x5")
    pairs = ClusterLossless(((0, 1), (2, 3)))
    decoder = defects.get("recovered-from-target").build(Settings(2, draft_model=draft("perturbed", model)))
    found = localise(Guarded(decoder), model, pairs)
    assert len(found.due) == len(found.came) == 2
    assert all(symbol in (0, 1) for symbol in found.prefix)
    for symbol in range(2):
        assert sum(share.came[symbol] for share in found.shares) == pytest.approx(found.came[symbol], abs=1e-12)
        assert sum(share.due[symbol] for share in found.shares) == pytest.approx(found.due[symbol], abs=1e-12)
    exact = quotient(enumerate_decoder(decoder, model).law, pairs, 4)[0]
    due = quotient(target_law(model), pairs, 4)[0]
    assert sum(found.by_position) == pytest.approx(float((exact - due).abs().sum()) / 2, abs=1e-12)


@pytest.mark.parametrize("arrangement", ["together", "ragged", "alone"])
def test_the_place_does_not_depend_on_the_arrangement_of_rows(arrangement):
    model = TableModel("fair", torch.full((3, 2), 0.5, dtype=torch.float64), 2)
    decoder = defects.get("stale-scores-after-coupling").build(Settings(2))
    found = localise(Guarded(decoder), model, arrangement=arrangement)
    assert (found.position, found.prefix, found.branch) == (1, (1,), "accepted (redraft)")
    assert found.came == pytest.approx((0.25, 0.75), abs=1e-15)


def test_fractions_are_found_where_there_are_some():
    assert as_fraction(1 / 3) == Fraction(1, 3)
    assert as_fraction(17 / 36 + 1e-16) == Fraction(17, 36)
    assert as_fraction(2**-0.5) is None
    assert as_fraction(1 / 3 + 1e-10) is None
    assert as_fraction(0.0) == 0


def test_numbers_that_differ_look_different():
    assert numbers(0.5, 1 / 3) == ["1/2", "1/3"]
    assert numbers(0.5, 0.5 + 2**-25) == ["1/2", "0.50000003"]
    assert numbers(2**-0.5) == ["0.7071"]
    assert numbers(0.0, 1.0) == ["0", "1"]


class Guesses:
    """Guesses a token at random and keeps it with probability p(x), as a draft without a law of its own."""

    name, claim, window = "guesses", Lossless(), 1

    def __init__(self, slip=""):
        self.slip = slip

    def init(self, model, batch, draws):
        return begin(model, batch)

    def step(self, state, model, draws):
        active, row = ~state.done, torch.arange(len(state.length))
        guess = draws.categorical(torch.arange(1.0, model.vocab + 1).double().repeat(len(row), 1), active)
        now = model.laws(state.context, guess[:, None])[:, 0]
        keep = now[row, guess].sqrt() if self.slip == "keeps" else now[row, guess]
        kept = draws.bernoulli(keep, active)
        rest = now if self.slip == "forgets" else now.scatter(1, guess[:, None], 0.0)
        drawn = draws.categorical(rest, active & ~kept)
        after, count = commit(state, model, torch.where(kept, guess, drawn)[:, None], active.long())
        branch = torch.where(kept, Branch.ACCEPTED, Branch.RECOVERED)[:, None] * active[:, None]
        one = active.long()
        return after, Info(one, one, kept * one, count, branch, torch.zeros_like(one))


@pytest.mark.parametrize(
    ("slip", "branch", "finding"),
    [
        ("forgets", "recovered (initial)", "recovered tokens have the law"),
        ("keeps", "accepted (initial)", "where a draft is judged, p gives token"),
    ],
)
def test_a_guess_at_random_is_judged_as_the_guess_that_was_drawn(slip, branch, finding):
    """Taken together, guesses have a law, and the rule for drafts with that law would name the wrong branch."""
    model = TableModel("steep", torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64), 1)
    assert localise(Guarded(Guesses()), model) is None
    found = localise(Guarded(Guesses(slip)), model)
    assert (found.branch, found.finding.startswith(finding)) == (branch, True)
    shares = {share.name: share for share in found.shares}
    if slip == "forgets":
        assert shares["accepted (initial)"].error < 1e-12
        assert shares["accepted (initial)"].certain
