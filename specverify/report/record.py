"""The record: what a campaign found, as one JSON file; `shape.Record` is what it holds.

A record that is of another shape, or contradicts itself, is not read and not written.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

from specverify import checksum
from specverify.errors import InputError
from specverify.files import write_atomically
from specverify.report.contradictions import contradictions
from specverify.report.shape import Record, fit

VERSION = 1
NAME = "record.json"
"""What the record is called in a report's folder."""

_GZIP = b"\x1f\x8b"
_REMEDY = "make the record anew with `specverify verify`"


def load(path: Path) -> Record:
    """Read and check a record.

    Args:
        path: the file, or the folder that holds it as `record.json` or packed by gzip, as `record.json.gz`.

    Raises:
        InputError: naming the file, the place in it, and what to do.
    """
    path = lying(Path(path), NAME)
    record = read(path, "record", "verify", _REMEDY)
    record = checksum.opened(
        record, f"the record {path}", "put a copy of it back, or make it anew with `specverify verify --overwrite`"
    )
    validate(record, str(path))
    return record  # type: ignore[no-any-return]


def lying(path: Path, name: str) -> Path:
    """The file of a record, that was named itself or by its folder, in which it may be packed."""
    if not path.is_dir():
        return path
    whole, packed = path / name, path / f"{name}.gz"
    return packed if packed.exists() and not whole.exists() else whole


def read(path: Path, what: str, command: str, remedy: str) -> Any:
    """What a JSON file holds, or InputError with what to do; `command` makes such a file."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if content.startswith(_GZIP) else content).decode("utf-8")
        return json.loads(text, parse_constant=_refuse_constant)
    except FileNotFoundError:
        made = f"specverify {command} --out {path.parent}"
        raise InputError(f"there is no {what} at {path}; `{made}` makes one") from None
    except NotADirectoryError:
        raise InputError(f"{path.parent} is a file, and no folder of a {what}; name the folder") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"the {what} {path} cannot be read ({error}); {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON ({error}); {remedy}") from None


def save(record: Record, path: Path) -> None:
    """Check a record and write it, so that whoever reads the file sees the old one or the new one.

    Raises:
        InputError: if the record is not valid, or the file cannot be written.
    """
    path = Path(path)
    validate(record, f"the record for {path}")
    write_atomically(path, (by_line(checksum.sealed(record), ("cells", "judgements")) + "\n").encode())


def by_line(value: Any, rows: Collection[str] = ("rows",)) -> str:
    """JSON with one line per field and per row: small, and two records can be compared line by line."""
    lines = []
    for name, item in value.items():
        if name in rows and item:
            part = "[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in item) + "\n]"
        elif isinstance(item, dict) and "rows" in item:
            part = by_line(item)
        else:
            part = json.dumps(item, allow_nan=False)
        lines.append(f"{json.dumps(name)}: {part}")
    return "{\n" + ",\n".join(lines) + "\n}"


def validate(record: Any, source: str = "the record", remedy: str = _REMEDY) -> None:
    """Raise InputError unless `record` has the shape of one and agrees with itself.

    Args:
        record: what was read, or is about to be written.
        source: how the message names it.
        remedy: what to do about it.
    """
    if isinstance(record, dict) and {"subject", "verdict"} <= set(record):
        raise InputError(f"{source} is a judgement; `specverify validate REF --report FOLDER` puts one into a report")
    if not isinstance(record, dict) or record.get("schema") != "specverify-record":
        raise InputError(f"{source} is not a specverify record: it lacks schema = 'specverify-record'; {remedy}")
    if record.get("version") != VERSION:
        raise InputError(
            f"{source} has version {record.get('version')!r}, but this specverify reads version {VERSION}; "
            f"read it with the specverify that wrote it, or {remedy}"
        )
    fit(record, Record, source, remedy)
    for place, message in contradictions(cast("Record", record)):
        raise InputError(f"{source} contradicts itself at {place}: {message}; {remedy}")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
