"""A record as JUnit XML, which continuous-integration services show beside other tests."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree as xml

from specverify.report import tables
from specverify.report.shape import Record
from specverify.report.shape_cells import Cell
from specverify.report.shape_testers import Judgement

_ELEMENT = {"REFUTED": "failure", "ERROR": "error", "INCONCLUSIVE": "skipped", "VACUOUS": "skipped"}
_COUNTED = {"failure": "failures", "error": "errors", "skipped": "skipped"}
KNOWN_WRONG, PRICED = "known-wrong decoders", "relaxed rules"
"""The suites of cells that judge no decoder's claim: failed where a known-wrong one was missed; prices."""
JUDGED = "judged subjects"
"""The suite of what was judged beside the campaign."""


def junit(record: Record) -> bytes:
    """One suite for each decoder, one case for each of its cells; one for what was judged beside the campaign.

    A case fails where a claim is refuted or a known-wrong decoder is not caught, errs where a check could not be
    carried out, and is skipped where nothing can be said (inconclusive, vacuous).
    """
    cells = {cell["id"]: cell for cell in record["cells"]}
    suites = {v["decoder"]: [cells[name] for name in v["cells"] if name in cells] for v in record["verdicts"]}
    judged = {cell["id"] for group in suites.values() for cell in group}
    rest = [cell for cell in record["cells"] if cell["id"] not in judged]
    suites[PRICED] = [cell for cell in rest if cell["expected"] is None]
    suites[KNOWN_WRONG] = [cell for cell in rest if cell["expected"] is not None]
    root = xml.Element("testsuites", name="specverify")
    for name, group in suites.items():
        if group:
            root.append(_suite(name, group))
    if judged_ones := record.get("judgements"):
        suite = xml.SubElement(root, "testsuite", name=JUDGED)
        suite.extend(_judged(one) for one in judged_ones)
        _count(suite)
    _count(root)
    return xml.tostring(root, encoding="unicode").encode("utf-8", "replace") + b"\n"


def _suite(name: str, cells: Iterable[Cell]) -> xml.Element:
    suite = xml.Element("testsuite", name=tables.plain(name))
    suite.extend(_case(name, cell) for cell in cells)
    _count(suite)
    return suite


def _case(suite: str, cell: Cell) -> xml.Element:
    seconds = f"{cell['seconds']:.3f}"
    case = xml.Element("testcase", classname=tables.plain(suite), name=tables.plain(cell["id"]), time=seconds)
    kind = cell["verdict"]["kind"]
    outcome = _ELEMENT.get(kind) if cell["expected"] is None else None if tables.caught(cell) else "failure"
    if outcome is not None:
        element = xml.SubElement(case, outcome, message=tables.plain(f"{kind}: {tables.why(cell)}"))
        element.text = f"reproduce: {tables.plain(cell['reproduce'])}"
    return case


def _judged(one: Judgement) -> xml.Element:
    name, seconds = tables.plain(f"{one['subject']}, {one['level']}, {one['claim']}"), f"{one['seconds']:.3f}"
    case = xml.Element("testcase", classname=JUDGED, name=name, time=seconds)
    kind, why = one["verdict"]["kind"], one["verdict"]["reason"]
    if (outcome := _ELEMENT.get(kind)) is not None:
        element = xml.SubElement(case, outcome, message=tables.plain(f"{kind}: {why}"))
        element.text = f"reproduce: {tables.plain(one['reproduce'])}"
    return case


def _count(element: xml.Element) -> None:
    cases = list(element.iter("testcase"))
    element.set("tests", str(len(cases)))
    for outcome, name in _COUNTED.items():
        element.set(name, str(sum(case.find(outcome) is not None for case in cases)))
    element.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")
