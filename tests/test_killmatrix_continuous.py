"""The kill matrix over continuous tokens: every checker on every defect, exact distances, and a control."""

import numpy as np
import pytest
import torch

from specverify import continuous_density, killmatrix
from specverify import killmatrix_continuous as checkers
from specverify.continuous_density import pair
from specverify.decoders import sample
from specverify.decoders.registry import Settings
from specverify.defects import continuous
from specverify.draws import Sampled
from specverify.evidence import quadrature
from specverify.evidence.rosenblatt import transforms
from specverify.killmatrix_density import distance, judging, overlaps
from specverify.laws import Gaussian, select
from specverify.report import testers
from specverify.verdict import Kind
from toymodels import continuous_drafts
from toymodels.continuous import toy

CONTROL = "cspd-variance-as-std"
DEFECTS = [defect.id for defect in continuous.DEFECTS]
DELTA = 0.05
"""What the checkers see here; the command's own is 0.02."""
SLOW = "energy"
"""Its size does not depend on what is to be seen."""


def rows(name, delta, seed=0, without=(SLOW,)):
    """The rows of one subject's checkers."""
    cells = killmatrix.matrix(killmatrix.corpus("continuous", name))
    setting = killmatrix.Setting(seed, delta)
    return [
        killmatrix._row(cell, "not applicable", reason=cell.absent)
        if cell.absent
        else killmatrix.carry_out(cell, setting)
        for cell in cells
        if cell.checker not in without
    ]


@pytest.mark.parametrize("name", [DEFECTS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in DEFECTS[1:])])
def test_every_defect_is_caught_by_the_checkers_that_it_names_and_by_no_other(name, seed):
    found = rows(name, DELTA, seed)
    assert all(map(testers.sound, found)), [row for row in found if not testers.sound(row)]
    caught = {row["checker"] for row in found if row["outcome"] == "caught"}
    assert caught == set(continuous.get(name).caught_by) - {SLOW}
    assert "density" in caught
    for row in found:
        assert row["named"] == (row["checker"] in continuous.get(name).caught_by)
        assert row["seconds"] < 60
        if row["checker"] == "density":
            assert row["tv"] > 1e-3
        elif row["outcome"] != "not applicable":
            assert row["n"] > 100
            assert bool(row["by"]) == (row["outcome"] == "caught")


@pytest.mark.slow
def test_energy_sees_a_shift_and_lets_the_control_pass(seed):
    (shifted, control) = (
        next(row for row in rows(name, DELTA, seed, set(checkers.CHECKS) - {SLOW}))
        for name in ("cspd-acceptance-temperature", CONTROL)
    )
    assert (shifted["checker"], shifted["outcome"], shifted["n"]) == (SLOW, "caught", 1000)
    assert control["outcome"] == "not flagged"


@pytest.mark.slow
def test_the_control_is_not_flagged(seed):
    for one in range(5 * seed, 5 * seed + 5):
        without = (*["projections"] * (one % 5 > 0), *["judge_continuous"] * (one % 5 > 0))
        found = rows(CONTROL, 0.15, one, (SLOW, *without))
        assert {row["outcome"] for row in found} == {"not flagged", "not applicable"}
        assert not any(row["by"] for row in found)
        tv = next(row["tv"] for row in found if row["checker"] == "density")
        assert tv < 1e-12


def test_only_a_rule_with_a_cap_can_fail_beyond_it():
    without = {name for name in continuous.names() if checkers.absent(name, "cap")}
    assert without == {
        *("cspd-acceptance-temperature", "cspd-target-not-conditioned-on-drafts", "near-without-a-coin", CONTROL)
    }
    for name in continuous.names():
        assert not any(checkers.absent(name, checker) for checker in checkers.CHECKS if checker != "cap")


