"""The report of a sweep: Markdown, one self-contained HTML file, and the pictures, all from the record."""

from __future__ import annotations

from pathlib import Path

from specverify.errors import InputError, number_of
from specverify.report import page
from specverify.report.drawing import Picture
from specverify.report.page import Written
from specverify.report.tables import Row as Line
from specverify.report.tables import Table
from specverify.tradeoff import answer, remarks, tables, tables_patches
from specverify.tradeoff.shape import Sweep

_TITLE = "# Speed against quality"


def write(record: Sweep, out: Path) -> Written:
    """Write the report into a folder, as `page.write` does."""
    from specverify.tradeoff import figures, figures_patches  # matplotlib is slow to import

    pictures = (figures_patches if record["tokens"] == "patches" else figures).figures(record)
    return page.write(out, _TITLE, pictures, lambda html: text(record, pictures, html))


def text(record: Sweep, pictures: list[Picture], html: bool) -> str:
    """The report as one HTML file, or as Markdown with its pictures in `figures/`."""
    own = tables_patches if record["tokens"] == "patches" else tables
    try:
        choices = answer.usual(record)
    except InputError:  # the answer says why there is none
        choices = []
    return page.render(
        html,
        Path(__file__).parent / "templates",
        "tradeoff",
        record=record,
        failed=[row for row in record["rows"] if row["error"] is not None],
        introduction=own.introduction(record),
        answer=answer.section(record),
        remarks=remarks.remarks(record, choices),
        frontier=own.frontier(record),
        tables=[own.speed(record), own.quality(record), *own.others(record)],
        provenance=_provenance(record),
        pictures=pictures,
        limits=own.limits(record),
    )


def _provenance(record: Sweep) -> Table:
    setting, hardware = record["setting"], record["hardware"]
    pairs = [
        ("command", record["command"]),
        ("begun", record["created"]),
        *((name, str(value) or "none") for name, value in setting.items() if value is not None),
        ("hardware", f"{hardware['cpus']} CPUs, {number_of(hardware['jobs'], 'process')} of one thread"),
        ("accelerator", hardware["accelerator"] or "none"),
        *record["software"].items(),
    ]
    if "checkpoint" in record:
        pairs.append(("files of the model (SHA-256)", record["checkpoint"]))
    return Table("again", "", "", ("what", "value"), tuple(Line(pair) for pair in pairs))
