"""A browser, and the pages that it opens. `nox -s page` runs this folder; without a browser it says so and skips."""

import os
import shutil

import pytest

from specverify.report import record as records
from specverify.report import render
from specverify.tradeoff import report as sweeps
from tests.report import example
from tests.report.test_testers import REFERENCE
from tests.tradeoff.by_hand import sweep

CHROMIUM = os.environ.get("CHROMIUM") or next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
PAGES = ("refuted", "partial", "one cell", "nothing", "long words", "sweep")
"""Pages of every kind; beside them there is the committed one, `reference`, which is large."""


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("these tests need Chromium (Debian: apt install chromium), or its path in CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api", reason="these tests need the extra `page`")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """Where the page of each kind of record lies, drawn when it is first asked for."""
    made = {}

    def path(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("page")
            made[name] = sweeps.write(sweep(), folder).html if name == "sweep" else _report(name, folder)
        return made[name]

    return path


def _report(name, folder):
    made = {"refuted": example.record, "partial": example.partial, "one cell": example.one}
    made |= {"long words": _long_words, "reference": lambda: records.load(REFERENCE)}
    made |= {"nothing": lambda: example.partial() | {"cells": [], "verdicts": [], "not_covered": []}}
    return render.write(made[name](), folder).html


def _long_words():
    """The record of a campaign beside which subjects were judged whose names and errors nothing can break."""
    record = example.record()
    for number, one in enumerate(record["judgements"]):
        one["subject"] = f"{'path/' * 30}{'subject' * 30}.py:{number}"
        one["verdict"]["reason"] = f"it raised {'Unbreakable' * 40}: {one['verdict']['reason']}"
        one["notes"] = ["note" * 100, *one["notes"]]
        one["not_covered"] = ["gap" * 100, *one["not_covered"]]
    return record


@pytest.fixture
def show(browser, pages):
    """Opens a page at a width; fails where it says anything on the console or asks for anything else."""
    troubles, opened = [], []

    def requested(request):
        if not request.url.startswith(("file:", "data:")):
            troubles.append(request.url)

    def open_(name, width=1280, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened.append(page)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", requested)
        page.goto(pages(name).as_uri())
        return page

    yield open_
    for page in opened:
        page.close()
    assert troubles == []
