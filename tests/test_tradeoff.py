"""The sweep of relaxed decoders: what is planned, measured, kept, reported and chosen."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from realmodels import bootstrap, digits
from specverify import cli, pool
from specverify.decoders import sample
from specverify.decoders.jacobi import Jacobi
from specverify.decoders.judging import Draft, TokenRule
from specverify.decoders.protocol import State
from specverify.decoders.speculative import Speculative
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.rules.mixture import Mixture
from specverify.rules.price import price
from specverify.rules.scaling import CoolSchedule
from specverify.tradeoff import choose, measure, report, setting, sizes, sweep, tables
from specverify.tradeoff import record as records
from specverify.tradeoff.figures import figures
from specverify.tradeoff.plan import AR, DRAFTING, LOSSLESS, REAL, Asked, Cell, plan
from specverify.tradeoff.setting import Setting
from specverify.tradeoff.watch import Carried, Watched

SMALL = Setting(n=66, window=8, batch=40, resamples=20)
FEW = Asked(rules=["mixture"], drafting=["maximal"], guidance=(1.0,), only="*share=0.8")
TIMES = ("seconds_per_image", "seconds_alone", "times")


# ---- what is planned


def test_every_rule_is_swept_beside_its_baselines():
    cells = plan()
    ids = [cell.id for cell in cells]
    assert len(set(ids)) == len(ids) > 100
    assert [cell.rule for cell in cells if cell.is_baseline] == [REAL, AR, AR]
    assert {cell.drafting for cell in cells if cell.rule == LOSSLESS} == set(DRAFTING)
    assert {"guidance-1.5/gumbel/gsd/size=10", "guidance-1.5/maximal/gsd-static/clusters=5"} < set(ids)
    model = digits.load()
    assert all(hasattr(measure.build(cell, model), "accept") for cell in cells if not cell.is_baseline)


def test_a_pattern_keeps_its_settings_and_the_baselines():
    asked = Asked(["scaling", "lossless"], ["gumbel"], guidance=(1.0, 2.0), only="*/scaling/omega=2")
    cells = plan(asked)
    assert [cell.id for cell in cells if not cell.is_baseline] == [
        "guidance-1/gumbel/scaling/omega=2",
        "guidance-2/gumbel/scaling/omega=2",
    ]
    assert sum(cell.rule == AR for cell in cells) == 4


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"rules": ["mixtur"]}, "unknown rule 'mixtur'; did you mean mixture"),
        ({"drafting": ["greedy"]}, "unknown drafting 'greedy'; choose from independent, maximal, gumbel"),
        ({"guidance": (math.inf,)}, "guidance inf is not a finite number"),
        ({"rules": []}, "needs a rule and a drafting at least"),
        ({"guidance": ()}, "needs a guidance at least"),
        ({"decoders": ["sd"]}, "--decoders and several windows are for models of patches"),
        ({"windows": [2, 4]}, "--decoders and several windows are for models of patches"),
        ({"only": "nothing"}, "no setting matches 'nothing'; ids look like"),
    ],
)
def test_what_cannot_be_planned_is_refused(asked, message):
    with pytest.raises(InputError, match=message):
        plan(Asked(**asked))


# ---- watching


@pytest.mark.parametrize("kind", DRAFTING)
def test_watching_changes_nothing_and_counts_every_judged_draft(kind, seed):
    model = digits.load()
    watched = Watched(Jacobi(kind), Mixture(0.5))
    seen = sample(Speculative(watched, 8, Mixture(0.5)), model, 50, seed, 30)
    plain = sample(Speculative(Jacobi(kind), 8, Mixture(0.5)), model, 50, seed, 30)
    assert torch.equal(seen.tokens, plain.tokens)
    assert torch.equal(seen.passes, plain.passes)
    assert torch.equal(watched.judged.long(), plain.verified)
    # The mixture lies on the frontier; a rule that gains pays.
    torch.testing.assert_close(watched.gain, watched.bias, atol=1e-4, rtol=0)
    assert float(watched.bias.min()) > 0
    assert float(watched.bias.max()) < model.length


def test_the_exact_rule_costs_nothing(seed):
    watched = Watched(Jacobi("gumbel"), TokenRule())
    sample(Speculative(watched, 8), digits.load(), 20, seed)
    assert float(watched.judged.sum()) > 500
    assert float(watched.bias.abs().max()) < 1e-4
    assert float(watched.gain.abs().max()) < 1e-4


class _Still(Jacobi):
    def carry(self, before, after, draft, laws, count, draws):
        assert before.drafting is after.drafting == "inner"
        return "carried"


def test_prices_are_added_to_the_right_sequence_slot_by_slot():
    """A rule with a schedule shows whether slots stay where they are."""
    generator = torch.Generator().manual_seed(0)
    laws = torch.rand(4, 6, 5, generator=generator, dtype=torch.float64).softmax(-1)
    q = (3 * torch.rand(4, 5, 5, generator=generator, dtype=torch.float64)).softmax(-1)
    count = torch.tensor([6, 1, 4, 0])  # the first row's last token is a bonus, and not judged
    watched = Watched(_Still(), CoolSchedule(4.0))
    watched._totals.append(torch.zeros(7, 3, dtype=torch.float64))
    nothing = torch.zeros(4, dtype=torch.int64)
    state = State(None, nothing[:, None], nothing, nothing > 0, Carried("inner", torch.tensor([5, 0, 2, 1])))
    draft = Draft(torch.zeros(4, 5, dtype=torch.int64), q, torch.zeros(4, dtype=torch.int64))
    carried = watched.carry(state, state, draft, laws, count, Sampled(0))
    assert carried.inner == "carried"
    assert carried.row.tolist() == [5, 0, 2, 1]
    whole = price(laws[:, :-1], q, CoolSchedule(4.0))
    expected = torch.zeros(7, dtype=torch.float64)
    for row, judged, place in ((0, 5, 5), (1, 1, 0), (2, 4, 2)):
        expected[place] = whole.bias[row, :judged].sum()
    torch.testing.assert_close(watched.bias, expected)
    assert watched.judged.tolist() == [1, 0, 4, 0, 0, 5, 0]
    assert float(expected[5]) > float(whole.bias[0, :1]) > 0


def test_the_weighted_distance_is_that_of_the_weighted_sample():
    pit = np.random.default_rng(0).random((30, 7)) ** 1.2
    weight = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), size=3)
    for row, found in zip(weight, setting.kolmogorov(pit, weight), strict=True):
        drawn = np.repeat(pit, row, axis=0).ravel()
        assert found == pytest.approx(stats.kstest(drawn, "uniform").statistic)


# ---- measuring


@pytest.fixture(scope="module")
def rows():
    """What is measured of the settings of `FEW`, and of the exact rule."""
    cells = [*plan(FEW), Cell(LOSSLESS, 1.0, "maximal")]
    return {cell.id: measure.carry_out(cell, SMALL) for cell in cells}


@pytest.fixture
def in_process(monkeypatch, rows):
    """Work without processes, from rows that are there; the list of what was carried out."""
    carried = []

    def share_out(work, units, jobs, console=None, *, name=str, done=0):
        for unit in units:
            carried.append(unit.id)
            yield work(unit)

    monkeypatch.setattr(sweep.pool, "share_out", share_out)
    monkeypatch.setattr(sweep, "carry_out", lambda cell, setting: rows[cell.id])
    return carried


def _timeless(row):
    return {name: value for name, value in row.items() if name not in TIMES}


def test_a_row_depends_on_the_seed_and_its_name_alone(rows):
    cell = Cell("mixture", 1.0, "maximal", "share", 0.8)
    assert rows[cell.id]["error"] is None
    assert _timeless(measure.carry_out(cell, SMALL)) == _timeless(rows[cell.id])
    assert {len(rows[cell.id]["metrics"][name]["replicates"]) for name in choose.METRICS} == {20}


def test_rows_say_what_is_known_of_them(rows):
    exact, loose = (rows[f"guidance-1/maximal/{name}"]["metrics"] for name in ("lossless", "mixture/share=0.8"))
    assert abs(exact["bias"]["value"]) < 1e-6 < 0.01 < loose["bias"]["value"] < 1
    assert loose["speedup"]["value"] > exact["speedup"]["value"] > 2
    assert exact["speedup"]["value"] == pytest.approx(64 / exact["passes"]["value"])
    assert loose["acceptance"]["value"] > exact["acceptance"]["value"]
    plain, again = (rows[f"guidance-1/ar/seed-{repeat}"] for repeat in (0, 1))
    assert plain["metrics"]["passes"]["interval"] == [64, 64]
    assert "bias" not in plain["metrics"]
    assert again["images"]["tokens"] != plain["images"]["tokens"]
    assert again["images"]["labels"] == plain["images"]["labels"] == [i % 10 for i in range(20)]


def test_a_sweep_is_the_same_however_it_is_split(tmp_path, rows):
    record = sweep.measure(SMALL, tmp_path / "two", FEW, jobs=2)
    assert record["status"] == "complete"
    alone = [_timeless(rows[cell.id]) for cell in plan(FEW)]
    assert [_timeless(row) for row in record["rows"]] == json.loads(json.dumps(alone))
    assert records.load(tmp_path / "two") == json.loads(json.dumps(record))
    for name in ("report.html", "report.md", "figures/tradeoff-maximal-guidance-1.png"):
        assert (tmp_path / "two" / name).stat().st_size > 1000


def test_a_sweep_goes_on_where_it_was_interrupted(tmp_path, in_process, monkeypatch):
    share_out = sweep.pool.share_out

    def stopped(work, units, *rest, **named):
        yield next(share_out(work, units, *rest, **named))
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep.pool, "share_out", stopped)
    with pytest.raises(KeyboardInterrupt):
        sweep.measure(SMALL, tmp_path, FEW)
    assert records.load(tmp_path)["status"] == "partial"
    assert "is partial" in (tmp_path / "report.md").read_text()
    monkeypatch.setattr(sweep.pool, "share_out", share_out)
    assert sweep.measure(SMALL, tmp_path, FEW)["status"] == "complete"
    assert in_process == [cell.id for cell in plan(FEW)]  # each of them once
    # A row that was cut short is measured again, and nothing else.
    kept = tmp_path / "rows" / "guidance-1~ar~seed-1.json"
    kept.write_text(kept.read_text()[:100])
    in_process.clear()
    assert sweep.measure(SMALL, tmp_path, FEW)["status"] == "complete"
    assert in_process == ["guidance-1/ar/seed-1"]


def test_what_fails_is_said_and_tried_again(tmp_path, in_process, monkeypatch, rows):
    def broken(cell, model):
        raise RuntimeError("out of paint")

    monkeypatch.setattr(measure, "build", broken)
    monkeypatch.setattr(
        sweep,
        "carry_out",
        lambda cell, setting: rows[cell.id] if cell.is_baseline else measure.carry_out(cell, setting),
    )
    record = sweep.measure(SMALL, tmp_path, FEW)
    failed = record["rows"][-1]
    assert failed["error"] == "RuntimeError: out of paint"
    assert record["status"] == "partial"
    assert "out of paint" in (tmp_path / "report.html").read_text()
    with pytest.raises(InputError, match="no finished setting beside a finished AR run"):
        choose.fastest(record, 0.1)
    monkeypatch.setattr(sweep, "carry_out", lambda cell, setting: rows[cell.id])
    in_process.clear()
    assert sweep.measure(SMALL, tmp_path, FEW)["status"] == "complete"
    assert in_process == [failed["id"]]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n": 64}, "n = 64 images give no covariance of 64 features; use at least 65"),
        ({"seed": -1}, "seed -1 is not between 0 and"),
        ({"window": 0}, "window 0, batch 250, resamples 300"),
        ({"batch": 15}, "batch 15 is no multiple of 10"),
        ({"model": "digits-z"}, "no checkpoint 'digits-z'"),
        ({"window": None}, "window None of digits-s: a model of grey levels has one for all settings"),
        ({"device": "warp"}, "device 'warp' cannot be used"),
        ({"window": 99_999_999}, "window 99999999 is more than the 64 tokens of an image of digits-s"),
        ({"n": 10**7}, r"n = 10,000,000 takes about .* GiB of memory, and .* are free; choose fewer images \(--n\)"),
        ({"n": 1000, "seed": 2**63}, "seed 9223372036854775808 is not between 0 and"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        sweep.measure(Setting(**changed), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_memory_is_asked_for_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(sizes, "available", lambda: 2**30)
    sizes.check(Setting(n=1000), 64, [16], 1000, 1)
    with pytest.raises(InputError, match=r"n = 7,000 takes about 1\.\d GiB of memory, and 1\.0 GiB are free"):
        sizes.check(Setting(n=7000), 64, [16], 1000, 1)
    with pytest.raises(InputError, match=r"batch = 500 takes about 4\.\d GiB .*choose a smaller --batch"):
        sizes.check(Setting(n=1000, batch=500), 64, [16], 10**7, 1)
    with pytest.raises(InputError, match=r"in each of 8 processes, .* or fewer processes \(--jobs 2\)"):
        sizes.check(Setting(n=3500), 64, [16], 1000, 8)


def test_missing_libraries_are_said_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(InputError, match=r"needs torchmetrics.*pip install 'specverify\[real\]'"):
        sweep.measure(SMALL, tmp_path / "out", FEW)
    assert not (tmp_path / "out").exists()


def test_a_folder_belongs_to_one_setting(tmp_path, in_process):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; name a folder"):
        sweep.measure(SMALL, tmp_path / "file", FEW)
    with pytest.raises(InputError, match="holds files that are not a sweep's"):
        sweep.measure(SMALL, tmp_path, FEW)
    (tmp_path / "setting.sha256").write_text("another")
    with pytest.raises(InputError, match="another model, size, window, seed, batch, device or version"):
        sweep.measure(SMALL, tmp_path, FEW)
    with pytest.raises(InputError, match="cannot work with 0 jobs"):
        sweep.measure(SMALL, tmp_path, FEW, jobs=0)
    assert in_process == []
    assert pool.share_out is sweep.pool.share_out


# ---- choosing, from a table made by hand

REPLICATES = 200


def _metric(value, deviation, seed):
    spread = np.random.default_rng(seed).normal(size=REPLICATES)
    spread = deviation * (spread - spread.mean()) / spread.std()
    return bootstrap.Estimate(value, value + spread)


def _row(rule, seed, speedup=1.0, bias=None, fd=1.0, accuracy=0.98, guidance=1.0, value=None, **more):
    drafting = None if rule in (AR, REAL) else "maximal"
    parameter = None if value is None else "k"
    cell = Cell(rule, None if rule == REAL else guidance, drafting, parameter, value, seed if rule == AR else 0)
    metrics = {
        "speedup": _metric(speedup, 0.0 if rule == AR else 0.05, 10 * seed),
        "lockstep-64": _metric(0.7 * speedup + 0.3, 0.0 if rule == AR else 0.05, 10 * seed),
        "passes": _metric(64 / speedup, 0.0 if rule == AR else 0.3, 10 * seed),
        "fd": _metric(fd, 0.1, 10 * seed + 1),
        "accuracy": _metric(accuracy, 0.005, 10 * seed + 2),
    }
    if bias is not None:
        metrics |= {"bias": _metric(bias, 0.01, 10 * seed + 3), "excess": _metric(0.0, 0.0, 0)}
    return {
        "id": cell.id,
        "rule": rule,
        "guidance": cell.guidance,
        "drafting": drafting,
        "window": None,
        "parameter": parameter,
        "value": value,
        "claim": None,
        "n": 100,
        "z": None,
        "seconds_per_image": 0.01,
        "seconds_alone": 0.02,
        "times": {"seconds_per_image": [0.009, 0.011], "seconds_alone": [0.02, 0.021, 0.019]},
        "head_evaluations": None,
        "metrics": {name: measure._plain(one, keep=True) for name, one in metrics.items()},
        "images": {"tokens": [[seed] * 64] * 20, "labels": [i % 10 for i in range(20)]},
        "error": None,
        **more,
    }


@pytest.fixture
def record():
    rows = [
        _row(REAL, 9),
        _row(AR, 0, fd=0.9),
        _row(AR, 1, fd=1.1),
        _row(LOSSLESS, 2, 3.0, 0.0, claim="lossless"),
        _row("timid", 3, 3.5, 0.05, value=1.0, fd=1.05),
        _row("timid", 4, 4.0, 0.09, value=2.0, fd=1.1),
        _row("bold", 5, 5.0, 0.095, fd=3.0),  # its estimate is below 0.1, its upper limit is not
        _row("wild", 6, 7.0, 0.5, fd=9.0, accuracy=0.5),
    ]
    del rows[0]["metrics"]["speedup"]
    return {
        "schema": "specverify-tradeoff",
        "version": 1,
        "status": "complete",
        "created": "2020-01-01T00:00:00+00:00",
        "command": "specverify tradeoff <&>",
        "tokens": "grey levels",
        "setting": {
            "model": "digits-s", "n": 100, "window": 16, "seed": 0, "batch": 50, "device": "cpu",
            "resamples": REPLICATES,
        },
        "length": 64,
        "levels": 17,
        "omitted": {},
        "planned": 8,
        "software": {"specverify": "0"},
        "hardware": {"cpus": 1, "jobs": 1, "accelerator": None},
        "rows": rows,
    }  # fmt: skip


def test_the_fastest_within_a_loss_is_judged_by_its_upper_limit(record):
    (choice,) = choose.fastest(record, 0.1)
    assert choice.chosen.id == "guidance-1/maximal/timid/k=1"  # k=2 has 0.09 + 2.34 * 0.01
    assert (choice.compared, choice.images) == (5, 100)
    reach = stats.t.isf(0.05 / 5, REPLICATES - 1)  # five settings at once
    assert choice.chosen.most == pytest.approx(0.05 + reach * 0.01, abs=1e-4)
    assert choice.chosen.slowest == pytest.approx(3.5 - reach * 0.05, abs=1e-3)
    assert choice.chosen.satisfies == 1
    assert [one.id.split("/", 2)[2] for one in choice.others] == ["bold", "timid/k=2", "lossless"]
    bold = choice.others[0]
    within = np.array(record["rows"][6]["metrics"]["bias"]["replicates"]) <= 0.1
    assert bold.satisfies == pytest.approx(within.mean())
    assert bold.best == pytest.approx(within.mean())  # where it is within the limit, nothing is faster
    total = choice.chosen.best + sum(one.best for one in choice.others)
    assert total == pytest.approx(1)


def test_the_least_lossy_at_a_speed_up_is_judged_by_its_lower_limit(record):
    (choice,) = choose.least_lossy(record, 3.95)
    assert choice.chosen.id == "guidance-1/maximal/bold"  # k=2 is at 4.0 - 2.34 * 0.05
    assert choice.others[0].id == "guidance-1/maximal/timid/k=2"
    assert 0.5 < choice.others[0].satisfies < 0.95
    (easy,) = choose.least_lossy(record, 2.0)
    assert easy.chosen.id == "guidance-1/maximal/lossless"


def test_a_question_without_an_answer_names_what_comes_nearest(record):
    (choice,) = choose.least_lossy(record, 50)
    assert choice.chosen is None
    assert choice.nearest.id == "guidance-1/maximal/wild"
    assert choice.others == ()
    assert choice.nearest.needed is None  # it is too slow on any number of images
    record["rows"] = [row for row in record["rows"] if row["rule"] != LOSSLESS]
    (choice,) = choose.fastest(record, 0.001)
    assert choice.chosen is None
    assert choice.nearest.id == "guidance-1/maximal/timid/k=1"
    (choice,) = choose.fastest(record, 0.06)
    assert choice.chosen is None
    reach = stats.t.isf(0.05 / 4, REPLICATES - 1) * 0.01  # the limit is 0.01 away, and shrinks as 1 / sqrt(n)
    assert choice.nearest.needed == pytest.approx(100 * (reach / 0.01) ** 2, rel=0.02)


def test_what_is_known_to_be_wrong_is_never_recommended(record):
    fast = _row("gsd-released", 8, 9.0, 0.001)
    record["rows"].append(fast)
    for choice in (*choose.fastest(record, 0.1), *choose.least_lossy(record, 2)):
        named = [choice.chosen, choice.nearest, choice.free, *choice.others]
        assert fast["id"] not in [one.id for one in named if one is not None]
        assert choice.compared == 5
    assert "gsd-released" not in [line.cells[2] for line in tables.frontier(record).rows]
    assert "never recommended: gsd-released" in tables.frontier(record).intro
    assert "gsd-released (known wrong)" in [line.cells[2] for line in tables.speed(record).rows]


def test_losses_of_image_quality_are_against_both_ar_runs(record):
    found = choose.loss(record, record["rows"][6], "fd")
    assert found.value == pytest.approx(2.0)
    assert found.replicates.std() == pytest.approx(math.sqrt(0.1**2 + 0.1**2 / 2), rel=0.25)
    assert tables.distances(record, record["rows"][6])[1].startswith(r"2.00 [1.7")
    assert tables.distances(record, record["rows"][1])[1].startswith("-0.20 [")  # AR against its other run
    assert choose.loss(record, record["rows"][7], "accuracy").value == pytest.approx(0.48)
    (choice,) = choose.fastest(record, 0.5, "fd")
    assert choice.chosen.id == "guidance-1/maximal/timid/k=2"
    record["rows"] = [row for row in record["rows"] if row["rule"] != AR]
    with pytest.raises(InputError, match="AR at its guidance was not measured"):
        choose.loss(record, record["rows"][3], "fd")


def test_each_guidance_has_an_answer_of_its_own(record):
    record["rows"] += [
        _row(AR, 0, guidance=2.0),
        _row(AR, 1, guidance=2.0),
        _row("wild", 7, 6.0, 0.02, guidance=2.0),
    ]
    answers = {choice.guidance: choice.chosen.id for choice in choose.fastest(record, 0.1)}
    assert answers == {1.0: "guidance-1/maximal/timid/k=1", 2.0: "guidance-2/maximal/wild"}


def test_questions_that_make_no_sense_are_refused(record):
    with pytest.raises(InputError, match="unknown metric 'beauty'; choose one of bias, surprisal"):
        choose.fastest(record, 0.1, "beauty")
    with pytest.raises(InputError, match="max loss -1"):
        choose.fastest(record, -1)
    with pytest.raises(InputError, match="min speed-up 0"):
        choose.least_lossy(record, 0)


# ---- record and report


def test_a_record_is_read_as_it_was_written(record, tmp_path):
    records.save(record, tmp_path / "tradeoff.json")
    assert records.load(tmp_path) == record


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda record: record.pop("rows"), "invalid at .*'rows' is a required property"),
        (lambda record: record["rows"].append(record["rows"][0]), "'real' is there twice"),
        (lambda record: record["setting"].update(resamples=3), "has 200 replicates, not 3"),
        (lambda record: record["rows"][1].update(drafting="greedy"), r"invalid at \$.rows\[1\].drafting"),
    ],
)
def test_a_spoilt_record_is_refused(record, tmp_path, spoil, message):
    spoil(record)
    (tmp_path / "tradeoff.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=message):
        records.load(tmp_path)
    with pytest.raises(InputError, match=message):
        records.save(record, tmp_path / "again.json")


def test_files_that_are_no_record_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no sweep at"):
        records.load(tmp_path)
    (tmp_path / "tradeoff.json").write_text('{"rows": NaN}')
    with pytest.raises(InputError, match="is no JSON"):
        records.load(tmp_path)


def test_the_frontier_holds_what_nothing_beats(record):
    record["rows"].append(_row("beaten", 8, 4.5, 0.3))
    assert {"FD at n = 100", "FD above AR", "lock-step, 64"} < set(tables.frontier(record).headings)
    rules = [(line.cells[2], line.cells[3]) for line in tables.frontier(record).rows]
    assert rules == [("wild", "–"), ("bold", "–"), ("timid", "k 2"), ("timid", "k 1"), ("lossless", "–")]


def test_the_report_is_one_file_and_shows_every_setting(record, tmp_path):
    report.write(record, tmp_path)
    html, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert html.count("src=") == html.count('src="data:image/png;base64,') == 3
    assert "<script" not in html
    assert "://" not in html
    assert "specverify tradeoff &lt;&amp;&gt;" in html
    for word in ("timid", "bold", "wild", "lossless", "real images", "seed-1"):
        assert f"<td>{word}</td>" in html
        assert f"| {word} |" in text
    assert r"3.50 \[3.4" in text  # a speed-up with its interval
    assert (tmp_path / "figures" / "samples-maximal-guidance-1.png").read_bytes().startswith(b"\x89PNG")


def test_figures_are_the_same_bytes_and_say_what_they_show(record):
    first, second = figures(record), figures(record)
    assert [one.png for one in first] == [one.png for one in second]
    trade, close, samples = first
    assert "wild" in trade.alt
    assert "bold" in close.alt
    assert "0.5 per token" in trade.alt
    assert "biased upwards" in trade.caption
    assert "0 to 9 from 7 settings" in samples.alt


# ---- the command line


@pytest.fixture
def run(capsys, monkeypatch, record):
    """Call the command line over the table made by hand: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "100")
    asked = []

    def measured(*arguments):
        asked.append(arguments)
        return record

    monkeypatch.setattr(sweep, "measure", measured)

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(["tradeoff", *map(str, arguments)])
        found = capsys.readouterr()
        return caught.value.code, found.out, found.err

    call.asked = asked
    return call


