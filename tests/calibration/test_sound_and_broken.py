"""Sound checkers hold their rates, and broken ones are found out."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy import stats

from specverify.calibration import (
    Trial,
    carry_out,
    counts,
)  # fmt: skip
from specverify.errors import InputError
from specverify.evidence.discrete import ChiSquare
from specverify.evidence.sequential import EProcess
from tests.calibration.trials import LEVEL, alarms, broken, misses, row_of


class TestSoundAndBroken:
    def test_a_sound_check_holds(self):
        false, missed = row_of(alarms()), row_of(misses())
        assert false["holds"]
        assert 0 < false["events"] < 30
        assert (false["delta"], false["tv"], false["n"]) == (None, None, 2000)
        assert missed["holds"]
        assert missed["tv"] == pytest.approx(missed["delta"]) == 0.05
        assert missed["n"] == ChiSquare(np.full(4, 0.25)).sample_size(0.05, alpha=0.01, beta=0.05)

    def test_one_that_rejects_too_often_does_not(self, monkeypatch):
        broken(monkeypatch, lambda evidence, alpha: {"rejected": evidence.p_value <= 8 * alpha})
        row = row_of(alarms())
        assert not row["holds"]
        assert row["p_value"] < LEVEL
        assert row["interval"][0] > 0.05

    def test_one_that_never_rejects_does_not(self, monkeypatch):
        broken(monkeypatch, lambda evidence, alpha: {"rejected": False})
        assert row_of(alarms())["holds"]
        row = row_of(misses())
        assert (row["holds"], row["events"]) == (False, 200)

    def test_one_that_asks_for_too_few_samples_does_not(self, monkeypatch):
        monkeypatch.setattr(ChiSquare, "sample_size", lambda self, delta, *, alpha, beta: 200)
        row = row_of(misses())
        assert not row["holds"]
        assert row["n"] == 200

    @pytest.mark.parametrize("exact", [False, True])
    def test_p_values_that_are_too_small_are_found_out(self, monkeypatch, exact):
        def trial():
            return replace(alarms(trials=400), what="uniform p-values", exact=exact)

        assert row_of(replace(trial(), exact=False))["holds"]
        broken(monkeypatch, lambda evidence, alpha: {"p_value": evidence.p_value**4})
        row = row_of(trial())
        assert not row["holds"]
        assert row["trials"] == 20
        assert row["events"] > 4

    def test_p_values_that_are_too_large_fail_where_they_must_be_uniform(self, monkeypatch):
        broken(monkeypatch, lambda evidence, alpha: {"p_value": min(1.0, evidence.p_value) ** 0.2})
        trial = replace(alarms(trials=400), what="uniform p-values")
        assert row_of(trial)["holds"]
        assert not row_of(replace(trial, exact=True))["holds"]

    def test_looking_again_and_again_at_a_test_that_is_not_for_it(self, monkeypatch):
        class Peeking:
            def __init__(self, law):
                self.law, self.inner = law, EProcess(law)

            def check(self, stream, *, alpha, beta):
                total = np.cumsum(list(stream), axis=0)
                n = total.sum(1, keepdims=True)
                pearson = ((total - n * self.law) ** 2 / (n * self.law)).sum(1)[n[:, 0] > 50]
                found = self.inner.check([total[-1]], alpha=alpha, beta=beta)
                return replace(found, rejected=bool((stats.chi2.sf(pearson, len(self.law) - 1) <= alpha).any()))

        measure = partial(counts.looks, law="flat-4", alpha=0.05, n=3000)
        trial = Trial("e-process", "optional stopping", "flat-4", 0.05, 80, measure)
        assert row_of(replace(trial, trials=20))["holds"]
        monkeypatch.setattr(counts, "EProcess", Peeking)
        row = row_of(trial)
        assert not row["holds"]
        assert row["events"] > 20

    def test_too_few_repetitions_are_refused(self):
        trial = replace(alarms(), measure=lambda trials, seed: counts.Measured(1, np.zeros(3, dtype=bool)))
        with pytest.raises(InputError, match="3 repetitions came back, 200 were asked for"):
            carry_out(trial, seed=0, level=LEVEL)

    def test_p_values_that_do_not_exist_are_not_tested(self):
        measure = lambda trials, seed: counts.Measured(1, np.zeros(trials, dtype=bool))  # noqa: E731
        with pytest.raises(InputError, match="has no p-values to test"):
            carry_out(replace(alarms(), what="uniform p-values", measure=measure), seed=0, level=LEVEL)
