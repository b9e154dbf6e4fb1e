"""Which files of a repository an adapter reads, and which adapter that is.

A model in a class of transformers is a folder: its config.json says what it is, and of the rest its weights as
safetensors, all settings and the tokenizer are read. Where an `image-model.json` names its weights, these are read, and
nothing else is. Code, pickles and weights in other forms are never taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from realmodels import hub
from realmodels.models import ADAPTERS, FILE
from specverify import fetched
from specverify.errors import InputError

NAMED = {"llamagen": ("weights", "tokenizer")}
"""Adapters that read files that their settings name, and the settings that do; all others read a folder."""
TENSORS = (".safetensors", ".pt", ".pth")
"""Endings of files that such an adapter reads; of the latter two as tensors alone (`torch.load(weights_only=True)`)."""
BESIDE = "processor"
"""The folder beside a model's, where one of these has its tokenizer (see `realmodels.adapters.glm_image`)."""
_NAME = re.compile(r"([\w+-][\w.+-]*/)?[\w+-][\w.+-]*", re.ASCII)
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_LLAMAGEN = re.compile(r"(?P<kind>c2i|t2i)_\w+_(?P<side>256|384|512)\.pt")


@dataclass(frozen=True)
class Choice:
    """What is taken of a repository.

    Attributes:
        adapter: what reads it; see `realmodels.models.ADAPTERS`.
        inside: the folder of the repository that holds the model; empty for the repository itself.
        files: in the order of the repository.
        settings: the content of an `image-model.json` that the user gives, or None.
    """

    adapter: str
    inside: str
    files: tuple[hub.Remote, ...]
    settings: bytes | None = None

    @property
    def pickled(self) -> tuple[str, ...]:
        """Files in torch's own form, which are read as tensors alone."""
        return tuple(file.path for file in self.files if file.path.endswith(TENSORS[1:]))


def choose(repository: hub.Repository, settings: Path | None = None) -> Choice:
    """What an adapter reads of a repository. Settings of a few kilobytes are read for that, and not written.

    Args:
        repository: as `hub.look_up` finds it.
        settings: an `image-model.json` of the user's, which goes before one of the repository's.

    Raises:
        InputError: no adapter reads it, what one reads is not there, or as `hub.content`.
    """
    there = repository.file(FILE)
    if settings is not None:
        own, source = _read(settings), str(settings)
        told = _object(own, source)
    elif there is not None:
        own, source = None, f"{FILE} of {repository.id}"
        told = _object(hub.content(repository, there), source)
    else:
        return _by_config(repository)
    if "adapter" not in told and own is not None:  # options of the adapter that config.json asks for
        found = _by_config(repository)
        return replace(found, files=tuple(file for file in found.files if file != there), settings=own)
    adapter = str(told.get("adapter"))
    if adapter not in ADAPTERS:
        raise InputError(f"{source} is for the adapter {adapter!r}; those that fetch knows are {', '.join(ADAPTERS)}")
    files = _named(repository, adapter, told, source) if adapter in NAMED else _of_folder(repository, "")
    if adapter not in NAMED and repository.file("config.json") is None:
        raise InputError(f"{repository.id} holds no config.json, which the adapter {adapter!r} reads; take another")
    files = [file for file in files if file != there]
    return Choice(adapter, "", (*files, *([there] if own is None and there is not None else [])), own)


def _named(repository: hub.Repository, adapter: str, told: Any, source: str) -> list[hub.Remote]:
    """The files that settings name."""
    names = [str(told[key]) for key in NAMED[adapter] if told.get(key) is not None]
    found = [file for name in names if (file := repository.file(name)) is not None]
    usable = all(_safe(file) and file.path.endswith(TENSORS) for file in found)
    if "weights" not in told or len(found) < len(names) or not usable:
        known = _some(file.path for file in repository.files if file.path.endswith(TENSORS))
        raise InputError(
            f"{source} names {' and '.join(names) or 'no weights'} as {' and '.join(NAMED[adapter])}; name files of "
            f"{repository.id} there: {known}"
        )
    return found


