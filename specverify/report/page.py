"""Pages: what every report is written with: one environment of templates, escaping, and pictures beside the text.

Every value of a record is escaped: by jinja in the HTML, by `escape_markdown` in the Markdown.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from specverify import files
from specverify.report import tables
from specverify.report.drawing import Picture

HTML, MARKDOWN = "report.html", "report.md"
TEMPLATES = Path(__file__).parent / "templates"
FOLD = 60
"""Tables with more rows are folded in the HTML."""


@dataclass(frozen=True)
class Written:
    """Where a report lies.

    Attributes:
        html, markdown: the report, twice.
        figures: the pictures as PNG, in the order of the report.
    """

    html: Path
    markdown: Path
    figures: tuple[Path, ...]


def write(out: Path, title: str, pictures: Sequence[Picture], page: Callable[[bool], str]) -> Written:
    """Write `report.html`, `report.md`, `figures/*.png` and the same as `*.svg` into a folder.

    Pictures that an earlier report there shows and this one does not are removed; others are not its own, and stay.

    Args:
        out: made if it is not there.
        title: how the Markdown of such a report begins.
        pictures: in their order.
        page: whether HTML is wanted, which fetches nothing, or Markdown (GitHub's dialect) -> the text.

    Raises:
        InputError: the folder cannot be written.
    """
    written = Written(
        out / HTML, out / MARKDOWN, tuple(out / "figures" / f"{picture.name}.png" for picture in pictures)
    )
    for path, picture in zip(written.figures, pictures, strict=True):
        files.write_atomically(path, picture.png)
        files.write_atomically(path.with_suffix(".svg"), picture.svg)
    _remove_others(written.markdown, title, set(written.figures))
    for path, html in ((written.html, True), (written.markdown, False)):
        files.write_atomically(path, page(html).encode("utf-8", "replace"))
    return written


def _remove_others(report: Path, title: str, kept: set[Path]) -> None:
    """Remove the pictures that an earlier report shows, but for those kept; `title` is how such a report begins."""
    text = report.read_text(encoding="utf-8", errors="replace") if report.is_file() else ""
    if text.startswith(title):
        names = re.findall(r"^!\[.*\]\(figures/([\w-]+\.png)\)$", text, re.M)
        for old in {report.parent / "figures" / name for name in names} - kept:
            old.unlink(missing_ok=True)
            old.with_suffix(".svg").unlink(missing_ok=True)


def render(html: bool, folder: Path, name: str, **contents: object) -> str:
    """A template of a folder, `name.html` or `name.md`, filled in."""
    text = _environment(html, folder).get_template(f"{name}.{'html' if html else 'md'}").render(contents)
    return text if html else re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text))


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


@cache
def _environment(html: bool, folder: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
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
    environment.globals.update(fold=FOLD, **_script())
    return environment


def _script() -> dict[str, str]:
    """`script`, which sorts and filters tables and stands inline, and `policy`, which admits it and nothing else."""
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return {"script": Markup(script), "policy": Markup(policy)}
