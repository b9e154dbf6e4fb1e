"""Whether the testers are to be trusted, and that nothing green hides that they are not."""

import itertools
import re
from pathlib import Path

import pytest
from rich.console import Console

from specverify.report import attention, render, terminal, testers
from specverify.report import record as records

REFERENCE = Path(__file__).parents[2] / "reports" / "reference"


@pytest.fixture
def parts(example):
    """Parts in which everything is as it must be."""
    trial, rate = example["trial"], example["rate"]
    return {
        "kill_matrix": {
            "seed": 0,
            "delta": 0.02,
            "rows": [trial("round", "a", "standard", "caught"), trial("round", "b", "standard", "not flagged")],
        },
        "calibration": {"seed": 0, "rows": [rate("joint", "misses", 9)]},
    }


def said(record):
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal.summary(record))
    console.file.close()
    return console.export_text()


def test_a_row_is_sound_where_it_is_as_it_must_be():
    outcomes = ("caught", "missed", "flagged", "not flagged", "not applicable", "out of time", "error")
    sound = {
        (outcome, lossy, named)
        for outcome, lossy, named in itertools.product(outcomes, (True, False), (True, False))
        if testers.sound({"level": "round", "defect": "x", "outcome": outcome, "lossy": lossy, "named": named})
    }
    assert sound == {
        ("caught", True, True),
        ("caught", True, False),
        ("missed", True, False),
        ("not applicable", True, False),
        ("not applicable", False, False),
        ("not flagged", False, True),
        ("not flagged", False, False),
    }


def test_they_hold_if_both_parts_do(partial, parts):
    found = testers.testers(partial | parts)
    assert (found.status, found.missing) == ("hold", ())
    assert found.lines == (
        "Kill matrix: 1 of 1 times a checker caught what it must, over 1 defect; 0 of 1 trial of controls flagged",
        "Calibration: 1 of 1 stated rates hold, over 1,000 trials",
    )


def test_what_was_not_measured_is_told_with_its_command(partial, parts):
    found = testers.testers(partial)
    assert found.status == "not measured"
    assert found.missing == (
        "kill matrix: not measured; run `specverify defects --run --report DIR`",
        "calibration: not measured; run `specverify calibrate --report DIR`",
    )
    assert testers.testers(partial | {"calibration": parts["calibration"]}).status == "hold as far as measured"
    some = testers.testers(partial | parts | {"kill_matrix": parts["kill_matrix"] | {"level": "round", "only": "a*"}})
    assert some.status == "hold as far as measured"
    assert some.missing == (
        "kill matrix: only level round, those that match a*; run `specverify defects --run --report DIR`",
    )


def _missed(parts, example):
    parts["kill_matrix"]["rows"].append(example["trial"]("decoder", "c", "exact", "missed"))
    return "kill matrix/decoder/c/exact", "known to be wrong, but missed: what exact said"


def _flagged(parts, example):
    parts["kill_matrix"]["rows"].append(example["trial"]("decoder", "c", "exact", "flagged"))
    return "kill matrix/decoder/c/exact", "a control, which is not wrong, but flagged: what exact said"


def _late(parts, example):
    parts["kill_matrix"]["rows"].append(example["trial"]("round", "c", "standard", "out of time"))
    return "kill matrix/round/c/standard", "known to be wrong, but out of time: what standard said"


def _asked_of_nobody(parts, example):
    # a namesake at another level does not speak for it
    parts["kill_matrix"]["rows"].append(example["trial"]("decoder", "a", "exact", "caught", named=False))
    return "kill matrix/decoder/a", "no checker has to catch it"


def _rate(parts, example):
    parts["calibration"]["rows"].append(example["rate"]("PIT", "false alarms", 300, holds=False))
    return "calibration/PIT/false alarms/sparse-3x5, perfect", "false alarms: 300 of 1,000, where 0.01 is stated"


@pytest.mark.thinned(2)
@pytest.mark.parametrize("spoil", [_missed, _flagged, _late, _asked_of_nobody, _rate])
def test_a_tester_that_fails_is_told_wherever_the_verdict_is(partial, parts, example, tmp_path, spoil):
    cell, why = spoil(parts, example)
    green = {"verdict": {"kind": "PROVED", "reason": "all of it", "exit_code": 0}, "status": "complete"}
    record = partial | parts | green
    assert testers.testers(record).fail
    assert [row.cells for row in attention.attention(record).rows] == [(cell, "ERROR", why)]
    text = said(record)
    assert re.search(r"testers do not hold\n", text)
    assert cell in text.replace("\n", "")
    written = render.write(record, tmp_path)
    html = written.html.read_text()
    head = html[html.index("<header>") : html.index("</header>")]
    assert '<div class="verdict error">' in head
    assert head.index("testers do not hold") < head.index("Exit code 0")
    assert "the testers do not hold" in html[: html.index("<style>")]
    assert written.markdown.read_text().startswith("# specverify report: PROVED, but the testers do not hold\n")
    assert "**Testers do not hold.**" in written.markdown.read_text()


def test_testers_that_hold_leave_the_verdict_as_it_is(partial, parts, tmp_path):
    record = partial | parts | {"verdict": {"kind": "PROVED", "reason": "all of it", "exit_code": 0}}
    assert attention.attention(record).rows == ()
    html = render.write(record, tmp_path).html.read_text()
    assert '<div class="verdict proved">' in html
    assert '<span class="badge proved">testers hold</span>' in html
    assert "testers hold\n" in said(record)


def test_the_reference_record_is_valid_and_says_what_was_not_measured():
    record = records.load(REFERENCE)
    for html in (True, False):
        text = render.text(record, [], html).replace("\\", "")
        missing = text[text.index("What was not covered") : text.rindex("Coverage" if html else "How to run it again")]
        for name, how in testers.HOW.items():
            assert (f"{testers.TITLES[name]}: not measured; run `{how}`" in missing) == (name not in record)
