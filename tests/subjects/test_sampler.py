"""Black boxes: right ones, wrong ones at exactly known distances, and ones that break the contract."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
import torch

from specverify.claims import ClusterLossless, Lossless, Relaxed
from specverify.decoders import DraftModel, Speculative, sample
from specverify.evidence.alternatives import KINDS, alternative
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import sequence_index, target_law
from specverify.subjects.sampler import judge_sampler
from specverify.subjects.sampler_batches import SIZES
from specverify.subjects.sampler_suite import Case, chosen, clustered, small, standard
from specverify.subjects.shortened import Shortened
from specverify.verdict import Kind
from toymodels import draft, toy


@pytest.fixture(autouse=True)
def _few_small_calls(monkeypatch):
    """Calls of few rows are judged apart, in test_sampler_batches; hundreds of them take too long."""
    monkeypatch.setattr("specverify.subjects.sampler_series.SIZES", dict.fromkeys(SIZES, 1))


def right(target, draft, n, seed):
    return sample(Speculative(DraftModel(draft), 3), target, n, seed).tokens


def case(name="recurrent-3x6", length=4, kind="perturbed"):
    model = Shortened(toy(name), length)
    return Case(model, draft(kind, model))


def every_sequence(model):
    return torch.cartesian_prod(*[torch.arange(model.vocab)] * model.length).reshape(-1, model.length)


def drawing_from(law_of):
    """A sampler that draws whole sequences from a law, `law_of(target)`."""

    def drawn(target, draft, n, seed):
        index = np.random.default_rng(seed).choice(target.vocab**target.length, size=n, p=law_of(target))
        return every_sequence(target)[torch.from_numpy(index)]

    return drawn


perfect = drawing_from(lambda target: target_law(target).numpy())


def verdict(sampler, *arguments, suite=None, delta=0.1, **options):
    return judge_sampler(
        sampler, *arguments, suite=(case(),) if suite is None else suite, delta=delta, **{"exact": False} | options
    )


def test_a_right_sampler_is_consistent_at_the_rates_that_were_asked_for():
    short = Shortened(toy("hash-16x24"), 8)
    suite = [one for one in standard() if one.target.name.startswith(("skew", "eos", "guided-2x5"))]
    suite.append(Case(short, draft("perturbed", short)))
    found = judge_sampler(right, suite=suite, delta=0.1, seed=1, exact=False)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert "5 toys" in found.verdict.reason
    assert sum(item.alpha for item in found.evidence) <= 1e-6
    names = [item.check for item in found.evidence]
    assert sorted(set(names)) == sorted(names), "two checks have one name"
    for one in suite:
        mine = [item for item in found.evidence if item.check.startswith(f"{one.name}: ")]
        main = [item for item in mine if item.check.endswith(("joint law (g)", "PIT uniformity"))]
        assert len(main) == 1
        assert main[0].delta <= 0.1
        assert main[0].beta == 1e-6
        assert len(mine) >= 6
    assert found.location is None
    assert not any(re.search(r"\d of [\d,]+ sequences", note) for note in found.not_covered), "all planned were drawn"
    assert any("whether a draft was verified" in note for note in found.not_covered)


def test_a_run_shows_what_was_at_stake():
    def run(target, draft, n, seed):
        return sample(Speculative(DraftModel(draft), 3), target, n, seed)

    def itself(target, draft, n, seed):
        return sample(Speculative(DraftModel(target), 3), target, n, seed)

    assert verdict(run).verdict.kind is Kind.CONSISTENT
    never_rejected = verdict(itself)
    assert never_rejected.verdict.kind is Kind.VACUOUS
    assert "no draft token was rejected" in never_rejected.verdict.reason


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_law_at_a_total_variation_of_one_hundredth_is_refuted(kind):
    """The miss rate is stated for the hardest alternative at this distance, and 1e-6."""
    wrong = drawing_from(lambda target: alternative(target_law(target).numpy(), 0.01, kind))
    found = verdict(wrong, suite=(case("sparse-3x5", 4),), delta=0.01)
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason


def test_perfect_samplers_are_never_refuted():
    for seed in range(6):
        found = verdict(perfect, suite=(case("eos-3x6", 4),), delta=0.1, seed=seed, alpha=1e-3)
        assert found.verdict.kind is Kind.CONSISTENT, (seed, found.verdict.reason)


def test_calls_stop_once_the_evidence_suffices():
    wrong = drawing_from(lambda target: alternative(target_law(target).numpy(), 0.1, "spread"))
    found = verdict(wrong, suite=(case("sparse-3x5", 4),), delta=0.01)
    planned = verdict(perfect, suite=(case("sparse-3x5", 4),), delta=0.01)
    drawn, needed = (int(one.notes[0].split()[0].replace(",", "")) for one in (found, planned))
    assert found.verdict.kind is Kind.REFUTED
    assert drawn < needed / 10
    (process,) = (item for item in found.evidence if "e-process" in item.check)
    assert process.rejected
    assert process.basis == "finite-sample bound"


def test_the_place_found_is_the_first_that_is_wrong():
    """Against the exact law: the draft model's token is always accepted in the slot behind the first."""
    from specverify import defects
    from specverify.decoders.registry import Settings

    model = case("dense-3x6", 3)
    decoder = defects.get("shape-bug-accept-count").build(Settings(2, draft_model=model.draft))
    found = verdict(lambda target, draft, n, seed: sample(decoder, target, n, seed).tokens, suite=(model,))
    came = enumerate_decoder(decoder, model.target).law.reshape(3, 3, 3)
    due = target_law(model.target).reshape(3, 3, 3)
    assert torch.allclose(came.sum((1, 2)), due.sum((1, 2)))
    place = found.location
    assert (place["position"], place["certain"]) == (1, True)
    (first,) = place["prefix"]
    after = [x[first].sum(1) / x[first].sum() for x in (due, came)]
    assert place["expected"] == pytest.approx(after[0].tolist())
    assert place["observed"] == pytest.approx(after[1].tolist(), abs=0.1)
    more = (after[1] > after[0])[place["token"]]
    assert place["direction"] == ("too often" if more else "too rarely")
    assert place["share by position"][0] < 0.2
    assert sum(place["share by position"]) == pytest.approx(1)
    assert "first at position 1" in found.verdict.reason


