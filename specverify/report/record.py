"""The record: what a campaign found, as one JSON file that `reports/schema/record-1.json` describes.

A record that does not fit its schema, or contradicts itself, is not read and not written.
"""

from __future__ import annotations

import functools
import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from specverify.errors import InputError

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
    validate(record, str(path))
    return record  # type: ignore[no-any-return]


def save(record: Record, path: Path) -> None:
    """Check a record and write it, so that whoever reads the file sees the old one or the new one.

    Raises:
        InputError: if the record is not valid, or the file cannot be written.
    """
    path = Path(path)
    validate(record, f"the record for {path}")
    # One line per field and per cell: small, and two records can be compared line by line.
    lines = []
    for name, value in record.items():
        if name == "cells" and value:
            text = "[\n" + ",\n".join(json.dumps(cell, allow_nan=False) for cell in value) + "\n]"
        else:
            text = json.dumps(value, allow_nan=False)
        lines.append(f"{json.dumps(name)}: {text}")
    write_atomically(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


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
        raise InputError(f"cannot write {path} ({error}); choose another --out") from None


def validate(record: Any, source: str = "the record") -> None:
    """Raise InputError unless `record` fits the schema and agrees with itself.

    Args:
        record: what was read, or is about to be written.
        source: how the message names it.
    """
    import jsonschema  # slow to import, and needed here only

    if not isinstance(record, dict) or record.get("schema") != "specverify-record":
        raise InputError(f"{source} is not a specverify record: it lacks schema = 'specverify-record'; {_REMEDY}")
    if record.get("version") != VERSION:
        raise InputError(
            f"{source} has version {record.get('version')!r}, but this specverify reads version {VERSION}; "
            f"read it with the specverify that wrote it, or {_REMEDY}"
        )
    error = jsonschema.exceptions.best_match(_validator().iter_errors(record))
    if error is not None:
        message = error.message if len(error.message) <= 160 else f"{error.message[:60]} ... {error.message[-90:]}"
        raise InputError(f"{source} is invalid at {error.json_path}: {message}; {_REMEDY}")
    for place, message in _contradictions(record):
        raise InputError(f"{source} contradicts itself at {place}: {message}; {_REMEDY}")


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


def _contradictions(record: Record) -> Iterator[tuple[str, str]]:
    """What a schema cannot say: (JSON path, message)."""
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
        yield from _figure_contradictions(cell["figures"], f"{place}.figures")
    for number, verdict in enumerate(record["verdicts"]):
        for unknown in (name for name in verdict["cells"] if name not in ids):
            yield f"$.verdicts[{number}].cells", f"there is no cell {unknown!r}"
    alpha = record["errors"]["alpha"]
    spent = math.fsum(part["alpha"] for part in alpha["parts"])
    if spent > alpha["total"] * (1 + 1e-9):
        yield "$.errors.alpha.parts", f"they add up to {spent:.6g}, more than the total of {alpha['total']:.6g}"


def _figure_contradictions(figures: dict[str, Any], place: str) -> Iterator[tuple[str, str]]:
    for name, one, other in (
        ("e_process", "n", "log10_e"),
        ("passes", "values", "counts"),
        ("images", "labels", "tokens"),
    ):
        if name in figures and len(figures[name][one]) != len(figures[name][other]):
            yield f"{place}.{name}", f"{len(figures[name][one])} {one} for {len(figures[name][other])} {other}"
    if "images" in figures:
        images = figures["images"]
        size = images["height"] * images["width"]
        for number, tokens in enumerate(images["tokens"]):
            if len(tokens) != size or max(tokens) >= images["levels"]:
                yield (
                    f"{place}.images.tokens[{number}]",
                    f"an image takes {size} grey levels from 0 to {images['levels'] - 1}",
                )


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
