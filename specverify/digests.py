"""What a result depends on, as one digest: what was asked for, all the code, and the files of a checkpoint.

Results of other weights, of another plug-in or of another release of torch are so never taken for those of today's.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import realmodels
import specverify
import toymodels
from specverify import fetched

READ = (".json", ".txt", ".model", ".safetensors", ".pt", ".pth", ".ckpt")
"""Endings of files that adapters read."""
WRITTEN = (".py", ".safetensors", ".json")
"""Endings of files that make a package."""
BESIDE = ("image-model.json", "processor")
"""Settings, whose values may name files elsewhere; a folder beside a model's, where one of these has its tokenizer."""


def digest(*asked: Any) -> str:
    """Of all that must be equal for results to be taken over: what was asked for (plain JSON), and all the code."""
    return hashlib.sha256(json.dumps([code(), *asked], sort_keys=True).encode()).hexdigest()


def code() -> str:
    """Of specverify's own code, that of plug-ins, and the releases of torch and transformers."""
    releases = f"{metadata.version('specverify')} {torch.__version__} {_release('transformers')}"
    found = hashlib.sha256(f"{releases}\n".encode())
    tops = [Path(package.__path__[0]) for package in (specverify, toymodels, realmodels)]
    for top in (*tops, *_plugins()):
        files = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.suffix in WRITTEN)
        for path in files:
            found.update(f"{path.relative_to(top.parent)}\n".encode() + path.read_bytes())
    return found.hexdigest()


def checkpoint(model: str) -> str:
    """Of all that is read of a folder, or of a checkpoint that was fetched; empty for what is neither.

    Args:
        model: what `realmodels.models.open_model` opens.
    """
    known = None if not model or Path(model).is_dir() else fetched.find(model)
    if not model or (known is None and not Path(model).is_dir()):
        return ""
    folder, found = fetched.settled(Path(model) if known is None else known.folder), hashlib.sha256()
    for path in sorted(set(_files(folder))):
        with path.open("rb") as file:
            found.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """What is read of a folder, of the one beside it, and of others that its settings name."""
    own = {fetched.MARKER, fetched.BEGUN}
    for place in (folder, folder.parent / BESIDE[1]):
        yield from (path for path in place.glob("*") if path.is_file() and path.suffix in READ and path.name not in own)
    settings = folder / BESIDE[0]
    if settings.is_file():
        try:
            named = json.loads(settings.read_bytes())
        except ValueError:
            return  # which whoever opens it is told
        for value in named.values() if isinstance(named, dict) else ():
            if isinstance(value, str) and value.endswith(READ) and (path := folder / value).is_file():
                yield path


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