def test_a_forbidden_token_is_named():
    model = case("sparse-3x5", 4)
    law = target_law(model.target).reshape(3, 3, 3, 3).sum(3)
    first, second, third = ((law == 0) & (law.sum(2, keepdim=True) > 0)).nonzero()[0].tolist()

    def stuck(target, draft, n, seed):
        tokens = right(target, draft, n, seed)
        tokens[0] = torch.tensor([first, second, third, 0])
        return tokens

    found = verdict(stuck, suite=(model,))
    assert found.verdict.kind is Kind.REFUTED
    assert found.location["prefix"] == [first, second]
    assert (found.location["token"], found.location["direction"]) == (third, "too often")
    assert found.location["certain"]
    assert "that the law forbids" in found.verdict.reason


@pytest.mark.parametrize(
    ("claim", "kind"),
    [(Relaxed(0.2), Kind.CONSISTENT), (Relaxed(0.02), Kind.REFUTED), (Relaxed(0.1), Kind.INCONCLUSIVE)],
)
def test_a_relaxed_claim_is_held_to_its_bound(claim, kind):
    wrong = drawing_from(lambda target: alternative(target_law(target).numpy(), 0.1, "spread"))
    found = verdict(wrong, claim, suite=(case("sparse-3x5", 4),), delta=0.03)
    assert found.verdict.kind is kind, found.verdict.reason
    (bounds,) = (item for item in found.evidence if "total variation" in item.check)
    low, high = bounds.interval
    assert low <= 0.1 <= high


def test_a_relaxed_claim_is_judged_where_the_joint_law_is_known():
    known = {case.name for case in standard() if not case.target.name.startswith(("hash-", "wide-"))}
    assert {case.name for case in chosen(None, Relaxed(0.5), "standard")} == known
    assert {case.name for case in chosen(None, Lossless(), "standard")} > known
    found = judge_sampler(right, Relaxed(0.5), delta=0.3, seconds=0.5, exact=False)
    assert found.verdict.kind in (Kind.CONSISTENT, Kind.INCONCLUSIVE), found.verdict.reason
    assert "sequences too long for their joint law to be known, such as those of hash-16x24" in found.not_covered


@pytest.mark.slow
def test_a_claim_about_clusters_looks_at_clusters_alone():
    partition = ((0, 1), (2, 3))

    def swapped(target, draft, n, seed):
        """Each token's synonym instead: wrong token by token, right cluster by cluster."""
        return right(target, draft, n, seed) ^ 1

    def reversed_(target, draft, n, seed):
        return 3 - right(target, draft, n, seed)

    suite = clustered(partition)
    options = {"suite": suite, "delta": 0.05}
    assert verdict(swapped, ClusterLossless(partition), **options).verdict.kind is Kind.CONSISTENT
    assert verdict(swapped, Lossless(), **options).verdict.kind is Kind.REFUTED
    assert verdict(reversed_, ClusterLossless(partition), **options).verdict.kind is Kind.REFUTED


def test_time_that_is_up_leaves_no_verdict_but_says_what_would():
    def slow(target, draft, n, seed):
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        return right(target, draft, n, seed)

    found = verdict(slow, suite=small(), delta=0.01, seconds=1.0)
    assert found.verdict.kind is Kind.INCONCLUSIVE
    assert "sequences were drawn: for" in found.verdict.reason
    assert "seconds would do, or a larger delta" in found.verdict.reason
    assert found.seconds < 10


def test_a_suite_has_a_name_and_what_was_asked_is_repeated_in_one_line():
    found = judge_sampler(right, suite="guided", delta=0.3, seed=2, exact=False)
    assert found.verdict.kind is Kind.CONSISTENT
    assert "3 toys" in found.verdict.reason
    assert found.reproduce == (
        "judge_sampler(tests.subjects.test_sampler:right, Lossless(), seed=2, delta=0.3, alpha=1e-06, beta=1e-06, "
        "seconds=300, suite='guided', exact=False)"
    )


def test_the_same_seed_gives_the_same_judgement():
    first, second = (verdict(perfect, seed=5) for _ in range(2))
    assert [item.to_json() for item in first.evidence] == [item.to_json() for item in second.evidence]
    other = verdict(perfect, seed=6)
    assert [item.statistic for item in other.evidence] != [item.statistic for item in first.evidence]


def test_cut_toys_keep_the_law_of_their_beginning():
    cut = [one.target if isinstance(one.target, Shortened) else getattr(one.target, "inner", None) for one in small()]
    for inner in (*(model for model in cut if model is not None), case("penalty-3x6", 5).target):
        whole = inner.inner
        law = target_law(whole).reshape(whole.vocab**inner.length, -1).sum(1)
        assert torch.allclose(target_law(inner), law, atol=1e-14)
    sequences = every_sequence(case().target)
    assert sequence_index(sequences, 3).tolist() == list(range(81))
