"""The planner repeats what the checks themselves say, and measures the rest."""

import json
import time

import pytest

from specverify import cli, planner
from specverify.cell import DELTA
from specverify.errors import InputError
from specverify.evidence.discrete import ChiSquare
from specverify.evidence.pit import PitUniformity
from specverify.evidence.result import TOTAL_VARIATION
from specverify.evidence.sequences import target_law
from specverify.evidence.sequential import EProcess
from specverify.plan import plan
from toymodels import toy

TOYS = ("eos-3x6", "hash-16x24")
RATES = {"alpha": 1e-6, "beta": 1e-6}


@pytest.fixture(scope="module")
def fine():
    return planner.make_plan(0.02, **RATES, toys=TOYS)


@pytest.fixture(scope="module")
def coarse():
    return planner.make_plan(0.1, **RATES, toys=TOYS)


@pytest.fixture
def run(capsys, monkeypatch):
    """Call the command line: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        found = capsys.readouterr()
        return caught.value.code, found.out, found.err

    return call


def need(planned, toy_name, check):
    (found,) = (one for one in planned.needs if (one.toy, one.check) == (toy_name, check))
    return found


def test_a_smaller_discrepancy_takes_more_samples(fine, coarse):
    assert len(fine.needs) == len(coarse.needs) == 17
    for one, other in zip(fine.needs, coarse.needs, strict=True):
        assert (one.toy, one.check) == (other.toy, other.check)
        if one.n is None:
            assert one.check == "dispersion"
            assert "no n up to 1e+12 makes a discrepancy of 0.02 visible" in one.why
        else:
            assert one.n > other.n
            assert one.sequences > other.sequences
    assert fine.seconds > coarse.seconds


def test_the_numbers_are_the_checks_own(fine):
    law = target_law(toy("eos-3x6")).numpy()
    rates = {"alpha": fine.needs[0].alpha, "beta": 1e-6}
    assert need(fine, "eos-3x6", "joint law (g)").n == ChiSquare(law).sample_size(0.02, **rates)
    bets = need(fine, "eos-3x6", "e-process")
    assert bets.n == EProcess(law).sample_size(0.02, **rates)
    assert bets.expected == EProcess(law).expected_sample_size(0.02, alpha=rates["alpha"])
    pit = need(fine, "hash-16x24", "PIT uniformity")
    assert (pit.n, pit.unit) == (PitUniformity().sample_size(0.02, **rates), "tokens")
    assert 24 * (pit.sequences - 1) < pit.n <= 24 * pit.sequences


def test_all_checks_share_one_alpha(fine):
    assert sum(one.alpha for one in fine.needs) == pytest.approx(1e-6)


def test_what_a_pass_rests_on_decides_the_time(fine):
    assert {one.check for one in fine.needs if one.asked} == set(DELTA)
    for speed in fine.speeds:
        asked = [one.sequences for one in fine.needs if one.toy == speed.toy and one.asked]
        assert fine.draws(speed.toy) == max(asked)
    assert fine.seconds == pytest.approx(sum(fine.draws(s.toy) / s.rate for s in fine.speeds))


def test_speed_is_measured():
    start = time.perf_counter()
    planned = planner.make_plan(0.5, **RATES, toys=["eos-3x6"])
    elapsed = time.perf_counter() - start
    (speed,) = planned.speeds
    assert 0 < speed.seconds < elapsed
    assert speed.sequences == planner.BLOCK or speed.seconds >= planner.TIMED
    one = need(planned, "eos-3x6", "joint law (g)")
    assert one.seconds == pytest.approx(one.n * speed.seconds / speed.sequences)
    assert one.metric == TOTAL_VARIATION


def test_what_cannot_be_seen_is_said_by_the_checks(fine):
    assert need(fine, "eos-3x6", "next-token laws").blind == "prefixes of probability below 0.001"
    assert "as surprising as the target's" in need(fine, "hash-16x24", "surprisal").blind
    unseen = " ".join(fine.unseen)
    assert "markov-8x32" in unseen
    assert "continuous tokens" in unseen


def test_the_toys_are_those_of_the_campaign(monkeypatch):
    asked = []
    monkeypatch.setattr(planner, "_time", lambda name, cells, seed: asked.append(name) or stop())

    def stop():
        if len(asked) == 2:
            raise InterruptedError
        return planner.Speed(asked[-1], "sjd", 1, 1, 1.0), None

    with pytest.raises(InterruptedError):
        planner.make_plan(0.1, **RATES)
    assert set(asked) == {c.model for c in plan("quick") if c.kind in ("sampled", "paired") and c.model != "digits-s"}


def test_the_command_fits_the_terminal(run):
    code, out, err = run("plan", "--delta", "0.1", "--toy", "eos-3x6")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert out.startswith("to see delta = 0.1 with alpha = 1e-06 in all and beta = 1e-06 per check\n")
    assert "joint law (g) *" in out
    assert "continuous tokens" in out


def test_the_command_gives_json(run):
    code, out, _ = run("plan", "--delta", "0.1", "--toy", "eos-3x6", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["delta"], found["speeds"][0]["toy"]) == (0.1, "eos-3x6")
    assert found["speeds"][0]["draws"] == max(row["sequences"] for row in found["needs"] if row["asked"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--delta", "0"), "delta is 0.0; a discrepancy in total variation is above 0 and at most 1"),
        (("--delta", "2"), "delta is 2.0; a discrepancy in total variation is above 0 and at most 1"),
        (("--delta", "nan"), "delta is nan"),
        (("--delta", "0.1", "--alpha", "0"), "alpha is 0.0; a false-alarm rate lies strictly between 0 and 1"),
        (("--delta", "0.1", "--beta", "1"), "beta is 1.0; a miss rate lies strictly between 0 and 1"),
        (("--delta", "0.1", "--toy", "eos-3x7"), "unknown toy model 'eos-3x7'; did you mean eos-3x6"),
        ((), "Missing option '--delta'"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_line(run, arguments, message):
    code, out, err = run("plan", *arguments)
    assert (code, out) == (3, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_a_plan_needs_a_toy():
    with pytest.raises(planner.InputError, match="no toys to plan for; name at least one"):
        planner.make_plan(0.1, **RATES, toys=[])


@pytest.mark.parametrize("delta", [1e-4, 1e-7, 1e-9])
def test_what_no_run_could_see_is_not_planned_for(delta):
    with pytest.raises(InputError, match=rf"delta is {delta:g}; .* 0.0005"):
        planner.make_plan(delta, **RATES, toys=TOYS)
