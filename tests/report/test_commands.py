"""The commands that add parts to a report: defects and validate."""

import json

import pytest

from specverify import cli, killmatrix, pool
from specverify.report import record as records
from specverify.subjects import isolation
from specverify.subjects.judgement import Judgement
from specverify.verdict import Kind, Verdict


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


@pytest.fixture
def folder(partial, tmp_path, monkeypatch):
    """A record, in a folder beside the current one."""
    monkeypatch.chdir(tmp_path)
    records.save(partial, tmp_path / "report" / "record.json")
    return tmp_path / "report"


@pytest.fixture
def _in_this_process(monkeypatch):
    """Work without processes."""
    monkeypatch.setattr(pool, "share_out", lambda one, units, *_, **__: (one(unit) for unit in units))


@pytest.mark.usefixtures("_in_this_process")
def test_defects_adds_its_rows(run, folder, monkeypatch):
    monkeypatch.setitem(
        killmatrix._CHECKS, ("decoder", "judge_decoder"), lambda *_: {"verdict": Kind.REFUTED, "reason": "it is"}
    )
    arguments = ("defects", "--run", "--level", "decoder", "--only", "inverted-*", "--seed", 3, "--delta", 0.1)
    code, out, err = run(*arguments, "--report", folder)
    assert (code, err) == (0, "")
    assert out.endswith(f"\n{folder / 'report.html'}\n{folder / 'report.md'}\n")
    found = records.load(folder)["kill_matrix"]
    assert {name: found[name] for name in ("seed", "delta", "level", "only")} == {
        "seed": 3,
        "delta": 0.1,
        "level": "decoder",
        "only": "inverted-*",
    }
    assert [(row["defect"], row["checker"], row["outcome"]) for row in found["rows"]] == [
        ("inverted-ratio", "exact", "caught"),
        ("inverted-ratio", "judge_decoder", "caught"),
    ]
    assert "kill matrix: only level decoder, those that match inverted-*" in (folder / "report.md").read_text().replace(
        "\\", ""
    )

    monkeypatch.setitem(
        killmatrix._CHECKS, ("decoder", "exact"), lambda *_: {"verdict": Kind.PROVED, "reason": "blind"}
    )
    assert run(*arguments, "--report", folder, "--overwrite")[0] == 1  # what it found is told all the same
    assert "Testers do not hold" in (folder / "report.md").read_text()


@pytest.mark.parametrize("seed", [0, 7])
def test_validate_adds_its_judgement(run, folder, monkeypatch, seed):
    judgement = Judgement(
        subject="a.b:c",
        level="round",
        claim="lossless",
        verdict=Verdict(Kind.REFUTED, "because"),
        location={"prefix": (0, 1), "split": {"bonus": 0.125}},
        reproduce="specverify validate a.b:c",
    )
    monkeypatch.setattr(isolation, "judge_isolated", lambda *given, **named: judgement)
    code, out, err = run("validate", "a.b:c", "--seed", seed, "--report", folder)
    assert (code, err) == (1, "")
    assert out.endswith(f"judgement.json\n{folder / 'report.html'}\n{folder / 'report.md'}\n")
    (found,) = records.load(folder)["judgements"]
    assert found == json.loads(json.dumps(judgement.to_json() | {"seed": seed}))
    assert "REFUTED: a.b:c" in (folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("defects", "--run", "--report", "nowhere"),
            "there is no record at nowhere/record.json; `specverify verify --",
        ),
        (("defects", "--report", "report"), "--report takes the rows of --run; give both"),
        (("validate", "a.b:c", "--report", "nowhere"), "there is no record at nowhere/record.json; `specverify verify"),
    ],
)
def test_a_report_that_cannot_be_added_to_is_said_before_the_work(run, folder, monkeypatch, arguments, message):
    def work(*given, **named):
        raise AssertionError("it began to work")

    monkeypatch.setattr(killmatrix, "run", work)
    monkeypatch.setattr(isolation, "judge_isolated", work)
    code, out, err = run(*arguments)
    assert (code, out) == (3, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_show_tells_the_parts_in_a_line_each(run, folder, partial, example):
    records.save(partial | example["parts"](), folder / "record.json")
    code, out, err = run("show", folder)
    assert (code, err) == (0, "")
    words = " ".join(out.split())
    for line in (
        "testers do not hold Kill matrix: 33 of 34 times a checker caught what it must, over 34 defects; ",
        "Calibration: 5 of 6 stated rates hold, over 6,000 trials",
        "judged subjects: 2 REFUTED, 1 CONSISTENT",
    ):
        assert line in words
