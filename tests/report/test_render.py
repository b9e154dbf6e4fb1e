"""The report: complete, self-contained, escaped."""

import base64
import html.parser
import re

import pytest
from markdown_it import MarkdownIt

from specverify.errors import InputError
from specverify.report import (
    attention,
    judgements,
    methods,
    render,
    tables,
    tables_runs,
    tables_sensitivity,
    tables_testers,
)
from specverify.report.page import code_markdown, escape_markdown

VOID = {"meta", "img", "wbr", "br", "link", "input"}


class Page(html.parser.HTMLParser):
    """Text, tags and table rows; fails where tags do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.rows, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"style", "script"} & set(self.open):
            return
        self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(written):
    return Page(written.html.read_text())


@pytest.fixture(scope="module")
def document(written):
    return MarkdownIt("commonmark").enable("table").parse(written.markdown.read_text())


def _tables_of(record):
    shown = [tables.exact(record), tables.checks(record), tables.defects(record), tables_runs.runs(record)]
    return [
        methods.methods(record),
        *(tables.verdicts(record), attention.attention(record), tables.coverage(record), tables.blind_spots(record)),
        *(tables.exact_summary(record), tables.exact(record), tables.checks(record), tables.defects(record)),
        *(tables_runs.runs(record), tables.alpha(record), tables.provenance(record), tables.other_cells(record, shown)),
        tables_sensitivity.sensitivity(record),
        *tables_testers.tables(record),
        judgements.overview(record),
        *(table for section in judgements.sections(record) for table in section.tables),
    ]


def test_html_has_every_row_and_its_command(page, example):
    shown = [[cell.strip() for cell in row] for row in page.rows]
    for table in _tables_of(example["record"]()):
        for row in table.rows:
            matches = [r for r in shown if r[: len(row.cells)] == list(row.cells)]
            assert matches, (table.name, row)
            if row.reproduce:
                assert any(row.reproduce in r[-1] for r in matches)


def test_html_fetches_nothing_and_runs_its_own_script_alone(page, written):
    text = written.html.read_text()
    assert not re.search(r"(https?:)?//[a-z]", text.split("base64,")[0])
    tags = {tag for tag, _ in page.tags}
    assert len(page.named("script")) == 1  # tests/page: its policy admits this one
    assert not tags & {"link", "iframe", "object", "form", "base", "svg"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all(a.get("href", "#").startswith("#") for a in page.named("a"))
    assert all(a["src"].startswith("data:image/png;base64,") for a in page.named("img"))
    assert any("default-src 'none'" in a.get("content", "") for a in page.named("meta"))


def test_names_are_shown_and_not_obeyed(page, document, example):
    nasty = example["NASTY"]
    assert any(nasty in text for text in page.text)
    flat = [token for top in document for token in [top, *(top.children or [])]]
    assert not [
        token
        for token in flat
        if token.type in ("html_inline", "html_block", "em", "strong_open") and nasty in token.content
    ]
    assert not [token for token in flat if token.type.startswith("html")]
    assert any(nasty in "".join(c.content for c in top.children or []) for top in document)


def test_anchors_lead_somewhere(page):
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {a["href"][1:] for a in page.named("a")} <= ids
    assert len(ids) == len([1 for _, attributes in page.tags if "id" in attributes])


def test_html_embeds_the_pictures_of_the_folder(page, written):
    images = page.named("img")
    embedded = [base64.b64decode(image["src"].split(",", 1)[1]) for image in images]
    assert embedded == [path.read_bytes() for path in written.figures]
    assert all(len(image["alt"]) > 40 for image in images)


def test_markdown_is_short_and_has_what_comes_first(written, document, example):
    rows, row = [], None
    for token in document:
        if token.type == "tr_open":
            row = []
        elif token.type == "inline" and row is not None:
            row.append("".join(child.content for child in token.children))
        elif token.type == "tr_close":
            rows.append(row)
            row = None
    record = example["record"]()
    first = [
        methods.methods(record),
        attention.attention(record),
        judgements.overview(record),
        tables.provenance(record),
    ]
    for table in first:
        assert table.rows
        for wanted in table.rows:
            full = [*wanted.cells, *([wanted.reproduce] if table.reproducible else [])]
            assert full in rows, (table.name, full)
    outside = written.markdown.read_text().split("## Judgements")[0]
    assert len(outside.splitlines()) < 150


def test_markdown_links_every_picture(document, written):
    links = [child.attrs["src"] for token in document for child in token.children or [] if child.type == "image"]
    assert links == [f"figures/{path.name}" for path in written.figures]


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_the_verdict_comes_first(written, form):
    text = getattr(written, form).read_text().split("<body>")[-1]
    parts = ("methods", "not-covered", "verdicts", "checks")
    titles = ("## At a glance", "## What was not covered", "## Figures", "## How to run it again")
    words = [f'id="{part}"' for part in parts] if form == "html" else titles
    places = [text.index(word) for word in ("REFUTED", "Exit code 1", "ot lossless: ", *words)]
    assert places == sorted(places)


def test_a_partial_record_says_so(partial, tmp_path):
    written = render.write(partial, tmp_path)
    for path in (written.html, written.markdown):
        assert "This report is partial" in path.read_text()
    assert partial["cells"][0]["id"] in re.sub("<[^>]*>", "", written.html.read_text())


def test_a_complete_record_does_not(written):
    assert "partial" not in re.sub("<style>.*</style>", "", written.html.read_text(), flags=re.S)


def test_an_empty_record_renders(partial, tmp_path):
    del partial["sensitivity"]
    written = render.write(partial | {"cells": [], "verdicts": [], "not_covered": []}, tmp_path)
    assert written.figures == ()
    Page(written.html.read_text())
    assert "There are no results yet" in written.html.read_text()
    assert "At a glance" not in written.markdown.read_text()


def test_pictures_of_an_earlier_report_are_removed_and_those_of_others_stay(record, partial, tmp_path):
    more = set(render.write(record, tmp_path).figures)
    mine = tmp_path / "figures" / "holiday.png"
    mine.write_bytes(b"the sea")
    fewer = set(render.write(partial, tmp_path).figures)
    assert fewer < more
    assert set((tmp_path / "figures").iterdir()) == fewer | {path.with_suffix(".svg") for path in fewer} | {mine}


def test_an_invalid_record_writes_nothing(record, tmp_path):
    with pytest.raises(InputError, match="invalid"):
        render.write(record | {"seed": -1}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text", ["a|b", "`", "``a`", "a`b", "*x*", "_x_", "[a](b)", "<b>", "&amp;", "# x", "~~x~~", "\\", "$x$"]
)
def test_markdown_escapes(text):
    for escape in (escape_markdown, code_markdown):
        source = f"| h |\n|---|\n| {escape(text)} |\n"
        tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(source)
        (inline,) = [t for t in tokens if t.type == "inline"][1:]
        assert "".join(child.content for child in inline.children) == text
        assert {child.type for child in inline.children} <= {"text", "text_special", "code_inline"}
