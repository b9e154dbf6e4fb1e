"""JUnit XML of a record."""

from xml.etree import ElementTree

import pytest

from specverify.report.junit import JUDGED, KNOWN_WRONG, junit


@pytest.fixture
def suites(record):
    return {suite.get("name"): suite for suite in ElementTree.fromstring(junit(record))}


def test_every_cell_is_one_case(record, suites):
    names = [case.get("name") for suite in suites.values() for case in suite]
    assert len(names) == len(set(names)) == len(record["cells"]) + len(record["judgements"])


def test_what_was_judged_beside_the_campaign_is_a_case_too(record, suites):
    shown = [(case.get("name"), [element.tag for element in case]) for case in suites[JUDGED]]
    outcome = {"REFUTED": ["failure"], "ERROR": ["error"], "INCONCLUSIVE": ["skipped"], "VACUOUS": ["skipped"]}
    due = [
        (f"{one['subject']}, {one['level']}, {one['claim']}", outcome.get(one["verdict"]["kind"], []))
        for one in record["judgements"]
    ]
    assert shown == due
    assert ["failure"] in [tags for _, tags in due]


def test_a_case_says_what_its_cell_says(record, suites):
    cells = {cell["id"]: cell for cell in record["cells"]}
    seen = set()
    for verdict in record["verdicts"]:
        shown = {case.get("name"): case for case in suites[verdict["decoder"]]}
        for name in verdict["cells"]:
            kind = cells[name]["verdict"]["kind"]
            (outcome,) = [element.tag for element in shown[name]] or [None]
            expected = {"REFUTED": "failure", "ERROR": "error", "INCONCLUSIVE": "skipped", "VACUOUS": "skipped"}
            assert outcome == expected.get(kind)
            if outcome is not None:
                assert shown[name][0].get("message").startswith(f"{kind}: ")
                assert "specverify verify" in shown[name][0].text
            seen.add(kind)
    assert {"PROVED", "CONSISTENT", "REFUTED", "ERROR"} <= seen


def test_a_known_wrong_decoder_fails_where_it_is_missed(record, suites):
    missed = {c["id"] for c in record["cells"] if c["expected"] is not None and c["verdict"]["kind"] != c["expected"]}
    failed = {case.get("name") for case in suites[KNOWN_WRONG] if case.find("failure") is not None}
    assert failed == missed
    assert 0 < len(missed) < len(suites[KNOWN_WRONG])


def test_counts_are_those_of_the_cases(record):
    root = ElementTree.fromstring(junit(record))
    for element in (root, *root):
        cases = list(element.iter("testcase"))
        assert int(element.get("tests")) == len(cases) > 0
        for outcome, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(element.get(name)) == sum(case.find(outcome) is not None for case in cases)


def test_what_no_xml_can_hold_is_left_out(record):
    cell = record["cells"][0]
    cell["verdict"]["reason"] = "\x1b[31m\x00 <b> & \ud800"
    assert ElementTree.fromstring(junit(record)) is not None
