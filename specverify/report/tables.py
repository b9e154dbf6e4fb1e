"""Tables of strings, made of a record alone: what the Markdown, the HTML and the terminal show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from specverify.plan import KINDS
from specverify.report.shape import Record
from specverify.report.shape_cells import Cell, EvidenceRow, exact_of

UNKNOWN = "–"
EXIT_CODES = {
    0: "every claim that was checked holds",
    1: "a claim is refuted",
    2: "nothing can be said: checks were inconclusive or vacuous, cells are missing, or no decoder was judged",
    3: "something could not be checked",
}


def meaning(record: Record) -> str:
    """What the exit code says; of known-wrong decoders only where there were some."""
    code = record["verdict"]["exit_code"]
    wrong = any(cell["expected"] is not None for cell in record["cells"])
    more = ", and every known-wrong decoder was caught" if wrong else "; no known-wrong decoder was among them"
    if record["status"] == "partial" and code == 2:
        return "the run was interrupted, and what follows speaks for the cells that were finished"
    said = EXIT_CODES[code]
    if code == 0 and record.get("judgements"):  # whose verdicts are their own
        said = said.replace("that was checked", "of the campaign")
    return said + (more if code == 0 or (code == 2 and not record["verdicts"]) else "")


def reason(record: Record) -> str:
    """Why the verdict is what it is; where that is a count, of what."""
    said = record["verdict"]["reason"]
    return f"Claims of decoders and rules: {said}" if said[:1].isdigit() else said


CHECK_COLUMNS = ("check", "metric", "n#", "delta#", "alpha#", "beta#", "p#", "estimate#", "outcome", "rates")


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        cells: a string for each column.
        kind: the verdict that colours the row, or an empty string.
        note: a sentence more.
        reproduce: the command line that runs it again.
        bad: the columns that are not as they must be.
        link: the anchor that the first column leads to on a page, or an empty string.
    """

    cells: tuple[str, ...]
    kind: str = ""
    note: str = ""
    reproduce: str = ""
    bad: tuple[int, ...] = ()
    link: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: its anchor.
        title: its heading.
        intro: what stands above it; paragraphs are parted by an empty line.
        columns: headings; those that end in "#" are numbers (the mark is not shown).
        rows: what it holds.
    """

    name: str
    title: str
    intro: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def headings(self) -> tuple[str, ...]:
        """The columns as shown."""
        return tuple(column.removesuffix("#") for column in self.columns)

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns are numbers."""
        return tuple(column.endswith("#") for column in self.columns)

    @property
    def reproducible(self) -> bool:
        """Whether rows can be run again."""
        return any(row.reproduce for row in self.rows)


def plain(text: Any) -> str:
    """One line of printable characters: what a name in a record may put into a table."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def number(value: Any, digits: int = 4) -> str:
    """A figure of the record, short; None is unknown."""
    if value is None:
        return UNKNOWN
    if isinstance(value, dict):
        return str(value["number"])
    if isinstance(value, int):
        return f"{value:,}"
    if 10**digits <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:,.{digits}g}"


def interval(pair: Sequence[Any] | None, digits: int = 4) -> str:
    """[low, high], or nothing."""
    return f" [{number(pair[0], digits)}, {number(pair[1], digits)}]" if pair is not None else ""


def settings(cell: Cell, only: Collection[str] | None = None) -> str:
    """What a cell's decoder and model were set to; `only` names the settings to tell."""
    names = {"window": "W = ", "initial": "", "draft": "draft ", "guidance": "guidance ", "batch": "batch "}
    shown = [
        names.get(key, f"{key} ") + (f"{value:g}" if isinstance(value, float) else str(value))
        for key, value in cell["settings"].items()
        if value is not None and (only is None or key in only)
    ]
    return plain(", ".join(shown)) or UNKNOWN


def distinct(cells: Sequence[Cell]) -> tuple[list[str], str]:
    """A name for each cell by what sets it apart from the others, and what they have in common."""
    values: dict[str, set[Any]] = {}
    for cell in cells:
        for key, value in cell["settings"].items():
            values.setdefault(key, set()).update(() if value is None else (value,))
    apart = [key for key, found in values.items() if len(found) > 1]
    same = [key for key, found in values.items() if len(found) == 1]
    models = {cell["model"] for cell in cells}
    labels = []
    for cell in cells:
        parts = [cell["decoder"]] + [cell["model"]] * (len(models) > 1) + [settings(cell, apart)]
        labels.append(plain(", ".join(part for part in parts if part != UNKNOWN)))
    common = [*(models if len(models) == 1 else ()), *dict.fromkeys(settings(c, [key]) for key in same for c in cells)]
    return labels, plain(", ".join(part for part in common if part != UNKNOWN))


