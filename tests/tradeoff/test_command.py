"""`specverify tradeoff`, over a table made by hand."""

import pytest

from specverify import cli
from specverify.tradeoff import record as records
from specverify.tradeoff import sweep
from specverify.tradeoff.plan import LOSSLESS, Asked
from specverify.tradeoff.setting import Setting
from tests.tradeoff.by_hand import row


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
    assert "the fewest passes with a loss of bias of at most 0.1, at guidance 1:" in text
    assert "guidance-1/maximal/timid/k=1 passes 3.5 times fewer (at least 3.38), rows replaced" in text
    assert "18.3 of the target an image; no draft model lock-step 2.75 [2.6" in text
    assert "seconds alone 1 times as fast as AR [0." in text
    assert "loss of bias: 0.05, at most 0.0735" in text
    assert "by seconds, batches of 50 (2 of them): plain decoding none of 2 within the loss is faster" in text
    assert "the fewest passes that claim to be lossless: guidance-1/maximal/lossless passes 3 times" in text
    assert "All those of loss hold with 95%, for 5 settings at once; all those of passes with 95%" in text
    assert "the frontier guidance passes in a batch alone bias per token FD above AR" in text
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
    assert "the fewest passes with a loss of bias of at most 0.02, at guidance 1:" in text
    assert "guidance-1/maximal/lossless passes 3 times fewer" in text
    assert "no limit was asked for: --max-loss and --min-speedup" in text
    record["rows"] = [row for row in record["rows"] if row["rule"] != LOSSLESS]
    code, out, _ = run()
    assert code == 0  # nobody asked
    assert "no setting is confirmed on 100 images" in " ".join(out.split())


def test_the_command_fails_where_a_setting_did(run, record):
    record["rows"][-1] = row("wild", 6, error="RuntimeError: out of paint", metrics={})
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


def test_a_sweep_is_shown_again_and_pictures_of_others_stay(record, tmp_path, capsys):
    records.save(record, tmp_path / "tradeoff.json")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "holiday.png").write_bytes(b"the sea")
    for _ in range(2):
        with pytest.raises(SystemExit) as caught:
            cli.main(["show", str(tmp_path)])
        found = capsys.readouterr()
        assert (caught.value.code, found.err) == (0, "")
        assert "the fewest passes with a loss of bias" in " ".join(found.out.split())
        assert found.out.splitlines()[-2:] == [str(tmp_path / "report.html"), str(tmp_path / "report.md")]
    assert (tmp_path / "figures" / "holiday.png").read_bytes() == b"the sea"
    assert "# Speed against quality" in (tmp_path / "report.md").read_text()
