"""What a result depends on, as one digest: what was asked for, and all the code.

Results of another plug-in or another release of torch are so never taken for those of today's. Of the files of a
checkpoint there is `fetched.digest`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import realmodels
import specverify
import toymodels

WRITTEN = (".py", ".safetensors", ".json")
"""Endings of files that make specverify's own packages."""
MADE = ("__pycache__", ".pyc")
"""What Python leaves in those of others, whose weights may have any ending."""


def digest(*asked: Any) -> str:
    """Of all that must be equal for results to be taken over: what was asked for (plain JSON), and all the code."""
    return hashlib.sha256(json.dumps([code(), *asked], sort_keys=True).encode()).hexdigest()


def code() -> str:
    """Of specverify's own code, that of plug-ins, and the releases of torch and transformers."""
    releases = f"{metadata.version('specverify')} {torch.__version__} {_release('transformers')}"
    found = hashlib.sha256(f"{releases}\n".encode())
    for package in (specverify, toymodels, realmodels):
        top = Path(package.__path__[0])
        _read(found, top, (path for path in top.rglob("*") if path.suffix in WRITTEN))
    for top in _plugins():
        every = [top] if top.is_file() else top.rglob("*")
        _read(found, top, (path for path in every if path.is_file() and not {path.suffix, path.parent.name} & {*MADE}))
    return found.hexdigest()


def _read(found: Any, top: Path, files: Iterable[Path]) -> None:
    """Put files into a digest, by their names below a folder."""
    for path in sorted(files):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        found.update(f"{path.relative_to(top.parent)} {content}\n".encode())


def _plugins() -> Iterator[Path]:
    """The packages, or modules, of all that is plugged in. Nothing of it is run."""
    every = metadata.entry_points()
    groups = sorted(group for group in every.groups if group.startswith("specverify."))
    for top in sorted({entry.module.split(".")[0] for group in groups for entry in every.select(group=group)}):
        spec = importlib.util.find_spec(top)
        if spec is not None and spec.submodule_search_locations:
            yield from map(Path, spec.submodule_search_locations)
        elif spec is not None and spec.origin is not None and Path(spec.origin).is_file():
            yield Path(spec.origin)


def _release(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