@pytest.mark.parametrize(
    ("name", "tv"),
    [
        ("cspd-acceptance-temperature", 0.38253),
        ("cspd-trial-cap-zero", 0.0036604),  # TV (1 - TV)^100 at TV = 0.0099733
        ("cspd-target-not-conditioned-on-drafts", 0.236512),
        ("cspd-inverted-trajectory-factor", 0.18499),
        ("cspd-last-step-law", 0.14186),
    ],
)
def test_distances_are_known(name, tv):
    found, what = distance(name)
    assert found == pytest.approx(tv, abs=2e-5)
    assert what.startswith("of the first")


@pytest.mark.parametrize(
    "name", [name for name in continuous.names() if name != "cspd-target-not-conditioned-on-drafts"]
)
def test_tokens_sampled_are_as_far_away_as_quadrature_says(name, seed):
    """Decisions by the shipped part on the laws that were summed, counted in cells of equal mass under the target.

    200,000 in 50 cells: noise adds about 0.006, and a density's variation within a cell takes off less than 0.01.
    """
    rows, cells = 200_000, 50
    toy_name, _, kind = continuous.get(name).smallest
    on, by = pair(toy_name, kind), judging(name)
    p, q = (by.view(select(law, torch.zeros(rows, dtype=torch.int64))) for law in (on.p, on.q))
    where, draws = torch.ones(rows, dtype=torch.bool), Sampled(seed)
    token = by.decide(p, q, q.sample(draws, where), draws, where).x[:, :1]
    law = select(continuous_density.marginal(on.p), torch.zeros(rows, dtype=torch.int64))
    u = law.rosenblatt(token)[:, 0].numpy()
    counts = np.bincount((u * cells).astype(int).clip(0, cells - 1), minlength=cells)
    seen = 0.5 * np.abs(counts / rows - 1 / cells).sum()
    assert seen == pytest.approx(distance(name)[0], abs=0.012)


def test_two_tokens_sampled_are_as_far_away_as_quadrature_says(seed):
    """300,000 pairs in 20 by 20 cells: noise adds about 0.006 at most where the laws agree, cells take off some."""
    name = "cspd-target-not-conditioned-on-drafts"
    toy_name, window, kind = continuous.get(name).smallest
    model, cells, n = toy(toy_name), 20, 300_000
    decoder = continuous.get(name).build(Settings(window, draft_model=continuous_drafts.draft(kind, model)))
    tokens = sample(decoder, model, n, seed).tokens
    place = (transforms(model, tokens)[:, :2, 0] * cells).astype(int).clip(0, cells - 1)
    counts = np.bincount(place @ [cells, 1], minlength=cells**2)
    assert 0.5 * np.abs(counts / n - cells**-2).sum() == pytest.approx(distance(name)[0], abs=0.015)


def test_overlaps_in_closed_form_are_those_of_quadrature():
    mean, scale = [0.3, 0.3, 0.3, -2.0, 0.3, 1e3], [1.0, 1.0, 1.0, 0.2, 1.0, 1e-3]
    other, wide = [1.3, 0.3, 0.3 + 1e-9, 1.0, 9.0, 1e3], [1.0, 1.5, 1.0 + 1e-12, 3.0, 1.0, 2e-3]
    p, q = (
        Gaussian(*(torch.tensor(x, dtype=torch.float64)[:, None] for x in law))
        for law in ((mean, scale), (other, wide))
    )
    found = overlaps(p, q)
    for i, one in enumerate(found.tolist()):
        laws = [select(law, torch.tensor([i])) for law in (p, q)]
        assert one == pytest.approx(quadrature.overlap(*continuous_density._line(*laws)), abs=1e-8)
    same = overlaps(p, p)
    assert torch.equal(same, torch.ones_like(same))


def test_a_tempered_ratio_is_blind_to_the_mean_ratio_where_scales_are_equal():
    """What the criterion takes for p / q has mean 1 to 0.0003 from both sides, though it keeps nearly every draft."""
    found = checkers.ratio("cspd-acceptance-temperature", 0, 0.02)
    assert found["verdict"] is Kind.CONSISTENT
    assert "mean ratio 0.9997" in found["reason"]
