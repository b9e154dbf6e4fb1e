"""Judge what a manifest lists, each row by `specverify validate` in a process of its own, and write a table of it.

python reports/audit/run.py                 # or `nox -s audit`, which installs the packages first
python reports/audit/run.py specdec litgpt  # some packages, or some wrappers
SPECVERIFY_CLONES=clones python reports/audit/run.py GSD  # official code, from a clone in this folder

A row that was judged by the same lines and command on the same release is taken from its judgement in the folder;
without the folder, all are judged again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SECONDS = 30
"""Of a row that names no others."""
CLONES = "SPECVERIFY_CLONES"
COLUMNS = ("package", "version", "function", "claim", "verdict", "what was shown", "seconds", "remark")
ROUNDING = ((1e-12, "1e-12, the rounding of float64"), (1e-6, "1e-6, the rounding of float32"))
HEAD = """# Packages that decode speculatively, judged

Each function was called through the wrapper that is linked, over toys of which every law is known, at temperature 1 and
one sequence at a time, with two drafts a step where nothing else is said. PROVED: on the toys that were followed in the
time, the smallest first, all possible runs of its draws together have the target's law. REFUTED: on the toy that is
named, sequences have another law. Both are said of the release that is named and of the claim alone; a function may be
meant for something else, which the remark then says. Seconds are of the processor, the start of Python included.

Where the version is a commit, the code is on no package index: the definitions that `subjects.toml` names were copied
from the files of that commit, and their checksum stands there; no clone was held against it yet. Schedulers were judged
window by window, on drawn models, in [a loop that is not theirs](../../docs/schedulers.md).
"""


def key(row: Mapping[str, Any]) -> str:
    """The folder of a row: its wrapper, and the suite where it has one."""
    options = list(row.get("options", []))
    suite = options[options.index("--suite") + 1 :][:1] if "--suite" in options else []
    return "-".join([str(row["wrapper"]).replace(".py:", "-"), *suite])


def chosen(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The rows of some packages or wrappers; all without names.

    Raises:
        SystemExit: for a name that no row has.
    """
    known = {name for row in rows for name in (row["package"], row["wrapper"])}
    if unknown := set(names) - known:
        raise SystemExit(f"{', '.join(sorted(unknown))}: no row has this package or wrapper; there are {sorted(known)}")
    return [row for row in rows if not names or {row["package"], row["wrapper"]} & set(names)]


def command(row: Mapping[str, Any], folder: Path) -> list[str]:
    """The arguments of `specverify` that judge a row."""
    how = ["--level", row.get("level", "sampler"), *row.get("options", [])]
    return ["validate", str(folder / row["wrapper"]), *how, "--claim", row.get("claim", "lossless")]


def cloned(row: Mapping[str, Any]) -> bool:
    """Whether its code is on no index, and taken from a clone."""
    return "repository" in row


def version(row: Mapping[str, Any]) -> str:
    """The release, or the first digits of the commit."""
    return str(row["commit"][:7] if cloned(row) else row["version"])


def check(row: Mapping[str, Any], wrappers: Path) -> None:
    """See that what a row is about is there: the release, or in a clone what its wrapper was written for.

    Raises:
        SystemExit: it is not, or is something else.
    """
    if not cloned(row):
        try:
            installed = metadata.version(row["package"])
        except metadata.PackageNotFoundError:
            installed = "not"
        if installed != row["version"]:
            raise SystemExit(
                f"{row['package']} {row['version']} is to be judged, and {installed} installed: nox -s audit"
            )
        return
    file, due = f"{row['package']}/{row['file']}", f"{row['repository']} at {row['commit']}"
    try:
        text = runpy.run_path(str(wrappers / "_clones.py"))["source"](file, row["names"])
    except (OSError, LookupError, SyntaxError) as error:
        raise SystemExit(f"{file} in ${CLONES} cannot be read ({error}): {due} is to be judged") from None
    if hashlib.sha256(text.encode()).hexdigest() != row["sha256"]:
        raise SystemExit(f"{file} in ${CLONES} has another {', '.join(row['names'])} than {due}, which is to be judged")


