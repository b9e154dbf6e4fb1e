"""`specverify calibrate`."""

import pytest

from specverify import cli, pool
from specverify.calibration import (
    book,
)  # fmt: skip
from tests.calibration.trials import broken


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
            (("--only", "zzz*"), "no trial matches 'zzz*'; a trial is CHECK/WHAT/ON/RATE, of joint law"),
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
        assert "Calibration of the checks" in (tmp_path / "report" / "report.html").read_text()
