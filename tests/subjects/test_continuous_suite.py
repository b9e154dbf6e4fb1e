"""Where decoders of vectors are judged: what a wrong formula may hold for is not all that is tried."""

import re

import numpy as np
import pytest
import torch

from specverify.batteries import vectors
from specverify.decoders import Autoregressive, sample
from specverify.decoders.registry import Settings, build
from specverify.evidence.rosenblatt import RosenblattUniformity, transforms
from specverify.subjects.continuous import judge_continuous
from specverify.subjects.continuous_suite import SUITE
from specverify.subjects.continuous_words import hardly
from specverify.verdict import Kind
from toymodels import continuous
from toymodels.continuous_drafts import alter

FAMILIES = (("gauss",), ("equal",), ("full", "calm"), ("mix",), ("chain", "varied", "forked"))
CALM = ("calm", "varied", "forked")
"""Their laws depend so little on the tokens before that guesses are kept without a draft model."""
MODELS = {one: one.model() for one in SUITE}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda names: names[0])
def test_each_family_is_met_in_more_than_two_dimensions_and_in_both_precisions(family):
    own = {one: model for one, model in MODELS.items() if one.toy.split("-")[0] in family}
    assert max(model.dim for model in own.values()) > 2
    assert {one.dtype for one in own} == {"float64", "float32"}
    drafts = {one.draft for one, model in own.items() if model.dim > 1}
    assert drafts & {"other", "leaning"}


def test_without_a_draft_model_guesses_are_kept_in_few_dimensions_and_in_many_and_by_heads():
    """A rule that never keeps a draft is never at stake: its residual may be anything."""
    dims = {}
    for one, model in MODELS.items():
        if one.toy.startswith(CALM):
            run = sample(build("jacobi", Settings(3, "left-law")), model, 300, 0)
            assert 0.3 < run.acceptance_rate < 0.9, (str(one), run.acceptance_rate)
            dims.setdefault(one.toy.split("-")[0], set()).add(model.dim)
    assert dims == {"calm": {2, 8, 17}, "varied": {1, 2}, "forked": {2}}


def test_noise_of_varied_heads_depends_on_the_tokens_before_and_forked_ones_are_not_linear():
    model = continuous.toy("varied-2x4")
    tokens = torch.tensor([[0.3, -0.2], [2.0, 1.0]]).double()[:, None]
    law = model.laws(model.start(2), tokens)
    assert _different(law.transition(3, torch.zeros(2, 2, 2).double()).scale[..., :1])
    fork = continuous.toy("forked-2x4")
    head = fork.laws(fork.start(1), torch.zeros(1, 0, 2).double())
    ways = [head.transition(6, torch.full((1, 1, 2), end).double()).mean for end in (-9.0, 0.0, 9.0)]
    assert float((ways[0] - 2 * ways[1] + ways[2]).abs().max()) > 1
    # Its law in closed form is that of its own trajectories.
    run = sample(Autoregressive(), fork, 20_000, 1)
    uniforms = transforms(fork, run.tokens)
    assert not RosenblattUniformity("coordinate").check(uniforms, alpha=1e-3, beta=1e-3).rejected


def test_dimensions_lie_below_at_and_beyond_powers_of_two():
    dims = {model.dim for model in MODELS.values()}
    assert {1, 2, 3, 4, 5, 8, 16, 17} <= dims
    assert {model.dim % 4 for one, model in MODELS.items() if one.dtype == "float32"} == {0, 1, 2, 3}


def test_the_last_slot_of_a_large_window_is_met_in_more_than_one_dimension():
    assert any(one.window >= 8 and model.length > one.window + 1 and model.dim > 1 for one, model in MODELS.items())


@pytest.mark.parametrize("toy", ["gauss-3x4", "full-3x4", "mix-3x4"])
def test_another_draft_differs_in_all_that_a_law_has_and_otherwise_after_each_prefix(toy):
    model = continuous.toy(toy)
    law = model.laws(model.start(2), torch.tensor([0.3, -0.8]).double()[:, None, None].expand(2, 1, 3))
    other, leaning = alter("other", law), alter("leaning", law)
    if toy.startswith("full"):
        spread = [one.cholesky.diagonal(dim1=-2, dim2=-1) for one in (other, law)]
        slope = [one.cholesky.tril(-1)[..., 2, :2] / one.cholesky[..., 2, 2:] for one in (other, law)]
        assert _different(slope[0] / slope[1])
        assert torch.equal(leaning.cholesky, law.cholesky)
    else:
        spread = [other.scale, law.scale]
        assert torch.equal(leaning.scale, law.scale)
    assert _different((other.mean - law.mean) / spread[1])
    assert _different(spread[0] / spread[1])
    if toy.startswith("mix"):
        assert _different((other.log_weight - law.log_weight).exp())


def _different(values):
    """By coordinate, component, position and, behind a token, row."""
    flat = torch.cat([values[:1, 0].flatten(), values[:, 1].flatten()])
    gaps = (flat[:, None] - flat).abs() + torch.eye(len(flat))
    return float(gaps.min()) > 1e-5


def test_what_a_coordinate_takes_from_another_one_of_the_token_before_is_seen_by_its_own_check():
    uniforms = np.random.default_rng(0).random((4000, 5, 3))
    tokens = torch.from_numpy(np.random.default_rng(1).random(uniforms.shape))
    alphas = dict.fromkeys(vectors.LAW, 1e-6)
    right = vectors.carry_out(tokens, uniforms, alphas, 1e-3, vectors.LAW)
    assert not any(item.rejected for item in right.values())
    wrong = uniforms.copy()
    for place in range(1, 5):
        wrong[:, place, 2] = (wrong[:, place - 1, 0] + 0.25) % 1
    found = vectors.carry_out(tokens, wrong, alphas, 1e-3, vectors.LAW)
    assert [name for name, item in found.items() if item.rejected] == ["places"]
    assert re.search(r"most deviant: position \d, dimension 0, and position \d, dimension 2$", found["places"].detail)


def test_rows_half_of_sixteen_to_a_hundred_and_twenty_eight_apart_are_looked_at():
    assert set(vectors.ROWS) >= {*range(1, 34), 48, 64, 96, 128}
    uniforms = np.random.default_rng(0).random((4096, 2, 1))
    for row in range(16, 4096, 32):
        uniforms[row : row + 16] = (uniforms[row - 16 : row] + 0.25) % 1
    found = vectors.carry_out(torch.from_numpy(uniforms), uniforms, {"rows": 1e-6}, 1e-3, ("rows",))["rows"]
    assert found.rejected
    assert "rows 16 apart" in found.detail


@pytest.mark.slow
def test_a_setting_in_which_hardly_a_draft_is_kept_is_said():
    """Without a draft model next to no guess is right in 24 dimensions, so that keeping one is not tested there."""
    judgement = judge_continuous(build("sjd", Settings(3, "left-law")), toys=["gauss-24x4"], seconds=20, alpha=1e-6)
    assert judgement.verdict.kind is Kind.CONSISTENT
    assert judgement.not_covered[0] == "what is done when drafts are kept, in gauss-24x4: fewer than 20 were"
    kept, rejected = SUITE[0], next(one for one in SUITE if one.draft not in ("identical", "disjoint"))
    assert hardly([(rejected, 4000, 3981)]) == [f"what replaces rejected drafts, in {rejected}: fewer than 20 were"]
    assert hardly([(rejected, 4000, 3980), (rejected, 0, 0)]) == []
    assert kept.draft == "disjoint"
    assert hardly([(kept, 4000, 0)]) == []
