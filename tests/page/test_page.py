"""What somebody sees who opens a report: in a browser, at the width of a telephone and of a desk."""

import pytest

from specverify.verdict import Kind
from tests.page.conftest import PAGES

COLUMN = "table => [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[{}].textContent.trim())"


def _column(table, number):
    return table.evaluate(COLUMN.format(number))


def _table(page, name):
    """A table of the page, unfolded."""
    page.evaluate("name => { location.hash = name }", name)
    return page.locator(f"section#{name} table")


def _numbers(texts):
    return [float(text.replace(",", "").split()[0]) for text in texts if text[:1].isdigit()]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_nothing_on_the_console_and_fetches_nothing(show, name):
    assert show(name).title()  # what it must not do is asserted by `show`


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", [*PAGES, "reference"])
def test_nothing_is_wider_than_the_screen(show, name, width):
    page = show(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_keeps_anybody_out(show, name, scheme):
    """No violation that axe-core calls serious or critical."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = show(name, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    found = [v for v in axe.run(page).response["violations"] if v["impact"] in ("serious", "critical")]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found] == []


def test_a_heading_sorts_its_column_up_then_down_then_as_it_was(show):
    page = show("refuted")
    table = _table(page, "exact")
    heads = table.locator("thead th")
    number = heads.all_text_contents().index("passes")
    before = _column(table, number)
    button = heads.nth(number).get_by_role("button")
    button.click()
    assert heads.nth(number).get_attribute("aria-sort") == "ascending"
    up = _numbers(_column(table, number))
    assert up == sorted(up)
    assert up[0] < up[-1]
    button.press("Enter")  # the keyboard serves as well
    assert heads.nth(number).get_attribute("aria-sort") == "descending"
    assert _numbers(_column(table, number)) == up[::-1]
    button.click()
    assert heads.nth(number).get_attribute("aria-sort") is None
    assert _column(table, number) == before


def test_what_is_not_known_comes_last_both_ways(show):
    table = _table(show("refuted"), "exact")
    heads = table.locator("thead th")
    number = heads.all_text_contents().index("acceptance")
    for _ in range(2):
        heads.nth(number).get_by_role("button").click()
        texts = _column(table, number)
        known = [text[:1].isdigit() for text in texts]
        assert not all(known)
        assert known == sorted(known, reverse=True)


def test_a_filter_shows_the_rows_that_hold_all_its_words(show):
    page = show("refuted")
    section, table = page.locator("section#exact"), _table(page, "exact")
    rows = _column(table, 0)
    section.get_by_label("Filter").fill("SJD exact")
    shown = _column(table, 0)
    assert 0 < len(shown) < len(rows)
    assert shown == [row for row, text in zip(rows, _texts(table), strict=True) if "sjd" in text and "exact" in text]
    assert section.locator("output").text_content() == f"{len(shown)} of {len(rows)} rows"
    section.get_by_label("Filter").fill("")
    assert _column(table, 0) == rows


def _texts(table):
    return table.evaluate("table => [...table.tBodies[0].rows].map(row => row.textContent.toLowerCase())")


def test_a_line_that_reproduces_a_row_opens_and_is_taken_whole(show):
    page = show("refuted")
    cell = _table(page, "cells").locator("tbody tr").first
    cell.get_by_text("show").click()
    code = cell.locator("code")
    assert code.is_visible()
    assert code.text_content().startswith("specverify verify ")
    code.click()
    assert page.evaluate("getSelection().toString()").strip() == code.text_content()


def test_a_counterexample_can_be_read(show):
    page = show("refuted")
    text = page.locator("section.judgement pre").first
    assert text.is_visible()
    assert text.text_content().strip()


def test_a_link_opens_the_table_that_it_leads_to(show):
    page = show("refuted")
    folded = page.locator("section:has(> details.folded)").first
    assert folded.locator("table").is_hidden()
    page.evaluate("name => { location.hash = name }", folded.get_attribute("id"))
    folded.locator("table").wait_for(state="visible")


def test_a_page_is_complete_without_its_script(browser, pages):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages("refuted").as_uri())
    assert page.locator("section#exact tbody tr").count() > 10
    assert page.locator("th button").count() == 0
    context.close()


def test_no_other_script_runs(show):
    """What a record brings along is text; and the page's policy admits its own script alone."""
    page = show("refuted")
    assert page.locator("script").count() == 1
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert "script-src 'sha256-" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1]


def test_what_holds_is_green_and_what_is_refuted_is_red(show):
    """Every verdict's badge, coloured as its exit code says."""
    page = show("refuted")
    colour = """kind => {
        const badge = document.createElement("span");
        badge.className = "badge " + kind.toLowerCase();
        document.body.append(badge);
        return getComputedStyle(badge).color;
    }"""
    seen = {}
    for kind in Kind:
        seen.setdefault(min(kind.exit_code, 2) if kind is not Kind.ERROR else 1, set()).add(
            page.evaluate(colour, kind.value)
        )
    assert [len(colours) for _, colours in sorted(seen.items())] == [1, 1, 1]
    assert len(set.union(*seen.values())) == 3


def test_a_row_of_the_first_screen_opens_the_section_of_its_method(show):
    page = show("reference")
    section = page.locator("details#method-scd-maximal-coupling")
    assert section.get_attribute("open") is None
    page.get_by_role("link", name="SCD (maximal coupling)", exact=True).click()
    assert section.get_attribute("open") is not None
    assert "arXiv:2510.24211" in section.inner_text()
