"""At which level a subject is judged, where the command does not say."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from specverify.errors import InputError
from specverify.subjects.factory import as_factory
from specverify.subjects.resolve import LEVELS, by_todays_name
from specverify.subjects.rounds.kernel import Kernel


def level_of(reference: str, subject: Any, level: str | None = None) -> str:
    """At which level a subject is handed over: as given, or as it can be told.

    Raises:
        InputError: an unknown level, one that the subject cannot have, or none where it cannot be told.
    """
    level, _ = by_todays_name(level, None)
    if isinstance(subject, Path):
        if level not in (None, "trace"):
            raise InputError(f"{reference} is a file, which is judged at level trace, not {level}")
        return "trace"
    fits = {
        "decoder": _is_decoder(subject),
        "round": callable(subject) or _is_kernel(subject),
        "sampler": callable(subject),
        "trace": False,
    }
    if level is not None:
        if not fits[level]:
            raise InputError(f"{reference} is {_kind(subject)}; at level {level} a subject is {LEVELS[level]}")
        return level
    if _is_decoder(subject):
        return "decoder"
    if _is_kernel(subject):
        return "round"
    if not callable(subject):
        known = "; ".join(f"{name}: {what}" for name, what in LEVELS.items())
        raise InputError(f"{reference} is {_kind(subject)}, which is no subject. {known}")
    known = "; ".join(f"--level {name} if it is {LEVELS[name]}" for name in ("round", "sampler"))
    raise InputError(f"{reference} is {_kind(subject)}; say how it is to be called: {known}")


def _is_decoder(subject: Any) -> bool:
    """Whether it is a decoder, or makes one."""
    try:
        as_factory(subject)
    except InputError:
        return False
    return True


def _is_kernel(subject: Any) -> bool:
    """Whether it is a kernel in one of the conventions of `specverify.subjects.round`."""
    return isinstance(subject, Kernel)


def _kind(subject: Any) -> str:
    if inspect.isroutine(subject):
        try:
            return f"a function of {inspect.signature(subject)}"
        except (TypeError, ValueError):
            return "a function"
    return f"an object of type {type(subject).__name__}"
