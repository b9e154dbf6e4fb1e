"""What can be named, and a line on each, as the source has it: importing what they stand for takes seconds.

A test holds each list against the catalogue that it is read from.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

Lines = list[tuple[str, str]]
"""Names, and what each is."""
_TRAINED = {
    "transformer": "handwritten digits, 8 by 8 pixels, by class; a trained transformer",
    "codes": "handwritten digits, 28 by 28 pixels as 7 by 7 codes of 256, by class; a trained transformer",
    "mixture": "handwritten digits in patches, by class; a trained transformer",
    "diffusion": "handwritten digits in patches, by class; a trained transformer",
}
"""By the kind that a checkpoint's card says; what is of no such kind cannot be named."""
_OF_A_CHECK = {"check", "smallest_detectable", "sample_size"}


class _Entry(NamedTuple):
    """A call as it is written: the key it stands under in a dict, and its arguments, None where one is no literal."""

    key: str
    arguments: tuple[object, ...]
    keywords: dict[str, object]


def decoders() -> Lines:
    """Decoders of ids."""
    return [(each.key, str(each.arguments[0])) for each in _decoders() if each.keywords.get("ids", True)]


def continuous_decoders() -> Lines:
    """Decoders of vectors."""
    return [(each.key, str(each.arguments[0])) for each in _decoders() if "vectors" in each.keywords]


def models() -> Lines:
    """Toys and trained models over ids."""
    return [*_toys("toymodels.catalogue", "token"), *_trained("transformer", "codes")]


def continuous_models() -> Lines:
    """Toys and trained models over vectors."""
    return [*_toys("toymodels.continuous", "dimension"), *_trained("mixture", "diffusion")]


def drafts() -> Lines:
    """Kinds of draft model for targets over ids."""
    return _indented("toymodels.drafts")


def continuous_drafts() -> Lines:
    """Kinds of draft model for targets over vectors."""
    return _indented("toymodels.continuous_drafts")


def defects() -> Lines:
    """Known-wrong decoders of ids, then what only looks wrong."""
    modules = [module for module in _modules("specverify.defects") if module.count(".") == 2]
    return _defects(each for module in modules for each in _entries(module, "Defect"))


def continuous_defects() -> Lines:
    """Known-wrong decoders of vectors, then what only looks wrong."""
    return _defects(_entries("specverify.defects.continuous", "ContinuousDefect"))


def checks() -> Lines:
    """Every class of `specverify.evidence` that keeps to the protocol of a check, by module."""
    found = []
    for module in _modules("specverify.evidence"):
        for node in _parsed(module).body:
            methods = {part.name for part in getattr(node, "body", ()) if isinstance(part, ast.FunctionDef)}
            if isinstance(node, ast.ClassDef) and methods >= _OF_A_CHECK:
                name = f"{module.rpartition('.')[2]}.{node.name}"
                found.append((name, (ast.get_docstring(node) or "").partition("\n")[0]))
    return found


def _decoders() -> Iterator[_Entry]:
    return _entries("specverify.decoders.registry", "Entry")


def _toys(module: str, unit: str) -> Iterator[tuple[str, str]]:
    for family in _entries(module, "Family"):
        _, sizes, summary = family.arguments
        assert isinstance(sizes, tuple)
        for size in sizes:
            width, _, length = size.partition("x")
            yield f"{family.key}-{size}", f"{summary}; {width} {unit}{'s' * (width != '1')}, {length} positions"


def _trained(*kinds: str) -> Iterator[tuple[str, str]]:
    folder = _folder("realmodels") / "checkpoints"
    for name in sorted(path.stem for path in folder.glob("*.json")):
        kind = json.loads((folder / f"{name}.json").read_bytes()).get("kind")
        if kind in kinds:
            yield name, _TRAINED[kind]


def _indented(module: str) -> Lines:
    """The lines "name  what it is" of a module's docstring."""
    lines = (ast.get_docstring(_parsed(module)) or "").splitlines()
    pairs = (line.split(maxsplit=1) for line in lines if line.startswith("    "))
    return [(name, text) for name, text in pairs]


def _defects(entries: Iterator[_Entry]) -> Lines:
    found = [each.keywords for each in entries]
    found.sort(key=lambda each: each["category"] == "control")
    said = {True: "not a defect: ", False: ""}
    return [(str(each["id"]), f"{said[each['category'] == 'control']}{each['mechanism']}") for each in found]


def _entries(module: str, name: str) -> Iterator[_Entry]:
    """Every call of a name in a module, as it stands there, in order."""
    keys: dict[int, str] = {}
    calls: list[ast.Call] = []
    for node in ast.walk(_parsed(module)):
        if isinstance(node, ast.Dict):
            keys |= {id(value): str(_literal(key)) for key, value in zip(node.keys, node.values, strict=True) if key}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            calls.append(node)
    for call in sorted(calls, key=lambda call: call.lineno):
        keywords = {word.arg: _literal(word.value) for word in call.keywords if word.arg}
        yield _Entry(keys.get(id(call), ""), tuple(map(_literal, call.args)), keywords)


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _modules(package: str) -> list[str]:
    return [f"{package}.{path.stem}" for path in sorted(_folder(package).glob("*.py")) if path.stem != "__init__"]


@functools.cache
def _parsed(module: str) -> ast.Module:
    package, _, name = module.rpartition(".")
    return ast.parse((_folder(package) / f"{name}.py").read_bytes())


def _folder(package: str) -> Path:
    """Where a package lies; none is imported."""
    top, *below = package.split(".")
    found = importlib.util.find_spec(top)
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0], *below)
