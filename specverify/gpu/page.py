"""The page of what was measured on a GPU, from the files of the parts: one section each, in Markdown.

What is not there is said. Figures of papers stand in a table of their own.
"""

from __future__ import annotations

import json
import tempfile
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from specverify import files
from specverify.bench_judging import LIBRARY, LOOP, TOKEN
from specverify.bench_passes import Record as Passes
from specverify.bench_shape import Bench
from specverify.bench_shape import Row as Decoded
from specverify.errors import InputError
from specverify.gpu import carry, goals, published
from specverify.gpu.carry import Steps
from specverify.gpu.goals import benches, judged, own_milliseconds, share
from specverify.report import record as records
from specverify.report.shape import Record
from specverify.report.tables import UNKNOWN, number
from specverify.tradeoff import record as sweeps
from specverify.tradeoff.shape import Row as Swept
from specverify.tradeoff.shape import Sweep

NAME = "report.md"
LINE = "python -m specverify.gpu --report --out FOLDER"


def write(out: Path, titles: Mapping[str, str], beside: bool = False) -> Path:
    """Write the page of all parts that are in a folder.

    Args:
        out: the folder.
        titles: of the parts, by name.
        beside: whether reports of sweeps and campaigns are laid down, too, with their pictures, below the folder.

    Raises:
        InputError: nothing is there, a file is damaged, or the page cannot be written.
    """
    found = {name: carry.read(carry.path_of(name, out)) for name in titles}
    if not any(found.values()):
        raise InputError(f"{out} holds no part; python -m specverify.gpu --out {out} carries them out")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, steps in found.items():
            if steps:
                with zipfile.ZipFile(carry.path_of(name, out)) as archive:
                    archive.extractall(folder / name)
        text = "\n\n".join([*_head(found), *goals.section(folder), *_sections(folder, found, titles)]) + "\n"
        if beside:
            for file in sorted(path for kind in ("report.md", "figures/*.png") for path in folder.glob(f"*/*/{kind}")):
                files.write_atomically(out / file.relative_to(folder), file.read_bytes())
    files.write_atomically(out / NAME, text.encode())
    return out / NAME


def _head(found: dict[str, Steps]) -> list[str]:
    every = [step for steps in found.values() for step in steps.values()]
    cards = sorted({step["accelerator"] or step["device"] for step in every})
    lines = ["# Measured on a GPU"]
    if any(step["accelerator"] is None for step in every):
        lines.append("**Tried on a CPU, in part or all: such numbers say that the program runs, and nothing else.**")
    torch = ", ".join(sorted({step["software"]["torch"] for step in every}))
    lines.append(f"On {', '.join(cards)}; torch {torch}. This page is made by `{LINE}` from the files beside it.")
    rows = [
        (name, number, f"{sum(step['seconds'] for step in steps.values()):.0f} s" if steps else "not carried out")
        for name, steps in found.items()
        for number in [f"{sum(step['code'] in (0, 1) for step in steps.values())} of {len(steps)}" if steps else "–"]
    ]
    return [*lines, _table(("part", "steps that ended by themselves", "took"), rows)]


def _sections(folder: Path, found: dict[str, Steps], titles: Mapping[str, str]) -> Iterable[str]:
    every = {
        "tests": _tests,
        "judging": _judging,
        "passes": _passes,
        "decoders": _decoders,
        "verdicts": _verdicts,
        "sweep": _sweep,
        "training": _training,
    }
    for name, steps in found.items():
        if not steps:
            continue
        yield f"## {name.capitalize()}: {titles[name]}"
        yield from every[name](folder / name)
        if failed := [(step, done) for step, done in steps.items() if done["code"] not in (0, 1)]:
            rows = [(step, _ending(done["code"]), _last(done["tail"])) for step, done in failed]
            yield _table(("not finished", "how it ended", "last words"), rows)


def _last(text: str) -> str:
    return text.strip().rpartition("\n")[2][:160]


def _ending(code: int | None) -> str:
    return "no time was left" if code is None else f"exit code {code}"


def _tests(folder: Path) -> Iterable[str]:
    rows = []
    for path in sorted(folder.glob("*.xml")):
        suite = ET.parse(path).getroot().find("testsuite")
        assert suite is not None  # pytest writes one
        count = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
        bad, skipped = count["failures"] + count["errors"], count["skipped"]
        rows.append((path.stem, str(count["tests"] - bad - skipped), str(bad), str(skipped)))
    yield _table(("tests", "passed", "failed", "skipped"), rows)


def _judging(folder: Path) -> Iterable[str]:
    for record in judged(folder):
        yield (
            f"A large copy moves {record['bandwidth'] / 1e9:,.0f} GB/s; a small operation takes "
            f"{1e3 * record['call']:.1f} microseconds. Milliseconds of a window judged, with the token behind it:"
        )
        rules = list(dict.fromkeys(name for row in record["rows"] for name in row["milliseconds"]))
        rows = []
        for row in record["rows"]:
            cost, token = row["milliseconds"], row["milliseconds"][TOKEN]
            beside = [f"{token / row['floor']:.2f}", f"{cost[LOOP] / token:.1f}"]
            size = f"{row['batch']} x {row['window']} x {row['vocab']:,}"
            rows.append((size, number(row["floor"], 3), *(_number(cost.get(rule)) for rule in rules), *beside))
        names = {LOOP: "loop in Python", LIBRARY: "transformers"}
        shown = [names.get(rule, rule) for rule in rules]
        yield _table(("batch x window x vocabulary", "floor", *shown, "token rule / floor", "loop / token rule"), rows)


