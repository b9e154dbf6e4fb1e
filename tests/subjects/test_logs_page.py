"""The example of docs/logs.md, word for word."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "logs.md").read_text()


@pytest.mark.slow
def test_the_page_s_example_ends_as_it_says(tmp_path):
    ((name, body),) = re.findall(r"```python\n# (\S+)\n(.*?)```", TEXT, re.S)
    (tmp_path / name).write_text(body)
    subprocess.run([sys.executable, name], cwd=tmp_path, check=True)
    (line,) = re.findall(r"^    specverify (compare-logs .*)$", TEXT, re.M)
    command = [sys.executable, "-m", "specverify.cli", *line.split()]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert "the same law as far as n shows" in " ".join(ended.stdout.split())
