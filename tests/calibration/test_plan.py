"""What a calibration tries."""

import pytest

from specverify import batteries, calibration
from specverify.calibration import (
    bounds,
    continuous,
    counts,
    logged,
    rounds,
    traces,
)  # fmt: skip


class TestPlan:
    @pytest.mark.parametrize("quick", [False, True])
    def test_every_checker_is_tried_on_perfect_and_on_wrong_samples(self, quick):
        found = {}
        for trial in calibration.all_trials(quick):
            found.setdefault(trial.check, set()).add(trial.what)
        checks = {*counts.TOOLS, *traces.TOOLS, "dispersion", "copies", "repeated rows", "judge_sampler"}
        checks |= {*continuous.TOOLS}
        checks |= {*bounds.TOOLS, *rounds.TOOLS, *logged.TOOLS, "judge_round", "judge_trace"}
        assert checks >= {*batteries.traces.CHECKS, *batteries.counts.CHECKS}, "all that samples and logs are judged by"
        assert checks == set(found)
        for check in checks:
            assert "misses" in found[check]
            assert found[check] & {"false alarms", "optional stopping"}
        assert {check for check in checks if "uniform p-values" not in found[check]} == {
            "repeated rows", "judge_sampler", "judge_round", "judge_trace", *rounds.TOOLS, *logged.TOOLS
        }  # fmt: skip
        assert "optional stopping" in found["e-process"] & found["mean ratio"]
        assert len({trial.id for trial in calibration.all_trials(quick)}) == len(calibration.all_trials(quick))

    def test_black_boxes_are_judged_at_one_percent_often_enough_to_say_so(self):
        found = [
            trial for trial in calibration.all_trials()
            if (trial.check, trial.what, trial.stated) == ("judge_sampler", "misses", 0.01) and trial.trials >= 1000
        ]  # fmt: skip
        assert len(found) >= 2

    def test_every_trial_can_be_sent_to_a_process(self):
        import pickle

        for trial in calibration.all_trials(True):
            assert pickle.loads(pickle.dumps(trial)).id == trial.id
