"""What a function's code names, of its own module and of others: globals and their attributes, also by text."""

from __future__ import annotations

import collections
import datetime
import functools
import os
import sys
import sysconfig
import types
from collections.abc import Iterator, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor

from specverify.evidence.exact.numbers import OutOfReach

PLAIN = (bool, int, float, complex, str, bytes, type(None))
HOLDERS = (list, tuple, dict, set, frozenset, collections.deque, collections.OrderedDict, collections.defaultdict)
BOUNDED = (*PLAIN, *HOLDERS, Tensor, np.ndarray)
WAYS_OUT = tuple(getattr(torch._C, name) for name in ("_to_dlpack", "_to_dlpack_versioned") if hasattr(torch._C, name))
"""Functions in C that hand out a tensor's memory, and tell no mode of torch."""
WAYS = {
    "_C", "to_dlpack", "_to_dlpack", "_to_dlpack_versioned", "_storage_address", "ctypes", "cffi",
    "DisableTorchFunction", "_pop_mode", "_pop_mode_temporarily", "_pop_torch_function_stack",
    "_disable_current_modes", "Thread", "ThreadPool", "ThreadPoolExecutor", "start_new_thread", "_start_new_thread",
    "to_thread", "run_in_executor", "Timer", "Process", "dummy", "_get_current_function_mode",
    "_get_current_function_mode_stack", "_len_torch_function_stack", "no_dispatch", "_mode_utils",
    "_DisableTorchDispatch", "_ExcludeDispatchKeyGuard", "ExcludeDispatchKeyGuard", "_SetExcludeDispatchKeyGuard",
    "_ForceDispatchKeyGuard", "wrap_torch_function", "handle_torch_function", "setprofile", "settrace", "addaudithook",
    "_random",
}  # fmt: skip
"""Ways past torch's modes, by which laws are read where nobody looks: torch's internals, memory, other threads."""
_CLOCKS = (datetime.datetime, datetime.date)
FLAGS = vars(type)["__flags__"]
"""What Python knows of a class, whatever attributes it has."""
_OURS = ("specverify", "toymodels", "realmodels")
_STANDARD = tuple({os.path.realpath(sysconfig.get_path(each)) + os.sep for each in ("stdlib", "platstdlib")})
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class Libraries:
    """Which modules are libraries: what is installed, but for the package that a decoder is from.

    What says that it is of a library is looked up there: a class or a function that is not found is of nobody's.

    Args:
        own: the names of the decoder's modules.
    """

    def __init__(self, *own: str) -> None:
        self._own = {name.partition(".")[0] for name in own}

    def has(self, module: types.ModuleType) -> bool:
        """Whether a module belongs to a library."""
        return self.has_name(module.__name__)

    def has_class(self, kind: type) -> bool:
        """Whether a class does."""
        if not can_change(kind):
            return True
        found: Any = sys.modules.get(str(kind.__module__))
        for part in kind.__qualname__.split("."):
            found = vars(found).get(part) if isinstance(found, types.ModuleType | type) else None
        return found is kind and self.has_name(kind.__module__)

    def has_scope(self, function: types.FunctionType) -> bool:
        """Whether a function's names are those of a library's module."""
        scope = function.__globals__
        module = sys.modules.get(str(scope.get("__name__")))
        return module is not None and vars(module) is scope and self.has(module)

    def has_name(self, name: Any) -> bool:
        """Whether a module of this name does."""
        if not isinstance(name, str) or name == "__main__":
            return False
        top = name.partition(".")[0]
        return top in _OURS or (top not in self._own and _installed(top))


def can_change(kind: type) -> bool:
    """Whether a class was made as the program runs, and so can be made by anybody, and be written to."""
    return bool(FLAGS.__get__(kind) >> 9 & 1)


@functools.cache
def _installed(top: str) -> bool:
    module = sys.modules.get(top)
    if module is None:
        return top in sys.stdlib_module_names
    file = getattr(module, "__file__", None)
    if file is None:
        return top in sys.stdlib_module_names or not hasattr(module, "__path__")
    file = os.path.realpath(file)
    return file.startswith(_STANDARD) or any(folder in file for folder in _INSTALLED)


def named(function: types.FunctionType, libraries: Libraries) -> Iterator[tuple[str, Any]]:
    """What a function names, with where that is; of libraries, values alone and what is no part of them.

    Raises:
        OutOfReach: one of them is a way to read laws where nobody looks.
    """
    names, scope = names_in(function.__code__), function.__globals__
    _refuse(function, names & WAYS)
    _refuse(function, {str(getattr(scope.get(name), "__name__", "")) for name in names} & WAYS)
    package = scope.get("__package__")
    done: dict[int, Any] = {}
    yield from _of_scope(str(scope.get("__name__")), scope, names, False, libraries, done)
    for name in names:  # imported where it runs
        for full in (name, f"{package}.{name}"):
            if isinstance(module := sys.modules.get(full), types.ModuleType):
                yield from _of_scope(full, vars(module), names, libraries.has(module), libraries, done)


def _refuse(function: types.FunctionType, ways: Set[str]) -> None:
    for way in sorted(ways):
        raise OutOfReach(f"{function.__qualname__} names {way}, by which laws can be read where nobody looks")


def _of_scope(
    where: str, scope: Any, names: frozenset[str], library: bool, libraries: Libraries, done: dict[int, Any]
) -> Iterator[tuple[str, Any]]:
    if id(scope) in done:
        return
    done[id(scope)] = scope  # which stays alive, so that no other has its id
    for name in sorted(names & scope.keys()):
        value, full = scope[name], f"{where}.{name}"
        if isinstance(value, types.ModuleType):
            inside = value.__name__, vars(value), names, libraries.has(value), libraries, done
            yield from _of_scope(*inside)
        elif isinstance(value, type) and libraries.has_class(value):
            if value in _CLOCKS:
                raise OutOfReach(f"it can read a clock, by {full}")
            if id(value) in done:
                continue
            done[id(value)] = value
            yield from _of_scope(full, dict(vars(value)), names, True, libraries, done)
        elif not library or kept_in_library(value, libraries):
            yield full, value


def kept_in_library(value: Any, libraries: Libraries) -> bool:
    """Whether what a library's module holds may be somebody else's: values, and objects of other classes."""
    if value is sys.modules:
        return False
    if any(value is way for way in WAYS_OUT):
        return True
    if isinstance(value, types.FunctionType):
        return not libraries.has_name(value.__globals__.get("__name__", value.__module__))
    if isinstance(value, type):
        return not libraries.has_class(value)
    return isinstance(value, BOUNDED) or not libraries.has_class(type(value))


@functools.lru_cache(maxsize=1 << 14)
def names_in(code: types.CodeType) -> frozenset[str]:
    """Names and texts of a function's code, and of functions in it."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, str):
            found.add(constant)
        elif isinstance(constant, types.CodeType):
            found |= names_in(constant)
    return frozenset(found)