def test_the_command_names_the_setting_to_take(run, tmp_path):
    code, out, err = run("--max-loss", 0.1, "--out", tmp_path, "--guidance", "1,2", "--rules", "gsd, cool")
    assert (code, err) == (0, "")
    text = " ".join(out.split())
    assert "the fastest setting with a loss of bias of at most 0.1, at guidance 1:" in text
    assert "guidance-1/maximal/timid/k=1 passes 3.5 times fewer (at least 3.38), rows replaced" in text
    assert "18.3 of the target an image; no draft model lock-step 2.75 [2.6" in text
    assert "seconds in a batch 1 times as fast as AR [0." in text
    assert "loss 0.05 (at most 0.0735) of bias" in text
    assert "the fastest that claims to be lossless: guidance-1/maximal/lossless passes 3 times" in text
    assert "limits that hold with 95% for all 5 settings at once, on 100 images of each" in text
    assert "the frontier passes lock-step 64" in text
    shared, folder, asked, *_ = run.asked[0]
    assert (shared, folder, asked) == (Setting(), tmp_path, Asked(["gsd", "cool"], guidance=[1.0, 2.0]))


def test_the_command_says_when_nothing_satisfies(run):
    code, out, _ = run("--min-speedup", 50, "--metric", "fd")
    assert code == 1
    text = " ".join(out.split())
    assert "no setting is confirmed on 100 images; the nearest does not seem to be within" in text
    assert "on any number of images: guidance-1/maximal/wild" in text


