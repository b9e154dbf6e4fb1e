"""What CONTRIBUTING shows is true: its diffs apply to this tree, and touch two files each."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DIFFS = re.findall(r"^```diff\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)


def test_there_is_one_for_each_thing_that_is_added_often():
    added = [name for diff in DIFFS for name in re.findall(r"^new file mode.*\n--- .*\n\+\+\+ b/(\S+)$", diff, re.M)]
    folders = ("specverify/decoders/", "specverify/evidence/", "specverify/kinds/", "specverify/report/")
    folders += ("realmodels/adapters/",)
    assert {folder for folder in folders for name in added if name.startswith(folder)} == set(folders)


@pytest.mark.skipif(shutil.which("git") is None, reason="diffs are applied by git")
@pytest.mark.parametrize("diff", DIFFS, ids=lambda diff: diff.split()[2])
def test_a_diff_applies_and_touches_two_files(diff, tmp_path):
    touched = re.findall(r"^diff --git a/(\S+) b/\S+$", diff, re.M)
    assert len(touched) == 2
    for name in touched:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, tmp_path / name)
    alone = os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}  # no repository that this one lies in
    command = ["git", "apply", "-"]
    done = subprocess.run(command, input=diff, cwd=tmp_path, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / name).is_file() for name in touched)
