"""The calibration: sound checkers hold their rates, broken ones are found out, and rows depend on the seed alone."""

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from specverify import calibration, cli, pool
from specverify.calibration import (
    Setting,
    Trial,
    book,
    bounds,
    carry_out,
    continuous,
    counts,
    dependence,
    rounds,
    sources,
    traces,
)  # fmt: skip
from specverify.calibration.blackbox import FromLaw, engine_alarms, engine_misses
from specverify.calibration.sources import Source
from specverify.errors import InputError
from specverify.evidence.discrete import ChiSquare
from specverify.evidence.sequential import EProcess
from specverify.evidence.tokens import reduce
from specverify.subjects.rounds.kernel import Round

LEVEL = 1e-8
WRONG = Source("residual-rewarped", "ties-3x5")
ROW = {
    "check", "what", "on", "stated", "delta", "tv", "n", "trials", "events", "interval", "p_value", "holds", "seconds"
}  # fmt: skip


def alarms(check="joint law (g)", alpha=0.05, law="flat-4", trials=200, n=2000):
    return Trial(
        check, "false alarms", law, alpha, trials, partial(counts.alarms, check=check, law=law, n=n, alpha=alpha)
    )


def misses(check="joint law (g)", trials=200):
    measure = partial(counts.misses, check=check, law="flat-4", kind="spread", delta=0.05, alpha=0.01, beta=0.05)
    return Trial(check, "misses", "flat-4", 0.05, trials, measure)


def row_of(trial, seed=0):
    row = carry_out(trial, seed=seed, level=LEVEL)
    assert set(row) == ROW
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    low, high = row["interval"]
    assert 0 <= low <= row["events"] / row["trials"] <= high <= 1
    return row


def without_times(rows):
    return [row | {"seconds": 0} for row in rows]


class Broken:
    """The G-test with what it finds changed."""

    def __init__(self, law, change):
        self.inner, self.change = ChiSquare(law), change

    def check(self, observed, *, alpha, beta):
        evidence = self.inner.check(observed, alpha=alpha, beta=beta)
        return replace(evidence, **self.change(evidence, alpha))

    def sample_size(self, delta, *, alpha, beta):
        return self.inner.sample_size(delta, alpha=alpha, beta=beta)


def broken(monkeypatch, change):
    monkeypatch.setitem(counts.TOOLS, "joint law (g)", lambda law, vocab: Broken(law, change))


