"""From text to what it names: a subject, a plug-in, a claim, a level by its name of today.

A subject is named by

    PKG.MOD:OBJECT       something that can be imported, from the current folder too; OBJECT may have dots
    path/to/file.py:OBJECT
    NAME                 a plug-in (an entry point of the group `specverify.decoders`), or a decoder or known-wrong
                         decoder of specverify's own
    path/to/trace.npz    or .safetensors: a trace

Resolving a subject runs its module, so it is done in a process of its own (`isolation.py`).
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from specverify import declared
from specverify.catalogue import near, near_pattern
from specverify.claims import Claim, ClusterLossless, Lossless, Relaxed
from specverify.errors import InputError

GROUP = "specverify.decoders"
TRACES = (".npz", ".safetensors")
LEVELS = {
    "decoder": "an object with `init(model, batch, draws)` and `step(state, model, draws)`, or what makes one",
    "round": "a function (draft_tokens, q or None, p, generator) -> (accepted, token)",
    "sampler": "a function (target, draft, n, seed) -> Int[n, length] tokens",
    "trace": f"a file ({', '.join(TRACES)}) of tokens and log-probabilities",
}
"""What is handed over at each level."""
ALIASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {"continuous": ("decoder", {"tokens": "vectors"})}
"""Earlier names of levels: what each is today, with which options."""


class BrokenModule(InputError):
    """The module of a subject raises when it is imported: the reference is right, the subject is not."""


@dataclass(frozen=True)
class Own:
    """A decoder of specverify's own, by its name: what makes it from settings.

    Attributes:
        name: in its catalogue.
        build: takes a `decoders.registry.Settings`.
        tokens: "ids", "vectors" or both: what the catalogue has it for, where the program may run on either.
    """

    name: str
    build: Callable[[Any], Any]
    tokens: frozenset[str]

    def __call__(self, settings: Any) -> Any:
        """The decoder."""
        return self.build(settings)


@dataclass(frozen=True)
class Plugin:
    """An entry point of the group, not loaded.

    Attributes:
        name: how the command line calls it.
        value: the `module:object` that it stands for.
        distribution: who installed it.
        broken: why it cannot be loaded, as far as can be told without running any of it; empty otherwise.
    """

    name: str
    value: str
    distribution: str
    broken: str = ""

    @property
    def summary(self) -> str:
        """One line."""
        return f"plug-in of {self.distribution}: {self.broken or self.value}"


def plugins() -> dict[str, Plugin]:
    """What is installed in the group, by name. Nothing of it is run."""
    found: dict[str, Plugin] = {}
    ours = (declared.decoders, declared.continuous_decoders, declared.defects, declared.continuous_defects)
    own = {name for lines in ours for name, _ in lines()}
    for entry in metadata.entry_points(group=GROUP):
        owner = entry.dist.name if entry.dist else "an unknown distribution"
        module, _, attribute = entry.value.partition(":")
        if not module.strip() or not attribute.strip():
            broken = f"broken: {entry.value!r} is not MODULE:OBJECT"
        elif entry.name in own:
            broken = "broken: its name is taken by a decoder of specverify's own"
        elif entry.name in found:
            broken = f"broken: {found[entry.name].distribution} has a plug-in of that name too"
        elif importlib.util.find_spec(module.split(".")[0].strip()) is None:
            broken = f"broken: {entry.value!r} names a module that is not installed"
        else:
            broken = ""
        found[entry.name] = Plugin(entry.name, entry.value, owner, broken)
    return found


def resolve(reference: str) -> Any:
    """The object, or for a trace the path, that a reference names.

    Raises:
        InputError: it names nothing; the message says which part, and what is near.
        BrokenModule: its module raises.
    """
    where, _, attribute = reference.rpartition(":")
    if not where:
        return _by_name(reference)
    if not attribute:
        raise InputError(f"{reference!r} names no object; write {where}:OBJECT")
    module = _from_file(Path(where)) if where.endswith(".py") else _imported(where, reference)
    found: Any = module
    for number, part in enumerate(attribute.split(".")):
        if not hasattr(found, part):
            owner = ":".join([where, ".".join(attribute.split(".")[:number])]).rstrip(":")
            raise InputError(f"{owner} has no {part!r}; {near(part, _public(found), f'{owner} holds', 20)}")
        found = getattr(found, part)
    return found


def by_todays_name(level: str | None, options: Mapping[str, Any] | None) -> tuple[str | None, Mapping[str, Any]]:
    """A level and the options of its judgement, where the level may have an earlier name.

    Raises:
        InputError: there is no such level.
    """
    if level is not None and level not in (*LEVELS, *ALIASES):
        raise InputError(f"unknown level {level!r}; {near(level, LEVELS)}")
    today, implied = ALIASES.get(level or "", (level, {}))
    return today, {**implied, **(options or {})}


def parse_claim(text: str) -> Claim:
    """`lossless`, `relaxed:0.05` (a total variation), or `cluster:0,1|2,3` (token ids, `|` between clusters).

    Raises:
        InputError: anything else.
    """
    name, _, value = re.sub(r"^relaxed\(tv<=(.*)\)$", r"relaxed:\1", text.strip()).partition(":")  # as it is printed
    try:
        if name == "lossless" and not value:
            return Lossless()
        if name == "relaxed":
            return Relaxed(float(value))
        if name == "cluster":
            return ClusterLossless(tuple(tuple(int(x) for x in part.split(",")) for part in value.split("|")))
    except InputError:
        raise
    except ValueError:
        pass  # no number: answered as any other text that is no claim
    forms = "use lossless, relaxed:TV such as relaxed:0.05, or cluster:0,1|2,3"
    raise InputError(f"claim {text!r}: {near_pattern(name, ('lossless', 'relaxed', 'cluster'), forms)}")


def claim_text(claim: Claim) -> str:
    """The inverse of `parse_claim`."""
    if isinstance(claim, Relaxed):
        return f"relaxed:{claim.tv!r}"
    if isinstance(claim, ClusterLossless):
        return "cluster:" + "|".join(",".join(map(str, part)) for part in claim.partition)
    return "lossless"


def named_file(name: str, path: Path) -> str:
    """What to say of a file that is no subject by itself."""
    if path.suffix != ".py":
        return f"{name} is a file of no kind that can be judged: a log is one in {' or '.join(TRACES)}, code one in .py"
    return f"{name} is a file; name an object in it: {name}:OBJECT"


def _by_name(name: str) -> Any:
    path = Path(name)
    if path.suffix in TRACES:
        if not path.is_file():
            raise InputError(f"{name}: no such file")
        return path
    if path.suffix == ".py" or path.is_file():
        raise InputError(named_file(name, path))
    own, installed = _own(), plugins()
    if name in own:
        return own[name]
    if name not in installed:
        module, _, attribute = name.rpartition(".")
        if module and (file := Path(*module.split(".")).with_suffix(".py")).is_file():
            raise InputError(f"{name!r} is no reference; did you mean {file}:{attribute}?")
        hint = near(name, [*own, *installed], "decoders and plug-ins are")
        raise InputError(f"{name!r} is no plug-in and no decoder; {hint}. Other subjects are named PKG.MOD:OBJECT")
    plugin = installed[name]
    if plugin.broken:
        raise InputError(f"plug-in {name!r} of {plugin.distribution} is {plugin.broken}")
    try:
        return resolve(plugin.value)
    except InputError as error:
        raise type(error)(f"plug-in {name!r} of {plugin.distribution} is broken: {error}") from error


def _own() -> dict[str, Own]:
    """Decoders of specverify's own, the known-wrong ones too."""
    from specverify import defects
    from specverify.decoders import registry
    from specverify.defects import continuous

    ids, vectors = frozenset(["ids"]), frozenset(["vectors"])
    found = [
        Own(name, registry.entry(name).build, frozenset(of for of in ("ids", "vectors") if name in registry.names(of)))
        for name in registry.names()
    ]
    found += [Own(name, defects.get(name).build, ids) for name in defects.names()]
    found += [Own(name, continuous.get(name).build, vectors) for name in continuous.names()]
    return {own.name: own for own in found}


