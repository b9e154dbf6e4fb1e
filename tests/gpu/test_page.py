"""The page, from small parts that are really carried out and from records that are committed."""

import gzip
import json
import os
import re
import subprocess
import sys
import zipfile

import pytest

from specverify.errors import InputError
from specverify.gpu import carry, goals, page
from specverify.gpu.parts import ROOT


def command(*arguments, **more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, "-m", "specverify.gpu", *map(str, arguments)],
        capture_output=True, text=True, timeout=300, env=environment, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    out = tmp_path_factory.mktemp("gpu")
    return out, command("--small", "judging", "passes", "decoders", "--out", out, cwd=out)


def test_a_machine_without_a_gpu_is_told_so(tmp_path):
    done = command("--out", tmp_path / "out")
    assert done.returncode == 0
    assert "no CUDA device: nothing was measured" in done.stdout
    assert not (tmp_path / "out").exists()


def test_small_parts_are_carried_out_and_shown(tried):
    out, done = tried
    assert done.returncode == 0, done.stderr
    assert [line.split(", ")[0] for line in done.stdout.splitlines()] == [
        "judging: judging: exit code 0",
        "passes: tiny: exit code 0",
        "decoders: tiny-1: exit code 0",
        str(out / "report.md"),
    ]
    text = (out / "report.md").read_text()
    assert "**Tried on a CPU, in part or all: such numbers say that the program runs, and nothing else.**" in text
    assert "| tests | – | not carried out |" in text
    rows = [line for line in text.splitlines() if line.startswith("| tiny-1 |")]
    assert [float(row.split(" | ")[3]) < 16 for row in rows] == [False, True, True]
    assert "Weights of tiny-1 are random: passes and acceptance say nothing of the models." in text
    held = text.partition("## Goals")[2].partition("##")[0]
    assert re.search(r"cost allow \| >= 0\.85 \| \d\.\d\d \| (yes|\*\*no\*\*) \|", held)
    assert re.search(r"waits for the device, a pass \| <= 2 \| 1\.\d\d \| yes \|", held)
    assert "token rule" not in held  # whose windows were small
    assert "| 1 x 4 x 64 |" in text
    assert "**random:tiny** (float32, vocabulary 64), milliseconds of a pass by drafts in it:" in text


def test_the_page_alone_is_written_anew(tried):
    out, _ = tried
    before = (out / "report.md").read_text()
    (out / "report.md").unlink()
    assert command("--report", "--out", out).returncode == 0
    assert (out / "report.md").read_text() == before
    assert not list(out.glob("*/"))


def test_goals_are_held_against_the_figure_that_is_farthest(tmp_path):
    def kept(part, name, content):
        (tmp_path / part).mkdir(exist_ok=True)
        (tmp_path / part / f"{name}.json").write_text(json.dumps(content))

    sizes = [(8, 32, 16384), (1, 64, 65536), (1, 16, 8192)]
    rows = [dict(zip(("batch", "window", "vocab"), size, strict=True)) for size in sizes]
    for row, token, loop in zip(rows, (0.15, 0.3, 9.0), (20, 20, 9), strict=True):
        row |= {"floor": 0.1, "milliseconds": {"token rule": token, "loop": loop}}
    kept("judging", "judging", {"rows": rows})
    passes = [{"window": 0, "milliseconds": 10.0}, {"window": 16, "milliseconds": 20.0}]
    plain = {"decoder": "ar", "window": None, "limit": 1.0, "speedup": 1.0, "outside": 0.5, "calls": 100, "waits": 1.0}
    sjd = plain | {"decoder": "sjd", "window": 16, "limit": 2.0, "speedup": 1.8, "outside": 0.1, "waits": 3.0}
    for row in (plain, sjd):
        row["seconds"] = [2.0]
    record = {"model": "random:janus-pro-1b", "batch": 1, "rounds": 1, "passes": passes, "rows": [plain, sjd]}
    kept("decoders", "janus-pro-1b-1-graphs", record)
    kept("decoders", "other-8", record | {"batch": 8, "rows": [plain, sjd | {"speedup": 0.1, "waits": None}]})
    table = "\n".join(goals.section(tmp_path))
    for line in (
        "| the token rule beside reading p and q once | <= 2 | 3.00 | **no** |",
        "| a loop over tokens beside the token rule | >= 100 | 66.7 | **no** |",
        "cost allow | >= 0.85 | 0.90 | yes |",
        "| a decoder's own step, of a pass of 1B parameters | <= 0.05 | 0.100 | **no** |",  # 2 ms of 20
        "| waits for the device, a pass | <= 2 | 3.00 | **no** |",
    ):
        assert line in table


def test_records_of_campaigns_and_sweeps_are_shown(tmp_path):
    done = {"command": "", "code": 0, "seconds": 1.0, "created": "", "device": "cpu", "accelerator": None}
    done |= {"software": {"torch": "2"}, "tail": ""}
    failed = {**done, "code": None, "tail": "first\nlast words\n"}
    for part, kept in (("verdicts", "reference/record.json"), ("sweep", "sweep/tradeoff.json")):
        with zipfile.ZipFile(carry.path_of(part, tmp_path), "w") as archive:
            archive.writestr(kept, gzip.decompress((ROOT / "reports" / f"{kept}.gz").read_bytes()))
            archive.writestr(carry.STEPS, json.dumps({"a": done, "b": failed}))
            archive.writestr(f"{kept.partition('/')[0]}/report.md", "a report")
    text = page.write(tmp_path, dict.fromkeys(("tests", "verdicts", "sweep"), "what it is"), beside=True).read_text()
    assert (tmp_path / "sweep" / "sweep" / "report.md").read_text() == "a report"
    assert "| reference | real/ar/digits-s/g1/b400 | 102,400 | CONSISTENT |" in text
    assert "\n## Verdicts: what it is\n" in text
    assert "| guidance-1/maximal/gsd/window-16/size=4 | 21.9 | 2.92 |" in text
    assert "| GSD, arXiv 2508.07747 | Lumina-mGPT-7B-768, Parti | GSD, groups of 50 | 637 | 3.76 |" in text
    assert text.count("| b | no time was left | last words |") == 2
    assert "| verdicts | 1 of 2 | 2 s |" in text


def test_nothing_is_no_page(tmp_path):
    with pytest.raises(InputError, match=r"holds no part; python -m specverify\.gpu --out"):
        page.write(tmp_path, {"tests": ""})


def test_unknown_parts_are_named(tmp_path):
    done = command("--small", "pass", "--out", tmp_path)
    assert done.returncode == 2
    assert "unknown part 'pass'; there are tests, judging, passes, decoders" in done.stderr
