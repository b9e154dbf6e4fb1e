"""The record of a sweep, `tradeoff.json`: plain data, checked against a schema whenever it is read or written."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from specverify.errors import InputError
from specverify.report.record import write_atomically

VERSION = 1
NAME = "tradeoff.json"
Record = dict[str, Any]
_REMEDY = "make it anew with `specverify tradeoff`"


def load(path: Path) -> Record:
    """Read and check a record.

    Args:
        path: the file, or the folder that holds it as `tradeoff.json`.

    Raises:
        InputError: naming the file, the place in it, and what to do.
    """
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise InputError(f"there is no sweep at {path}; `specverify tradeoff --out {path.parent}` makes one") from None
    except OSError as error:
        raise InputError(f"the sweep {path} cannot be read ({error}); {_REMEDY}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON ({error}); {_REMEDY}") from None
    validate(found, str(path))
    return found  # type: ignore[no-any-return]


def save(record: Record, path: Path) -> None:
    """Check a record and write it whole, a line for each setting.

    Raises:
        InputError: if the record is not valid, or the file cannot be written.
    """
    validate(record, f"the record for {path}")
    rows = ",\n".join(json.dumps(row, allow_nan=False) for row in record["rows"])
    head = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in record.items() if name != "rows"]
    write_atomically(path, ("{\n" + ",\n".join([*head, f'"rows": [\n{rows}\n]']) + "\n}\n").encode())


def validate(record: Any, source: str = "the record") -> None:
    """Raise InputError unless `record` fits the schema, every id is there once, and replicates are of one number."""
    import jsonschema  # slow to import

    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema()).iter_errors(record))
    if error is not None:
        message = error.message if len(error.message) <= 160 else f"{error.message[:60]} ... {error.message[-90:]}"
        raise InputError(f"{source} is invalid at {error.json_path}: {message}; {_REMEDY}")
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


@functools.cache
def schema() -> dict[str, Any]:
    """The JSON schema of a record."""
    here = Path(__file__).resolve()
    # Installed, the schema lies with the report's; in a checkout, where people look for it.
    for folder in (here.parents[1] / "report" / "schema", here.parents[2] / "reports" / "schema"):
        path = folder / f"tradeoff-{VERSION}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    raise InputError(f"the schema tradeoff-{VERSION}.json is missing beside {here}; install specverify again")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
