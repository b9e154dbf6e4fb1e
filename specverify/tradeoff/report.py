"""The report of a sweep: Markdown, one self-contained HTML file, and the pictures, all from the record."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path

import jinja2

from specverify.files import write_atomically
from specverify.report.drawing import Picture
from specverify.report.page import page
from specverify.report.render import HTML, MARKDOWN, code_markdown, escape_markdown, remove_others
from specverify.report.tables import Row as Line
from specverify.report.tables import Table
from specverify.tradeoff import tables, tables_patches
from specverify.tradeoff.shape import Sweep

_TITLE = "# Speed against quality"


def write(record: Sweep, out: Path) -> tuple[Path, Path]:
    """Write `report.html`, `report.md` and `figures/*.png`; pictures that an earlier report shows are removed.

    Raises:
        InputError: if the folder cannot be written.
    """
    from specverify.tradeoff import figures, figures_patches  # matplotlib is slow to import

    pictures = (figures_patches if record["tokens"] == "patches" else figures).figures(record)
    paths = [out / "figures" / f"{picture.name}.png" for picture in pictures]
    for path, picture in zip(paths, pictures, strict=True):
        write_atomically(path, picture.png)
    remove_others(out / MARKDOWN, _TITLE, set(paths))
    for name, html in ((HTML, True), (MARKDOWN, False)):
        write_atomically(out / name, render(record, pictures, html).encode("utf-8", "replace"))
    return out / HTML, out / MARKDOWN


def render(record: Sweep, pictures: list[Picture], html: bool) -> str:
    """The report as one text: HTML that fetches nothing, or Markdown (GitHub's dialect)."""
    own = tables_patches if record["tokens"] == "patches" else tables
    template = _environment(html).get_template("tradeoff.html" if html else "tradeoff.md")
    return template.render(
        **page(),
        record=record,
        failed=[row for row in record["rows"] if row["error"] is not None],
        introduction=own.INTRODUCTION.format(**record["setting"]),
        frontier=own.frontier(record),
        tables=[own.speed(record), own.quality(record), *own.others(record)],
        provenance=_provenance(record),
        pictures=pictures,
        limits=own.LIMITS,
    )


def _provenance(record: Sweep) -> Table:
    setting, hardware = record["setting"], record["hardware"]
    pairs = [
        ("command", record["command"]),
        ("begun", record["created"]),
        *((name, str(value)) for name, value in setting.items() if value is not None),
        ("processors", f"{hardware['cpus']}, {hardware['jobs']} processes of one thread"),
        ("accelerator", hardware["accelerator"] or "none"),
        *record["software"].items(),
    ]
    return Table("again", "", "", ("what", "value"), tuple(Line(pair) for pair in pairs))


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
    environment.filters.update(code=code_markdown, base64=lambda png: base64.b64encode(png).decode("ascii"))
    return environment
