"""What a decoder keeps outside of its state: everything that can be reached from it, and from what its code names.

A decoder that changes them from call to call is no function of its arguments; what is proved of some calls says nothing
of later ones. So all of it is written down before and after, by contents: numbers as they are, tensors and arrays by
their bytes, sets and deques by what is in them, iterators by what is left of them. Attributes are followed, slots,
classes, closures, defaults, and what functions name of their modules and of others (`naming.py`).

It ends at libraries: of these only what is kept in an object of the decoder's is looked at, and plain values by name.
What cannot be looked into, such as an open file, and more than `OBJECTS` objects, are refused.
"""

from __future__ import annotations

import collections
import contextvars
import copyreg
import functools
import gc
import hashlib
import inspect
import logging
import os
import random
import sys
import types
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from specverify.evidence.exact.naming import (
    BOUNDED,
    FLAGS,
    HOLDERS,
    PLAIN,
    WAYS_OUT,
    Libraries,
    can_change,
    kept_in_library,
    named,
)
from specverify.evidence.exact.numbers import OutOfReach
from specverify.evidence.exact.shut import SHUT
from specverify.evidence.relay import Watched

OBJECTS = 20_000
"""Different objects that are looked at."""
BYTES = 1 << 30
"""Of tensors and arrays together."""
_DESCRIBED = (types.GetSetDescriptorType, types.MemberDescriptorType)
_NOT_OWN = {"__builtins__", "__warningregistry__"}
"""Of modules: what Python itself keeps there."""
_NAMED_ONLY = (types.ModuleType, types.BuiltinFunctionType)
"""Of libraries: what is looked at where code names it."""
_WRITTEN = ("__doc__", "__annotations__", "__name__", "__qualname__", "__module__")
"""Of functions: what can be written to."""
_FINE = (*PLAIN, *HOLDERS, object, BaseException, type, Tensor, np.ndarray, torch._C.TensorBase)
"""Types in C whose contents are looked at."""
_BY_NAME = (
    *(types.UnionType, types.GenericAlias, types.GetSetDescriptorType),
    *(np.dtype, np.ufunc, torch.dtype, torch.device, torch.layout, torch.memory_format),
)
"""Types in C whose objects are as they print and cannot be changed."""
_QUIET = ("logging", "typing", "beartype", "jaxtyping")
"""Libraries of whose objects only what somebody else may have put there is looked at."""
_COUNTED = ("calls", "passes", "_ahead", "breach")
"""Of a model that is watched: what came."""
_SHUT = set(map(id, SHUT))
_LEVELS = range(logging.DEBUG, logging.CRITICAL + 1, 10)


def kept(decoder: Any, *models: Any) -> dict[str, object]:
    """What a decoder keeps, by where.

    Args:
        decoder: that everything is reached from, or what makes it.
        models: what else it is given in every call, objects or their classes.

    Raises:
        OutOfReach: something cannot be looked into, or there is too much of it.
    """
    walk = _Walk(decoder)
    walk.waiting += [(model.__name__ if isinstance(model, type) else type(model).__name__, model) for model in models]
    return walk.run()


def at_hand(decoder: Any) -> dict[str, object]:
    """The same, and nothing of a decoder that cannot be looked into: a proof for all laws is refused to it anyway."""
    try:
        return kept(decoder)
    except OutOfReach:
        return {}


def changed(before: dict[str, object], after: dict[str, object]) -> str:
    """Where something is kept that has changed; empty if nothing has, or one of them could not be looked into."""
    for name in (*after, *before) if before and after else ():
        if name not in before or name not in after or before[name] != after[name]:
            return name
    return ""