class TestPlan:
    @pytest.mark.parametrize("quick", [False, True])
    def test_every_checker_is_tried_on_perfect_and_on_wrong_samples(self, quick):
        found = {}
        for trial in calibration.all_trials(quick):
            found.setdefault(trial.check, set()).add(trial.what)
        checks = {*counts.TOOLS, *traces.TOOLS, "dispersion", "copies", "repeated rows", "judge_sampler"}
        checks |= {"collisions within a run", "collisions between runs", *continuous.TOOLS}
        checks |= {*bounds.TOOLS, "judge_round", "judge_trace"}
        assert checks == set(found)
        for check in checks:
            assert "misses" in found[check]
            assert found[check] & {"false alarms", "optional stopping"}
        assert {check for check in checks if "uniform p-values" not in found[check]} == {
            "repeated rows", "judge_sampler", "judge_round", "judge_trace"
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


class TestSources:
    @pytest.mark.parametrize("wanted", [0.01, 0.05])
    def test_a_flaw_is_tuned_to_an_exact_distance(self, wanted):
        found = sources.tuned(WRONG, wanted)
        size = 0.5 * np.abs(sources.exact(found) - sources.target("ties-3x5")).sum()
        assert wanted <= size <= wanted * (1 + 1e-6)

    def test_what_cannot_be_tuned_is_said(self):
        with pytest.raises(InputError, match="defect 'inverted-ratio' has no strength to tune"):
            sources.tuned(Source("inverted-ratio", "dense-2x8", draft="perturbed"), 0.01)
        with pytest.raises(InputError, match=r"residual-rewarped on ties-3x5 is wrong by 0\.0973 at most, not by 0\.5"):
            sources.tuned(WRONG, 0.5)

    def test_decoding_for_real_and_the_exact_law_agree(self, agrees, seed):
        wrong = sources.tuned(WRONG, 0.05)
        total = sum(wrong.counts(5000, 20, seed % 2**32))
        agrees(total, sources.exact(wrong), 0.05)
        assert (total[sources.exact(wrong) == 0] == 0).all()

    def test_repetitions_do_not_share_samples(self):
        first, *rest = Source("ar", "hash-16x24").tokens(3, 5, 0)
        assert not any(torch.equal(first, other) for other in rest)
        large = list(Source("ar", "dense-2x8").indices(20_000, 2, 0))
        assert [len(part) for part in large] == [20_000, 20_000]
        assert (large[0] != large[1]).any()

    def test_transforms_are_worked_out_as_they_are_measured(self):
        toy = "ties-3x5"
        tokens = sources.every_sequence(toy)[sources.target(toy) > 0]
        here = traces.along(toy)
        keep = sources.target(toy) > 0
        measured = reduce(sources.laws(toy, tokens), tokens, np.random.default_rng(0))
        pit = measured.pit.numpy()[measured.open]
        assert (here.low[keep][measured.open] - 1e-12 <= pit).all()
        assert (pit <= here.high[keep][measured.open] + 1e-12).all()
        np.testing.assert_allclose(here.overlap[keep].sum(-1), 1, atol=1e-12)

    def test_the_exact_size_of_a_flaw_is_nothing_for_a_right_decoder(self):
        right = Source("sjd", "dense-3x6")
        for check in traces.TOOLS:
            assert traces._size(check, right) < 1e-12

    def test_the_exact_kolmogorov_distance_is_what_many_tokens_show(self):
        wrong = sources.tuned(
            Source("params-dropped-on-spec-path", "dense-3x6"), 0.05, partial(traces._size, "PIT uniformity"), 0.2
        )
        (trace,) = traces.traces(wrong, 60_000, 1, 0)
        pit = np.sort(trace.pit.numpy().ravel())
        shown = np.abs(pit - np.arange(1, len(pit) + 1) / len(pit)).max()
        assert shown == pytest.approx(0.05, abs=math.sqrt(math.log(2e6) / (2 * 60_000)))

    def test_chance_collisions_of_a_chain_are_exact(self):
        tokens = Source("ar", "markov-3x6")
        chain = dependence._tool("collisions within a run", "markov-8x32").collision
        assert 0 < chain < 1e-6
        law = sources.target("markov-3x6")
        assert dependence._tool("copies", tokens.toy).collision == pytest.approx(float((law**2).sum()))
        with pytest.raises(InputError, match="the chance that two sequences of hash-16x24 are equal is not known"):
            dependence._tool("copies", "hash-16x24")


@pytest.mark.parametrize(
    ("check", "distance"), [("energy distance", "energy"), ("Rosenblatt uniformity", "kolmogorov")]
)
def test_the_size_of_a_shift_is_what_samples_show(check, distance):
    moved = continuous.shift(check, 0.2)
    assert getattr(continuous, distance)(moved) == pytest.approx(0.2)
    one, two = np.random.default_rng(0).standard_normal((2, 2000))
    one += moved
    if distance == "energy":
        across = np.abs(one[:, None] - two).mean()
        shown = (2 * across - sum(np.abs(x[:, None] - x).mean() for x in (one, two))) / (2 * across)
    else:
        shown = stats.ks_2samp(one, two).statistic
    assert shown == pytest.approx(0.2, abs=0.05)


def test_the_distances_of_bounds_are_what_samples_show():
    generator = np.random.default_rng(0)
    overlap = bounds.moved_overlap(0.05)
    taken = bounds.geometric(generator, 200_000, overlap)
    due = (1 - bounds.OVERLAP) * bounds.OVERLAP ** np.arange(20)
    shown = np.abs([(taken > k).mean() - due[k] for k in range(20)]).max()
    assert shown == pytest.approx(0.05, abs=0.01)
    assert bounds.geometric(generator, 200_000, bounds.OVERLAP).mean() == pytest.approx(1, abs=0.03)

    ratio, inverse = bounds.TOOLS["overlap from both sides"].draw(generator, 200_000, 0.05)
    shown = np.exp(np.minimum(ratio, 0)).mean() - np.exp(np.minimum(inverse, 0)).mean()
    assert abs(shown) == pytest.approx(0.05, abs=0.01)
    ratio, inverse = bounds.TOOLS["mean ratio"].draw(generator, 200_000, 0.0)
    assert np.exp(ratio).mean() == pytest.approx(1, abs=0.01)
    assert np.exp(inverse).mean() == pytest.approx(1, abs=0.01)

    (pairs,) = bounds.TOOLS["Rosenblatt pairs"].draw(generator, 400_000, 0.05)
    cells = np.histogram2d(pairs[:, 0, 0], pairs[:, 1, 0], bins=bounds.GRID, range=[[0, 1]] * 2)[0] / 400_000
    assert np.abs(cells - bounds.GRID**-2).sum() / 2 == pytest.approx(0.05, abs=0.01)


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


def test_a_table_is_sampled_as_it_is():
    model = Source("ar", "sparse-3x5").model()
    law = sources.target("sparse-3x5")
    tokens = FromLaw(law)(model, model, 20_000, 0)
    index = (tokens.numpy() @ (3 ** np.arange(4, -1, -1))).ravel()
    assert 0.5 * np.abs(np.bincount(index, minlength=len(law)) / 20_000 - law).sum() < 0.05
    assert (law[index] > 0).all()


@pytest.fixture
def few(monkeypatch):
    """A calibration of three trials, one of them of p-values."""
    trials = (alarms(trials=50), misses(trials=50), replace(alarms(trials=60), what="uniform p-values"))
    monkeypatch.setattr(book, "all_trials", lambda quick=False: trials)
    return trials


@pytest.fixture
def here(monkeypatch):
    """Work in this process, which monkeypatches reach."""
    monkeypatch.setattr(pool, "share_out", lambda one, units, jobs, console, **_: map(one, units))


class TestRuns:
    def test_rows_do_not_depend_on_the_number_of_processes(self, few, tmp_path):
        one = calibration.run(Setting(3), tmp_path / "one", jobs=1)
        two = calibration.run(Setting(3), tmp_path / "two", jobs=2)
        assert without_times(one) == without_times(two)
        assert [book.row_id(row) for row in one] == [trial.id for trial in few]
        other = [carry_out(trial, seed=4, level=LEVEL) for trial in few]
        assert [row["p_value"] for row in other] != [row["p_value"] for row in one]

    def test_finished_rows_are_kept(self, few, here, tmp_path, monkeypatch):
        first = calibration.run(Setting(), tmp_path, only="*/misses/*")
        assert [row["what"] for row in first] == ["misses"]
        stopped = []

        def stop(trial, **_):
            stopped.append(trial.id)
            if len(stopped) == 2:
                raise KeyboardInterrupt
            return carry_out(trial, **_)

        monkeypatch.setattr(book, "carry_out", stop)
        with pytest.raises(KeyboardInterrupt):
            calibration.run(Setting(), tmp_path)
        assert stopped == [few[0].id, few[2].id]
        assert len(book.load(tmp_path / "calibration.json")["rows"]) == 2
        monkeypatch.setattr(book, "carry_out", carry_out)
        rows = calibration.run(Setting(), tmp_path)
        assert rows[1] == first[0]
        kept = book.load(tmp_path / "calibration.json")
        assert kept["rows"] == rows
        assert kept["level"] == pytest.approx(1e-6 / 3)
        stopped[:] = [""]  # nothing is left to do, or this would stop
        monkeypatch.setattr(book, "carry_out", stop)
        assert calibration.run(Setting(), tmp_path) == rows

    def test_a_folder_of_another_calibration_is_left_alone(self, few, here, tmp_path):
        rows = calibration.run(Setting(), tmp_path)
        for setting in (Setting(1), Setting(quick=True)):
            with pytest.raises(InputError, match="holds a calibration of another seed, version or extent; choose"):
                calibration.run(setting, tmp_path)
        assert book.load(tmp_path / "calibration.json")["rows"] == rows
        again = calibration.run(Setting(1), tmp_path, overwrite=True)
        assert without_times(again) != without_times(rows)

    @pytest.mark.parametrize(
        ("content", "message"), [("[1]", "is no calibration"), ("{", "cannot be read"), ('{"rows": []}', "is no calib")]
    )
    def test_a_file_of_something_else_is_left_alone(self, few, here, tmp_path, content, message):
        (tmp_path / "calibration.json").write_text(content)
        with pytest.raises(InputError, match=message):
            calibration.run(Setting(), tmp_path)
        assert (tmp_path / "calibration.json").read_text() == content


@pytest.fixture
def run(capsys, monkeypatch):
    """Call the command line: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(["calibrate", *map(str, arguments)])
        found = capsys.readouterr()
        return caught.value.code, found.out, found.err

    return call


class TestCommand:
    def test_it_prints_what_was_measured(self, run, few, here, tmp_path):
        code, out, err = run("--out", tmp_path, "--jobs", 1)
        assert (code, err) == (0, "")
        assert "joint law (g)" in out
        assert "3 of 3 stated rates hold, over 120 trials" in out
        assert out.endswith(f"{tmp_path / 'calibration.json'}\n")
        assert run("--out", tmp_path, "--jobs", 1)[:2] == (0, out)

    def test_a_rate_that_does_not_hold_fails(self, run, few, here, tmp_path, monkeypatch):
        broken(monkeypatch, lambda evidence, alpha: {"rejected": False})
        code, out, _ = run("--out", tmp_path)
        assert code == 1
        assert "does not hold: joint law (g), misses, flat-4: 50 of 50" in out.replace("\n", " ")
        assert "2 of 3 stated rates hold" in out

    def test_an_interruption_says_where_the_rows_are(self, run, few, tmp_path, monkeypatch):
        def stop(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(pool, "share_out", stop)
        code, out, err = run("--out", tmp_path)
        assert (code, out) == (130, "")
        assert err == f"interrupted: the rows so far are in {tmp_path}/calibration.json; the same command continues\n"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--seed", -1), "seed -1 is negative; use an integer of at least 0"),
            (("--jobs", 0), "cannot work with 0 jobs; use at least 1"),
            (("--only", "zzz*"), "no trial matches 'zzz*'; a trial is CHECK/WHAT/ON/RATE, with the checks joint law"),
            (("--out", "/dev/null/here"), "cannot write /dev/null/here/calibration.json"),
            (("--report", "/nowhere"), "there is no record in /nowhere; `specverify verify --out /nowhere` makes one"),
            (("--report", "x", "--only", "*"), "a report takes a whole calibration; leave out --only, or --report"),
        ],
    )
    def test_what_cannot_be_done_is_said_in_one_line(self, run, few, here, tmp_path, arguments, message):
        code, out, err = run(*(() if "--out" in arguments else ("--out", tmp_path)), *arguments)
        assert (code, out) == (3, "")
        assert err.startswith(f"error: {message}")
        assert err.count("\n") == 1

    def test_the_rows_go_into_a_report(self, run, few, here, tmp_path):
        from specverify import campaign
        from specverify.report import record as records

        campaign.verify("quick", 0, tmp_path / "report", only="exact/ar/dense-2x8", jobs=1)
        code, out, err = run("--out", tmp_path / "rows", "--report", tmp_path / "report")
        assert (code, err) == (0, "")
        assert out.endswith("report.html\n")
        part = records.load(tmp_path / "report")["calibration"]
        assert part == {"seed": 0, "rows": book.load(tmp_path / "rows" / "calibration.json")["rows"]}
        assert "Calibration of the checks" in (tmp_path / "report" / "report.md").read_text()
