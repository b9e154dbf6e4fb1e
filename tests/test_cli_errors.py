"""What the command line says of arguments that make no sense."""

import subprocess
import sys

import numpy as np
import pytest

from specverify import cli
from specverify.errors import number_of


@pytest.mark.thinned(4)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("validate", "scd", "--level", "samplr"), "unknown --level 'samplr'; did you mean sampler?"),
        (
            ("validate", "scd", "--claim", "losless"),
            "claim 'losless': did you mean lossless? use lossless, relaxed:TV ",
        ),
        (("validate", "scd-mc", "--level", "sampler", "--suite", "tny"), "unknown suite 'tny'; did you mean "),
        (
            ("verify", "--tier", "full", "--real", "mnist-vq", "--only", "mnist-vq"),
            "no cell of the full tier matches 'mnist-vq'; `specverify list cells --tier full --real mnist-vq` names "
            "them",
        ),
        (
            ("list", "models", "--real", "mnist-vq"),
            "--real, --condition and what goes with them say whose cells to list; write specverify list cells ",
        ),
        (
            ("validate", "scd", "--toy", "dense-2x3", "--toy", "dense-3x2"),
            "--toy was given 2 times (dense-2x3, dense-3x2); judge it on one toy at a time",
        ),
        (("validate", "scd", "--levl", "round"), "unknown option --levl; did you mean --level"),
        (("verify", "--tier", "quik"), "unknown --tier 'quik'; did you mean quick?"),
        (("verify", "--device", "abacus"), "unknown --device 'abacus'; known: cpu, cuda"),
        (("verify", "--device", "gpu"), "unknown --device 'gpu'; did you mean cuda?"),
        (("validate", "scd", "--level", "kernel"), "unknown --level 'kernel'; did you mean round?"),
        (("verify", "--seed", "abc"), "--seed 'abc': a valid integer is needed; see specverify verify --help"),
        (
            ("verify", "--only", "exact/scd-mcc/*"),
            "no cell of the quick tier matches 'exact/scd-mcc/*'; did you mean scd",
        ),
        (("list", "decoder"), "unknown WHAT 'decoder'; did you mean decoders?"),
        (("defects", "--level", "rond"), "unknown --level 'rond'; did you mean round?"),
        (("defects", "--only", "*-warpd"), "no defect matches '*-warpd'; "),
        (("calibrate", "--only", "*/mises/*"), "no trial matches '*/mises/*'; did you mean misses"),
        (("tradeoff", "--metric", "fdd"), "unknown metric 'fdd'; did you mean fd?"),
        (("tradeoff", "--max-loss", "-1"), "max loss -1.0: it is a number of at least 0"),
        (("tradeoff", "--max-loss=-1"), "max loss -1.0: it is a number of at least 0"),
        (("tradeoff", "--min-speedup", "0"), "min speed-up 0.0: it is a positive number"),
        (("validate", "scd", "--out", ""), "--out is empty; give it a value, or leave it out"),
        (("verify", "--out=", "--tier", "quick"), "--out is empty; give it a value, or leave it out"),
        (("show", "nosuch", "--out", ""), "--out is empty; give it a value, or leave it out"),
        (("defects", "--report", ""), "--report is empty; give it a value, or leave it out"),
        (
            ("bench", "digits-s", "--decoder", "sjd", "--window", "4", "--decoder=scd-mc"),
            "--decoder is given twice; write it once, with commas: --decoder NAME,...",
        ),
        (("tradeoff", "--window", "4", "--window", "8"), "--window is given twice; write it once, with commas"),
        (
            ("show", "nosuch"),
            "there is no record at nosuch: neither a file, nor a folder with record.json or tradeoff.json, "
            "or one of them .gz; and there is none in out/ either; `specverify verify --out nosuch` makes one, ",
        ),
        (("compare", "one", "other"), "there is no record at one: neither a file, nor a folder with record.json"),
    ],
)
def test_a_misspelt_choice_is_named_with_what_may_have_been_meant(capsys, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (3, "", 1)
    assert err.startswith(f"error: {said}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [("show", "out/verfy"), ("compare", "out/verify", "out/verfy")])
def test_records_near_one_that_is_not_there_are_named(capsys, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    for folder, name in (("verify", "record.json"), ("sweep", "tradeoff.json"), ("empty", "other.json")):
        (tmp_path / "out" / folder).mkdir(parents=True)
        (tmp_path / "out" / folder / name).write_text("{}")
    with pytest.raises(SystemExit):
        cli.main(command)
    said = capsys.readouterr().err
    assert said.startswith("error: there is no record at out/verfy: neither a file, nor a folder with record.json")
    assert "; did you mean out/verify" in said
    assert "out/empty" not in said
    assert "`specverify verify --out out/verfy` makes one" in said


def test_output_that_nobody_reads_any_more_changes_no_exit_code(tmp_path):
    """`specverify list cells | head -1` under `set -o pipefail`: the code is the command's own."""
    command = [sys.executable, "-m", "specverify.cli", "list", "cells"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("real/")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    logs = []
    for name in "ab":
        logs.append(tmp_path / f"{name}.npz")
        np.savez(logs[-1], tokens=np.full((200, 3), ord(name)))
    command = [sys.executable, "-m", "specverify.cli", "compare-logs", *map(str, logs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1, "the logs are not the same"


def test_what_is_counted_is_in_its_number():
    assert [number_of(n, "cell") for n in (0, 1, 1200)] == ["0 cells", "1 cell", "1,200 cells"]
    assert [number_of(2, what) for what in ("batch", "process", "toy")] == ["2 batches", "2 processes", "2 toys"]