class _Walk:
    """Everything that is reached, the nearest first."""

    def __init__(self, decoder: Any) -> None:
        kind, own = type(decoder), str(getattr(decoder, "__module__", ""))
        calls = (inspect.unwrap(getattr(kind, each, type)) for each in ("init", "step"))
        scopes = (getattr(call, "__globals__", {}) for call in calls)
        self.libraries = Libraries(own, *(str(scope.get("__name__")) for scope in scopes))
        self.found: dict[str, object] = {"os.environ": tuple(sorted(os.environ.items()))}
        self.first: dict[int, str] = {}
        self.alive: list[Any] = []
        self.bytes = 0
        self.waiting: collections.deque[tuple[str, Any]] = collections.deque([(kind.__name__, decoder)])
        module = sys.modules.get(own)
        for name, value in vars(module).items() if module is not None and not self.libraries.has(module) else ():
            if not name.startswith("__") and isinstance(value, BOUNDED) and not _registry(value):
                self.waiting.append((f"{own}.{name}", value))

    def run(self) -> dict[str, object]:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # iterators that can be copied will not be for ever
            while self.waiting:
                name, value = self.waiting.popleft()
                known = self.first.get(id(value))
                if name in self.found and name != known:  # another of the same name
                    name = f"{name} ({len(self.found)})"
                if type(value) in PLAIN:
                    self.found[name] = _short(repr(value))
                elif known is not None:
                    self.found.setdefault(name, known)
                else:
                    self.first[id(value)] = name
                    self.alive.append(value)
                    if len(self.alive) > OBJECTS:
                        raise OutOfReach(f"it keeps more than {OBJECTS:,} objects, which are too many to look at")
                    self.waiting.extend(self._parts(name, value))
        return self.found

    def _parts(self, name: str, value: Any) -> Iterator[tuple[str, Any]]:
        kind = type(value)
        self.found[name] = kind.__qualname__
        if any(value is way for way in WAYS_OUT):
            raise OutOfReach(f"it can look at the memory of numbers, by {name}")
        if id(value) in _SHUT:
            raise OutOfReach(f"it can look at more than laws and draws, by {name}")
        if isinstance(value, torch.jit.ScriptFunction | torch.jit.ScriptModule):
            raise OutOfReach(f"{name} is scripted, and what it looks at cannot be seen")
        if isinstance(value, _BY_NAME):
            self.found[name] = repr(value)
        elif isinstance(value, types.CodeType):
            self.found[name] = _code(value)
        elif isinstance(value, types.ModuleType):
            self.found[name] = value.__name__
            yield from self._put_into(name, {key: part for key, part in vars(value).items() if not _registry(part)})
        elif str(kind.__module__).partition(".")[0] in _QUIET and self.libraries.has_class(kind):
            self.found[name] = repr(value)
            own = dict(getattr(value, "__dict__", {}))
            if isinstance(value, logging.Logger):  # it remembers of which levels it was asked
                own["_cache"] = {key: asked for key, asked in own.get("_cache", {}).items() if key not in _LEVELS}
            yield from self._put_into(name, own)
        elif isinstance(value, type):
            yield from self._of_class(name, value)
        elif isinstance(value, types.FunctionType):
            yield from self._of_function(name, value)
        elif (parts := _wrapped(value)) is not None:
            for place, part in enumerate(parts):
                yield f"{name}.{place}" if place else name + "()", part
            yield from _own(name, value)
        else:
            yield from self._of_object(name, value)

    def _of_object(self, name: str, value: Any) -> Iterator[tuple[str, Any]]:
        """What an object holds: contents, attributes, and what is known of it in C alone."""
        if type(value) is Watched:  # what the guard counts there is not the decoder's
            yield f"{name}.own", {key: part for key, part in vars(value).items() if key not in _COUNTED}
            return
        kind = type(value)
        if isinstance(value, Tensor | np.ndarray):
            self.found[name] = self._array(name, value)
            if isinstance(value, np.ndarray):
                yield from (
                    ((f"{name}[{i}]", part) for i, part in enumerate(value.flat)) if value.dtype.hasobject else ()
                )
                yield f"{name}.base", value.base
            else:
                yield f"{name}.grad", value.grad if value.is_leaf else None
        elif isinstance(value, dict | types.MappingProxyType):
            for place, (key, part) in enumerate(value.items()):
                yield f"{name}.key {place}", key
                yield f"{name}[{_short(repr(key)) if type(key) in PLAIN else place}]", part
            yield f"{name}.default_factory", getattr(value, "default_factory", None)
        elif isinstance(value, list | tuple | set | frozenset | collections.deque):
            for place, part in enumerate(value):
                yield f"{name}[{place}]", part
        elif isinstance(value, PLAIN):
            self.found[name] = next(_short(_printed(base, value)) for base in PLAIN if isinstance(value, base))
        elif isinstance(value, torch.Generator):
            self.found[name] = _digest(value.get_state().numpy().tobytes())
        elif isinstance(value, random.Random):
            self.found[name] = _short(repr(value.getstate()))
        elif any(_in_c(base) for base in kind.__mro__):
            yield f"{name}'s contents", self._in_c(name, value)
        if can_change(kind):
            yield kind.__qualname__, kind
        yield from _own(name, value)

    def _of_class(self, name: str, value: type) -> Iterator[tuple[str, Any]]:
        if can_change(value):
            copyreg._slotnames(value)  # type: ignore[attr-defined]  # which Python keeps there once one of it is copied
        self.found[name] = f"{value.__module__}.{value.__qualname__}"
        if self.libraries.has_class(value):
            yield from self._put_into(value.__qualname__, vars(value))
        else:
            for key, part in vars(value).items():
                if key == "__del__":
                    raise OutOfReach(f"{value.__qualname__} has code that runs when one of it is thrown away")
                if not isinstance(part, _DESCRIBED) and type(part).__name__ != "_abc_data":
                    yield f"{value.__qualname__}.{key}", part
        for base in (*value.__bases__, type(value)):
            if can_change(base):
                yield base.__qualname__, base

    def _put_into(self, name: str, scope: Any) -> Iterator[tuple[str, Any]]:
        """What of a library may be somebody else's."""
        for key, part in scope.items():
            if key not in _NOT_OWN and not isinstance(part, _NAMED_ONLY) and kept_in_library(part, self.libraries):
                yield f"{name}.{key}", part

    def _of_function(self, name: str, value: types.FunctionType) -> Iterator[tuple[str, Any]]:
        self.found[name] = _code(value.__code__)
        yield from ((f"{name}'s {key}", getattr(value, key)) for key in _WRITTEN)
        for cell, variable in zip(value.__closure__ or (), value.__code__.co_freevars, strict=True):
            yield f"{name}'s {variable}", cell
        for key, part in (*enumerate(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).items()):
            yield f"{name}'s default {key}", part
        yield from ((f"{name}.{key}", part) for key, part in vars(value).items())
        if not self.libraries.has_scope(value):
            yield from named(value, self.libraries)

    def _array(self, name: str, value: Any) -> object:
        """An array's type, shape and contents; of a tensor, those of all the memory that it is a view of."""
        try:
            if isinstance(value, np.ndarray):
                data = b"" if value.dtype.hasobject else value.tobytes()
                how: object = (str(value.dtype), value.shape)
            else:
                plain = value.detach().as_subclass(Tensor).cpu()
                storage = plain.untyped_storage()
                data = torch.empty(0, dtype=torch.uint8).set_(storage).numpy().tobytes()
                how = (str(plain.dtype), tuple(plain.shape), plain.stride(), plain.storage_offset())
        except (RuntimeError, NotImplementedError, TypeError) as error:
            raise _closed(name, value) from error
        self.bytes += len(data)
        if self.bytes > BYTES:
            raise OutOfReach(f"it keeps more than {BYTES:,} bytes of numbers, which are too many to look at")
        return how, _digest(data)

    def _in_c(self, name: str, value: Any) -> Any:
        """What an object in C is made of: what it shows of its memory, or what a copy would be made from."""
        if isinstance(value, types.GeneratorType):
            at = value.gi_frame
            return None if at is None else [at.f_lasti, dict(at.f_locals), value.gi_yieldfrom]
        if isinstance(value, contextvars.ContextVar):
            return value.get(None)
        if type(value).__module__ == "_thread":
            return repr(value).partition(" at 0x")[0]
        try:
            return bytes(memoryview(value))
        except (TypeError, ValueError, BufferError):
            pass
        try:
            return value.__reduce_ex__(4)
        except Exception as error:
            raise _closed(name, value) from error


