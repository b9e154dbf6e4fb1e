"""What a real cell would have shown: known-wrong decoders as measured on the real model."""

import json

import numpy as np
import pytest

from realmodels import digits
from specverify import defects, sensitivity
from specverify.cell import ALPHA, BETA, DELTA_REAL, REAL_IMAGES
from specverify.decoders import Autoregressive, sample
from specverify.errors import InputError
from specverify.evidence.pit import PitUniformity
from specverify.evidence.surprisal import Surprisal
from specverify.evidence.tokens import traced
from specverify.plan import plan

RELEASED = "stale-scores-after-coupling"
REAL = {"kind": "real", "model": "digits-s", "run": {"n": 1600}, "evidence": [{"alpha": 3e-9, "beta": 1e-6}]}


def _slip(name):
    return next(one for one in sensitivity.slips() if one.defect == name)


def _alpha(tier):
    from specverify.cells import checks

    return ALPHA / sum(len(checks(cell)) for cell in plan(tier))


def test_decoders_that_run_there_were_measured_or_are_said_not_to_be(monkeypatch):
    measured = {one.defect for one in sensitivity.slips()}
    assert len(measured) > 25
    assert measured <= set(sensitivity.candidates())
    seen = sensitivity.beside([REAL])
    monkeypatch.setattr(sensitivity, "candidates", lambda: (*measured, "brand-new"))
    assert sensitivity.missed(seen)[-1].startswith("known-wrong decoders not measured on digits-s: brand-new; ")
    monkeypatch.undo()
    assert RELEASED in sensitivity.candidates()
    assert all(defects.get(one.defect).lossy for one in sensitivity.slips())
    kept = json.loads(sensitivity.FILE.read_text())
    assert (kept["command"], kept["model"], kept["window"]) == (sensitivity.COMMAND, "digits-s", 16)


def test_a_release_sees_scd_as_released_and_a_quick_run_says_that_it_does_not():
    slip = _slip(RELEASED)
    rates = {"alpha": _alpha("full"), "beta": BETA}
    assert slip.needed(**rates) <= REAL_IMAGES["full"]
    assert slip.needed(_alpha("quick"), BETA) > REAL_IMAGES["quick"]
    # A verdict of CONSISTENT there promises as much: it asks for a delta that the slip is above, and has the images.
    assert abs(slip.nats) > DELTA_REAL["full"]["surprisal"]
    for cell in (cell for cell in plan("full", "real/*") if not cell.timed_alone):
        tokens = cell.n * sensitivity.TOKENS
        assert Surprisal(0.8).smallest_detectable(tokens, **rates) <= DELTA_REAL["full"]["surprisal"]
        assert PitUniformity().smallest_detectable(tokens, **rates) <= DELTA_REAL["full"]["PIT uniformity"]


def test_what_was_missed_is_named_with_its_figures_and_the_images_that_would_do():
    seen = sensitivity.beside([REAL])
    shown = {row["defect"]: row["shown"] for row in seen["rows"]}
    assert not shown[RELEASED]
    assert shown["residual-rewarped"]  # the quick tier has a cell that must refute it
    slip = _slip(RELEASED)
    slight, nothing, *_ = sensitivity.missed(seen)
    assert f"{RELEASED} ({slip.kolmogorov:.4f} Kolmogorov, {slip.nats:.4f} nats a token, seen from" in slight
    assert "CONSISTENT with 1,600 images of digits-s at window 16" in slight
    assert "zero-coin-inclusive" in nothing
    words = sensitivity.unseen(1600, 3e-9, 1e-6)
    assert f"{RELEASED} ({slip.kolmogorov:.4f} Kolmogorov)" in words
    assert RELEASED not in sensitivity.unseen(REAL_IMAGES["full"], _alpha("full"), BETA)
    assert all(row["shown"] == _slip(row["defect"]).shown(1600, 3e-9, 1e-6) for row in seen["rows"])
    assert sensitivity.beside([REAL | {"kind": "sampled"}]) is None
    assert sensitivity.missed(None) == []


def test_the_figures_of_a_right_decoder_are_not_told_from_nothing(seed):
    model = digits.load()
    tokens = sample(Autoregressive(), model, 200, seed, 100).tokens
    trace = traced(model, tokens, 100, np.random.default_rng(seed))
    found = sensitivity.summary("none", trace)
    assert found.images == 200
    assert abs(found.nats) < 2.5 * found.nats_error
    assert found.needed(1e-9, 1e-6) is None or abs(found.nats) > 2 * found.nats_error
    shifted = trace.surprisal + 0.1
    from dataclasses import replace

    wrong = sensitivity.summary("shifted", replace(trace, surprisal=shifted))
    assert wrong.nats == pytest.approx(found.nats + 0.1, abs=1e-4)
    n = Surprisal(wrong.deviation).sample_size(wrong.nats, alpha=1e-9, beta=1e-6)
    assert wrong.needed(1e-9, 1e-6) == pytest.approx(n / 64 / wrong.open, abs=1)


def test_damaged_data_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(sensitivity, "FILE", tmp_path / "none.json")
    sensitivity.slips.cache_clear()
    with pytest.raises(InputError, match=r"cannot be read .*`python -m specverify.sensitivity` measures it anew"):
        sensitivity.slips()
    sensitivity.slips.cache_clear()
