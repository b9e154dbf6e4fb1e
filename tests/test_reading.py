"""The program can be read: the path that the README names is short, and no file is too long to hold in mind."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATH = 650
"""Lines of the five files of the reading path."""
LONGEST = 350
"""Lines of any other file."""
PARTS = ("specverify", "toymodels", "realmodels", "tests")
MODULES = [path for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))]


def lines(path):
    return len(path.read_text().splitlines())


def test_the_reading_path_is_as_short_as_the_readme_says():
    text = (ROOT / "README.md").read_text().partition("## Reading order")[2].partition("\n## ")[0]
    path = [ROOT / name for name in re.findall(r"^\d\. `([\w/.]+)`", text, re.MULTILINE)]
    assert len(path) == 5
    assert f"Five files, {PATH} lines" in text
    assert sum(map(lines, path)) <= PATH, {str(one.relative_to(ROOT)): lines(one) for one in path}


def test_no_file_is_too_long():
    long = {str(path.relative_to(ROOT)): lines(path) for path in MODULES if lines(path) > LONGEST}
    assert not long, "split them by reason to change"


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        there = (ROOT / page).parent / name if name else ROOT / page
        assert there.exists(), link
        if anchor:
            titles = [line.lstrip("# ").lower() for line in there.read_text().splitlines() if line.startswith("#")]
            assert anchor in [re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles], link


def test_the_readme_is_short():
    assert lines(ROOT / "README.md") < 150
