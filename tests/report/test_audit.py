"""The audit of packages that others publish: its wrappers, its manifest, the table that is committed, what makes it."""

import hashlib
import importlib.util
import json
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from specverify.decoders import sample
from specverify.subjects import resolve
from specverify.subjects.sampler_suite import smallest

ROOT = Path(__file__).parents[2]
AUDIT = ROOT / "reports" / "audit"
MANIFEST = tomllib.loads((AUDIT / "subjects.toml").read_text(encoding="utf-8"))
ROWS = MANIFEST["row"]
WRAPPERS = sorted(path for path in (AUDIT / "wrappers").glob("*.py") if path.name != "_clones.py")


@pytest.fixture(scope="module")
def run():
    spec = importlib.util.spec_from_file_location("audit_run", AUDIT / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_wrapper_is_short_and_used():
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 25 for path in WRAPPERS)
    assert {row["wrapper"].partition(":")[0] for row in ROWS} == {path.name for path in WRAPPERS}


def test_every_row_has_a_wrapper_that_names_it_a_release_and_a_line_in_the_committed_table(run):
    pinned = (AUDIT / "requirements.txt").read_text("utf-8") + (ROOT / "constraints.txt").read_text("utf-8")
    lines = (AUDIT / "report.md").read_text(encoding="utf-8").splitlines()
    keys = [run.key(row) for row in ROWS]
    assert len(set(keys)) == len(keys)
    cells = [line.split(" | ") for line in lines if line.startswith("| ")][1:]
    assert len(cells) == len(ROWS)
    for row, found in zip(ROWS, cells, strict=True):
        name, _, subject = row["wrapper"].partition(":")
        text = (AUDIT / "wrappers" / name).read_text(encoding="utf-8")
        assert text.startswith(f'"""{row["package"]}')
        assert re.search(rf"^((\w+, )*{subject}(, \w+)* = |def {subject}\()", text, re.M), row
        if run.cloned(row):
            assert row["repository"].endswith(f"/{row['package']}")
            assert len(row["commit"]) == 40
            assert all(word in text for word in (row["package"], Path(row["file"]).stem, *row["names"], "Shims: "))
        else:
            assert f"{row['package']}=={row['version']}\n" in pinned
        assert found[0].removeprefix("| ") == row["package"]
        assert found[1] == run.version(row)
        assert found[2] == f"[{row['function']}](wrappers/{name})"
        assert found[-1].removesuffix(" |") == row.get("remark", "")
        # Who is said to be wrong is told why.
        assert found[4] != "REFUTED" or row.get("remark"), row


@pytest.mark.filterwarnings("default")  # of packages that are not ours
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['wrapper']}{''.join(row.get('options', [])[2:])}")
def test_a_wrapper_makes_sequences(row, run):
    if run.cloned(row) and run.CLONES not in os.environ:
        pytest.skip(f"{row['repository']} is needed, in the folder that {run.CLONES} names")
    try:
        run.check(row, AUDIT / "wrappers")
    except SystemExit as error:
        if run.cloned(row):
            raise
        pytest.skip(str(error))
    subject = resolve.resolve(str(AUDIT / "wrappers" / row["wrapper"]))
    case = smallest()[1]
    if row.get("level") == "decoder":
        assert sample(subject(1), case.target, 3, 1).tokens.shape == (3, case.target.length)
    else:
        tokens = subject(case.target, case.draft, 3, 1)
        assert tokens.shape == (3, case.target.length)
        assert torch.equal(tokens, subject(case.target, case.draft, 3, 1))


FAKED = """
import torch


def step(draft, target, ids):
    return torch.cat([ids, torch.multinomial(draft(ids).logits[:, -1].exp(), 1)], 1)
"""
WRAPPER = '''"""faked: `step`."""

from faked import step

from specverify.integrations.causal import step_sampler

one = step_sampler(step)
'''


@pytest.fixture
def faked(tmp_path, monkeypatch):
    """A package that takes the draft for the target, a wrapper of it, and a manifest."""
    site, here = tmp_path / "site", tmp_path / "audit"
    (site / "faked-1.2.dist-info").mkdir(parents=True)
    (site / "faked-1.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: faked\nVersion: 1.2\n")
    (site / "faked.py").write_text(FAKED)
    (here / "wrappers").mkdir(parents=True)
    (here / "wrappers" / "faked_step.py").write_text(WRAPPER)
    row = {"package": "faked", "version": "1.2", "function": "a|b", "wrapper": "faked_step.py:one"}
    words = [f"{name} = {json.dumps(value)}" for name, value in {**row, "options": ["--exact"], "remark": "so"}.items()]
    (here / "subjects.toml").write_text("\n".join(["[[row]]", *words]))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    return ["--manifest", str(here / "subjects.toml"), "--out", str(tmp_path / "out")]


@pytest.mark.slow
def test_a_row_is_judged_once_and_its_table_is_the_same_again(run, faked, tmp_path, monkeypatch):
    run.main(faked)
    report = tmp_path / "out" / "report.md"
    text = report.read_text(encoding="utf-8")
    *_, line = text.splitlines()
    begin = r"| faked | 1.2 | [a\|b](wrappers/faked_step.py) | lossless | REFUTED | on brief-3x8[:3] (own draft): "
    assert line.startswith(begin)
    assert re.search(r" from the target; .*first at position 0 .* \| \d+ \| so \|$", line)
    monkeypatch.setattr(run.subprocess, "run", lambda *_, **__: pytest.fail("it was judged already"))
    run.main([*faked, "faked"])
    assert report.read_text(encoding="utf-8") == text
    wrapper = tmp_path / "audit" / "wrappers" / "faked_step.py"
    wrapper.write_text(wrapper.read_text() + "# another one\n")
    with pytest.raises(pytest.fail.Exception, match="judged already"):
        run.main(faked)


