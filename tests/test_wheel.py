"""The package as it is installed: a wheel holds every file that the code reads."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
CODE = """
import json
import realmodels.digits, toymodels
from specverify.report import record, render, shape
print(json.dumps([record.__file__, shape.schema()["$schema"], toymodels.toy("dense-3x6").name]))
"""


def test_a_wheel_is_whole(tmp_path):
    wheel = next(iter(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    for package in ("specverify", "toymodels", "realmodels"):
        for path in (ROOT / package).rglob("*"):
            if path.suffix in (".py", ".json", ".safetensors", ".html", ".md", ".typed"):
                assert (tmp_path / "site" / path.relative_to(ROOT)).is_file(), path

    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n{CODE}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    where, schema, toy = json.loads(done.stdout)
    assert Path(where).is_relative_to(tmp_path / "site")
    assert (schema.startswith("https://json-schema.org"), toy) == (True, "dense-3x6")