def _imported(name: str, reference: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise InputError(f"{reference!r} is no reference; write PKG.MOD:OBJECT or path/to/file.py:OBJECT")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not (name == missing or name.startswith(f"{missing}.")):
            raise BrokenModule(
                f"{name} cannot be imported: it needs the module {missing!r}, which is missing"
            ) from error
        where = f"in {os.getcwd()} or among the installed packages"
        raise InputError(
            f"no module named {missing!r} {where}; a file is named by its path: path/to/file.py:OBJECT"
        ) from error
    except BaseException as error:
        raise BrokenModule(f"{name} {_raised(error)}") from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    name = f"subject_{path.stem}" if path.stem in sys.modules else path.stem  # a file may be called random.py
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.resolve().parent))  # as `python file.py` does
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise BrokenModule(f"{path} {_raised(error)}") from error
    return module


def place_of(error: BaseException) -> str:
    """Where something was raised, in brackets: the last frame that is not the import system's."""
    if isinstance(error, SyntaxError):
        return f" ({Path(error.filename or '?').name}:{error.lineno})"
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    shown = [f" ({Path(name).name}:{line})" for name, line in frames if not name.startswith("<frozen")]
    return shown[-1] if shown else ""


def _raised(error: BaseException) -> str:
    said = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return f"raises {type(error).__name__} when imported: {said or 'no message'}{place_of(error)}"


def _public(found: Any) -> list[str]:
    """Names that may have been meant: of a module neither other modules nor what it has from another package."""
    own = found.__name__.partition(".")[0] if inspect.ismodule(found) else ""
    return sorted(
        name
        for name, value in getattr(found, "__dict__", {}).items()
        if not name.startswith("_") and not (own and _brought(value, own))
    )


def _brought(value: Any, package: str) -> bool:
    """Whether a module has it from elsewhere: another module, or a class or function of another package."""
    defined = inspect.isclass(value) or inspect.isroutine(value)
    return inspect.ismodule(value) or (defined and str(value.__module__).partition(".")[0] != package)