def test_another_release_and_an_unknown_name_are_told(run, faked, tmp_path):
    with pytest.raises(SystemExit, match=r"other: no row has this package or wrapper; there are \['faked', "):
        run.main([*faked, "other"])
    manifest = tmp_path / "audit" / "subjects.toml"
    manifest.write_text(manifest.read_text().replace('"1.2"', '"1.3"'))
    with pytest.raises(SystemExit, match=r"faked 1\.3 is to be judged, and 1\.2 installed: nox -s audit"):
        run.main(faked)


def test_a_subject_that_says_nothing_ends_the_audit(run, faked, monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(SystemExit, match="specverify ended with 1 and without a judgement"):
        run.main(faked)


OFFICIAL = """
from nowhere import Base

NEAR = 0.5


class Sampler(Base):
    pass


def draw(law):  # the first token too often
    return torch.zeros(1, 1).long() if torch.rand(()) < NEAR else torch.multinomial(law, 1)
"""
TAKEN = '''"""official: `draw`, as if it verified. Shims: torch for its imports, and `NEAR`."""

import torch
from _clones import definitions

from specverify.integrations.causal import step_sampler

(draw,) = definitions("official/theirs/draws.py", "draw", torch=torch, NEAR=0.5)
one = step_sampler(lambda draft, target, ids: torch.cat([ids, draw(target(ids).logits[:, -1].exp())], 1))
'''


@pytest.fixture
def official(tmp_path, monkeypatch, run):
    """A clone of code with a slip, that cannot be imported; a wrapper of it, and a manifest."""
    clone, here = tmp_path / "clones" / "official" / "theirs", tmp_path / "audit"
    clone.mkdir(parents=True)
    (clone / "draws.py").write_text(OFFICIAL)
    (here / "wrappers").mkdir(parents=True)
    (here / "wrappers" / "_clones.py").write_text((AUDIT / "wrappers" / "_clones.py").read_text(encoding="utf-8"))
    (here / "wrappers" / "official_draw.py").write_text(TAKEN)
    row = {"package": "official", "repository": "some/official", "commit": "0123456789" * 4, "file": "theirs/draws.py"}
    row |= {"names": ["draw"], "sha256": hashlib.sha256(OFFICIAL.rpartition("\n\n\n")[2].encode()).hexdigest()}
    row |= {"function": "draw", "wrapper": "official_draw.py:one", "options": ["--exact"]}
    words = [f"{name} = {json.dumps(value)}" for name, value in row.items()]
    (here / "subjects.toml").write_text("\n".join(["[[row]]", *words]))
    monkeypatch.setenv(run.CLONES, str(tmp_path / "clones"))
    return ["--manifest", str(here / "subjects.toml"), "--out", str(tmp_path / "out")]


@pytest.mark.slow
def test_a_clone_is_judged_at_its_commit_and_left_out_where_there_is_none(run, official, tmp_path, monkeypatch):
    run.main(official)
    report = tmp_path / "out" / "report.md"
    *_, line = report.read_text(encoding="utf-8").splitlines()
    assert line.startswith(
        "| official | 0123456 | [draw](wrappers/official_draw.py) | lossless | REFUTED | on brief-3x8"
    )
    monkeypatch.delenv(run.CLONES)
    monkeypatch.setattr(run.subprocess, "run", lambda *_, **__: pytest.fail("there are no clones"))
    run.main(official)
    text = report.read_text(encoding="utf-8")
    assert text.endswith("\nNot judged, since SPECVERIFY_CLONES names no folder of clones: official.\n")
    assert "| official |" not in text


def test_what_a_clone_has_around_a_definition_and_at_ends_of_lines_does_not_matter(run, official, tmp_path):
    file = tmp_path / "clones" / "official" / "theirs" / "draws.py"
    (row,) = tomllib.loads((tmp_path / "audit" / "subjects.toml").read_text(encoding="utf-8"))["row"]
    file.write_bytes(OFFICIAL.replace("NEAR = 0.5", "NEAR = 0.7").replace("often\n", "often  \r\n").encode())
    run.check(row, tmp_path / "audit" / "wrappers")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (OFFICIAL.replace("< NEAR", "<= NEAR"), r"has another draw than some/official at 0123456789.*, which is to be"),
        (
            OFFICIAL.replace("def draw", "def drawn"),
            r"cannot be read \(.* has 0 definitions of draw\): some/official at",
        ),
        ("(", r"cannot be read \(.*never closed.*\): some/official at 0123456789.* is to be judged"),
        (None, r"official/theirs/draws.py in \$SPECVERIFY_CLONES cannot be read \(.*No such file"),
    ],
)
def test_another_file_in_a_clone_is_told(run, official, tmp_path, text, says):
    file = tmp_path / "clones" / "official" / "theirs" / "draws.py"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(SystemExit, match=says):
        run.main(official)