def caught(cell: Cell) -> bool:
    """Whether the checker said of a defect what it must."""
    return bool(cell["verdict"]["kind"] == cell["expected"])


def tally(kinds: Iterable[str]) -> str:
    """Verdicts and how often each was reached."""
    return ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).most_common())


def verdicts(record: Record) -> Table:
    """The verdict on each decoder."""
    rows = [
        row([v["decoder"], v["claim"], v["kind"], number(len(v["cells"])), v["reason"]], v["kind"])
        for v in record["verdicts"]
    ]
    return Table("verdicts", "Verdicts", "", ("decoder", "claim", "verdict", "cells#", "why"), tuple(rows))


def coverage(record: Record) -> Table:
    """How much of what was checked."""
    rows = []
    for kind, (meaning, _, _) in KINDS.items():
        cells = [c for c in record["cells"] if c["kind"] == kind]
        counts = [number(len({c[key] for c in cells})) for key in ("decoder", "model")]
        time = number(sum(c["seconds"] for c in cells), 3)
        rows.append(
            row(
                [kind, meaning, number(len(cells)), *counts, tally(c["verdict"]["kind"] for c in cells) or "none", time]
            )
        )
    columns = ("kind", "what is done", "cells#", "decoders#", "models#", "verdicts", "seconds#")
    return Table("coverage", "What was covered", "", columns, tuple(rows))


def exact_summary(record: Record) -> Table:
    """Exact results per decoder, over all models and settings."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for c in record["cells"]:
        if c["exact"] is not None and c["kind"] == "exact":
            groups.setdefault((c["decoder"], c["claim"]), []).append(c)
    rows = []
    for (decoder, claim), cells in groups.items():
        worst = max(cells, key=lambda c: exact_of(c)["tv"])
        models = number(len({c["model"] for c in cells}))
        kinds = tally(c["verdict"]["kind"] for c in cells)
        rows.append(
            row([decoder, claim, models, number(len(cells)), number(exact_of(worst)["tv"], 3), worst["id"], kinds])
        )
    intro = "TV: total variation between the decoder's exact law and the target law. Rounding leaves up to 1e-12."
    columns = ("decoder", "claim", "models#", "cells#", "largest TV#", "where", "verdicts")
    return Table("exact-summary", "Exact results, per decoder", intro, columns, tuple(rows))


def exact(record: Record) -> Table:
    """Exact results, cell by cell."""
    rows = []
    for c in record["cells"]:
        if (e := c["exact"]) is None or c["kind"] != "exact":
            continue
        branches = " / ".join(number(e["branches"].get(name), 3) for name in ("accepted", "recovered", "bonus"))
        rows.append(
            cell_row(
                c,
                [
                    *(c["decoder"], c["model"], settings(c), c["verdict"]["kind"]),
                    *(number(e["tv"], 3), number(e["passes"]), number(e["acceptance_rate"], 3), branches),
                    *(number(e["states"]), number(e["worlds"])),
                ],
            )
        )
    intro = (
        "Per sequence, in expectation: forward passes, the acceptance rate, and tokens accepted / recovered / bonus. "
        "States are distinct situations that were expanded, worlds the outcomes that were followed."
    )
    columns = ("decoder", "toy", "settings", "verdict", "exact TV#", "passes#", "acceptance#", "acc / rec / bonus#")
    return Table("exact", "Exact results, cell by cell", intro, (*columns, "states#", "worlds#"), tuple(rows))


def checks(record: Record) -> Table:
    """Every statistical check of the cells."""
    rows = []
    for c in record["cells"]:
        for e in c["evidence"]:
            rows.append(cell_row(c, [c["id"], *check_cells(e)], e["detail"], (9,) if e["rejected"] else ()))
    intro = (
        "A perfect decoder is rejected with probability at most alpha; a discrepancy of delta or more, in the check's "
        "metric, is missed with probability at most beta. The last column says how alpha / how beta are known: a bound "
        "holds at every n."
    )
    return Table("checks", "Statistical checks", intro, ("cell", *CHECK_COLUMNS), tuple(rows))


def check_cells(evidence: EvidenceRow) -> list[str]:
    """One statistical check, in `CHECK_COLUMNS`."""
    e = evidence
    outcome = "REJECTED" if e["rejected"] else f"vacuous: {e['vacuous']}" if e["vacuous"] else "not rejected"
    estimate = number(e["estimate"], 3) + interval(e["interval"], 3)
    rates = [number(e["delta"], 3), number(e["alpha"], 3), number(e["beta"], 3), number(e["p_value"], 3)]
    known = " / ".join(e[key].replace("finite-sample bound", "bound") for key in ("basis", "power"))
    return [e["check"], e["metric"], number(e["n"]), *rates, estimate, outcome, known]


def blind_spots(record: Record) -> Table:
    """What no number of samples would make a check see."""
    seen = {(e["check"], e["blind"]): None for c in record["cells"] for e in c["evidence"] if e["blind"]}
    rows = tuple(row(pair) for pair in seen)
    return Table("blind", "What the checks cannot see", "", ("check", "blind to"), rows)


def defects(record: Record) -> Table:
    """Known-wrong decoders: expected and obtained."""
    rows = []
    for c in record["cells"]:
        if c["kind"] == "defect" or (c["kind"] == "proof" and c["expected"] is not None):
            tv = number(exact_of(c)["tv"] if c["exact"] else None, 3)
            verdict = [c["expected"], c["verdict"]["kind"], "yes" if caught(c) else "NO"]
            cells = [c["decoder"], c["model"], settings(c), *verdict, tv, c["verdict"]["reason"]]
            rows.append(cell_row(c, cells, bad=() if caught(c) else (5,)))
    intro = "Decoders that are wrong on purpose. A checker that misses one cannot be trusted with the others."
    columns = ("defect", "model", "settings", "expected", "obtained", "caught", "exact TV#", "why")
    return Table("defects", "Known-wrong decoders", intro, columns, tuple(rows))


def alpha(record: Record) -> Table:
    """How the campaign's false-alarm rate is shared out, by cell."""
    budget = record["errors"]["alpha"]
    cells: dict[str, list[float]] = {}
    for part in budget["parts"]:
        cells.setdefault(part["check"].partition(": ")[0], []).append(part["alpha"])
    rows = [
        row([cell, number(len(parts)), " to ".join(dict.fromkeys(number(end, 3) for end in (min(parts), max(parts))))])
        for cell, parts in cells.items()
    ]
    intro = (
        "The probability that any check of this campaign rejects a perfect decoder is at most "
        f"{number(budget['total'], 3)}, shared out before any data were seen."
    )
    return Table("alpha", "The false-alarm budget", intro, ("cell", "checks#", "alpha of each#"), tuple(rows))


