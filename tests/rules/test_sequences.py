"""Relaxed rules inside decoders, enumerated: what a token costs, what sequences come to, and which claims stand."""

from functools import cache

import pytest
import torch
from rule_laws import BOLD, context, rules

from specverify.claims import EMPTY, ClusterLossless, Lossless, Relaxed
from specverify.decoders import DraftModel, Jacobi, Speculative, TokenRule
from specverify.decoders import registry as decoders
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law
from specverify.judge import Coverage, judge_exact
from specverify.rules import registry
from specverify.rules.clusters import Clusters
from specverify.rules.lantern import Lantern
from specverify.rules.mixture import Mixture
from specverify.rules.price import price
from specverify.rules.scaling import CoolSchedule, Scaling
from specverify.verdict import Kind
from toymodels import TableModel, draft, toy

EXACT = 1e-12
RULES = registry.names()
REDUNDANT = ("redundant-4x4", "redundant-6x3", "synonyms-4x5", "synonyms-6x4")
DRAFTINGS = ("sd", "sjd", "scd-mc")


@cache
def model(name):
    return toy(name)


@cache
def truth(name):
    return target_law(model(name))


def decoder(drafting, name, rule, window=2, kind="perturbed"):
    settings = decoders.Settings(window=window, draft_model=draft(kind, model(name)), judging=rule)
    return decoders.build(drafting, settings)


def verdict(drafting, name, rule, claim=None, window=2, kind="perturbed"):
    subject = decoder(drafting, name, rule, window, kind)
    exact = enumerate_decoder(subject, model(name))
    coverage = Coverage(True, exact.verified, exact.accepted, exact.verified - exact.accepted)
    return judge_exact(claim or subject.claim, exact, truth(name), model(name).vocab, coverage)


def table(weights, length=1):
    weights = torch.tensor(weights, dtype=torch.float64)
    return TableModel("any", weights / weights.sum(1, keepdim=True), length)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", RULES)
def test_one_token_is_off_by_its_price(name):
    target, other = table([[1, 9, 4, 2, 6]]), table([[7, 1, 5, 3, 2]])
    rule = rules(5)[name]
    exact = enumerate_decoder(Speculative(DraftModel(other), 1, rule, Relaxed(1.0)), target)
    found = price(target.table, other.table, rule)
    assert exact.tv(target.table[0]) == pytest.approx(float(found.bias), abs=EXACT)
    assert exact.accepted == pytest.approx(float(found.acceptance), abs=EXACT)
    torch.testing.assert_close(exact.law, found.law[0], rtol=0, atol=EXACT)
    # The first Jacobi draft is token 0, for certain.
    jacobi = enumerate_decoder(Speculative(Jacobi(initial="zero"), 1, rule, Relaxed(1.0)), target)
    certain = price(target.table, torch.eye(5, dtype=torch.float64)[:1], rule)
    torch.testing.assert_close(jacobi.law, certain.law[0], rtol=0, atol=EXACT)


@pytest.mark.thinned(6)
@pytest.mark.parametrize("drafting", DRAFTINGS)
@pytest.mark.parametrize("name", REDUNDANT)
def test_the_cluster_residual_is_proved_on_redundant_vocabularies_and_the_token_residual_refuted(name, drafting):
    partition = model(name).clusters
    for window in (1, 2) if drafting == "sjd" else (2,):
        proved = verdict(drafting, name, Clusters(partition, "cluster"), window=window)
        assert proved.kind is Kind.PROVED, proved.reason
        wrong = verdict(drafting, name, Clusters(partition, "token"), ClusterLossless(partition), window)
        assert wrong.kind is Kind.REFUTED, wrong.reason
        assert verdict(drafting, name, Clusters(partition, "cluster"), Lossless(), window).kind is Kind.REFUTED


@pytest.mark.thinned(2)
@pytest.mark.parametrize("kind", ["independent", "disjoint", "one-hot"])
@pytest.mark.parametrize("name", REDUNDANT)
def test_whatever_the_draft_model(name, kind):
    rule = Clusters(model(name).clusters, "cluster")
    assert verdict("sd", name, rule, kind=kind).kind is Kind.PROVED


@pytest.mark.thinned(2)
@pytest.mark.parametrize("drafting", DRAFTINGS)
@pytest.mark.parametrize(
    ("name", "partition"),
    [("dense-5x4", ((0, 1), (2, 3, 4))), ("sparse-4x5", ((0, 1), (2, 3))), ("ties-3x5", ((0, 1), (2,)))],
)
def test_the_cluster_residual_is_refuted_where_clusters_have_no_law_of_their_own(name, partition, drafting):
    found = verdict(drafting, name, Clusters(partition, "cluster"))
    assert found.kind is Kind.REFUTED
    assert "cluster-lossless(2 clusters) allows 1e-12" in found.reason


@pytest.mark.parametrize("name", ["redundant-4x4", "redundant-6x3"])
def test_on_copies_even_another_partition_of_unions_of_clusters_stands_only_if_it_lumps(name):
    halves = model(name).clusters[0], tuple(token for cluster in model(name).clusters[1:] for token in cluster)
    lumps = len(model(name).clusters) == 2
    found = verdict("sjd", name, Clusters(halves, "cluster"))
    assert (found.kind is Kind.PROVED) == lumps


