import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace

import pytest

import toymodels.catalogue
from specverify import campaign, study
from specverify.cell import ALPHA, Cell
from specverify.cells import carry_out, checks
from specverify.errors import InputError
from specverify.kinds import exact
from specverify.kinds.kind import Setting
from specverify.plan import plan
from specverify.report import record as records
from specverify.report import render

SMALL = "exact/*/dense-2x8*"


def without_times(record):
    text = json.dumps(record, sort_keys=True)
    plain = json.loads(text)
    for cell in plain["cells"]:
        cell["seconds"] = 0
        if cell["run"]:
            cell["run"]["seconds"] = cell["run"]["tokens_per_second"] = 0
    for key in ("created", "finished", "hardware"):
        plain[key] = None
    return plain


def test_plans_name_each_cell_once_and_cover_every_decoder():
    for tier in ("quick", "full"):
        ids = [cell.id for cell in plan(tier)]
        assert len(set(ids)) == len(ids)
        assert {cell.decoder for cell in plan(tier) if cell.kind == "exact"} >= {"ar", "sd", "sjd", "scd-mc", "scd-gs"}
    quick, full = ({cell.id for cell in plan(tier)} for tier in ("quick", "full"))
    assert len(full) > len(quick)


def test_a_plan_goes_from_window_one_to_beyond_the_length():
    windows = defaultdict(set)
    for cell in plan("quick"):
        if cell.kind == "exact" and cell.decoder in ("sd", "sjd", "scd-mc"):
            windows[cell.decoder, cell.model].add(cell.window)
    assert len(windows) == 3 * sum(toymodels.catalogue.enumerable(name) for name in toymodels.catalogue.names())
    for (_, model), seen in windows.items():
        length = int(model.rsplit("x", 1)[1])
        assert {1, length + 1} <= seen, model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("slow", None), "unknown tier 'slow'"), (("quick", "nothing/*"), "matches 'nothing/\\*'")],
)
def test_impossible_plans(arguments, message):
    with pytest.raises(InputError, match=message):
        plan(*arguments)


def test_a_small_campaign_proves_and_writes_everything(tmp_path):
    record = campaign.verify("quick", 0, tmp_path / "out", only=SMALL, jobs=1)
    assert record["status"] == "complete"
    assert record["verdict"]["kind"] == "PROVED"
    assert record["verdict"]["exit_code"] == 0
    assert all(cell["exact"]["tv"] <= 1e-12 for cell in record["cells"])
    assert records.load(tmp_path / "out" / "record.json") == record
    for name in ("report.md", "report.html", "figures/exact-passes.png"):
        assert (tmp_path / "out" / name).stat().st_size > 1000, name


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "_report", lambda record, out: None)
    only = "paired/*/digits-s/*/b1"
    one = campaign.verify("quick", 3, tmp_path / "one", only=only, jobs=1)
    two = campaign.verify("quick", 3, tmp_path / "two", only=only, jobs=2)
    assert without_times(one) == without_times(two)
    other = campaign.verify("quick", 4, tmp_path / "three", only=only, jobs=1)
    assert without_times(other)["cells"][0]["figures"] != without_times(one)["cells"][0]["figures"]


def test_a_missed_defect_is_an_error(tmp_path, monkeypatch):
    def blind(cell, setting):
        result = carry_out(Cell("exact", "ar", "dense-2x8"), setting)
        return result | {"id": cell.id, "kind": cell.kind, "expected": "REFUTED"}

    monkeypatch.setattr(campaign, "carry_out", blind)
    record = campaign.verify("quick", 0, tmp_path / "out", only="defect/inverted-ratio/dense-2x8/w1/perturbed", jobs=1)
    assert record["verdict"]["kind"] == "ERROR"
    assert "missed known-wrong decoders: defect/inverted-ratio" in record["verdict"]["reason"]


def _as_if(tmp_path, monkeypatch, only, kind):
    """A campaign in which every cell gets a verdict without work."""

    def carried(cell, setting):
        result = carry_out(Cell("exact", "ar", "dense-2x8"), setting)
        return result | {
            "id": cell.id,
            "kind": cell.kind,
            "decoder": cell.decoder,
            "verdict": {"kind": kind, "reason": "so"},
        }

    monkeypatch.setattr(campaign, "carry_out", carried)
    return campaign.verify("quick", 0, tmp_path / "out", only=only, jobs=1)


