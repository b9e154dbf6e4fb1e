"""The record of a sweep, `tradeoff.json`: plain data, of `shape.Sweep`, checked whenever it is read or written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from specverify.errors import InputError
from specverify.files import write_atomically
from specverify.report import record as records
from specverify.report.shape import fit
from specverify.tradeoff.shape import Sweep

VERSION = 1
NAME = "tradeoff.json"
_REMEDY = "make it anew with `specverify tradeoff`"


def load(path: Path) -> Sweep:
    """Read and check a record.

    Args:
        path: the file, or the folder that holds it as `tradeoff.json` or packed by gzip, as `tradeoff.json.gz`.

    Raises:
        InputError: naming the file, the place in it, and what to do.
    """
    path = records.lying(Path(path), NAME)
    found = records.read(path, "sweep", "tradeoff", _REMEDY)
    validate(found, str(path))
    return found  # type: ignore[no-any-return]


def save(record: Sweep, path: Path) -> None:
    """Check a record and write it whole, a line for each setting.

    Raises:
        InputError: if the record is not valid, or the file cannot be written.
    """
    validate(record, f"the record for {path}")
    write_atomically(path, (records.by_line(record) + "\n").encode())


def validate(record: Any, source: str = "the record") -> None:
    """Raise InputError unless `record` has its shape, every id is there once, and replicates are of one number."""
    fit(record, Sweep, source, _REMEDY)
    ids = [row["id"] for row in record["rows"]]
    if twice := {name for name in ids if ids.count(name) > 1}:
        raise InputError(f"{source} contradicts itself: {min(twice)!r} is there twice; {_REMEDY}")
    for row in record["rows"]:
        for name, metric in row["metrics"].items():
            found = len(metric.get("replicates", range(record["setting"]["resamples"])))
            if found != record["setting"]["resamples"]:
                raise InputError(
                    f"{source} contradicts itself: {name} of {row['id']!r} has {found} replicates, not "
                    f"{record['setting']['resamples']}; {_REMEDY}"
                )
