"""The report: Markdown, one self-contained HTML file, the pictures and JUnit XML, all from a record."""

from __future__ import annotations

from pathlib import Path

from specverify import files
from specverify.report import (
    attention,
    each,
    judgements,
    junit,
    methods,
    page,
    tables,
    tables_continuous,
    tables_cost,
    tables_proofs,
    tables_relaxed,
    tables_runs,
    tables_sensitivity,
    tables_testers,
    testers,
)
from specverify.report import record as records
from specverify.report.drawing import Picture
from specverify.report.page import Written
from specverify.report.shape import Record
from specverify.report.tables import Table

JUNIT = "junit.xml"
_TITLE = "# specverify report"
HEADLINE = "relaxed"
"""The picture of the first screen."""


def write(record: Record, out: Path) -> Written:
    """Write `report.html`, `report.md`, `junit.xml` and `figures/` into a folder.

    Pictures that the report there shows and this one does not are removed; others are not its own, and stay.

    Args:
        record: checked before anything is written.
        out: made if it is not there.

    Raises:
        InputError: if the record is invalid, or the folder cannot be written.
    """
    from specverify.report.figures import figures  # matplotlib is slow to import

    records.validate(record)
    pictures = figures(record)
    written = page.write(Path(out), _TITLE, pictures, lambda html: text(record, pictures, html))
    files.write_atomically(Path(out) / JUNIT, junit.junit(record))
    return written


def text(record: Record, pictures: list[Picture], html: bool) -> str:
    """The report as one HTML file, or as Markdown with its pictures in `figures/`."""
    return page.render(html, page.TEMPLATES, "report", **_contents(record, pictures))


def _contents(record: Record, pictures: list[Picture]) -> dict[str, object]:
    """What both templates are filled with."""
    sections: dict[str, list[Table]] = {
        "covered": [tables.coverage(record), tables.blind_spots(record)],
        "results": [
            tables_proofs.proofs(record),
            tables.exact_summary(record),
            tables.exact(record),
            tables_relaxed.relaxed(record),
            tables_continuous.densities(record),
            tables_continuous.decoders(record),
            tables.checks(record),
            tables.defects(record),
            tables_cost.latency(record),
            tables_runs.runs(record),
            tables_sensitivity.sensitivity(record),
        ],
        "testing": tables_testers.tables(record),
        "provenance": [tables.provenance(record), tables.alpha(record)],
    }
    sections["results"].append(tables.other_cells(record, sections["results"]))
    found = testers.testers(record)
    return {
        "record": record,
        "testers": found,
        "judged": judgements.overview(record),
        "judged_line": judgements.line(record),
        "overall": judgements.overall(record),
        "reason": tables.reason(record),
        "cost": methods.cost(record),
        "alpha": record["errors"]["alpha"]["total"],
        "judgements": judgements.sections(record),
        "not_covered": [*record["not_covered"], *found.missing],
        "meaning": tables.meaning(record),
        "methods": methods.methods(record),
        "each": each.each(record),
        "sentence": methods.sentence(record),
        "headline": HEADLINE,
        "verdicts": tables.verdicts(record),
        "attention": attention.attention(record),
        **{name: [table for table in group if table.rows] for name, group in sections.items()},
        "pictures": pictures,
    }
