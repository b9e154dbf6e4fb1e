"""What a model says of itself: what it must have, which of its conditions are one, and what `like` does to it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from specverify.errors import InputError

_NEEDS = ("name", "vocab", "length", "dtype", "device", "start", "laws", "advance")
_SETTINGS = ("conditions", "guidance", "processors")
_NOTHING = object()


def like_of(model: Any) -> Callable[..., Any] | None:
    """What gives the model with other settings, as an image model has it."""
    found: Callable[..., Any] | None = getattr(model, "like", None)
    return found


def scale_of(model: Any) -> float | None:
    """The scale of a model that is guided and can be had without guidance."""
    scale = getattr(model, "guidance", 1)
    return float(scale) if like_of(model) and scale not in (0, 1) else None


def demand_model(model: Any) -> None:
    """Raise InputError for what is no model, and for an image model without conditions."""
    missing = [name for name in _NEEDS if getattr(model, name, None) is None]
    missing += [] if getattr(model, "eos", _NOTHING) is not _NOTHING else ["eos (None, if no id ends a sequence)"]
    if missing:
        raise InputError(f"{type(model).__name__} is no model: it has no {', '.join(missing)}; see specverify/model.py")
    own = getattr(model, "conditions", None)
    if like_of(model) and (own is None or not len(own)):
        raise InputError(
            f"conditions of {type(model).__name__} is {own!r}: a model that has `like` needs at least one, [None] if "
            "they say nothing; row i of a batch has conditions[i % len(conditions)]"
        )


def same_condition(one: Any, other: Any, known: frozenset[tuple[int, int]] = frozenset()) -> bool:
    """Whether two conditions are one, by what they hold.

    Args:
        one, other: anything; objects that say nothing of when they are equal are compared by their attributes.
        known: objects within which these lie, so that what lies within itself comes to an end.
    """
    pair = id(one), id(other)
    if one is other or pair in known:
        return True
    known |= {pair}
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same_condition(a, b, known) for a, b in zip(one, other, strict=True))
    if type(one) is not type(other):
        return _equal(one, other) is True
    if isinstance(one, Tensor | np.ndarray):
        return _same_numbers(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_condition(one[key], other[key], known) for key in one)
    equals: Any = type(one).__eq__
    if equals is not object.__eq__ and (said := _equal(one, other)) is not None:
        return said
    mine, theirs = _parts(one), _parts(other)
    return bool(mine) and same_condition(mine, theirs, known)


def _equal(one: Any, other: Any) -> bool | None:
    """What two objects say themselves; None if they cannot, such as records that hold tensors."""
    try:
        return bool(one == other)
    except Exception:
        return None


def _same_numbers(one: Any, other: Any) -> bool:
    """Whether two tensors, or two arrays, have one shape, type and content; what is no number is as any such."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if isinstance(one, Tensor):
        other = other.to(one.device)
    return bool(((one == other) | ((one != one) & (other != other))).all())


def _parts(one: Any) -> dict[str, object]:
    """The attributes of an object."""
    slots = [name for each in type(one).__mro__ for name in getattr(each, "__slots__", ())]
    held = {name: getattr(one, name, None) for name in slots if name not in ("__dict__", "__weakref__")}
    return {**held, **getattr(one, "__dict__", {})}


def unlike(model: Any) -> str:
    """How `like` is not what its name says, in words; empty if it gives other models and leaves this one as it is.

    What it changed is put back, where that can be set.
    """
    like = like_of(model)
    if like is None:
        return ""
    before = {name: copy.copy(getattr(model, name)) for name in _SETTINGS if getattr(model, name, None) is not None}
    own = list(model.conditions)
    asked: list[tuple[str, object]] = [("processors", ()), ("conditions", own[:1])]
    for what, value in (*asked, *([("guidance", 1.0)] if scale_of(model) is not None else [])):
        call = f"like({what}=...)"
        try:
            given = like(**{what: value})
        except Exception as error:
            return (
                f"like: {call} raised {type(error).__name__}: {error}; it takes guidance=, processors= and "
                "conditions=, any of which may be left out (see realmodels.images.ImageModel)"
            )
        changed = [name for name in before if not same_condition(before[name], getattr(model, name, None))]
        if changed:
            for name, old in before.items():
                _put_back(model, name, old)
            return (
                f"like: {call} changed {' and '.join(changed)} of the model itself, which is the caller's: give "
                "another model, with settings of its own, and leave this one as it is; nothing else was looked at"
            )
        if given is model and (what == "guidance" or (what == "conditions" and len(own) > 1)):
            return f"like: {call} gave the model itself, as it was, and no other; nothing else was looked at"
    return ""


def _put_back(model: Any, name: str, value: Any) -> None:
    try:
        setattr(model, name, value)
    except AttributeError:  # which nothing outside of it can set
        return
