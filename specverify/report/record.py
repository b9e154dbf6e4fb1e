"""The record: what a campaign found, as one JSON file that `reports/schema/record-1.json` describes.

A record that does not fit its schema, or contradicts itself, is not read and not written.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from specverify import checksum
from specverify.errors import InputError
from specverify.report.contradictions import contradictions

VERSION = 1
NAME = "record.json"
"""What the record is called in a report's folder."""

Record = dict[str, Any]

_REMEDY = "make the record anew with `specverify verify`"


def load(path: Path) -> Record:
    """Read and check a record.

    Args:
        path: the file, or the folder that holds it as `record.json`.

    Raises:
        InputError: naming the file, the place in it, and what to do.
    """
    path = Path(path)
    if path.is_dir():
        path = path / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no record at {path}; `specverify verify --out {path.parent}` makes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the record {path} cannot be read ({error}); {_REMEDY}") from None
    try:
        record = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON ({error}); {_REMEDY}") from None
    record = checksum.opened(
        record, f"the record {path}", "take a copy of it, or make it anew with `specverify verify --overwrite`"
    )
    validate(record, str(path))
    return record  # type: ignore[no-any-return]


def save(record: Record, path: Path) -> None:
    """Check a record and write it, so that whoever reads the file sees the old one or the new one.

    Raises:
        InputError: if the record is not valid, or the file cannot be written.
    """
    path = Path(path)
    validate(record, f"the record for {path}")
    write_atomically(path, (_by_line(checksum.sealed(record), ("cells", "judgements")) + "\n").encode())


def _by_line(value: Any, rows: Collection[str]) -> str:
    """JSON with one line per field and per row: small, and two records can be compared line by line."""
    lines = []
    for name, item in value.items():
        if name in rows and item:
            part = "[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in item) + "\n]"
        elif isinstance(item, dict) and "rows" in item:
            part = _by_line(item, ("rows",))
        else:
            part = json.dumps(item, allow_nan=False)
        lines.append(f"{json.dumps(name)}: {part}")
    return "{\n" + ",\n".join(lines) + "\n}"


def check_writable(folder: Path) -> None:
    """Raise InputError unless files can be written into a folder; afterwards all is as it was.

    To be called before work whose outcome goes there.
    """
    folder = Path(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    blocked = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    if blocked is not None:
        raise InputError(f"cannot write to {folder}: {blocked} is a file; choose another folder with --out")
    made: list[Path] = []
    try:
        for path in reversed(missing):
            path.mkdir()
            made.append(path)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".specverify-"):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; choose another folder with --out") from None
    finally:
        for path in reversed(made):
            path.rmdir()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file by way of a temporary one beside it.

    Raises:
        InputError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(content)
                file.flush()
                temporary.chmod(0o644)
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise InputError(
            f"cannot write {path} ({error.strerror or error}); make room, or choose another --out"
        ) from None


def validate(record: Any, source: str = "the record", remedy: str = _REMEDY) -> None:
    """Raise InputError unless `record` fits the schema and agrees with itself.

    Args:
        record: what was read, or is about to be written.
        source: how the message names it.
        remedy: what to do about it.
    """
    import jsonschema  # slow to import, and needed here only

    if not isinstance(record, dict) or record.get("schema") != "specverify-record":
        raise InputError(f"{source} is not a specverify record: it lacks schema = 'specverify-record'; {remedy}")
    if record.get("version") != VERSION:
        raise InputError(
            f"{source} has version {record.get('version')!r}, but this specverify reads version {VERSION}; "
            f"read it with the specverify that wrote it, or {remedy}"
        )
    error = jsonschema.exceptions.best_match(_validator().iter_errors(record))
    if error is not None:
        message = error.message if len(error.message) <= 160 else f"{error.message[:60]} ... {error.message[-90:]}"
        raise InputError(f"{source} is invalid at {error.json_path}: {message}; {remedy}")
    for place, message in contradictions(record):
        raise InputError(f"{source} contradicts itself at {place}: {message}; {remedy}")


@functools.cache
def schema() -> dict[str, Any]:
    """The JSON schema of a record."""
    here = Path(__file__).resolve()
    # Installed, the schema lies beside this file; in a checkout, where people look for it.
    for folder in (here.parent / "schema", here.parents[2] / "reports" / "schema"):
        path = folder / f"record-{VERSION}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    raise InputError(f"the record's schema record-{VERSION}.json is missing beside {here}; install specverify again")


@functools.cache
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(schema())


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