def test_the_command_ends_with_an_answer_also_where_nothing_was_asked(run, record):
    code, out, _ = run()
    text = " ".join(out.split())
    assert code == 0
    assert "the fastest setting with a loss of bias of at most 0.02, at guidance 1:" in text
    assert "guidance-1/maximal/lossless passes 3 times fewer" in text
    assert "no limit was asked for: --max-loss and --min-speedup" in text
    record["rows"] = [row for row in record["rows"] if row["rule"] != LOSSLESS]
    code, out, _ = run()
    assert code == 0  # nobody asked
    assert "no setting is confirmed on 100 images" in " ".join(out.split())


def test_the_command_fails_where_a_setting_did(run, record):
    record["rows"][-1] = _row("wild", 6, error="RuntimeError: out of paint", metrics={})
    code, _, err = run("--max-loss", 0.1)
    assert code == 3
    assert "guidance-1/maximal/wild: RuntimeError: out of paint" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-loss", 1, "--min-speedup", 2), "different questions; give one of them"),
        (("--metric", "beauty"), "unknown metric 'beauty'"),
        (("--max-loss", -1), "max loss -1.0: it is a number of at least 0"),
        (("--min-speedup", 0), "min speed-up 0.0: it is a positive number"),
        (("--guidance", "high"), "guidance 'high' is not a list of numbers"),
        (("--window", "2,x"), "window '2,x' is not a list of numbers; write --window 16, or 2,4,8"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (3, "")
    assert err.startswith("error: ")
    assert message in err
    assert run.asked == []
