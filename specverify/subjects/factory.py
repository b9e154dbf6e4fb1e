"""What may be handed over as a decoder, and how it is made anew for every setting.

The one rule: an object with `init` and `step` is judged as it is, with the window that it has. Anything else that can
be called (a class, a function) is called by keyword with those of these arguments that its signature names:

    window        draft tokens per forward pass, at least 1
    draft_model   a model to draft with; with a default it is judged with and without one
    initial       which initial drafts: repeat-left, zero, random or sample-left; left-law for continuous tokens
    settings      all three at once, as a `decoders.registry.Settings`

Every other argument needs a default. A decoder that does not take a model (its vocabulary, an eos) or a setting says so
by raising `InputError`: it is then not judged there, and the judgement lists it as not covered.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from specverify.decoders.registry import Settings
from specverify.errors import InputError
from specverify.evidence.exact.keeping import at_hand
from specverify.subjects import resolve

SUPPLIED = ("window", "draft_model", "initial")
_HOW = "hand over an object with init and step, or a class or function of (window, draft_model, initial, settings)"


@dataclass(frozen=True)
class Factory:
    """How to make somebody's decoder.

    Attributes:
        name: how it is called.
        build: makes the decoder for some settings.
        takes: which settings it takes.
        needs: which of them it cannot do without.
        reference: where it can be found again, such as `pkg.mod:object`; None if that is not known.
        tokens: what it is known to be for, "ids", "vectors" or both; None if only running it can tell.
        processors: what target laws have to be made by for it to take them, as on the command line; "" for any laws.
        subject: what was handed over.
        kept: what could be reached from it then.
    """

    name: str
    build: Callable[[Settings], Any]
    takes: frozenset[str]
    needs: frozenset[str]
    reference: str | None = None
    tokens: frozenset[str] | None = None
    processors: str = ""
    subject: Any = None
    kept: dict[str, object] = field(default_factory=dict, repr=False)


def as_factory(subject: Any, name: str | None = None) -> Factory:
    """The factory for what was handed over, by the rule above.

    Args:
        subject: a decoder, what makes one, or a reference to one of these, such as `pkg.mod:object` (see `resolve.py`).
        name: how to call it; by default the name that it has.

    Raises:
        InputError: it is none of these, or needs an argument that nobody can supply.
    """
    if isinstance(subject, Factory):
        return subject
    if isinstance(subject, str):
        found = as_factory(resolve.resolve(subject), name)
        return replace(found, reference=subject)
    return replace(_factory(subject, name), subject=subject, kept=at_hand(subject))


def _factory(subject: Any, name: str | None) -> Factory:
    label = name or _label(subject)
    reference = _reference(subject)
    if not isinstance(subject, type) and _is_decoder(subject):
        return Factory(label, lambda settings: subject, frozenset(), frozenset(), reference)
    if not callable(subject):
        raise InputError(f"{label} is neither a decoder nor something that makes one; {_HOW}")
    try:
        parameters = inspect.signature(subject).parameters.values()
    except (TypeError, ValueError):
        raise InputError(f"{label} has no signature to be read; {_HOW}") from None
    by_name = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    missing = [
        p.name
        for p in parameters
        if p.default is p.empty
        and p.kind not in variable
        and not (p.name in by_name and p.name in (*SUPPLIED, "settings"))
    ]
    if missing:
        raise InputError(
            f"{label} needs {', '.join(missing)}, which judging cannot supply; give a default, or {_HOW} that fills "
            "it in"
        )
    named = [known for known in (*SUPPLIED, "settings") if known in by_name]

    def build(settings: Settings) -> Any:
        made = subject(**{known: settings if known == "settings" else getattr(settings, known) for known in named})
        if not _is_decoder(made):
            raise InputError(f"{label} returned a {type(made).__name__}, which has no init and step; {_HOW}")
        return made

    takes = frozenset(SUPPLIED if "settings" in named else named)
    needs = frozenset(
        known for known in named if known in SUPPLIED and by_name[known].default is inspect.Parameter.empty
    )
    tokens = subject.tokens if isinstance(subject, resolve.Own) else None
    return Factory(label, build, takes, needs, reference, tokens, getattr(subject, "target_processors", ""))


def _is_decoder(thing: Any) -> bool:
    return all(callable(getattr(thing, part, None)) for part in ("init", "step"))


def _label(subject: Any) -> str:
    name = getattr(subject, "name", None) if not isinstance(subject, type) else None
    return name if isinstance(name, str) else getattr(subject, "__qualname__", type(subject).__name__)


def _reference(subject: Any) -> str | None:
    module, path = getattr(subject, "__module__", None), getattr(subject, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(path, str) or "<" in path or module == "__main__":
        return None
    try:
        found = pkgutil.resolve_name(f"{module}:{path}")
    except Exception:
        return None
    return f"{module}:{path}" if found is subject else None
