"""Whole judgements are tried: of kernels, logs and black boxes."""

import numpy as np
import pytest
import torch

from specverify.calibration import (
    logged,
    rounds,
    traces,
)  # fmt: skip
from specverify.calibration.blackbox import engine_alarms, engine_misses
from specverify.calibration.sources import Source
from specverify.subjects.rounds.kernel import Round
from tests.calibration.trials import WRONG


def test_a_kernel_strays_as_far_as_it_says():
    rows, generator = 100_000, torch.Generator().manual_seed(0)
    for law in ([0.5, 0.3, 0.2], [0.0, 0.6, 0.4]):
        p = torch.tensor(law, dtype=torch.float64).expand(rows, 2, 3)
        draft = torch.multinomial(p[:, 0], 1, generator=generator)
        one = torch.ones(rows, dtype=torch.long)
        given = Round(draft, one, p[:, :1], p, p, one.double(), 3 * one)
        stray = rounds.Straying(rounds.rounds.get("token-rule").kernel, 0.1)
        token = stray(given, generator).tokens[:, 0]
        shown = np.bincount(token.numpy(), minlength=3) / rows
        assert np.abs(shown - law).sum() / 2 == pytest.approx(0.1, abs=0.01)


@pytest.mark.slow
def test_whole_judgements_of_kernels_and_logs_are_tried():
    kernels = rounds.misses(2, 1, name="token-rule", delta=0.2, alpha=0.01, beta=0.01)
    logs = traces.whole_misses(
        3,
        1,
        source=Source("residual-rewarped", "dense-3x6", draft="perturbed"),
        side=0.1,
        delta=0.03,
        alpha=0.01,
        beta=0.01,
    )
    right = traces.whole_alarms(5, 1, source=Source("sjd", "ties-3x5"), rows=100, alpha=1e-6)
    assert (kernels.rejected.all(), logs.rejected.all(), right.rejected.any()) == (True, True, False)
    assert (kernels.delta, logs.delta) == (0.2, 0.03)


def test_the_engine_of_black_boxes_is_tried():
    right = engine_alarms(5, 1, source=Source("sjd", "sparse-3x5"), decoded=True, delta=0.2, alpha=0.01)
    wrong = engine_misses(5, 1, source=WRONG, kind="spread", delta=0.05, alpha=0.01, beta=0.01)
    assert right.rejected.sum() <= 1
    assert wrong.rejected.all()
    assert (wrong.delta, wrong.tv) == (0.05, pytest.approx(0.05))


@pytest.mark.parametrize("check", logged.TOOLS)
def test_what_logs_have_beside_their_statistics_is_tried(check):
    right = logged.alarms(10, 1, check=check, rows=60, alpha=1e-3)
    assert not right.rejected.any()
    wrong = logged.misses(10, 1, check=check, rows=logged.SEEN[check], alpha=0.01, beta=1e-3)
    assert wrong.rejected.all()
    assert wrong.delta < 0.6