def provenance(record: Record) -> Table:
    """How the record came about."""
    software, hardware, errors = record["software"], record["hardware"], record["errors"]
    device = f"{hardware['device']} ({hardware['accelerator']})" if hardware["accelerator"] else hardware["device"]
    rows = [
        ("command", record["command"]),
        ("tier", record["tier"]),
        ("seed", str(record["seed"])),
        ("started", record["created"]),
        ("finished", record["finished"] or "not yet"),
        (
            "visible discrepancy asked for (delta)",
            ", ".join(f"{check}: {number(delta)}" for check, delta in errors["delta"].items()),
        ),
        ("miss rate of each check at delta (beta)", number(errors["beta"])),
        ("false-alarm rate of the campaign (alpha)", number(errors["alpha"]["total"])),
        ("software", ", ".join(f"{name} {version}" for name, version in software.items())),
        ("hardware", f"{hardware['cpus']} CPUs, {hardware['threads']} at work, device {device}"),
    ]
    if "checkpoint" in record:
        rows.append(("files of the real model (SHA-256)", record["checkpoint"]))
    intro = (
        "A cell's seed derives from the seed below and the cell's own name, so that any cell can be run again alone."
    )
    return Table("provenance", "Seed, software, hardware", intro, ("what", "value"), tuple(map(row, rows)))


def other_cells(record: Record, shown: Iterable[Table]) -> Table:
    """The cells that no table shows, with the lines that reproduce them."""
    there = {row.reproduce for table in shown for row in table.rows}
    rows = [
        cell_row(c, [c["id"], c["claim"], c["verdict"]["kind"], number(c["seconds"], 3), why(c)])
        for c in record["cells"]
        if plain(c["reproduce"]) not in there
    ]
    return Table("cells", "Other cells", "", ("cell", "claim", "verdict", "seconds#", "why"), tuple(rows))


def why(cell: Cell) -> str:
    """A cell's reason, and what is wrong with it."""
    missed = cell["expected"] is not None and not caught(cell)
    return (f"known to be wrong, but not {cell['expected']}: " if missed else "") + str(cell["verdict"]["reason"])


def row(cells: Iterable[Any], kind: str = "", note: str = "", reproduce: str = "", bad: tuple[int, ...] = ()) -> Row:
    """A row of plain strings."""
    return Row(tuple(plain(cell) for cell in cells), kind, plain(note), plain(reproduce), bad)


def cell_row(cell: Cell, cells: Iterable[Any], note: str = "", bad: tuple[int, ...] = ()) -> Row:
    """A row on a cell of the record."""
    return row(cells, cell["verdict"]["kind"], note, cell["reproduce"], bad)