@pytest.mark.thinned(16)
@pytest.mark.parametrize("drafting", DRAFTINGS)
@pytest.mark.parametrize("name", RULES)
def test_declared_claims_stand_and_none_passes_for_lossless(name, drafting):
    toy_name = "redundant-4x4"
    known = registry.Context(model(toy_name).embedding, model(toy_name).clusters)
    rule = registry.build(name, BOLD.get(name), known)
    assert decoder(drafting, toy_name, rule).claim == rule.claim != Lossless()
    says_nothing = isinstance(rule.claim, Relaxed) and rule.claim.tv >= EMPTY
    assert verdict(drafting, toy_name, rule).kind is (Kind.VACUOUS if says_nothing else Kind.PROVED)
    # Seven ranks below a draft are more than there are: here the released rule is the token rule.
    expected = Kind.PROVED if name == "gsd-released" else Kind.REFUTED
    assert verdict(drafting, toy_name, rule, Lossless()).kind is expected


BOUNDED = {
    "scaling": lambda places: Scaling(1.05),
    "cool": lambda places: CoolSchedule(1.05, 0.01),
    "mixture": lambda places: Mixture(0.05),
    "lantern++": lambda places: Lantern(places, 2, odds=1.05),
}


@pytest.mark.thinned(8)
@pytest.mark.parametrize("name", ["redundant-4x4", "sparse-3x5", "eos-3x6"])
@pytest.mark.parametrize("drafting", DRAFTINGS)
@pytest.mark.parametrize("rule", BOUNDED.values(), ids=BOUNDED)
def test_bounds_on_whole_sequences_are_proved(rule, drafting, name):
    rule = rule(context(model(name).vocab).embedding)
    bound = rule.bound(model(name).length)
    assert bound.tv < 0.3
    found = verdict(drafting, name, rule, bound)
    assert found.kind is Kind.PROVED, found.reason
    assert not isinstance(rule.claim, ClusterLossless)


def test_the_bounds_are_reached_by_sequences():
    apart, other = table([[1, 0]] * 3, 2), table([[0, 1]] * 3, 2)
    exact = enumerate_decoder(Speculative(DraftModel(other), 2, Mixture(0.25), Relaxed(1.0)), apart)
    assert exact.tv(target_law(apart)) == pytest.approx(Mixture(0.25).bound(2).tv, abs=EXACT)
    even, certain = table([[1, 1]] * 3, 2), table([[1, 0]] * 3, 2)
    exact = enumerate_decoder(Speculative(DraftModel(certain), 2, Scaling(2.0), Relaxed(1.0)), even)
    assert exact.tv(target_law(even)) == pytest.approx(Scaling(2.0).bound(2).tv, abs=EXACT)


@pytest.mark.thinned(6)
@pytest.mark.parametrize("drafting", ["sd", "sjd", "scd-mc", "scd-gs"])
@pytest.mark.parametrize("name", RULES)
def test_every_rule_goes_with_every_drafting(name, drafting, seed):
    two = table([[4 + (row * row + token) % 3 for token in range(2)] for row in range(15)], 4)  # gaps below 0.15 too
    value = 0.7 if name == "lantern" else BOLD.get(name)  # a neighbour has more than 0.4
    rule = registry.build(name, value, registry.Context(context(2).embedding / 2, ((0,), (1,))))
    settings = decoders.Settings(window=3, draft_model=draft("perturbed", two), judging=rule)
    exact = enumerate_decoder(decoders.build(drafting, settings), two)
    assert float(exact.law.sum()) == pytest.approx(1, abs=EXACT)
    assert exact.accepted > 0
    if name in {"gsd-static", "gsd-clusters", "gsd-released"}:  # clusters of one token; ranks that are not there
        assert exact.tv(target_law(two)) <= EXACT
    else:
        assert exact.tv(target_law(two)) > 1e-3
    draws = Sampled(seed)
    subject = decoders.build(drafting, settings)
    state, info = subject.step(subject.init(two, 64, draws), two, draws)
    draws.check()
    assert bool((info.emitted >= 1).all())
    assert bool((state.length == info.emitted).all())


def test_accepting_more_takes_fewer_passes():
    name, found = "redundant-4x4", {}
    for omega in (1.0, 1.5, 3.0):
        exact = enumerate_decoder(decoder("sd", name, Scaling(omega)), model(name))
        found[omega] = exact.passes, exact.tv(truth(name))
    assert found[1.0][0] > found[1.5][0] > found[3.0][0]
    assert found[1.0][1] <= EXACT < found[1.5][1] < found[3.0][1]


def test_the_registry_hands_rules_to_those_that_take_them():
    assert decoders.build("sjd", decoders.Settings(judging=TokenRule())).claim == Lossless()
    assert decoders.build("sjd").claim == Lossless()

    class Unclaimed:
        """A rule that says nothing of itself."""

        def accept(self, p, q, draft):
            return torch.ones_like(p[..., 0])

        def recover(self, p, q, draft):
            return p

    assert decoders.build("sjd", decoders.Settings(judging=Unclaimed())).claim == Relaxed(1.0)
    for name in ("ar", "ar-race", "sjd-race"):
        with pytest.raises(
            InputError, match=f"decoder '{name}' has its own way of judging; rules go with sd, sjd, sjd-reuse, scd"
        ):
            decoders.build(name, decoders.Settings(judging=Scaling()))
