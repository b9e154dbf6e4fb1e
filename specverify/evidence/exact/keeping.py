"""What a decoder keeps outside of its state: attributes of its own, and values of its module.

A decoder that changes them from call to call is no function of its arguments; what is proved of some calls says nothing
of later ones.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from torch import Tensor

_DEPTH = 4
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_HOLDERS = (list, tuple, dict, set, frozenset)


def kept(decoder: Any) -> dict[str, object]:
    """What a decoder keeps, by where: plain values as they are, anything else by which object it is."""
    found = dict(_attributes(decoder, type(decoder).__name__, _DEPTH))
    module = sys.modules.get(type(decoder).__module__)
    for name, value in vars(module).items() if module is not None else ():
        if not name.startswith("__") and isinstance(value, (*_PLAIN, *_HOLDERS)):
            found |= dict(_values(value, f"{type(decoder).__module__}.{name}", _DEPTH))
    return found


def changed(before: dict[str, object], after: dict[str, object]) -> str:
    """Where something is kept that has changed; empty if nothing has."""
    for name in (*after, *before):
        if name not in before or name not in after or before[name] != after[name]:
            return name
    return ""


def _attributes(thing: Any, name: str, depth: int) -> Iterator[tuple[str, object]]:
    own = getattr(thing, "__dict__", None)
    if isinstance(own, dict) and not callable(getattr(thing, "laws", None)):  # models have caches of their own
        for key, value in own.items():
            yield from _values(value, f"{name}.{key}", depth - 1)


def _values(value: Any, name: str, depth: int) -> Iterator[tuple[str, object]]:
    if isinstance(value, _PLAIN):
        yield name, repr(value)
    elif isinstance(value, dict) and depth > 0:
        for key, part in value.items():
            yield from _values(part, f"{name}[{key!r:.40}]", depth - 1)
    elif isinstance(value, list | tuple) and depth > 0:
        for place, part in enumerate(value):
            yield from _values(part, f"{name}[{place}]", depth - 1)
    elif isinstance(value, set | frozenset):
        yield name, len(value)
    else:
        yield name, id(value)
        if depth > 0 and not isinstance(value, Tensor | type):
            yield from _attributes(value, name, depth)
