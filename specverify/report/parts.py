"""Parts that a record may have beside its cells, added by other commands than the one that made it.

kill_matrix   `specverify defects --run --report FOLDER`: do the checkers see what is known to be wrong?
calibration   `specverify calibrate --report FOLDER`: are their error rates those that they state?
judgements    `specverify validate REF --report FOLDER`: what is said of somebody's subject
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from specverify import files
from specverify.errors import InputError
from specverify.report import record as records
from specverify.report import render
from specverify.report.page import Written
from specverify.report.shape import Record
from specverify.report.shape_testers import Judgement

NAMES = ("kill_matrix", "calibration", "judgements")


def add(folder: Path, name: str, value: Mapping[str, Any]) -> Written:
    """Add a part to the record in a folder, and write its report anew.

    A part that is there already is replaced; of the judgements, that of the same subject, claim and seed.

    Args:
        folder: holds `record.json`.
        name: of `NAMES`.
        value: plain JSON: {"seed", "delta", "rows"} for the kill matrix (where only some were tried, also "level" and
            "only"), {"seed", "rows"} for the calibration, one `Judgement.to_json()` with its "seed" for the judgements;
            the rows as `reports/schema/record-1.json` has them.

    Returns:
        where the report lies.

    Raises:
        InputError: an unknown part, no record in the folder, a value that does not fit the schema or contradicts
            itself (the record is then as it was), or a folder that cannot be written.
    """
    if name not in NAMES:
        raise InputError(f"a record has no part {name!r}; use {', '.join(NAMES)}")
    try:
        plain = json.loads(json.dumps(value, allow_nan=False))  # tuples become lists
    except (TypeError, ValueError) as error:
        raise InputError(f"this {name} is not plain JSON: {error}") from None
    folder = Path(folder)
    with files.locked(folder):  # two commands that add to one record wait for each other
        record = records.load(folder / records.NAME)
        part = [*_others(record, plain), plain] if name == "judgements" else plain
        record = cast("Record", {**record, name: part})
        records.validate(record, f"the record in {folder} with this {name}", "it was left as it was")
        records.save(record, folder / records.NAME)
        return render.write(record, folder)


def carried(folder: Path) -> Mapping[str, Any]:
    """The parts of the record in a folder; none where there is no record. For whoever writes the record anew."""
    path = Path(folder) / records.NAME
    return {name: value for name, value in records.load(path).items() if name in NAMES} if path.is_file() else {}


def _others(record: Record, value: Mapping[str, Any]) -> list[Judgement]:
    def key(one: Mapping[str, Any]) -> tuple[Any, ...]:
        return one.get("subject"), one.get("claim"), one.get("seed")

    return [one for one in record.get("judgements", []) if key(one) != key(value)]