def _code(code: types.CodeType) -> tuple[Any, ...]:
    """A function's code, to be compared; that it is from the same file, too, and so is the code in it."""
    inside = [_code(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return (code, code.co_filename, *inside)


def _registry(value: Any) -> bool:
    """Whether something holds functions or classes, most often other decoders; what of it is named is looked at."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple | set) else ()
    return any(map(callable, parts))


def _printed(base: Any, value: Any) -> str:
    """What a value is as one of a class in C, whatever the class derived from it prints."""
    return str(base.__repr__(value))


def _wrapped(value: Any) -> list[Any] | None:
    """What something consists of that is there to be called, or to be looked through; None if it is no such thing."""
    if isinstance(value, types.CellType):
        return [value.cell_contents] if gc.get_referents(value) else []
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, staticmethod | classmethod | property):
        return [value.fget, value.fset, value.fdel] if isinstance(value, property) else [value.__func__]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, weakref.ReferenceType):
        return [value()]
    if isinstance(value, types.BuiltinFunctionType | types.MethodWrapperType):
        return [None if isinstance(value.__self__, types.ModuleType) else value.__self__]
    if isinstance(value, types.WrapperDescriptorType | types.MethodDescriptorType | types.ClassMethodDescriptorType):
        return []
    if type(value).__name__ in ("_lru_cache_wrapper", "_lru_list_elem"):
        return gc.get_referents(value)
    return None


def _own(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Attributes of an object's own, and slots."""
    own = getattr(value, "__dict__", None)
    for key, part in own.items() if isinstance(own, dict) else ():
        yield f"{name}.{key}", part
    for base in type(value).__mro__:
        for key, slot in vars(base).items():
            if isinstance(slot, types.MemberDescriptorType) and not _in_c(base):
                try:
                    yield f"{name}.{key}", slot.__get__(value)
                except AttributeError:  # empty
                    continue


def _in_c(kind: type) -> bool:
    """Whether a class is one in C that may hold what no attribute shows."""
    return (not can_change(kind) or bool(FLAGS.__get__(kind) >> 8 & 1)) and kind not in _FINE


def _closed(name: str, value: Any) -> OutOfReach:
    return OutOfReach(f"it keeps a {type(value).__qualname__} in {name}, which cannot be looked into")


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:40]} {_digest(text.encode('utf-8', 'backslashreplace'))}"


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