def test_a_control_is_no_decoder_and_flagging_it_is_an_error(tmp_path, monkeypatch):
    record = _as_if(tmp_path / "right", monkeypatch, "continuous/cspd-variance-as-std/*", "CONSISTENT")
    assert record["verdicts"] == []
    assert record["verdict"]["kind"] == "INCONCLUSIVE"
    reason = "1 control, none flagged; nothing was proved: no decoder that claims anything was judged"
    assert record["verdict"]["reason"] == reason
    assert "no known-wrong decoder was among them" in (tmp_path / "right" / "out" / "report.md").read_text()
    record = _as_if(tmp_path / "wrong", monkeypatch, "continuous/cspd-variance-as-std/*", "REFUTED")
    assert record["verdict"]["kind"] == "ERROR"
    assert "flagged decoders that only look wrong: continuous/cspd-variance-as-std/" in record["verdict"]["reason"]


@pytest.mark.slow
def test_one_image_at_a_time_is_timed_beside_plain_decoding_and_not_tested(tmp_path):
    assert {cell.decoder for cell in plan("quick", "real/*/b1")} == {"ar", "sjd", "scd-mc", "scd-gs"}
    record = campaign.verify("quick", 0, tmp_path / "out", only="real/*r/digits-s/g1.5/b1", jobs=1)
    (cell,) = record["cells"]
    assert (cell["run"]["n"], cell["run"]["passes_mean"], cell["run"]["draft_passes_mean"]) == (20, 64, 0)
    assert (cell["evidence"], record["verdicts"], record["verdict"]["kind"]) == ([], [], "INCONCLUSIVE")
    assert "timed and not tested: 1 cell of one image at a time" in record["not_covered"]
    assert "One image at a time: passes and seconds" in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "figures" / "latency.png").exists()


def test_a_cell_that_breaks_is_an_error_and_loses_nothing(monkeypatch):
    def broken(*_):
        raise RuntimeError("boom")

    monkeypatch.setattr(exact, "KIND", replace(exact.KIND, carry_out=broken))
    result = carry_out(Cell("exact", "ar", "dense-2x8"), Setting("quick", 0, "cpu", {}))
    assert result["verdict"] == {"kind": "ERROR", "reason": "RuntimeError: boom"}


@pytest.mark.slow
def test_the_alpha_of_a_campaign_is_split_over_all_its_checks(tmp_path):
    record = campaign.verify("quick", 0, tmp_path / "out", only="real/sjd/digits-s/*/g1/*", jobs=1)
    parts = record["errors"]["alpha"]["parts"]
    (cell,) = plan("quick", "real/sjd/digits-s/*/g1/*")
    assert [part["check"] for part in parts] == [f"{cell.id}: {check}" for check in checks(cell)]
    assert sum(part["alpha"] for part in parts) == pytest.approx(ALPHA)
    (result,) = record["cells"]
    assert [e["alpha"] for e in result["evidence"]] == [part["alpha"] for part in parts]
    assert result["run"]["tokens"] >= 100_000
    assert result["verdict"]["kind"] == "CONSISTENT"
    assert len(result["figures"]["images"]["tokens"]) == 30
    plane = result["figures"]["accepted"]
    assert (plane["height"], plane["width"]) == (8, 8)
    assert sum(plane["share"]) * result["run"]["n"] == pytest.approx(result["run"]["branches"]["accepted"])


