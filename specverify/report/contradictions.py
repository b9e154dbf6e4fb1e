"""What a record must not say although it has its shape: figures that do not go together, and names used twice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from specverify.report.shape import Record
from specverify.report.shape_cells import Cell, Figures
from specverify.report.shape_testers import Judgement, Rates, Trial

TOLERANCE = 1e-12
"""Total variation that rounding may leave between two exact laws (`judge.EXACT_TOLERANCE`)."""
FLOAT32 = 2.0**-22
"""The same of each position, where laws or a decoder are in float32 (`evidence.rounding.floor`)."""
Found = Iterator[tuple[str, str]]
"""(JSON path, message)."""
_OUTCOMES = {
    True: ("caught", "missed", "not applicable", "out of time", "error"),
    False: ("flagged", "not flagged", "not applicable", "out of time", "error"),
}
_EXIT_CODES = {
    "PROVED-FOR-ALL": 0,
    "PROVED": 0,
    "CONSISTENT": 0,
    "REFUTED": 1,
    "INCONCLUSIVE": 2,
    "VACUOUS": 2,
    "ERROR": 3,
}
_FOR_ALL, _BITS = "PROVED-FOR-ALL", 40
"""The verdict on every law at once, and the bits of its error (`evidence.exact.proof.BITS`)."""
_SPEAKS_AGAINST = {True: ("REFUTED",), False: ("REFUTED", "ERROR")}
"""Verdicts that catch a defect, and that flag a control."""
_SAYS = {"caught": True, "missed": False, "flagged": True, "not flagged": False}


def contradictions(record: Record) -> Found:
    """Everything in a record that its shape cannot forbid."""
    for place in _not_finite(record, "$"):
        yield place, "the number is not finite; an unknown one is null"
    ids: set[str] = set()
    for number, cell in enumerate(record["cells"]):
        place = f"$.cells[{number}]"
        if cell["id"] in ids:
            yield f"{place}.id", f"the cell {cell['id']!r} is there twice"
        ids.add(cell["id"])
        if cell["kind"] == "defect" and cell["expected"] is None:
            yield f"{place}.expected", "a defect must say which verdict it expects"
        yield from _proof(cell, place)
        yield from _figures(cell["figures"], f"{place}.figures")
    proved = {cell["id"] for cell in record["cells"] if cell["verdict"]["kind"] == _FOR_ALL}
    for number, verdict in enumerate(record["verdicts"]):
        if verdict["kind"] == _FOR_ALL and not proved.intersection(verdict["cells"]):
            yield f"$.verdicts[{number}].kind", f"{_FOR_ALL}, of no cell that is"
        for unknown in (name for name in verdict["cells"] if name not in ids):
            yield f"$.verdicts[{number}].cells", f"there is no cell {unknown!r}"
    kind, code = record["verdict"]["kind"], record["verdict"]["exit_code"]
    if code != _EXIT_CODES[kind]:
        yield "$.verdict.exit_code", f"{kind} has {_EXIT_CODES[kind]}, not {code}"
    alpha = record["errors"]["alpha"]
    spent = math.fsum(part["alpha"] for part in alpha["parts"])
    if spent > alpha["total"] * (1 + 1e-9):
        yield "$.errors.alpha.parts", f"they add up to {spent:.6g}, more than the total of {alpha['total']:.6g}"
    yield from _kill_matrix(record["kill_matrix"]["rows"] if "kill_matrix" in record else ())
    yield from _calibration(record["calibration"]["rows"] if "calibration" in record else ())
    yield from _judgements(record.get("judgements", []))


def _proof(cell: Cell, place: str) -> Found:
    if (cell["kind"] == "proof") != ("proof" in cell) and cell["verdict"]["kind"] != "ERROR":
        yield f"{place}.proof", f"a cell of the kind {cell['kind']} {'has' if 'proof' in cell else 'lacks'} one"
    proved = "proof" in cell and cell["proof"]["outcome"] == "proved"
    if proved != (cell["verdict"]["kind"] == _FOR_ALL):
        yield f"{place}.verdict.kind", f"{cell['verdict']['kind']}, where it is {'' if proved else 'not '}proved"
    if proved and cell["proof"]["error_bits"] < _BITS:
        yield f"{place}.proof.error_bits", f"an error of 2^-{cell['proof']['error_bits']:.3g} is more than 2^-{_BITS}"


def _kill_matrix(rows: Sequence[Trial]) -> Found:
    where = "$.kill_matrix.rows"
    yield from _twice(rows, where, ("level", "defect", "checker"))
    lossy: dict[tuple[str, str], bool] = {}
    for number, row in enumerate(rows):
        place, outcome, name = f"{where}[{number}]", row["outcome"], row["defect"]
        what = "defect" if row["lossy"] else "control"
        if lossy.setdefault((row["level"], name), row["lossy"]) != row["lossy"]:
            yield f"{place}.lossy", f"{name!r} is a defect in one row and a control in another"
        if outcome not in _OUTCOMES[row["lossy"]]:
            yield f"{place}.outcome", f"a {what} cannot be {outcome!r}"
        elif outcome in _SAYS and (row["verdict"] in _SPEAKS_AGAINST[row["lossy"]]) != _SAYS[outcome]:
            yield f"{place}.verdict", f"{name!r} cannot be {outcome} with the verdict {row['verdict']}"
        if row["named"] and not row["lossy"]:
            yield f"{place}.named", "no checker has to catch a control"


def _calibration(rows: Sequence[Rates]) -> Found:
    where = "$.calibration.rows"
    yield from _twice(rows, where, ("check", "what", "on", "stated", "delta", "tv", "n"))
    for number, row in enumerate(rows):
        place, (low, high) = f"{where}[{number}]", row["interval"]
        if row["events"] > row["trials"]:
            yield f"{place}.events", f"{row['events']} events in {row['trials']} trials"
            continue
        rate = row["events"] / row["trials"]
        if not low - 1e-9 <= rate <= high + 1e-9:
            yield f"{place}.interval", f"the rate of {rate:.6g} is not between {low:.6g} and {high:.6g}"
        # A p-value says how well the uniform law fits; the others state a rate that is not to be exceeded.
        if row["what"] != "uniform p-values" and not row["holds"] and rate <= row["stated"]:
            yield f"{place}.holds", f"the rate of {rate:.6g} does not exceed the stated {row['stated']:.6g}"


def _judgements(judgements: Sequence[Judgement]) -> Found:
    where = "$.judgements"
    yield from _twice([{"seed": None} | one for one in judgements], where, ("subject", "claim", "seed"))
    for number, one in enumerate(judgements):
        kind = one["verdict"]["kind"]
        if one["claim"] != "lossless" or _EXIT_CODES[kind] != 0:
            continue
        if one["level"] == "decoder":  # other levels forgive the rounding of float32
            far = [row["tv"] for row in one["exact"] if (row.get("tv") or 0) > _rounding(kind, row)]
            if far:
                yield f"{where}[{number}].verdict", f"{kind}, with an exact total variation of {max(far):.6g}"
        if any(item["rejected"] for item in one["evidence"]):
            yield f"{where}[{number}].verdict", f"{kind}, though a check rejected"


def _rounding(kind: str, row: Mapping[str, Any]) -> float:
    """Total variation that an enumeration may leave by rounding; a sequence is no longer than there are sequences."""
    exact = kind != "CONSISTENT" and row.get("precision", "float64") == "float64"
    return TOLERANCE if exact else FLOAT32 * int(row.get("sequences") or 1)


def _twice(rows: Iterable[Mapping[str, Any]], place: str, keys: tuple[str, ...]) -> Found:
    seen = set()
    for number, row in enumerate(rows):
        name = tuple(row[key] for key in keys)
        if name in seen:
            words = ", ".join(f"{key} {value}" for key, value in zip(keys, name, strict=True) if value is not None)
            yield f"{place}[{number}]", f"it is there twice: {words}"
        seen.add(name)


def _figures(figures: Figures, place: str) -> Found:
    drawn: Mapping[str, Any] = figures
    for name, one, other in (
        ("e_process", "n", "log10_e"),
        ("passes", "values", "counts"),
        ("images", "labels", "tokens"),
        *(("density", "x", curve) for curve in ("p", "q", "out")),
    ):
        if name in drawn and len(drawn[name][one]) != len(drawn[name][other]):
            yield f"{place}.{name}", f"{len(drawn[name][one])} {one} for {len(drawn[name][other])} {other}"
    if "images" in figures:
        images = figures["images"]
        size = images["height"] * images["width"]
        for number, tokens in enumerate(images["tokens"]):
            if len(tokens) not in (size, 3 * size) or max(tokens) >= images["levels"]:
                yield (
                    f"{place}.images.tokens[{number}]",
                    f"an image takes {size} levels from 0 to {images['levels'] - 1}, or thrice as many for colours",
                )
    if "accepted" in figures:
        plane = figures["accepted"]
        size, found = plane["height"] * plane["width"], len(plane["share"])
        if found != size:
            yield f"{place}.accepted", f"{found} shares for a plane of {size}"


def _not_finite(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, float):
        if not math.isfinite(value):
            yield place
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _not_finite(item, f"{place}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _not_finite(item, f"{place}[{number}]")
