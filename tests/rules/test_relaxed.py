"""Scaling, mixture and typical acceptance against their definitions; what all relaxed rules share."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_laws import BOLD, built, context, pairs, rules
from torch.testing import assert_close

from specverify.claims import ClusterLossless, Relaxed
from specverify.errors import InputError
from specverify.rules import registry
from specverify.rules.clusters import Clusters
from specverify.rules.grouped import Grouped
from specverify.rules.lantern import Lantern
from specverify.rules.mixture import Mixture
from specverify.rules.price import price
from specverify.rules.relaxation import Relaxation
from specverify.rules.scaling import CoolSchedule, EntropyScaling, Scaling
from specverify.rules.threshold import Threshold
from specverify.rules.token import residual, total_variation
from specverify.rules.typical import Typical

EXACT = {"rtol": 0, "atol": 1e-12}
RULES = registry.names()


@given(pairs, st.floats(1, 10))
@settings(max_examples=50)
def test_scaling_multiplies_the_ratio_and_no_token_comes_out_more_than_omega_times_as_often(pair, omega):
    p, q = pair
    for x in (q > 0).nonzero().squeeze(1):
        found = float(Scaling(omega).accept(p, q, x))
        assert found == pytest.approx(min(1, omega * float(p[x]) / float(q[x])), abs=1e-12)
    out = price(p, q, Scaling(omega))
    assert bool((out.law <= omega * p + 1e-12).all())
    assert out.bias <= Scaling(omega).bound(1).tv + 1e-12


def test_the_bounds_of_scaling_and_mixture_are_reached():
    certain = torch.tensor([1.0, 0], dtype=torch.float64)
    p = torch.tensor([0.4, 0.6], dtype=torch.float64)
    assert float(price(p, certain, Scaling(2.5)).bias) == pytest.approx(Scaling(2.5).bound(1).tv, abs=1e-12)
    apart = price(certain, certain.flip(0), Mixture(0.3))
    assert float(apart.bias) == pytest.approx(Mixture(0.3).bound(1).tv, abs=1e-12)


def test_the_schedule_tightens_along_the_window_and_is_never_stricter_than_the_token_rule():
    rule = CoolSchedule(delta=2.0, nu=0.5, mu=0.1)
    p = torch.tensor([0.1, 0.9], dtype=torch.float64).expand(2, 4, 2)
    q = torch.tensor([0.8, 0.2], dtype=torch.float64).expand(2, 4, 2)
    expected = [max(1.0, 2 * math.exp(-0.5 * slot - 0.1)) * 0.1 / 0.8 for slot in range(4)]
    assert expected[-1] == 0.125 < expected[1] < expected[0]
    found = rule.accept(p, q, torch.zeros(2, 4, dtype=torch.int64))
    assert_close(found, torch.tensor(expected, dtype=torch.float64).expand(2, 4), **EXACT)
    with pytest.raises(InputError, match=re.escape("laws of shape (2,) have no slots; a schedule needs [..., window")):
        rule.accept(p[0, 0], q[0, 0], torch.tensor(0))
    assert (CoolSchedule().delta, CoolSchedule().nu) == (1.1, 0.7)
    assert CoolSchedule().bound(1).tv == pytest.approx(1 - 1 / 1.1)
    assert CoolSchedule(delta=0.5).bound(9) == Relaxed(0.0)


def test_prices_of_a_schedule_depend_on_the_slot():
    p, q = torch.tensor([[0.1, 0.9], [0.8, 0.2]], dtype=torch.float64)[:, None].expand(2, 3, 2)
    found = price(p, q, CoolSchedule(delta=2.0, nu=0.5))
    gains = [0.8 * (max(1.0, 2 * math.exp(-0.5 * slot)) - 1) * 0.125 for slot in range(3)]
    assert_close(found.gain, torch.tensor(gains, dtype=torch.float64), **EXACT)


@given(pairs, st.floats(0, 1))
@settings(max_examples=50)
def test_the_residual_to_a_mixture_is_the_residual_to_p(pair, share):
    p, q = pair
    mixed = (1 - share) * p + share * q
    assert_close((mixed - q).clamp(min=0), (1 - share) * (p - q).clamp(min=0), **EXACT)
    assert torch.equal(Mixture(share).recover(p, q, torch.tensor(0)), residual(p, q))
    assert price(p, q, Mixture(share)).bias <= Mixture(share).bound(1).tv + 1e-12


def test_bounds_grow_with_the_length():
    assert [Scaling(2.0).bound(n).tv for n in (0, 1, 2, 3)] == [0, 0.5, 0.75, 0.875]
    assert [Mixture(0.5).bound(n).tv for n in (0, 1, 2)] == [0, 0.5, 0.75]
    assert Scaling(1.0).bound(50) == Mixture(0.0).bound(50) == Relaxed(0.0)


@given(pairs, st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=50)
def test_typical_acceptance_is_a_threshold_on_p(pair, epsilon, delta):
    p, q = pair
    rule = Typical(epsilon, delta)
    entropy = -sum(x * math.log(x) for x in p.tolist() if x > 0)
    threshold = min(epsilon, delta * math.exp(-entropy))
    for x in range(len(p)):
        if abs(float(p[x]) - threshold) > 1e-12:
            assert float(rule.accept(p, q, torch.tensor(x))) == (1.0 if float(p[x]) > threshold else 0.0)
    kept = torch.tensor([float(rule.accept(p, q, torch.tensor(x))) for x in range(len(p))], dtype=torch.float64)
    assert_close(price(p, q, rule).law, q * kept + (1 - (q * kept).sum()) * p, **EXACT)
    standard = price(p, q, Typical(epsilon, delta, "residual"))
    assert_close(standard.law, q * kept + (1 - (q * kept).sum()) * residual(p, q), **EXACT)


BAD = {
    "omega": (lambda: Scaling(0.9), "omega = 0.9: it multiplies p, and is at least 1 (the token rule)"),
    "share": (lambda: Mixture(1.5), "share = 1.5: the draft law's part in the mixture lies between 0 and 1"),
    "delta of a schedule": (lambda: CoolSchedule(0.0), "delta is positive, nu at least 0, mu finite"),
    "nu": (lambda: CoolSchedule(nu=-1.0), "nu=-1.0"),
    "epsilon": (lambda: Typical(-1.0), "epsilon = -1.0, delta = 0.3: thresholds are at least 0 and finite"),
    "resampling": (
        lambda: built(Typical, resample="none"),
        "unknown resampling 'none'; choose one of target, residual",
    ),
    "rule": (lambda: registry.build("lantren"), "unknown rule 'lantren'; did you mean lantern"),
    "no rule": (lambda: registry.rule("!"), "unknown rule '!'; known: gsd-static"),
    "embedding": (lambda: registry.build("lantern"), "rule 'lantern' needs the embedding of the vocabulary; pass Con"),
    "partition": (lambda: registry.build("gsd-static"), "rule 'gsd-static' needs the partition of the vocabulary"),
    "no parameter": (
        lambda: registry.build("gsd-released", 3.0),
        "rule 'gsd-released' has no parameter, but was given",
    ),
    "size": (lambda: registry.build("gsd", 2.5), "size = 2.5: the number of neighbours in a group is an integer"),
    "shapes": (
        lambda: price(torch.ones(1, 1), torch.ones(1), Scaling()),
        "p has shape (1, 1) and q (1,); both are [..., vocab]",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_impossible_settings_are_refused_by_value(call, message):
    with pytest.raises(InputError, match=re.escape(message)):
        call()


@pytest.mark.parametrize("name", RULES)
def test_an_entry_tells_the_truth(name):
    entry = registry.rule(name)
    assert entry.name == name
    assert entry.summary
    assert "arXiv" in entry.source
    assert (entry.parameter is None) == (entry.sweep == ())
    assert list(entry.sweep) == sorted(entry.sweep)
    rule = entry.build(context=context(6))
    assert isinstance(rule, Relaxation)
    assert isinstance(rule.claim, ClusterLossless) == (name == "gsd-clusters")
    kinds = {"gsd-static": Clusters, "gsd-clusters": Clusters, "scaling": Scaling, "amplify": Scaling}
    kinds |= {"lantern": Lantern, "lantern++": Lantern, "mixture": Mixture, "typical": Typical, "cool": CoolSchedule}
    kinds |= {"entropy": EntropyScaling, "threshold": Threshold}
    assert type(rule) is kinds.get(name, Grouped)
    for value in entry.sweep:
        assert isinstance(entry.build(value, context(6)), Relaxation)


@pytest.mark.parametrize("name", [name for name in RULES if registry.rule(name).parameter])
def test_parameters_turn_rules_up(name):
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.rand(30, 2, 30, dtype=torch.float64, generator=generator) ** 6 for _ in range(2))
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    sweep = registry.rule(name).sweep
    # The larger a threshold, the less is above it; and a floor is one of what divides.
    order = -1 if name in ("typical", "threshold", "entropy") else 1
    known = registry.Context() if "gsd" in name else context(30)
    means = [float(price(p, q, registry.build(name, value, known)).acceptance.mean()) for value in sweep][::order]
    assert means == sorted(means)
    assert means[-1] > means[0]


def example(dtype, vocab=16):
    """Laws, and drafts that they allow, Float[2, 3, vocab]."""
    generator = torch.Generator().manual_seed(5)
    p, q = (torch.rand(2, 2, 3, vocab, generator=generator, dtype=torch.float64) ** 3).unbind(0)
    p, q = ((law / law.sum(-1, keepdim=True)).to(dtype) for law in (p, q))
    return p, q, torch.randint(0, vocab, (2, 3), generator=generator)


@pytest.mark.parametrize("name", RULES)
def test_rules_are_functions_of_one_law_at_a_time(name):
    p, q, draft = example(torch.float64)
    rule = rules(16)[name]
    accept, recovered = rule.accept(p, q, draft), rule.recover(p, q, draft)
    assert recovered.shape == p.shape
    assert bool(((accept >= 0) & (accept <= 1)).all())
    assert_close(recovered.sum(-1), torch.ones(2, 3, dtype=torch.float64), **EXACT)
    for batch in range(2):
        assert_close(rule.accept(p[batch], q[batch], draft[batch]), accept[batch], **EXACT)
        for slot in range(3):
            if name != "cool":
                one = rule.accept(p[batch, slot], q[batch, slot], draft[batch, slot])
                assert_close(one, accept[batch, slot], **EXACT)
            one = rule.recover(p[batch, slot], q[batch, slot], draft[batch, slot])
            assert_close(one, recovered[batch, slot], **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", RULES)
def test_rules_keep_the_dtype_of_the_laws(name, dtype):
    exact, low = example(torch.float64), example(dtype)
    rule = rules(16)[name]
    accept, recovered = rule.accept(*low), rule.recover(*low)
    assert accept.dtype == recovered.dtype == dtype
    wide = rule.accept(low[0].double(), low[1].double(), low[2])
    assert_close(accept.double(), wide, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.03)
    assert float(total_variation(recovered.double(), rule.recover(*exact)).max()) < 0.03


@pytest.mark.parametrize("name", RULES)
def test_rules_never_look_at_values(name):
    # Tensors on the meta device have none: a rule that waited for one, or branched on one, would raise.
    p, q, draft = (x.to("meta") for x in example(torch.float32))
    rule = rules(16)[name]
    assert rule.accept(p, q, draft).shape == (2, 3)
    assert rule.recover(p, q, draft).shape == (2, 3, 16)


@pytest.mark.parametrize("name", RULES)
def test_prices_do_not_depend_on_how_the_drafts_are_cut(name):
    p, q, _ = example(torch.float64)
    q = q.where(q > 0.02, 0.0)
    q = q / q.sum(-1, keepdim=True)
    whole, cut = (price(p, q, rules(16)[name], block) for block in (1 << 20, 3 * p.numel()))
    assert_close(whole.law, cut.law, **EXACT)
    assert_close(whole.acceptance, cut.acceptance, **EXACT)
    assert_close(whole.law.sum(-1), torch.ones(2, 3, dtype=torch.float64), **EXACT)
    assert set(BOLD) <= set(RULES)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", RULES)
def test_rules_judge_alike_on_a_gpu(name, dtype):
    p, q, draft = example(dtype)
    rule = rules(16)[name]
    there = [x.cuda() for x in (p, q, draft)]
    near = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 1e-5}
    assert_close(rule.accept(*there).cpu(), rule.accept(p, q, draft), **near)
    assert_close(rule.recover(*there).cpu(), rule.recover(p, q, draft), **near)
    assert_close(price(*there[:2], rule).law.cpu(), price(p, q, rule).law, **near)
