"""Judgements in a report: where a subject goes wrong, in fractions where the law is exact."""

import pytest

from specverify.report import judgement, judgements, tables
from specverify.report.render import text
from specverify.subjects.judgement import Judgement
from specverify.verdict import Kind, Verdict


@pytest.fixture
def record(example):
    return example["record"]()


def test_a_decoder_is_shown_with_fractions_and_the_error_of_each_branch(record, example):
    section = judgements.sections(record)[0]
    by_title = {table.title: table for table in section.tables}
    assert (section.kind, section.facts) == ("REFUTED", "level decoder, claim lossless, seed 0, 1.2 s")
    assert section.texts == (f"not lossless: total variation 1/3\n  due   1/3   2/3\n  {example['NASTY']}",)
    assert section.notes == ("a remark",)
    where = {row.cells[0]: row.cells[1] for row in by_title["Where it goes wrong"].rows}
    assert where == {"position": "1", "prefix": "(0)", "due": "(1/3, 2/3)", "came": "(1/2, 1/2)"}
    shares = by_title["What each branch brings"]
    assert shares.headings == ("branch", "draft", "came", "due", "drafts", "error")
    assert shares.rows[0].cells == ("recovered", "initial", "(1/4, 1/4)", "(0, 1/2)", "(1, 0)", "1/4")
    exact = by_title["Exact results"]
    assert exact.headings == ("model", "window", "exact TV", "passes", "worlds")
    assert exact.rows[0].cells == ("drawn, 2 tokens", "2", "1/3", "1.5", "4")


def test_what_was_counted_is_shown_in_decimals(record):
    section = judgements.sections(record)[1]
    by_title = {table.title: table for table in section.tables}
    assert [row.cells for row in by_title["Where it goes wrong"].rows] == [("token", "3"), ("observed", "0.1348")]
    assert [row.cells for row in by_title["Each branch's part in the distance"].rows] == [
        ("accepted", "0.002"),
        ("recovered", "0.1895"),
    ]
    (check,) = by_title["Statistical checks"].rows
    assert (check.cells[0], check.cells[8], check.bad) == ("one round", "REJECTED", (8,))


def test_the_worst_enumerations_are_shown_and_the_others_counted(example):
    exact = [{"model": f"m{i}", "tv": 0.01 * i, "window": None} for i in range(20)]
    (section,) = judgements.sections({"judgements": [example["judgement"]("a", "REFUTED", exact=exact)]})
    (table,) = section.tables
    assert [row.cells[0] for row in table.rows] == [f"m{i}" for i in range(19, 7, -1)]
    assert table.headings == ("model", "exact TV")
    assert "The 12 furthest off of 20; the record has all." in table.intro


def test_a_tiny_distance_is_not_rounded_to_none(example):
    exact = [{"model": "m", "tv": 1.5e-16}]
    (section,) = judgements.sections({"judgements": [example["judgement"]("a", "PROVED", exact=exact)]})
    assert section.tables[0].rows[0].cells == ("m", "1.5e-16")


def test_they_are_counted_in_a_line(record, partial):
    assert judgements.line(record) == "judged subjects: 2 REFUTED, 1 CONSISTENT"
    assert judgements.line(partial) == ""
    assert tables.meaning({**record, "verdict": {"exit_code": 0}}).startswith("every claim of the campaign holds")
    alone = {**record, "verdict": {"exit_code": 0}, "judgements": []}
    assert tables.meaning(alone).startswith("every claim that was checked holds")
    assert [row.cells[:4] for row in judgements.overview(record).rows][1] == (
        *("kernel.py:kernel", "round", "lossless", "REFUTED"),
    )


@pytest.mark.parametrize("precisions", [("float64", "float64"), ("float64", "float32")])
def test_laws_in_float32_are_marked_where_there_are_some(example, precisions):
    exact = [{"model": "m", "precision": p, "tv": 1e-16 if p == "float64" else 2e-8} for p in precisions]
    (section,) = judgements.sections({"judgements": [example["judgement"]("a", "PROVED", exact=exact)]})
    marked = len(set(precisions)) > 1
    assert ("precision" in section.tables[0].headings) is marked
    kind = Verdict(Kind.PROVED, "exact TV at most 1e-16")
    lines = judgement.text(Judgement("a", "decoder", "lossless", kind, exact=exact)).splitlines()
    assert any("precision" in line for line in lines) is marked
    assert not marked or next(line for line in lines if "2e-08" in line).split() == ["m", "float32", "2e-08"]


def test_a_report_opens_with_the_worst_of_the_campaign_and_of_what_was_judged_beside_it(example):
    whole = example["small"]()
    record = {name: value for name, value in whole.items() if name not in ("kill_matrix", "calibration")}
    assert "REFUTED" in {one["verdict"]["kind"] for one in record["judgements"]}
    record["verdict"] = {"kind": "PROVED", "reason": "3 PROVED", "exit_code": 0}
    lines = text(record, [], html=False).splitlines()
    assert lines[0].startswith("# specverify report: REFUTED")
    assert lines[2].startswith("**Judged subjects: ")
    assert lines[2].endswith(" The campaign beside them: PROVED.")
    page = text(record, [], html=True)
    assert "<title>specverify: REFUTED" in page
    assert '<div class="verdict refuted">' in page
    assert judgements.overall({**record, "judgements": []}) == "PROVED"
    for kind in ("VACUOUS", "INCONCLUSIVE", "ERROR"):
        one = {**record["judgements"][0], "verdict": {"kind": kind, "reason": "why"}}
        assert judgements.overall({**record, "judgements": [one]}) == kind
