"""The finished rows of sweeps with one `Setting`, a file each, in a folder of their own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from specverify.errors import InputError
from specverify.report.record import write_atomically


class Store:
    """A folder of rows.

    Args:
        out: the folder of the sweep; made if it is not there.
        digest: of everything that rows must share.
        overwrite: forget what is there.

    Raises:
        InputError: the folder is a file, or holds something else.
    """

    def __init__(self, out: Path, digest: str, overwrite: bool = False) -> None:
        self._rows, mark = out / "rows", out / "setting.sha256"
        if out.exists() and not out.is_dir():
            raise InputError(f"{out} is a file; name a folder for the sweep with --out")
        there = out.is_dir() and any(out.iterdir())
        if there and not overwrite and (not mark.exists() or mark.read_text() != digest):
            what = (
                "a sweep with another model, size, window, seed, batch, device or version"
                if mark.exists()
                else "files that are not a sweep's"
            )
            raise InputError(f"{out} holds {what}; choose another folder with --out, or start anew with --overwrite")
        if overwrite:
            for stale in self._rows.glob("*.json"):
                stale.unlink()
        write_atomically(mark, digest.encode())

    def finished(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The rows that are there, by id."""
        found = {}
        for name in ids:
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                found[name] = json.loads(self._path(name).read_text())
        return found

    def keep(self, row: dict[str, Any]) -> None:
        """Write one row down, whole or not at all."""
        write_atomically(self._path(row["id"]), json.dumps(row, allow_nan=False).encode())

    def _path(self, name: str) -> Path:
        return self._rows / (name.replace("/", "~") + ".json")
