"""What relaxed rules keep to exactly, for every law; and rules that do not, which are never proved to."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pytest
import torch

from specverify.decoders.registry import build
from specverify.errors import InputError
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.goals import ByCluster, Lossless, Mixed, OneToOne, of_rule
from specverify.evidence.exact.proof import prove
from specverify.kinds.proof import box
from specverify.plan_proofs import RULES
from specverify.rules import registry
from specverify.rules.clusters import Clusters
from specverify.rules.lantern import Lantern
from specverify.rules.mixture import Mixture
from specverify.rules.scaling import CoolSchedule, Scaling
from specverify.rules.token import at, residual

ONE = Box(3, 1, 1, drafts=True)
PAIRS = (0, 0, 1)


def of(judging, goal, sizes=ONE, decoder="sd"):
    goal = replace(goal, judging=judging)
    return prove(lambda settings: build(decoder, settings), sizes, seed=2, goal=goal)


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("decoder", "sizes", "rule", "values"), RULES["quick"])
def test_a_rule_keeps_to_what_it_says_for_every_law(decoder, sizes, rule, values):
    for value in values:
        found = prove(lambda s: build(decoder, s), replace(box(decoder, sizes), rule=rule, value=value), seed=5)
        assert found.proved, found.why


@pytest.mark.parametrize("rule", sorted(set(registry.names()) - {row[2] for row in RULES["quick"]}))
def test_other_rules_keep_to_nothing_that_holds_whatever_the_order_of_probabilities(rule):
    assert rule.startswith(("entropy", "gsd", "typical", "threshold")), "say what it keeps to"
    with pytest.raises(InputError, match=re.escape(f"rule '{rule}'")):
        of_rule(rule, None, 4)


@dataclass(frozen=True)
class FromTarget(Mixture):
    """Draws again from p."""

    def recover(self, p, q, draft):
        return p


@dataclass(frozen=True)
class Squared(Mixture):
    """Keeps too few where the ratio is small."""

    def accept(self, p, q, draft):
        ratio = (at(self._target(p, q), draft) / at(q, draft)).clamp(max=1)
        return ratio * ratio


@dataclass(frozen=True)
class Strict(Scaling):
    """Keeps less than the token rule, and draws from its residual."""

    def accept(self, p, q, draft):
        return (0.5 * at(p, draft) / at(q, draft)).clamp(max=1)


@dataclass(frozen=True)
class Greedy(Scaling):
    """Draws again from (p - q / 2)+."""

    def recover(self, p, q, draft):
        return (p - q * 0.5).clamp(min=0)


@dataclass(frozen=True)
class Offset(Scaling):
    """Lends each draft a tenth, whatever its probability."""

    def accept(self, p, q, draft):
        return ((at(p, draft) + 0.1) / at(q, draft)).clamp(max=1)


@pytest.mark.thinned(4)
@pytest.mark.parametrize(
    ("judging", "goal"),
    [
        (Mixture(0.1), Mixed(0.2)),
        (Mixture(0.1), Lossless()),
        (Mixture(0.1), OneToOne(0.1)),
        (FromTarget(0.1), Mixed(0.1)),
        (Squared(0.1), Mixed(0.1)),
        (Scaling(1.5), OneToOne(0.25)),
        (Scaling(1.5), Lossless()),
        (Scaling(2.0), Mixed(0.5)),
        (Strict(1.5), OneToOne(0.5)),
        (Strict(1.5), Lossless()),
        (Greedy(1.5), OneToOne(0.5)),
        (Offset(1.5), OneToOne(0.5)),
        (CoolSchedule(1.1), OneToOne(0.5)),
        (None, Mixed(0.1)),
    ],
)
def test_a_rule_is_not_proved_to_keep_to_something_else(judging, goal):
    found = of(judging, goal)
    assert not found.proved
    assert found.why


LINE = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)


class FromTheTarget(Lantern):
    """Draws again from p."""

    def recover(self, p, q, draft):
        return p


class FromTheRest(Lantern):
    """Draws again from (p - q / 2)+."""

    def recover(self, p, q, draft):
        return residual(p, q * 0.5)


class HalfCredited(Lantern):
    """Keeps less than with what it says that it lends."""

    def accept(self, p, q, draft):
        return ((at(p, draft) + 0.5 * self.lent(p, draft)) / at(q, draft)).clamp(max=1)


class Below(Lantern):
    """Lends nothing where what could be lent is just the limit."""

    def accept(self, p, q, draft):
        total = p.gather(-1, self._around(p, draft)).cumsum(-1)
        lent = total.where(total < self.delta, 0.0).amax(-1)
        return ((at(p, draft) + lent) / at(q, draft)).clamp(max=1)


class InOneOrder(Lantern):
    """Keeps too many where one token is all but certain, and nowhere else."""

    def accept(self, p, q, draft):
        return torch.where(p[..., 2] > 0.99, torch.ones_like(at(p, draft)), super().accept(p, q, draft))


class Owing(Lantern):
    """Lends less than nothing, as it says."""

    def lent(self, p, draft):
        return -0.5 * super().lent(p, draft)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("wrong", [FromTheTarget, FromTheRest, HalfCredited, Below, InOneOrder, Owing])
def test_lending_otherwise_than_is_said_is_not_proved_to_be_one_to_one(wrong):
    found = of(wrong(LINE, delta=0.3), OneToOne())
    assert not found.proved
    assert found.why


@pytest.mark.slow
def test_lending_is_not_lossless_nor_its_released_resampling_one_to_one():
    assert not of(Lantern(LINE, delta=0.3), Lossless()).proved
    assert not of(Lantern(LINE, delta=0.3, resample="released"), OneToOne()).proved


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("judging", "orders"),
    [
        (Lantern(LINE, k=1, delta=0.3), 4),
        (Lantern(LINE[[1, 0, 2]], delta=0.3), 7),
        (Lantern(LINE, odds=5.0), 18),
    ],
)
def test_lending_is_one_to_one_in_every_order_of_what_is_lent_and_its_limit(judging, orders):
    found = of(judging, OneToOne())
    assert found.proved, found.why
    assert found.orders == orders


def test_what_is_proved_of_lending_names_its_limit_and_neighbours():
    assert of_rule("lantern", 0.2, 3).claim.endswith("where up to 1000 nearest ids lend at most 0.2")
    assert of_rule("lantern++", 5.0, 3).claim.endswith("10 nearest ids lend at most 4 times the draft's probability")


def test_less_than_the_token_rule_is_never_one_to_one():
    assert "keeps less than the token rule" in of(Strict(1.5), OneToOne(-0.5)).why


def test_keeping_is_held_against_the_rule_itself():
    """A law may be due although drafts are kept with other chances."""

    @dataclass(frozen=True)
    class Never(Mixture):
        """Keeps no draft, and draws from the mixture."""

        def accept(self, p, q, draft):
            return at(q, draft) * 0

        def recover(self, p, q, draft):
            return (1 - self.share) * p + self.share * q

    found = of(Never(0.1), Mixed(0.1))
    assert found.outcome == "differs"
    assert "3 of 6" in found.why


@dataclass(frozen=True)
class ByToken(Clusters):
    """Keeps a draft as often as the token rule would, and replaces by cluster."""

    def accept(self, p, q, draft):
        return (at(p, draft) / at(q, draft)).clamp(max=1)


@pytest.mark.thinned(6)
@pytest.mark.parametrize(
    "judging",
    [
        Clusters(torch.tensor(PAIRS), "token"),
        ByToken(torch.tensor(PAIRS), "cluster"),
        Clusters(torch.tensor((0, 1, 1)), "cluster"),
        Mixture(0.1),
        Scaling(1.5),
    ],
)
@pytest.mark.parametrize("decoder", ["sd", "sjd", "scd-mc"])
def test_what_does_not_keep_the_clusters_law_is_not_proved_to(judging, decoder):
    found = of(judging, ByCluster(PAIRS), Box(3, 2, 2, drafts=decoder == "sd"), decoder)
    assert not found.proved


@pytest.mark.slow
def test_clusters_are_not_lossless_and_keep_their_law_of_lumping_targets_only():
    judging = Clusters(torch.tensor(PAIRS), "cluster")
    sizes = Box(3, 2, 2, drafts=True)
    assert of(judging, ByCluster(PAIRS), sizes).proved
    assert not of(judging, Lossless(), sizes).proved

    @dataclass(frozen=True)
    class OfAnyTarget(ByCluster):
        def rows(self, vocab, length, generator):
            return Lossless().rows(vocab, length, generator)

        def names(self, algebra, rows, vocab):
            return Lossless().names(algebra, rows, vocab)

    assert of(judging, OfAnyTarget(PAIRS), sizes).outcome == "differs"


def test_a_lossless_decoder_keeps_the_law_of_any_clusters():
    goal = ByCluster(PAIRS)
    assert prove(lambda s: build("sjd", s), Box(3, 3, 2), goal=goal).proved
    assert goal.claim == "cluster-lossless(2 clusters)"
    with pytest.raises(InputError, match="clusters of 3 tokens, in a box of 4"):
        goal.rows(4, 2, torch.Generator())
