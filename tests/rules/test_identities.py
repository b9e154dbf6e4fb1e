"""What holds between acceptance, residual and bias: of any rule, of those on the frontier, and of grouped ones."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_laws import laws, pairs, rules
from torch import Tensor
from torch.testing import assert_close

from specverify.decoders import TokenRule
from specverify.rules.clusters import Clusters
from specverify.rules.mixture import Mixture
from specverify.rules.price import price
from specverify.rules.scaling import CoolSchedule, Scaling
from specverify.rules.token import at, residual, total_variation

EXACT = {"rtol": 0, "atol": 1e-12}
chances = st.integers(0, 1) | st.floats(0, 1)


@dataclass(frozen=True)
class Tabulated:
    """Keeps draft x with probability `keep[x]`, else draws from `instead[x]`, or from the token rule's residual."""

    keep: Tensor
    instead: Tensor | None = None

    def accept(self, p, q, draft):
        return self.keep[draft]

    def recover(self, p, q, draft):
        return residual(p, q) if self.instead is None else self.instead[draft]


@st.composite
def rounds(draw):
    """Two laws, chances to keep each draft, and what replaces each."""
    p, q = draw(pairs)
    vocab = len(p)
    keep = torch.tensor(draw(st.lists(chances, min_size=vocab, max_size=vocab)), dtype=torch.float64)
    return p, q, keep, torch.stack([draw(laws(vocab)) for _ in range(vocab)])


@given(rounds())
@settings(max_examples=50)
def test_l1_no_rule_at_all_gains_more_than_its_bias(round):
    p, q, keep, instead = round
    found = price(p, q, Tabulated(keep, instead))
    assert_close(found.acceptance, (q * keep).sum(), **EXACT)
    by_hand = q * keep + sum(q[x] * (1 - keep[x]) * instead[x] for x in range(len(p)))
    assert_close(found.law, by_hand, **EXACT)
    assert found.bias >= found.gain - 1e-12
    assert_close(found.excess, found.bias - found.gain, **EXACT)


@given(rounds())
@settings(max_examples=50)
def test_l2_accepting_no_less_than_the_token_rule_pays_one_to_one(round):
    p, q, extra, _ = round
    token = torch.where(q > 0, (p / q).clamp(max=1), 1.0)
    found = price(p, q, Tabulated(token + extra * (1 - token)))
    assert found.gain >= -1e-12
    assert_close(found.bias, found.gain, **EXACT)


@given(pairs, st.floats(0, 1))
@settings(max_examples=50)
def test_l3_the_mixture_lies_on_the_frontier(pair, share):
    p, q = pair
    found = price(p, q, Mixture(share))
    assert_close(found.law, (1 - share) * p + share * q, **EXACT)
    assert_close(found.gain, share * total_variation(p, q), **EXACT)
    assert_close(found.bias, found.gain, **EXACT)


@st.composite
def clustered(draw):
    """Two laws and the cluster of each token."""
    p, q = draw(pairs)
    return p, q, torch.tensor(draw(st.lists(st.integers(0, 2), min_size=len(p), max_size=len(p))))


def masses(law, label):
    return torch.zeros(3, dtype=law.dtype).index_add(0, label, law)


@given(clustered(), st.sampled_from(["token", "cluster"]))
@settings(max_examples=50)
def test_l4_a_partition_accepts_as_often_as_the_clusters_laws_agree(case, kind):
    p, q, label = case
    found = price(p, q, Clusters(label, kind))
    assert_close(found.acceptance, 1 - total_variation(masses(p, label), masses(q, label)), **EXACT)
    assert found.gain >= -1e-12


@given(clustered())
@settings(max_examples=50)
def test_l5_the_cluster_residual_keeps_the_clusters_masses_and_costs_what_lies_inside(case):
    p, q, label = case
    found = price(p, q, Clusters(label, "cluster"))
    assert_close(masses(found.law, label), masses(p, label), **EXACT)
    cost = torch.zeros((), dtype=torch.float64)
    for number in range(3):
        inside = label == number
        least = torch.minimum(p[inside].sum(), q[inside].sum())
        if least > 0:
            cost += least * total_variation(p[inside] / p[inside].sum(), q[inside] / q[inside].sum())
    assert_close(found.bias, cost, **EXACT)


@given(rounds())
@settings(max_examples=50)
def test_l6_once_a_rule_accepts_enough_no_residual_is_nearer_than_the_token_rules(round):
    p, q, extra, instead = round
    alpha = 1 - total_variation(p, q)
    # Any acceptance of at least alpha: blend it with keeping everything, as far as needed.
    mean = (q * extra).sum()
    blend = ((alpha - mean) / (1 - mean)).clamp(min=0) if mean < 1 else torch.zeros(())
    keep = extra + blend * (1 - extra)
    best = price(p, q, Tabulated(keep))
    assert_close(best.bias, (q * keep - p).clamp(min=0).sum(), **EXACT)
    assert price(p, q, Tabulated(keep, instead)).bias >= best.bias - 1e-12


