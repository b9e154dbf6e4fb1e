"""Small batches and places in them: what all settings show together, and what one shows alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from specverify.deadline import Deadline
from specverify.decoders.continuous import DraftModel, Speculative, TokenRule
from specverify.evidence.rosenblatt import transforms
from specverify.laws import Gaussian
from specverify.subjects.continuous_play import SMALL, play_small
from specverify.subjects.continuous_pool import NAMES, PLACES, TOGETHER, Pooled, checks, pooled
from specverify.subjects.continuous_suite import SUITE

ALPHAS = dict.fromkeys(NAMES, 1e-8)
SETTINGS, VALUES = 17, 250


def _columns(name):
    """Transforms that stand side by side in what a check of dependence looks at."""
    return int(name.split()[-1]) if name.split()[-1].isdigit() else 2


@pytest.fixture
def parts(seed):
    rng = np.random.default_rng(seed)
    return [
        Pooled(
            f"toy {k}",
            {name: rng.random(VALUES) for name in PLACES},
            {name: rng.random((VALUES // 2, _columns(name))) for name in TOGETHER},
            np.zeros(9, dtype=bool),
            1e-9,
            tuple(SMALL),
        )
        for k in range(SETTINGS)
    ]


def refuted(parts):
    return {item.check: item.detail for item in checks(parts, ALPHAS, 1e-3) if item.rejected}


def test_uniform_values_are_not_refuted(parts):
    found = checks(parts, ALPHAS, 1e-3)
    assert refuted(parts) == {}
    assert [item.check for item in found] == list(NAMES)
    assert {item.alpha for item in found} == {1e-8}
    assert max(item.n for item in found if item.check in PLACES) == SETTINGS * VALUES


def test_what_shows_in_one_setting_alone_is_not_lost_among_the_others(parts):
    """42 values in the last cell are 1% of all: three standard deviations there."""
    few = np.full(42, 0.97)
    off = replace(parts[3], groups={**parts[3].groups, "batches of 1": few})
    found = refuted([*parts[:3], off, *parts[4:]])
    assert [*found] == ["batches of 1"]
    assert found["batches of 1"].startswith("toy 3: tokens are ")


def test_what_is_small_shows_in_all_together(parts):
    moved = [replace(part, groups={**part.groups, "first rows": part.groups["first rows"] ** 1.25}) for part in parts]
    found = refuted(moved)
    assert [*found] == ["first rows"]
    assert "toy" not in found["first rows"]


def test_two_rows_of_a_small_batch_that_depend_on_each_other_are_told_by_the_size(parts):
    """Each is uniform by itself, and never equal to the other."""
    name = "two rows in batches of 5"
    moved = []
    for part in parts:
        rows = part.together[name].copy()
        rows[:, 3] = (rows[:, 1] + 0.2) % 1
        moved.append(replace(part, together={**part.together, name: rows}))
    found = refuted(moved)
    assert [*found] == [name]
    assert "most deviant: rows 2 apart" in found[name]


@pytest.mark.parametrize("name", ["rows mirrored in a batch", "rows half a batch apart", "one batch and the next"])
def test_batches_whose_rows_depend_on_each_other_in_reverse_or_by_halves_or_on_the_batch_before_are_told(name, seed):
    (one,) = [setting for setting in SUITE if setting.often > 1]
    model, generator = one.model(), np.random.default_rng(seed)
    uniforms, small = generator.random((384, model.length, 1)), generator.random((60, 2, model.length, 1))
    for batch in (uniforms[:128], uniforms[128:]):
        half = len(batch) // 2
        if name == "rows mirrored in a batch":
            batch[half:] = (batch[:half][::-1] + 0.3) % 1
        if name == "rows half a batch apart":
            batch[half:] = (batch[:half] + 0.3) % 1
    if name == "one batch and the next":
        small[1::2] = 1 - small[::2]
    tokens = torch.special.ndtri(torch.from_numpy(small))
    found = pooled(str(one), Uniform(model), {2: tokens}, uniforms, (128, 256))
    assert [item.check for item in checks([found], ALPHAS, 1e-3) if item.rejected] == [name]


class Uniform:
    """A model whose tokens are standard normal, whatever came before."""

    def __init__(self, model):
        self.name, self.length, self.dim = model.name, model.length, model.dim
        self.dtype, self.device = model.dtype, model.device

    def start(self, batch):
        return torch.zeros(batch)

    def laws(self, context, draft):
        mean = torch.zeros(len(draft), draft.shape[1] + 1, self.dim, dtype=self.dtype)
        return Gaussian(mean, torch.ones_like(mean))


@pytest.mark.slow
def test_one_row_that_forgets_the_residual_is_seen_by_its_place():
    """Where drafts are a deviation off: 14% of total variation in each of its tokens."""
    (one,) = [setting for setting in SUITE if setting.often > 1]
    model = one.model()
    decoder = Speculative(DraftModel(one.draft_model()), one.window, Row3())
    small, fault = play_small(decoder, model, 0, Deadline(600), one.often)
    assert not fault
    some = torch.zeros(1, model.length, model.dim, dtype=model.dtype)  # of no batch
    assert [*refuted([pooled(str(one), model, small, transforms(model, some), ())])] == ["rows at place 3"]


class Row3(TokenRule):
    """Row 3 draws from p after a rejection."""

    def couple(self, p, q, draft, draws, where):
        right = super().couple(p, q, draft, draws, where)
        row = torch.arange(len(draft)).reshape(-1, *[1] * (where.ndim - 1)) == 3
        lost = where & ~right.kept & row
        return right._replace(value=torch.where(lost[..., None], p.sample(draws, lost), right.value))