class TestFolders:
    def test_a_finished_campaign_is_shown_again_unless_it_is_to_begin_anew(self, tmp_path):
        out, only = tmp_path / "out", "exact/ar/dense-2x8"
        first = campaign.verify("quick", 0, out, only=only, jobs=1)
        stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        assert campaign.verify("quick", 0, out, only=only, jobs=1) == first
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == stamps
        again = campaign.verify("quick", 0, out, only=only, jobs=1, overwrite=True)
        assert (again["status"], again["cells"][0]["seconds"]) != ("complete", first["cells"][0]["seconds"])

    def test_other_settings_do_not_replace_a_finished_campaign(self, tmp_path):
        out, only = tmp_path / "out", "exact/ar/dense-2x8"
        first = campaign.verify("quick", 0, out, only=only, jobs=1)
        with pytest.raises(
            InputError, match=r"a finished campaign of other settings .*--seed 0.* with --out, or begin"
        ):
            campaign.verify("quick", 1, out, only=only, jobs=1)
        assert records.load(out) == first

    def test_a_report_for_which_there_was_no_room_is_written_when_there_is(self, tmp_path, monkeypatch):
        out, only, write = tmp_path / "out", "exact/ar/dense-2x8", render.write

        def full(*_):
            raise InputError("cannot write figures/a.png (No space left on device); make room")

        monkeypatch.setattr(campaign.render, "write", full)
        with pytest.raises(InputError, match=rf"No space left.*record.json is written, and `specverify show {out}`"):
            campaign.verify("quick", 0, out, only=only, jobs=1)
        monkeypatch.setattr(campaign.render, "write", write)
        assert records.load(out)["status"] == "complete"
        campaign.verify("quick", 0, out, only=only, jobs=1)
        assert (out / "report.html").exists()

    def test_a_folder_of_something_else_is_left_alone(self, tmp_path):
        (tmp_path / "precious.txt").write_text("mine")
        with pytest.raises(InputError, match="files that are not a campaign's"):
            campaign.verify("quick", 0, tmp_path, only="exact/ar/dense-2x8", jobs=1)
        assert (tmp_path / "precious.txt").read_text() == "mine"

    def test_a_file_in_the_way(self, tmp_path):
        (tmp_path / "out").write_text("")
        with pytest.raises(InputError, match="is a file"):
            campaign.verify("quick", 0, tmp_path / "out", only="exact/ar/dense-2x8", jobs=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jobs": 0}, "cannot work with 0 jobs"),
        ({"jobs": 10**6}, "cannot work with 1000000 jobs: this machine has .* use at most"),
        ({"seed": -1}, "seed -1 is negative"),
        ({"device": "warp"}, "device 'warp'"),
    ],
)
def test_impossible_campaigns(tmp_path, changes, message):
    arguments = {"tier": "quick", "seed": 0, "out": tmp_path / "out", "only": "exact/ar/dense-2x8", "jobs": 1} | changes
    with pytest.raises(InputError, match=message):
        campaign.verify(**arguments)
    assert not (tmp_path / "out").exists()


def test_a_partial_record_names_the_command_that_continues_it(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt
        yield

    share_out, out = study.pool.share_out, tmp_path / "some where"
    arguments = {"tier": "quick", "seed": 3, "out": out, "only": "exact/ar/dense-2x8*", "jobs": 1}
    monkeypatch.setattr(study.pool, "share_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        campaign.verify(**arguments)
    command = f"specverify verify --tier quick --seed 3 --only '{arguments['only']}'"
    assert records.load(out)["command"] == f"{command} --out '{out}'"
    assert f"continues: `{command} --out '{out}'`" in (out / "report.md").read_text()
    monkeypatch.setattr(study.pool, "share_out", share_out)
    assert campaign.verify(**arguments)["command"] == command


@pytest.mark.slow
def test_ctrl_c_leaves_a_partial_record_and_the_same_command_continues(tmp_path):
    out = tmp_path / "out"
    only = SMALL
    command = [sys.executable, "-m", "specverify.cli", "verify", "--out", str(out), "--only", only, "--jobs", "2"]
    total = len(plan("quick", only))
    # A job started in the background may inherit an ignored Ctrl-C; this one must hear it.
    hear = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", hear, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    finished = out / "cells"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not finished.is_dir() or len(list(finished.glob("*.json"))) < 3):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    partial = records.load(out / "record.json")
    assert partial["status"] == "partial"
    assert 3 <= len(partial["cells"]) < total
    assert partial["verdict"]["kind"] == "INCONCLUSIVE"
    assert partial["command"].endswith(f" --out {out}")
    kept = {path.name: path.stat().st_mtime_ns for path in finished.glob("*.json")}

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    complete = records.load(out / "record.json")
    assert complete["status"] == "complete"
    assert "--out" not in complete["command"]
    assert len(complete["cells"]) == total
    assert all((finished / name).stat().st_mtime_ns == stamp for name, stamp in kept.items())
