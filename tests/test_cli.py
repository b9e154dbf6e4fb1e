"""The command line: what it prints, where it writes, how it exits; no traceback ever."""

import os
import runpy
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import specverify
from specverify import campaign, cli
from specverify.cell import Cell
from specverify.cells import carry_out
from specverify.errors import BudgetError
from specverify.kinds.kind import Setting
from specverify.report import record as records
from specverify.subjects import isolation

EXAMPLE = runpy.run_path(str(Path(__file__).parent / "report" / "example.py"))
ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(capsys, monkeypatch):
    """Call the command line: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("SPECVERIFY_DEBUG", raising=False)

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        found = capsys.readouterr()
        assert "Traceback" not in found.out + found.err
        return caught.value.code, found.out, found.err

    return call


@pytest.fixture
def folder(tmp_path):
    """A folder with a record in it."""
    records.save(EXAMPLE["small"](), tmp_path / "made" / "record.json")
    return tmp_path / "made"


def _refused(outcome, *words):
    code, out, err = outcome
    assert code == 3
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def _fits(text):
    assert max(map(len, text.splitlines())) <= 80


def test_version(run):
    assert run("--version") == (0, f"specverify {specverify.__version__}\n", "")


COMMANDS = ("verify", "show", "list", "validate", "replay", "plan", "defects", "calibrate", "tradeoff", "fetch")


@pytest.mark.parametrize(
    "arguments", [(), ("--help",), ("-h",), *((command, "-h") for command in COMMANDS), ("verify", "--help")]
)
def test_help(run, arguments):
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert out.startswith("Usage: specverify")
    _fits(out)


def test_help_says_what_exit_codes_mean(run):
    assert "0 every claim holds, 1 one is refuted, 2 nothing can be said, 3" in run("--help")[1]


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("decoders", ["ar ", "sd ", "sjd ", "scd-mc ", "scd-gs ", "sjd-race ", "jacobi-reflection "]),
        ("models", ["dense-3x6 ", "hash-16x24 ", "gauss-8x4 ", "digits-gmm "]),
        ("checks", ["discrete.ChiSquare ", "pit.PitUniformity ", "sequential.EProcess "]),
        ("drafts", ["perturbed ", "identical ", "half the target law", "narrower "]),
        ("defects", ["bonus-from-draft ", "cspd-trial-cap-zero "]),
        ("cells", ["exact/ar/dense-2x8\n", "exact/sjd/dense-3x6/w3/repeat-left\n", "real/ar/digits-s/g1/b400\n"]),
        ("cells --real cifar-fsq", ["real/ar/cifar-fsq/g1/b400\n", "real/sjd/cifar-fsq/w16/repeat-left/g1.5/b1\n"]),
    ],
)
def test_list(run, what, names):
    code, out, err = run("list", *what.split())
    assert (code, err) == (0, "")
    _fits(out)
    for name in names:
        assert f"\n{name}" in f"\n{out}" or (" " in name.strip() and name in out), name


def test_list_alone_lists_all(run):
    code, out, _ = run("list")
    assert code == 0
    _fits(out)
    for heading in ("decoders", "models", "checks", "drafts", "defects"):
        assert f"\n{heading}" in f"\n{out}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verfy"], ["No such command 'verfy'", "specverify --help"]),
        (["list", "colours"], ["unknown WHAT 'colours'", "decoders"]),
        (["verify", "--tier", "slow"], ["--tier", "slow", "quick", "full"]),
        (["verify", "--seed", "-1"], ["seed -1 is negative; use an integer of at least 0"]),
        (["verify", "--jobs", "0"], ["0 jobs; use at least 1"]),
        (["verify", "--device", "tpu"], ["unknown --device 'tpu'; did you mean cpu?"]),
        (["verify", "--colour"], ["--colour"]),
        (["show"], ["RECORD"]),
        (
            ["verify", "--only", "exact/sdj/*"],
            ["no cell of the quick tier matches 'exact/sdj/*'", "specverify list cells"],
        ),
        (["show", "nowhere"], ["there is no record at nowhere", "specverify verify"]),
    ],
)
def test_bad_arguments_get_one_line(run, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _refused(run(*arguments), *words)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_left_alone(run, tmp_path):
    (tmp_path / "diary.txt").write_text("dear")
    _refused(run("verify", "--only", "exact/ar/dense-2x8", "--out", tmp_path), str(tmp_path), "--out", "--overwrite")
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def test_a_file_for_a_folder(run, tmp_path):
    (tmp_path / "out").write_text("")
    _refused(run("verify", "--only", "exact/ar/dense-2x8", "--out", tmp_path / "out"), "out is a file")


def test_show_writes_the_report_beside_the_record(run, folder):
    code, out, err = run("show", folder)
    assert (code, err) == (0, "")
    _fits(out.split(str(folder))[0])
    assert "verdict: REFUTED, exit code 1" in out
    assert "known-wrong decoders caught: 1 of 1" in out
    assert out.splitlines()[-2:] == [str(folder / "report.html"), str(folder / "report.md")]
    assert (folder / "report.html").stat().st_size > 50_000


def test_show_can_write_elsewhere(run, folder, tmp_path):
    assert run("show", folder / "record.json", "--out", tmp_path / "elsewhere")[0] == 0
    assert (tmp_path / "elsewhere" / "report.md").exists()
    assert [path.name for path in folder.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[: len(text) // 2], ["is no JSON"]),
        (lambda text: text.replace('"version": 1', '"version": 7').replace("checksum", "c"), ["7", "reads version 1"]),
        (lambda text: text.replace('"seed": 0', '"seed": -5').replace("checksum", "c"), ["$"]),
        (lambda text: text.replace('"seed": 0', '"seed": 4'), ["checksum does not fit", "--overwrite"]),
    ],
)
def test_show_refuses_a_broken_record(run, folder, change, words):
    path = folder / "record.json"
    path.write_text(change(path.read_text()))
    _refused(run("show", folder), str(path), "specverify verify", *words)


@pytest.mark.parametrize(("kind", "code"), [("PROVED", 0), ("REFUTED", 1), ("INCONCLUSIVE", 2), ("ERROR", 3)])
def test_verify_exits_with_the_verdict(run, tmp_path, monkeypatch, kind, code):
    asked = {}

    def verify(**arguments):
        asked.update(arguments)
        return EXAMPLE["small"]() | {"verdict": {"kind": kind, "reason": "because", "exit_code": code}}

    monkeypatch.setattr(campaign, "verify", verify)
    arguments = ("--tier", "full", "--seed", 3, "--only", "exact/*", "--jobs", 2, "--device", "cuda", "--overwrite")
    found, out, err = run("verify", "--out", tmp_path, *arguments)
    assert (found, err) == (code, "")
    assert f"verdict: {kind}, exit code {code}, of the campaign beside them\n    because\n" in out
    assert out.splitlines()[-3:] == [str(tmp_path / name) for name in ("record.json", "report.html", "report.md")]
    console = asked.pop("console")
    assert not console.is_terminal
    assert asked.pop("out") == tmp_path
    assert asked == {
        "tier": "full",
        "seed": 3,
        "only": "exact/*",
        "jobs": 2,
        "real": None,
        "device": "cuda",
        "overwrite": True,
        "shard": None,
        "limit": 3600.0,
    }


def test_an_interrupted_run_says_what_is_kept(run, tmp_path, monkeypatch):
    def verify(out, **_):
        if finished:
            records.save(EXAMPLE["partial"](), out / "record.json")
        raise KeyboardInterrupt

    monkeypatch.setattr(campaign, "verify", verify)
    finished = False
    code, out, err = run("verify", "--out", tmp_path)
    assert (code, out, err.count("\n")) == (130, "", 1)
    assert "nothing was finished" in err
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "one.json").write_text("{}")
    assert "1 cell finished in" in run("verify", "--out", tmp_path)[2]
    finished = True
    code, out, err = run("verify", "--out", tmp_path)
    assert (code, out, err.count("\n")) == (130, "", 1)
    assert f"the partial record is {tmp_path / 'record.json'}; the same command continues" in err


def test_an_interrupted_judgement_says_so(run, monkeypatch):
    def judge(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(isolation, "judge_isolated", judge)
    code, out, err = run("validate", "scd-mc")
    assert (code, out) == (130, "")
    assert err == "interrupted: nothing was written; the same command begins again\n"


def test_what_nobody_expected_is_one_line_with_a_hint(run, tmp_path, monkeypatch):
    def verify(**_):
        raise ZeroDivisionError("one\nover zero")

    monkeypatch.setattr(campaign, "verify", verify)
    _refused(
        run("verify", "--out", tmp_path), "unexpected ZeroDivisionError: one over zero", "SPECVERIFY_DEBUG=1 shows the"
    )
    monkeypatch.setenv("SPECVERIFY_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["verify", "--out", str(tmp_path)])


def test_errors_of_specverify_are_shown_as_they_are(run, tmp_path, monkeypatch):
    def verify(**_):
        raise BudgetError("too many worlds; a window of 3 fits")

    monkeypatch.setattr(campaign, "verify", verify)
    assert run("verify", "--out", tmp_path) == (3, "", "error: too many worlds; a window of 3 fits\n")


def test_a_campaign_from_end_to_end(run, tmp_path):
    out = tmp_path / "out"
    arguments = ["verify", "--only", "exact/ar/dense-2x8", "--jobs", "1", "--out", str(out)]
    command = [sys.executable, "-m", "specverify.cli", *arguments]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (first.returncode, first.stderr) == (0, "")
    begins, _, rest = first.stdout.partition("\n")
    assert begins == f"1 cell, 1 process; results go to {out}/record.json"
    assert "verdict: PROVED, exit code 0" in rest
    record = records.load(out)
    assert [(c["id"], c["verdict"]["kind"]) for c in record["cells"]] == [("exact/ar/dense-2x8", "PROVED")]
    assert record["cells"][0]["exact"]["passes"] == 8
    assert "--only 'exact/ar/dense-2x8'" in record["cells"][0]["reproduce"]
    assert "no known-wrong decoder" in (out / "report.md").read_text()
    assert {"report.html", "report.md", "figures"} <= {path.name for path in out.iterdir()}
    again = run(*arguments)
    assert again[:2] == (0, rest), again[2]
    _refused(run(*arguments, "--seed", "1"), f"{out} holds a finished campaign of other settings")


def test_shards_of_a_campaign(run, tmp_path):
    arguments = ("verify", "--only", "exact/ar*/dense-2x8", "--jobs", "1", "--out", tmp_path)
    code, out, err = run(*arguments, "--shard", "2/2")
    assert (code, out) == (0, f"1 cell, 1 process; results go to {tmp_path / 'record.json'}\n")
    assert err.startswith(f"shard 2/2 is done: 1 of 2 cells are in {tmp_path}, and no record yet; ")
    _refused(run("show", tmp_path), f"there is no record at {tmp_path} yet: 1 cell of it, of a command that is not don")
    assert [path.name for path in (tmp_path / "cells").glob("*.json")] == ["exact~ar-race~dense-2x8.json"]
    code, out, err = run(*arguments, "--shard", "1/2")
    assert (code, err) == (0, "")
    assert "verdict: PROVED, exit code 0" in out
    assert [cell["id"] for cell in records.load(tmp_path)["cells"]] == ["exact/ar/dense-2x8", "exact/ar-race/dense-2x8"]
    _refused(run(*arguments, "--shard", "3/2"), "shard '3/2' is not I/N")
    _refused(run(*arguments, "--shard", "3/2", "--overwrite"), "shard '3/2' is not I/N")


def test_what_a_report_prints_to_reproduce_a_cell_works_beside_the_report(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = EXAMPLE["small"]()
    records.save(whole, tmp_path / "out" / "verify-quick-seed0" / "record.json")
    before = (tmp_path / "out" / "verify-quick-seed0" / "record.json").read_bytes()
    line = Cell("exact", "ar", "dense-2x8")
    printed = carry_out(line, Setting("quick", 0, "cpu", {}))["reproduce"]
    code, out, err = run(*shlex.split(printed)[1:], "--jobs", "1")
    assert (code, err) == (0, "")
    folder = cli.default_out("quick", 0, line.id)
    assert out.splitlines()[-3] == str(folder / "record.json")
    assert folder.name.startswith("verify-quick-seed0-only-exact-ar-dense-2x8-")
    assert (tmp_path / "out" / "verify-quick-seed0" / "record.json").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(["verify-quick-seed0", folder.name])


def test_every_selection_has_a_folder_of_its_own():
    asked = [("quick", 0), ("quick", 0, "a/*"), ("quick", 0, "a-*"), ("quick", 0, "a/*", "cuda"), ("full", 0, "a/*")]
    folders = [cli.default_out(*each) for each in asked]
    assert len(set(folders)) == len(folders)
    assert folders[0] == Path("out/verify-quick-seed0")
    assert cli.default_out("quick", 0, "*" * 900).name.startswith("verify-quick-seed0-only-cells-")


@pytest.mark.parametrize(
    "arguments", [("verify",), ("validate", "sd"), ("show", "record"), ("calibrate",), ("defects", "--run")]
)
def test_a_place_that_cannot_be_written_to_is_said_before_the_work(run, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    records.save(EXAMPLE["small"](), tmp_path / "record" / "record.json")
    (tmp_path / "file").write_text("")
    option = "--json" if arguments[0] == "defects" else "--out"
    _refused(run(*arguments, option, "file/x/y"), "file", option)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "record", "record.json"]


def test_sigterm_is_heard_as_ctrl_c(run, tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "verify", lambda **_: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    try:
        code, out, err = run("verify", "--out", tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (code, out) == (130, "")
    assert "nothing was finished" in err


def test_what_a_terminal_would_obey_is_not_sent_to_it(run, tmp_path, monkeypatch):
    def verify(**_):
        raise BudgetError("red \x1b[31m and \x07 bell")

    monkeypatch.setattr(campaign, "verify", verify)
    assert run("verify", "--out", tmp_path) == (3, "", "error: red  [31m and   bell\n")
