"""What can be named, and a line on each, as the source has it: importing what they stand for takes seconds.

A test holds each list against the catalogue that it is read from.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple, cast

Tokens = Literal["ids", "vectors"]
Densities = Literal["any", "densities", "gaussian", "heads"]
Initial = Literal["repeat-left", "zero", "random", "sample-left", "left-law"]
Lines = list[tuple[str, str]]
"""Names, and what each is."""
_TRAINED = {
    "transformer": "handwritten digits, 8 by 8 pixels, by class; a trained transformer",
    "codes": "{data} as {side} by {side} codes of {vocab}, by class; a trained transformer",
    "janus": "handwritten digits, 8 by 8 pixels, by class; trained in transformers' class of Janus, which it needs",
    "mixture": "handwritten digits in patches, by class; a trained transformer",
    "diffusion": "handwritten digits in patches, by class; a trained transformer",
}
"""By the kind that a checkpoint's card says; what is of no such kind cannot be named."""
_OF_IDS = ("transformer", "codes", "janus")
_OF_A_CHECK = {"check", "smallest_detectable", "sample_size"}


@dataclass(frozen=True, kw_only=True)
class OfDecoder:
    """What there is to know of a decoder beside how it is built.

    Attributes:
        ids: whether it is one of ids. One that is not may still run on them, under the name that it has there.
        vectors: the laws of vectors that it goes with: any, those whose density is known, Gaussians, or diffusion
            heads; None if it is none of vectors. Another `Settings.judging` may go with others.
        drafts: whether it verifies drafts at all (and so has a window).
        needs_draft_model: whether `Settings.draft_model` must be given.
        races: whether it draws by races, which can be enumerated for two tokens only.
        takes_judging: whether `Settings.judging` may be given.
        relaxed: whether it claims nothing, and is priced instead.
        chains: drafts of one position that it verifies at once; enumerating takes worlds to the power of them.
    """

    ids: bool = True
    vectors: Densities | None = None
    drafts: bool = True
    needs_draft_model: bool = False
    races: bool = False
    takes_judging: bool = False
    chains: int = 1
    relaxed: bool = False


class Smallest(NamedTuple):
    """A setting in which a defect shows: the toy, the window, Jacobi's initial drafts, the kind of draft model."""

    model: str
    window: int
    initial: str | None = None
    draft: str | None = None


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


@functools.cache
def _of_decoders() -> dict[str, OfDecoder]:
    known = {field.name for field in fields(OfDecoder)}
    found = {}
    for each in _decoders():
        stated = {word: value for word, value in each.keywords.items() if word in known}
        found[each.key] = OfDecoder(**stated)  # type: ignore[arg-type]
    return found


def decoder(name: str) -> OfDecoder:
    """What is known of a decoder that ships."""
    return _of_decoders()[name]


def decoders_of(tokens: Tokens, relaxed: bool | None = None) -> tuple[str, ...]:
    """As `decoders.registry.names`."""
    return names_of(_of_decoders(), tokens, relaxed)


def names_of(known: Mapping[str, OfDecoder], tokens: Tokens | None, relaxed: bool | None) -> tuple[str, ...]:
    """The decoders, all, or those of ids or of vectors, relaxed ones or others."""
    return tuple(
        name
        for name, each in known.items()
        if (tokens is None or (each.ids if tokens == "ids" else each.vectors is not None))
        and relaxed in (None, each.relaxed)
    )


def sweeps() -> dict[str, tuple[float, ...]]:
    """Values of each relaxed rule's parameter, from timid to bold; none where there is no parameter."""
    found = {}
    for each in _entries("specverify.rules.registry", "Rule"):
        name, *_, sweep, _, _ = each.arguments
        assert isinstance(sweep, tuple), f"the sweep of {name} is not written out"
        found[str(name)] = sweep
    return found


def toys() -> list[str]:
    """Toys over ids."""
    return [name for name, _ in _toys("toymodels.catalogue", "token")]


def continuous_toys() -> list[str]:
    """Toys over vectors."""
    return [name for name, _ in _toys("toymodels.continuous", "dimension")]


def few_sequences(vocab: int, length: int) -> bool:
    """Whether there are at most 65,536 sequences of a length, so that a law of them is written down in an instant."""
    sequences: int = vocab**length
    return sequences <= 1 << 16


def models() -> Lines:
    """Toys and trained models over ids."""
    return [*_toys("toymodels.catalogue", "token"), *_trained(*_OF_IDS)]


def installed_models() -> Lines:
    """Image models that other packages open, by the name of an entry point."""
    return [
        (entry.name, f"opened by {entry.value}") for entry in metadata.entry_points(group="specverify.image_models")
    ]


def trained() -> list[str]:
    """Trained models over ids."""
    return [name for name, _ in _trained(*_OF_IDS)]


def sizes() -> Lines:
    """Published sizes of models over ids, which are opened with random weights, and where they are published."""
    folders = sorted((_folder("realmodels") / "sizes").glob("*/random-weights.json"))
    return [(f"random:{path.parent.name}", str(json.loads(path.read_bytes())["source"])) for path in folders]


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


def known_wrong() -> dict[str, Smallest]:
    """Defects of ids, and a setting in which each shows; controls are none."""
    where = "specverify.defects.registry"
    groups = [node for node in ast.walk(_parsed(where)) if isinstance(node, ast.Attribute) and node.attr == "DEFECTS"]
    modules = [node.value.id for node in groups if isinstance(node.value, ast.Name)]
    entries = (each.keywords for name in modules for each in _entries(f"specverify.defects.{name}", "Defect"))
    return {str(each["id"]): cast("Smallest", each["smallest"]) for each in entries if each["category"] != "control"}


def continuous_known_wrong(controls: bool = False) -> dict[str, tuple[str, int, str]]:
    """Defects of vectors, or the controls, and a setting in which each shows or would."""
    entries = (each.keywords for each in _entries("specverify.defects.continuous", "ContinuousDefect"))
    chosen = (each for each in entries if (each["category"] == "control") == controls)
    return {str(each["id"]): cast("tuple[str, int, str]", each["smallest"]) for each in chosen}


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
        card = json.loads((folder / f"{name}.json").read_bytes())
        if card.get("kind") in kinds:
            sizes = {"data": card.get("data", "").partition(":")[0], **card["shape"]}
            yield name, _TRAINED[card["kind"]].format_map(sizes)


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
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Smallest":
        named = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
        return Smallest(*map(ast.literal_eval, node.args), **named)
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
