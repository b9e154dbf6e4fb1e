"""Which functions a mode of torch may be asked to carry out: torch's own, as they were when they were imported.

What they run is not watched. So a function in C has to be one of torch's, and one in Python has to name what it did.
"""

from __future__ import annotations

import builtins
import functools
import types
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from specverify.evidence.exact.naming import names_in
from specverify.evidence.exact.numbers import OutOfReach

_C = torch._C
_PARTS = ("_VariableFunctions", "_nn", "_linalg", "_special", "_fft", "_sparse", "_nested")
_OWNERS = (
    *(torch, Tensor, _C, _C.TensorBase, torch.functional, torch.nn.functional, torch.nn.init, torch._tensor),
    *(getattr(_C, name) for name in _PARTS),
)
_IN_C = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)
_MISSING = object()
_WITH_MODES = ("handle_torch_function", "_handle_torch_function")
"""What a function of torch calls where a mode is to carry it out, which it is not a second time."""


def _torchs(function: Any) -> bool:
    """Whether something that torch has is a function of its own."""
    if type(function) is types.FunctionType:
        return str(function.__globals__.get("__name__")).partition(".")[0] == "torch"
    return type(function) in _IN_C and function is not getattr(builtins, getattr(function, "__name__", ""), None)


_TORCHS = {part for owner in _OWNERS for name in dir(owner) if _torchs(part := getattr(owner, name, None))}
_PROPERTIES = [part for owner in (Tensor, _C.TensorBase) for part in vars(owner).values() if isinstance(part, property)]
_SCOPES = [vars(builtins), vars(Tensor), vars(_C.TensorBase), vars(warnings)]
for _each in _TORCHS:
    if isinstance(_each, types.FunctionType) and not any(_each.__globals__ is _scope for _scope in _SCOPES):
        _SCOPES.append(_each.__globals__)
_BEFORE = [dict(scope) for scope in _SCOPES]
_CODES = {
    part: part.__code__
    for part in (*_TORCHS, *(part for scope in _BEFORE for part in scope.values()))
    if type(part) is types.FunctionType
}


def check(function: Any) -> None:
    """Raise OutOfReach unless a function is torch's, and would run what it did when it was imported."""
    kind = type(function)
    if kind is types.MethodWrapperType:
        owner = function.__self__
        fine = type(owner) is types.GetSetDescriptorType or any(owner is part for part in _PROPERTIES)
    else:
        fine = (kind in _IN_C or kind is types.FunctionType) and function in _TORCHS
    if not fine:
        raise OutOfReach(
            f"it has {getattr(function, '__name__', kind.__name__)} run as a function of torch, which it is not"
        )
    if kind is types.FunctionType and not (function.__code__ is _CODES[function] and _as_it_was(function)):
        raise OutOfReach(f"it has replaced what torch's {function.__name__} is made of")


def _as_it_was(function: types.FunctionType) -> bool:
    for scope, name, before, code in _made_of(function):
        now = scope.get(name, _MISSING)
        if now is not before and not (before is _MISSING and type(now) is types.ModuleType):
            return False
        if code is not None and now.__code__ is not code:
            return False
    return True


@functools.lru_cache(maxsize=4096)
def _made_of(function: types.FunctionType) -> tuple[tuple[Any, str, Any, Any], ...]:
    """Everything that it and what it calls may name: scope, name, what was there, and its code."""
    return tuple(_reached(function))


def _reached(function: types.FunctionType) -> Iterator[tuple[Any, str, Any, Any]]:
    waiting = [_CODES[function]]
    done: set[str] = set()
    while waiting:
        for name in names_in(waiting.pop()) - done:
            done.add(name)
            for scope, before in zip(_SCOPES, _BEFORE, strict=True):
                part = before.get(name, _MISSING)
                code = _CODES.get(part) if type(part) is types.FunctionType else None
                waiting += [] if code is None or name in _WITH_MODES else [code]
                yield scope, name, part, code