@given(clustered())
@settings(max_examples=50)
def test_l6_the_token_residual_is_never_worse_than_the_clusters(case):
    p, q, label = case
    assert price(p, q, Clusters(label)).bias <= price(p, q, Clusters(label, "cluster")).bias + 1e-12


def test_l6_but_it_does_not_keep_the_clusters_masses():
    p, q = torch.tensor([[0.5, 0.1, 0.4], [0.1, 0.6, 0.3]], dtype=torch.float64)
    label = torch.tensor([0, 0, 1])
    # q' - p' is 0.1 on the first cluster: 0.6 / 0.7 of it are kept, 0.1 redrawn from (0.4, 0, 0.1) / 0.5.
    assert_close(
        masses(price(p, q, Clusters(label)).law, label), torch.tensor([0.68, 0.32, 0], dtype=torch.float64), **EXACT
    )


@given(pairs)
@settings(max_examples=40)
def test_l7_every_shipped_rule_pays_at_least_one_to_one(pair):
    p, q = (law[None] for law in pair)
    for name, rule in rules(p.shape[-1]).items():
        found = price(p, q, rule)
        assert found.excess >= -1e-12, name
        assert_close(found.law.sum(-1), torch.ones(1, dtype=torch.float64), **EXACT)
        if name in {"gsd-max", "lantern", "lantern++", "scaling", "amplify", "cool", "mixture"}:
            assert_close(found.excess, torch.zeros(1, dtype=torch.float64), **EXACT)


@given(pairs, st.floats(1, 10))
@settings(max_examples=50)
def test_l8_the_resampling_law_of_cool_sd_is_the_token_rules(pair, omega):
    p, q = pair
    rule = CoolSchedule(delta=omega)
    keep = torch.where(q > 0, (omega * p / q).clamp(max=1), 0.0)
    assert_close((p - q * keep).clamp(min=0), (p - q).clamp(min=0), rtol=0, atol=1e-15)
    assert torch.equal(rule.recover(p, q, torch.tensor(0)), residual(p, q))
    one = price(p[None], q[None], rule)
    assert_close(one.acceptance, price(p[None], q[None], Scaling(omega)).acceptance, **EXACT)


@dataclass(frozen=True)
class Instead(TokenRule):
    """The token rule with another law for what it rejects."""

    law: Tensor

    def recover(self, p, q, draft):
        return self.law.expand_as(p)


@given(pairs)
@settings(max_examples=50)
def test_l9_to_redraw_from_p_is_off_by_its_distance_from_the_residual(pair):
    p, q = pair
    distance = total_variation(p, q)
    found = price(p, q, Instead(p))
    assert_close(found.law, torch.minimum(p, q) + distance * p, **EXACT)
    assert_close(found.bias, (distance * p - (p - q).clamp(min=0)).abs().sum() / 2, **EXACT)
    assert_close(found.gain, torch.zeros_like(distance), **EXACT)


@given(pairs, st.sampled_from([0.5, 0.7, 2.0]))
@settings(max_examples=50)
def test_l10_a_residual_tempered_again_is_biased_and_one_cut_again_is_not(pair, temperature):
    p, q = pair
    exact = residual(p, q)
    tempered = exact ** (1 / temperature)
    tempered = tempered / tempered.sum()
    assert bool((exact[p == 0] == 0).all()), "whatever top-k took from p is not in the residual either"
    found = price(p, q, Instead(tempered))
    assert_close(found.bias, total_variation(p, q) * total_variation(tempered, exact), **EXACT)


def test_l10_the_bias_is_there():
    p, q = torch.tensor([[0.5, 0.4, 0.1], [0.2, 0.3, 0.5]], dtype=torch.float64)
    exact = residual(p, q)
    assert_close(exact, torch.tensor([0.75, 0.25, 0], dtype=torch.float64), **EXACT)
    sharper = exact**2 / (exact**2).sum()
    assert float(price(p, q, Instead(sharper)).bias) == pytest.approx(0.4 * 0.15)


@given(pairs)
@settings(max_examples=50)
def test_the_token_rule_costs_nothing_and_gains_nothing(pair):
    p, q = pair
    found = price(p, q, TokenRule())
    assert_close(found.law, p, **EXACT)
    for figure in (found.gain, found.bias, found.excess):
        assert_close(figure, torch.zeros_like(figure), **EXACT)
    assert_close(at(found.law, torch.tensor(0)), p[0], **EXACT)
