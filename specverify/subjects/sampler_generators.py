"""Generators that are not torch's, while a run is followed: ours stand in their place.

`np.random.default_rng`, `np.random.Generator`, `np.random.RandomState`, `random.Random` and the functions of the
modules `np.random` and `random` are ours, under whatever name a module holds them; so are `math.log`, `exp`, `sqrt`.
Generators that were made before are not: that they are drawn from is seen by its effects (`sampler_worlds`).
"""

from __future__ import annotations

import bisect
import contextlib
import math
import random
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
import torch

from specverify.subjects import sampler_numpy, sampler_python
from specverify.subjects.sampler_numbers import Number, holds_numbers, made
from specverify.subjects.sampler_world import World

_LIBRARIES = {
    "numpy", "scipy", "torch", "specverify", "toymodels", "realmodels", "beartype", "jaxtyping", "hypothesis", "pytest",
    "_pytest", "transformers",
} | set(sys.stdlib_module_names)  # fmt: skip
"""Packages whose own use of generators is none of a program's draws, or goes through torch."""
_OWN = ("numpy", "numpy.random", "random", "math", "torch")
_Place = tuple[MutableMapping[str, Any], str, Any, Any]
_known: tuple[int, list[_Place]] = (0, [])


def _log(x: Any, *base: Any) -> Any:
    if isinstance(x, Number) and base:
        return x.log() / _REAL["log"](*base)
    return x.log() if isinstance(x, Number) else _REAL["log"](x, *base)


def _exp(x: Any) -> Any:
    return x.exp() if isinstance(x, Number) else _REAL["exp"](x)


def _sqrt(x: Any) -> Any:
    return x.sqrt() if isinstance(x, Number) else _REAL["sqrt"](x)


def _searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    if World.current is None or not holds_numbers(v):
        return _REAL["searchsorted"](a, v, side, sorter)
    row, find = np.asarray(a).tolist(), bisect.bisect_left if side == "left" else bisect.bisect_right
    if isinstance(v, Number):
        return np.int64(find(row, v))
    keys = np.asarray(v, dtype=object)
    return np.array([find(row, one) for one in keys.flat]).reshape(keys.shape)


def _from_numpy(array: Any) -> Any:
    world = World.current
    if world is not None and holds_numbers(array):
        return made(world, array, None)
    return _REAL["from_numpy"](array)


_REAL: Mapping[str, Any] = {"log": math.log, "exp": math.exp, "sqrt": math.sqrt, "from_numpy": torch.from_numpy,
                         "searchsorted": np.searchsorted}  # fmt: skip
_SHARED = sampler_numpy.shared(), sampler_python.shared()


def _replacements() -> dict[int, tuple[Any, Any]]:
    """What stands in the place of what, by its id."""
    numpys, pythons = _SHARED
    pairs: list[tuple[Any, Any]] = [
        (np.random.default_rng, sampler_numpy.default_rng), (np.random.Generator, sampler_numpy.NewGenerator),
        (np.random.RandomState, sampler_numpy.OldGenerator), (random.Random, sampler_python.Generator),
        (math.log, _log), (math.exp, _exp), (math.sqrt, _sqrt), (torch.from_numpy, _from_numpy),
        (np.searchsorted, _searchsorted),
        *((getattr(np.random, name), getattr(numpys, name)) for name in sampler_numpy.FUNCTIONS),
        *((getattr(random, name), getattr(pythons, name)) for name in sampler_python.FUNCTIONS),
    ]  # fmt: skip
    return {id(was): (was, ours) for was, ours in pairs}


_REPLACED = _replacements()


def _places() -> list[_Place]:
    """Every name of a module's that holds one of them."""
    global _known
    if _known[0] != len(sys.modules):
        found = []
        for name, module in list(sys.modules.items()):
            space = getattr(module, "__dict__", None)
            if space is None or (name.partition(".")[0] in _LIBRARIES and name not in _OWN):
                continue
            found += [(space, key, *_REPLACED[id(one)]) for key, one in list(space.items()) if id(one) in _REPLACED]
        _known = (len(sys.modules), found)
    return _known[1]


@contextlib.contextmanager
def followed(world: World) -> Iterator[World]:
    """While this is entered, a program that draws from numpy or Python draws from ours."""
    places = _places()
    for space, name, _, ours in places:
        space[name] = ours
    try:
        yield world
    finally:
        for space, name, was, _ in places:
            space[name] = was
