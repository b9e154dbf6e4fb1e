"""The report: Markdown, one self-contained HTML file, the pictures and JUnit XML, all from a record.

Every value of a record is escaped: by jinja in the HTML, by `escape_markdown` in the Markdown.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from specverify import files
from specverify.report import (
    attention,
    judgements,
    junit,
    methods,
    tables,
    tables_continuous,
    tables_cost,
    tables_relaxed,
    tables_runs,
    tables_sensitivity,
    tables_testers,
    testers,
)
from specverify.report import record as records
from specverify.report.drawing import Picture
from specverify.report.page import page
from specverify.report.shape import Record
from specverify.report.tables import Table

HTML, MARKDOWN, JUNIT = "report.html", "report.md", "junit.xml"
_TITLE = "# specverify report"
HEADLINE = "relaxed"
"""The picture of the first screen."""
FOLD = 60
"""Tables with more rows are folded in the HTML."""


@dataclass(frozen=True)
class Written:
    """Where a report lies.

    Attributes:
        html, markdown: the report, twice.
        junit: its cells as tests.
        figures: the pictures, in the order of the report.
    """

    html: Path
    markdown: Path
    junit: Path
    figures: tuple[Path, ...]


def write(record: Record, out: Path) -> Written:
    """Write `report.html`, `report.md`, `junit.xml` and `figures/*.png` into a folder.

    Pictures that the report there shows and this one does not are removed; others are not its own, and stay.

    Args:
        record: checked before anything is written.
        out: made if it is not there.

    Raises:
        InputError: if the record is invalid, or the folder cannot be written.
    """
    from specverify.report.figures import figures  # matplotlib is slow to import

    records.validate(record)
    out = Path(out)
    pictures = figures(record)
    written = Written(
        out / HTML, out / MARKDOWN, out / JUNIT, tuple(out / "figures" / f"{picture.name}.png" for picture in pictures)
    )
    for path, picture in zip(written.figures, pictures, strict=True):
        files.write_atomically(path, picture.png)
    remove_others(written.markdown, _TITLE, set(written.figures))
    files.write_atomically(written.html, html(record, pictures).encode("utf-8", "replace"))
    files.write_atomically(written.markdown, markdown(record, pictures).encode("utf-8", "replace"))
    files.write_atomically(written.junit, junit.junit(record))
    return written


def remove_others(report: Path, title: str, kept: set[Path]) -> None:
    """Remove the pictures that an earlier report shows, but for those kept; `title` is how such a report begins."""
    text = report.read_text(encoding="utf-8", errors="replace") if report.is_file() else ""
    if text.startswith(title):
        names = re.findall(r"^!\[.*\]\(figures/([\w-]+\.png)\)$", text, re.M)
        for old in {report.parent / "figures" / name for name in names} - kept:
            old.unlink(missing_ok=True)


def html(record: Record, pictures: list[Picture]) -> str:
    """The report as one HTML file that fetches nothing; its one script sorts and filters."""
    return _environment(html=True).get_template("report.html").render(_contents(record, pictures), **page(), fold=FOLD)


def markdown(record: Record, pictures: list[Picture]) -> str:
    """The report as Markdown (GitHub's dialect), with its pictures in `figures/`."""
    text = _environment(html=False).get_template("report.md").render(_contents(record, pictures))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text))


def escape_markdown(text: Any) -> Markup:
    """A value as text that Markdown shows as it is, also within a table."""
    if isinstance(text, Markup):
        return text
    words = tables.plain(text).replace("&", "&amp;")
    return Markup(re.sub(r"([\\`*_\[\]<>|~$#])", r"\\\1", words))


def code_markdown(text: Any) -> Markup:
    """A value as a code span, also within a table."""
    words = tables.plain(text).replace("|", "\\|")
    if not words:
        return Markup()
    fence = "`" * (max((len(run) for run in re.findall("`+", words)), default=0) + 1)
    space = " " if words[0] == "`" or words[-1] == "`" else ""
    return Markup(f"{fence}{space}{words}{space}{fence}")


def block_markdown(text: Any) -> Markup:
    """Lines as a code block."""
    return Markup("\n".join(f"    {line}" for line in str(text).splitlines()))


def _contents(record: Record, pictures: list[Picture]) -> dict[str, object]:
    """What both templates are filled with."""
    sections: dict[str, list[Table]] = {
        "covered": [tables.coverage(record), tables.blind_spots(record)],
        "results": [
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
        "provenance": [tables.provenance(record), tables.alpha(record), tables.every_cell(record)],
    }
    found = testers.testers(record)
    return {
        "record": record,
        "testers": found,
        "judged": judgements.overview(record),
        "judged_line": judgements.line(record),
        "judgements": judgements.sections(record),
        "not_covered": [*record["not_covered"], *found.missing],
        "meaning": tables.meaning(record),
        "methods": methods.methods(record),
        "sentence": methods.sentence(record),
        "headline": HEADLINE,
        "verdicts": tables.verdicts(record),
        "attention": attention.attention(record),
        **{name: [table for table in group if table.rows] for name, group in sections.items()},
        "pictures": pictures,
    }


@cache
def _environment(html: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=html,
        finalize=None if html else escape_markdown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        plain=tables.plain,
        code=code_markdown,
        block=block_markdown,
        base64=lambda png: base64.b64encode(png).decode("ascii"),
    )
    return environment
