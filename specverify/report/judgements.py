"""Judgements in a report: a section for each subject, with where it goes wrong and how that can be seen again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specverify.evidence.rational import numbers
from specverify.report.shape import Record
from specverify.report.shape_testers import Judgement
from specverify.report.tables import CHECK_COLUMNS, Row, Table, check_cells, number, plain, row, tally
from specverify.verdict import Kind, combine

SHOWN = 12
"""Most numbers of a list, and most enumerations, that are shown; the record has all."""
_EXACT = (
    "model",
    "window",
    "initial",
    "draft",
    "arrangement",
    "precision",
    "tv",
    "passes",
    "acceptance_rate",
    "worlds",
)
_TITLES = {"shares": "What each branch brings", "split": "Each branch's part in the distance"}
_FIGURES = ("tv", "passes", "acceptance rate", "worlds")


@dataclass(frozen=True)
class Section:
    """One judgement.

    Attributes:
        name: its anchor.
        title: the subject.
        kind, reason: the verdict.
        facts: level, claim, seed and time, in a line.
        texts: counterexamples, set for 80 columns.
        tables: where it goes wrong, enumerations, checks.
        missing: what the judgement says nothing about.
        notes: further remarks.
        reproduce: a command line that reaches the same verdict; may be empty.
    """

    name: str
    title: str
    kind: str
    reason: str
    facts: str
    texts: tuple[str, ...]
    tables: tuple[Table, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    reproduce: str


def overview(record: Record) -> Table:
    """The verdict on each judged subject."""
    rows = []
    for one in record.get("judgements", []):
        kind = one["verdict"]["kind"]
        rows.append(row([one["subject"], one["level"], one["claim"], kind, one["verdict"]["reason"]], kind))
    columns = ("subject", "level", "claim", "verdict", "why")
    return Table("judged", "Judged subjects", "", columns, tuple(rows))


def line(record: Record) -> str:
    """How many were judged, and what came of it; empty if none were."""
    found = record.get("judgements", [])
    return f"judged subjects: {tally(one['verdict']['kind'] for one in found)}" if found else ""


def overall(record: Record) -> str:
    """The verdict that a reader sees first: on the campaign and all that was judged beside it."""
    kinds = [record["verdict"]["kind"], *(one["verdict"]["kind"] for one in record.get("judgements", []))]
    worst = combine(map(Kind, kinds))
    return (Kind.VACUOUS if worst.exit_code == 0 and Kind.VACUOUS.value in kinds else worst).value


def sections(record: Record) -> list[Section]:
    """Every judgement of the record."""
    return [_section(place, one) for place, one in enumerate(record.get("judgements", []), 1)]


def _section(place: int, one: Judgement) -> Section:
    name = f"judgement-{place}"
    facts = [f"level {one['level']}", f"claim {one['claim']}"]
    facts += [] if one.get("seed") is None else [f"seed {one['seed']}"]
    proved = one["level"] == "decoder" and bool(one["exact"])  # over ids
    made = [*_location(name, one["location"] or {}, proved), _exact(name, one), _checks(name, one)]
    return Section(
        name=name,
        title=plain(one["subject"]),
        kind=one["verdict"]["kind"],
        reason=plain(one["verdict"]["reason"]),
        facts=plain(", ".join([*facts, f"{one['seconds']:.1f} s"])),
        texts=tuple(_printable(note) for note in one["notes"] if "\n" in note),
        tables=tuple(table for table in made if table.rows),
        missing=tuple(map(plain, one["not_covered"])),
        notes=tuple(plain(note) for note in one["notes"] if "\n" not in note),
        reproduce=plain(one["reproduce"]),
    )


def _location(name: str, location: Mapping[str, Any], exact: bool) -> list[Table]:
    """Where it goes wrong: single figures in one table, and one for each list of rows, such as shares of branches."""
    facts, tables = [], []
    for key, value in location.items():
        label = key.replace("_", " ")
        if isinstance(value, Mapping):
            rows = tuple(row([part, _shown(share, exact)]) for part, share in value.items())
            tables.append(Table(f"{name}-{key}", _TITLES.get(key, label), "", ("part", "share#"), rows))
        elif isinstance(value, Sequence) and value and all(isinstance(item, Mapping) for item in value):
            tables.append(_shares(f"{name}-{key}", _TITLES.get(key, label), value, exact))
        elif value is not None:
            facts.append(row([label, _shown(value, exact)]))
    return [Table(f"{name}-where", "Where it goes wrong", "", ("what", "value"), tuple(facts)), *tables]


def _shares(name: str, title: str, items: Sequence[Mapping[str, Any]], exact: bool) -> Table:
    keys = list(dict.fromkeys(key for item in items for key in item))
    intro = ""
    columns = list(keys)
    rows: list[Row] = []
    laws = {"came", "due"} <= set(keys)
    if laws:
        columns.append("error#")
        intro = (
            "Each branch's part in the law of the next token there: what came, and what was due. The error is half the "
            "sum of the differences."
        )
    for item in items:
        cells = [_shown(item.get(key), exact) for key in keys]
        if laws:
            cells.append(_shown(sum(abs(a - b) for a, b in zip(item["came"], item["due"], strict=True)) / 2, exact))
        rows.append(row(cells))
    return Table(name, title, intro, tuple(column.replace("_", " ") for column in columns), tuple(rows))


def _exact(name: str, one: Judgement) -> Table:
    found = sorted(one["exact"], key=lambda item: -float(item.get("tv") or 0))
    plainly = all(item.get("precision", "float64") == "float64" for item in found)
    keys = [key for key in _EXACT if any(item.get(key) is not None for item in found)]
    keys = [key for key in keys if not (key == "precision" and plainly)]
    rows = tuple(row(_shown(item.get(key), key != "passes") for key in keys) for item in found[:SHOWN])
    more = f" The {SHOWN} furthest off of {number(len(found))}; the record has all." if len(found) > SHOWN else ""
    labels = [key.replace("_", " ") for key in keys]
    columns = tuple("exact TV#" if key == "tv" else key + "#" * (key in _FIGURES) for key in labels)
    return Table(f"{name}-exact", "Exact results", f"TV: total variation from the target law.{more}", columns, rows)


def _checks(name: str, one: Judgement) -> Table:
    found = sorted(one["evidence"], key=lambda item: not item["rejected"])
    rows = tuple(row(check_cells(item), note=item["detail"], bad=(8,) if item["rejected"] else ()) for item in found)
    asks = "" if one["claim"] == "lossless" else "They test losslessness; what the claim allows is in the verdict."
    return Table(f"{name}-checks", "Statistical checks", asks, CHECK_COLUMNS, rows)


def _shown(value: Any, exact: bool) -> str:
    """A value of a judgement; exact probabilities as fractions, where they are some."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(item, exact)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        cut = [f"and {len(value) - SHOWN} more"] if len(value) > SHOWN else []
        some = value[:SHOWN]
        if exact and all(isinstance(item, float) for item in some):
            return f"({', '.join([*numbers(*some), *cut])})"
        return f"({', '.join([*(_shown(item, exact) for item in some), *cut])})"
    if exact and isinstance(value, float) and (value == 0 or 1e-9 <= value <= 1):
        return numbers(value)[0]
    return number(value) if value is None or isinstance(value, float) else str(value)


def _printable(text: str) -> str:
    return "\n".join("".join(c if c.isprintable() else " " for c in line) for line in text.splitlines())
