"""Which settings of a sweep stand together in a picture, and whose images are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from specverify.tradeoff.plan import AR, REAL
from specverify.tradeoff.shape import Row, Sweep, scale_of


def groups_of(record: Sweep) -> dict[tuple[float, str | None], list[Row]]:
    """The measured settings by guidance and drafting, which is None for models of patches."""
    found: dict[tuple[float, str | None], list[Row]] = {}
    for row in record["rows"]:
        if row["rule"] not in (AR, REAL) and row["error"] is None:
            found.setdefault((scale_of(row), row["drafting"]), []).append(row)
    return found


def series_of(row: Row) -> str:
    """What a line of a figure is called: a rule, or a decoder and what else than its window is set."""
    more = row["drafting"] is None and row["window"] is not None and row["parameter"] is not None
    return f"{row['rule']}, {row['parameter']}" if more else str(row["rule"])


def swept(rows: list[Row]) -> list[Row]:
    """The settings of the window at which parameters were turned: the one that most settings have."""
    window, _ = Counter(row["window"] for row in rows).most_common(1)[0]
    return [row for row in rows if row["window"] == window]


def boldest(rows: Sequence[Row]) -> list[Row]:
    """Of every line of a figure the boldest end."""
    found = {series_of(row): row for row in sorted(rows, key=_boldness)}
    return [found[series] for series in dict.fromkeys(series_of(row) for row in rows)]


def without_others(record: Sweep) -> Sweep:
    """The record with those images alone that its pictures show."""
    kept = {row["id"] for row in record["rows"] if row["rule"] in (AR, REAL)}
    for (_, kind), rows in groups_of(record).items():
        kept |= {row["id"] for row in boldest(rows if kind is None else swept(rows))}
    shown: list[Row] = [row if row["id"] in kept else {**row, "images": None} for row in record["rows"]]
    return {**record, "rows": shown}


def _boldness(row: Row) -> float:
    """Speed; where something else than the window is set, which may change no speed, the bias if it is known."""
    patches = row["drafting"] is None
    by = "bias" if patches and row["parameter"] and "bias" in row["metrics"] else "speedup"
    return float(row["metrics"][by]["value"])
