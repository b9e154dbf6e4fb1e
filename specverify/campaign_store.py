"""The folder of a campaign: its finished cells, and whether they are those of the plan that is asked for."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import realmodels
import specverify
import toymodels
from specverify import checksum
from specverify.cells import Result, Setting
from specverify.errors import InputError
from specverify.plan import Cell
from specverify.report import record as records


class Store:
    """The finished cells of a campaign, one file each, in a folder that belongs to one plan.

    Attributes:
        complete: the record, if the campaign is finished.
    """

    def __init__(self, out: Path, digest: str, overwrite: bool) -> None:
        self.out, self.cells = out, out / "cells"
        self.complete: dict[str, Any] | None = None
        mark = out / "plan.sha256"
        if out.exists() and not out.is_dir():
            raise InputError(f"{out} is a file; name a folder for the record with --out")
        if out.is_dir() and any(out.iterdir()) and not overwrite:
            held = records.load(out / "record.json") if (out / "record.json").exists() else None
            finished = held is not None and held["status"] == "complete"
            if not mark.exists():
                what = "the record of a campaign, without its cells" if finished else "files that are not a campaign's"
                raise InputError(
                    f"{out} holds {what}; choose another folder with --out, or start anew with --overwrite"
                )
            if mark.read_text() != digest:
                what = f"{'a finished' if finished else 'an unfinished'} campaign of other settings or by other code"
                of = f" ({held['command']})" if held is not None else ""
                raise InputError(
                    f"{out} holds {what}{of}; choose another folder with --out, or begin again with --overwrite, which "
                    "deletes it"
                )
            if finished:
                self.complete = held
                return
        try:
            self.cells.mkdir(parents=True, exist_ok=True)
            if not mark.exists() or mark.read_text() != digest or overwrite:
                for stale in (*self.cells.glob("*.json"), out / "record.json"):
                    stale.unlink(missing_ok=True)
            mark.write_text(digest)
        except OSError as error:
            raise InputError(f"cannot write to {out} ({error.strerror}); choose another folder with --out") from None

    def finished(self, cells: Sequence[Cell]) -> dict[str, Result]:
        """What is already there, by cell id; a file that was cut short or damaged is carried out again."""
        results = {}
        for cell in cells:
            path = self._path(cell.id)
            with contextlib.suppress(FileNotFoundError, ValueError, InputError):
                found = json.loads(path.read_text())
                if checksum.KEY in found:
                    results[cell.id] = checksum.opened(found, str(path), "")
        return results

    def keep(self, result: Result) -> None:
        """Write one result down, whole or not at all."""
        path = self._path(result["id"])
        part = path.with_suffix(".part")
        try:
            part.write_text(json.dumps(checksum.sealed(result), allow_nan=False))
            part.replace(path)
        except OSError as error:
            raise InputError(f"cannot write {path} ({error.strerror}); make room: the same command continues") from None

    def _path(self, cell: str) -> Path:
        return self.cells / (cell.replace("/", "~") + ".json")


def digest(cells: Sequence[Cell], setting: Setting) -> str:
    """What must be equal for finished cells to be taken over: what is asked for, and all that it is worked out with."""
    content = json.dumps(
        [version("specverify"), torch.__version__, asdict(setting), [asdict(cell) for cell in cells]], sort_keys=True
    )
    found = hashlib.sha256(content.encode())
    for package in (specverify, toymodels, realmodels):
        top = Path(package.__path__[0])
        for path in sorted(path for path in top.rglob("*") if path.suffix in (".py", ".safetensors", ".json")):
            found.update(f"{path.relative_to(top)}\n".encode() + path.read_bytes())
    return found.hexdigest()