def _by_config(repository: hub.Repository) -> Choice:
    """By the config.json of the repository, or of one of its folders."""
    configs = sorted(
        (file for file in repository.files if re.fullmatch(r"([^/]+/)?config\.json", file.path) and _safe(file)),
        key=lambda file: (file.path.count("/"), file.path),
    )
    types = []
    for file in configs:
        config = _object(hub.content(repository, file), f"{file.path} of {repository.id}")
        inside = file.path.rpartition("/")[0]
        adapter = str(config.get("model_type"))
        if adapter in ADAPTERS and adapter not in NAMED:
            files = _of_folder(repository, inside)
            beside = [one for one in repository.files if inside and one.path.startswith(f"{BESIDE}/") and _small(one)]
            return Choice(adapter, inside, (*files, *beside))
        if "model_type" in config:
            types.append(f"{adapter!r} ({file.path})")
    if models := [file.path for file in repository.files if _LLAMAGEN.fullmatch(file.path)]:
        raise InputError(
            f"{repository.id} holds models of LlamaGen, {_some(models)}: say which one in a file, as "
            f"{_example(repository, models[0])}, and give it with --settings FILE"
        )
    held = f"a model of type {_some(types)}" if types else "no config.json that names a model_type"
    raise InputError(
        f"no adapter reads {repository.id}: it holds {held}, and adapters know {', '.join(ADAPTERS)}. A causal "
        f"language model whose images are a range of ids needs an {FILE}: write it (see the docstring of "
        "realmodels.adapters.causal), and give it with --settings FILE"
    )


def _of_folder(repository: hub.Repository, inside: str) -> list[hub.Remote]:
    """The weights of a folder, its settings and its tokenizer."""
    here = [file for file in repository.files if file.path.rpartition("/")[0] == inside and _safe(file)]
    weights = [file for file in here if _WEIGHTS.fullmatch(file.path.rpartition("/")[2])]
    whole = [file for file in weights if file.path.rpartition("/")[2] == "model.safetensors"]
    if not weights:
        raise InputError(
            f"{repository.id} holds no model.safetensors; weights in other forms can run code when they are loaded, "
            "and are not fetched: take a repository that has them converted"
        )
    return [file for file in here if _small(file) or file in (whole or weights)]


def _small(file: hub.Remote) -> bool:
    """Whether it is of settings, or of a tokenizer."""
    name = file.path.rpartition("/")[2]
    listing = name.endswith(".index.json") and name != "model.safetensors.index.json"
    taken = name.endswith((".json", ".txt", ".model")) and name.lower() != fetched.MARKER
    return _safe(file) and taken and not listing


def _safe(file: hub.Remote) -> bool:
    """Whether it has a usual name, in the repository itself or in a folder of it, and so none that leads elsewhere."""
    return _NAME.fullmatch(file.path) is not None


def _example(repository: hub.Repository, weights: str) -> str:
    found = _LLAMAGEN.fullmatch(weights)
    assert found is not None, weights
    tokenizer = repository.file(f"vq_ds16_{found['kind']}.pt")
    side = int(found["side"]) // 16
    named = {} if tokenizer is None else {"tokenizer": tokenizer.path}
    return json.dumps({"adapter": "llamagen", "weights": weights, **named, "grid": [side, side]})


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); give --settings an {FILE}") from None


def _object(content: bytes, source: str) -> Any:
    try:
        found = json.loads(content)
    except (RecursionError, ValueError) as error:
        raise InputError(f"{source} is not JSON ({error}); give another {FILE} with --settings") from None
    if not isinstance(found, dict):
        raise InputError(f"{source} holds a {type(found).__name__} where an object is due; correct it")
    return found


def _some(names: Iterable[str]) -> str:
    """A few of them."""
    known = list(names)
    return ", ".join(known[:8]) + ("" if len(known) <= 8 else f" and {len(known) - 8} more") or "none"
