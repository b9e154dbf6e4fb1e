"""The audit of packages that others publish: its wrappers, its manifest, the table that is committed, what makes it."""

import importlib.util
import json
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import torch

from specverify.subjects import resolve
from specverify.subjects.sampler_suite import smallest

ROOT = Path(__file__).parents[2]
AUDIT = ROOT / "reports" / "audit"
MANIFEST = tomllib.loads((AUDIT / "subjects.toml").read_text(encoding="utf-8"))
ROWS = MANIFEST["row"]
WRAPPERS = sorted((AUDIT / "wrappers").glob("*.py"))


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
        assert f"{row['package']}=={row['version']}\n" in pinned
        assert found[0].removeprefix("| ") == row["package"]
        assert found[1] == row["version"]
        assert found[2] == f"[{row['function']}](wrappers/{name})"
        assert found[-1].removesuffix(" |") == row.get("remark", "")
        # Who is said to be wrong is told why.
        assert found[4] != "REFUTED" or row.get("remark"), row


@pytest.mark.filterwarnings("default")  # of packages that are not ours
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['wrapper']}{''.join(row.get('options', [])[2:])}")
def test_a_wrapper_makes_sequences(row):
    try:
        installed = metadata.version(row["package"])
    except metadata.PackageNotFoundError:
        installed = "none"
    if installed != row["version"]:
        pytest.skip(f"{row['package']} {row['version']} is needed, and {installed} installed: nox -s audit has it")
    subject = resolve.resolve(str(AUDIT / "wrappers" / row["wrapper"]))
    if row.get("level", "sampler") == "sampler":
        case = smallest()[1]
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


def test_a_row_is_judged_once_and_its_table_is_the_same_again(run, faked, tmp_path, monkeypatch):
    run.main(faked)
    report = tmp_path / "out" / "report.md"
    text = report.read_text(encoding="utf-8")
    *_, line = text.splitlines()
    begin = (
        r"| faked | 1.2 | [a\|b](wrappers/faked_step.py) | lossless | REFUTED | on dense-2x8[:2] (perturbed draft): "
    )
    assert line.startswith(begin)
    assert re.search(r" from the target; first at position 0 .* \| \d+ \| so \|$", line)
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