def _passes(folder: Path) -> Iterable[str]:
    for path in sorted(folder.glob("*.json")):
        if path.name == carry.STEPS:
            continue
        record: Passes = json.loads(path.read_text())
        windows = list(dict.fromkeys(one["window"] for row in record["rows"] for one in row["passes"]))
        how = f"{record['dtype']}, vocabulary {record['vocab']:,}{', recorded as graphs' if record['compiled'] else ''}"
        yield f"**{record['model']}** ({how}), milliseconds of a pass by drafts in it:"
        rows = []
        for row in record["rows"]:
            costs = {one["window"]: one["milliseconds"] for one in row["passes"]}
            memory = "" if row["memory"] is None else f"{row['memory'] / 2**30:.1f} GB"
            shown = [_number(costs.get(window)) for window in windows]
            rows.append((str(row["batch"]), f"{row['guidance']:g}", *shown, memory if row["fits"] else "does not fit"))
        yield _table(("batch", "guidance", *map(str, windows), "memory"), rows)


def _decoders(folder: Path) -> Iterable[str]:
    yield (
        "share: of the speed-up that step compression and the measured cost of a window allow; ms a step: a decoder's "
        "own, beside the passes; waits: times a pass that the device is waited for."
    )
    rows = [(name, *_decoded(row, record)) for name, record in benches(folder).items() for row in record["rows"]]
    columns = "step, decoder, window, passes, an image, speed-up, limit, share, ms a step, of a pass, waits"
    yield _table(columns.split(", "), rows)
    if random := [name for name, record in benches(folder).items() if record["model"].startswith("random:")]:
        yield f"Weights of {', '.join(random)} are random: passes and acceptance say nothing of the models."


def _decoded(row: Decoded, record: Bench) -> tuple[str, ...]:
    own, of_pass = own_milliseconds(row, record)
    part = share(row)
    return (
        row["decoder"],
        UNKNOWN if row["window"] is None else str(row["window"]),
        f"{row['passes']:.1f}",
        f"{row['seconds_per_image']:.3g} s",
        f"{row['speedup']:.2f}",
        UNKNOWN if row["limit"] is None else f"{row['limit']:.2f}",
        UNKNOWN if part is None else f"{part:.0%}",
        f"{own:.2f}",
        f"{of_pass:.0%}",
        _number(row["waits"]),
    )


def _verdicts(folder: Path) -> Iterable[str]:
    rows = []
    for path in sorted(folder.glob("*/record.json")):
        record: Record = records.load(path)
        for cell in record["cells"]:
            most = max((row["n"] or 0 for row in cell["evidence"]), default=0)
            due = "" if cell["expected"] is None else f"; known to be {cell['expected']}"
            rows.append((path.parent.name, cell["id"], f"{most:,}" if most else UNKNOWN, cell["verdict"]["kind"] + due))
    yield _table(("campaign", "cell", "tokens", "verdict"), rows)


def _sweep(folder: Path) -> Iterable[str]:
    for path in sorted(folder.glob("*/tradeoff.json")):
        record = sweeps.load(path)
        where = f"{path.parent.name}/report.md in the file of this part"
        yield f"**{path.parent.name}**: `{record['command']}`; its report, with pictures, is {where}."
        yield _table(
            (
                "setting",
                "passes",
                "compression",
                "seconds an image",
                "alone",
                "speed-up alone",
                "bias",
                "FD",
                "surprisal z",
            ),
            [_swept(row, record) for row in record["rows"]],
        )
    yield "Beside them, what papers say of other models (AR: plain decoding):"
    yield _table(
        ("source", "model", "decoder", "passes", "compression", "seconds", "hardware", "quality"),
        [
            (
                f.source,
                f.model,
                f.decoder,
                f"{f.passes:g}",
                f"{f.plain / f.passes:.2f}",
                _number(f.seconds),
                f.hardware,
                f.quality,
            )
            for f in published.FIGURES
        ],
    )


def _swept(row: Swept, record: Sweep) -> tuple[str, ...]:
    metrics = {name: one["value"] for name, one in row["metrics"].items()}
    plain = [
        one["seconds_alone"] for one in record["rows"] if one["rule"] == "ar" and one["guidance"] == row["guidance"]
    ]
    known = [value for value in plain if value is not None]
    alone = row["seconds_alone"]
    return (
        row["id"],
        _number(metrics.get("passes")),
        _number(metrics.get("speedup")),
        _number(row["seconds_per_image"]),
        _number(alone),
        UNKNOWN if alone is None or not known else f"{sum(known) / len(known) / alone:.2f}",
        _number(metrics.get("bias")),
        _number(metrics.get("fd")),
        _number(row["z"]),
    )


def _training(folder: Path) -> Iterable[str]:
    rows = []
    for path in sorted((folder / "checkpoints").glob("*.json")):
        card = json.loads(path.read_text())
        figures = "; ".join(
            f"{name} {value}" for name, value in card.get("figures", {}).items() if not isinstance(value, dict)
        )
        rows.append((path.stem, f"{card.get('parameters', 0):,}", figures))
    yield _table(("model", "parameters", "figures"), rows)


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else number(value, 3)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
