"""The reports that are committed: each is what its record gives today, and they are small together."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from specverify.cli import app

ROOT = Path(__file__).parents[2] / "reports"
RECORDS = ("record.json.gz", "tradeoff.json.gz")
FOLDERS = sorted(path.parent for name in RECORDS for path in ROOT.glob(f"*/{name}"))
"""Those that hold a record."""


def test_each_has_its_line_in_the_page_beside_them():
    names = {folder.name for folder in FOLDERS}
    assert {"reference", "judged", "sweep"} <= names
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"specverify show reports/{name}" in text for name in names)


def test_together_they_are_small():
    kept = [path for path in ROOT.rglob("*") if path.is_file() and path.suffix not in (".html", ".xml", ".svg")]
    assert sum(path.stat().st_size for path in kept) < 3.3e6


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_report_is_what_its_record_gives(folder, tmp_path):
    copy = tmp_path / folder.name
    copy.mkdir()
    for name in RECORDS:
        if (folder / name).exists():
            shutil.copy(folder / name, copy)
    done = CliRunner().invoke(app, ["show", str(copy)])
    assert done.exit_code == 0, done.output
    assert (copy / "report.md").read_bytes() == (folder / "report.md").read_bytes()
    drawn, kept = ({p.name: p.read_bytes() for p in (at / "figures").glob("*.png")} for at in (copy, folder))
    assert sorted(drawn) == sorted(kept) != []
    assert [name for name in drawn if drawn[name] != kept[name]] == [], "specverify show would change them"