def judge(row: Mapping[str, Any], wrappers: Path, out: Path) -> None:
    """Judge a row, unless its judgement is there already.

    Raises:
        SystemExit: something else is there than is to be judged, or nothing; or `specverify` said nothing.
    """
    check(row, wrappers)
    lines = (wrappers / row["wrapper"].partition(":")[0]).read_bytes()
    asked = {"command": command(row, Path(wrappers.name)), "version": version(row)}
    asked["wrapper"] = hashlib.sha256(lines).hexdigest()
    if cloned(row):
        asked["sha256"] = row["sha256"]
    file = out / key(row) / "row.json"
    if file.is_file() and json.loads(file.read_text(encoding="utf-8"))["asked"] == asked:
        return
    before = _processor()
    extra = ["--seconds", str(row.get("seconds", SECONDS)), "--out", str(file.parent), "--json"]
    words = [sys.executable, "-m", "specverify.cli", *command(row, wrappers), *extra]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"specverify ended with {done.returncode} and without a judgement: {words}") from None
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"asked": asked, "seconds": _processor() - before, **_kept(found)}, indent=1)
    file.write_text(text + "\n", encoding="utf-8")


def table(rows: Sequence[Mapping[str, Any]], left_out: Sequence[Mapping[str, str]], out: Path) -> str:
    """The report, of the rows that were judged, as Markdown."""
    lines = [HEAD, "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        file = out / key(row) / "row.json"
        if not file.is_file() or (cloned(row) and CLONES not in os.environ):
            continue
        found = json.loads(file.read_text(encoding="utf-8"))
        function = f"[{row['function']}](wrappers/{row['wrapper'].partition(':')[0]})"
        result = found["kind"], shown(found), f"{found['seconds']:.0f}"
        cells = row["package"], version(row), function, row.get("claim", "lossless"), *result, row.get("remark", "")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    if CLONES not in os.environ and (names := sorted({row["package"] for row in rows if cloned(row)})):
        lines += ["", f"Not judged, since {CLONES} names no folder of clones: {', '.join(names)}."]
    if left_out:
        lines += ["", "Left out:", ""]
        lines += [f"- {one['package']} {one['version']}, {one['function']}: {one['reason']}" for one in left_out]
    return "\n".join(lines) + "\n"


def shown(found: Mapping[str, Any]) -> str:
    """What a judgement rests on; how far a proof came in the time is left out, so that it is the same everywhere."""
    if found["kind"] != "PROVED":
        return str(found["reason"])
    bound = next(words for largest, words in ROUNDING if found["tv"] <= largest)
    return f"exact TV below {bound}, on toys of {found['vocabularies']} tokens"


def _kept(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the table needs of a judgement."""
    sizes = sorted({number for one in found["exact"] for number in re.findall(r"\d+", one["model"])[:1]})
    return {
        **found["verdict"],
        "tv": max((one["tv"] for one in found["exact"]), default=None),
        "vocabularies": " and ".join(filter(None, [", ".join(sizes[:-1]), *sizes[-1:]])),
    }


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge, and write the table after each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="packages or wrappers; all by default")
    parser.add_argument("--manifest", type=Path, default=HERE / "subjects.toml")
    parser.add_argument("--out", type=Path, default=Path("out/audit"))
    given = parser.parse_args(arguments)
    manifest = tomllib.loads(given.manifest.read_text(encoding="utf-8"))
    report = given.out / "report.md"
    given.out.mkdir(parents=True, exist_ok=True)
    for row in chosen(manifest["row"], given.names):
        left = cloned(row) and CLONES not in os.environ
        if not left:
            judge(row, given.manifest.parent / "wrappers", given.out)
        report.write_text(table(manifest["row"], manifest.get("left_out", ()), given.out), encoding="utf-8")
        file = given.out / key(row) / "row.json"
        print(key(row), "left out" if left else json.loads(file.read_text(encoding="utf-8"))["kind"], flush=True)
    print(report)


if __name__ == "__main__":
    main()
