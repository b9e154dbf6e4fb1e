"""What is shut while a decoder's own code runs: clocks, entropy, hooks of Python, and switches that end the watch.

Whatever calls one of them for the decoder, and by whatever name, is refused: they are replaced where they stand, as
their names tell too little. Who held one from before is refused as well (`keeping.py`).
"""

from __future__ import annotations

import functools
import importlib
import random
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import overrides
from torch.utils._python_dispatch import _get_current_dispatch_mode

from specverify.evidence.exact import watch
from specverify.evidence.exact.naming import Libraries
from specverify.evidence.exact.numbers import OutOfReach
from specverify.evidence.exact.tensors import Named, Unseen

_CLOCKS = (
    "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns thread_time "
    "thread_time_ns clock_gettime clock_gettime_ns localtime gmtime ctime asctime strftime"
)
_SWITCHES = (
    "_DisableTorchDispatch DisableTorchFunction _ExcludeDispatchKeyGuard ExcludeDispatchKeyGuard "
    "_SetExcludeDispatchKeyGuard _ForceDispatchKeyGuard _dispatch_tls_set_dispatch_key_excluded "
    "_dispatch_tls_set_dispatch_key_included _unset_dispatch_mode _pop_torch_dispatch_stack _pop_torch_function_stack"
)
_SHUT = (
    ("it reads a clock", "time", _CLOCKS),
    ("it draws random numbers of the system's own, instead of its draws", "os", "urandom getrandom"),
    ("it draws random numbers of the system's own, instead of its draws", "random", "_urandom"),
    ("it switches off what watches it", "torch._C", _SWITCHES),
    ("it switches off what watches it", "torch.utils._mode_utils", "no_dispatch"),
    ("it hooks into Python", "sys", "setprofile settrace addaudithook call_tracing"),
    ("it hooks into Python", "signal", "signal setitimer"),
    ("it turns on the collector", "gc", "enable set_threshold"),
)
"""Why, the module, and its functions."""
_OWN = "specverify.evidence.exact."


class _Refused:
    """Stands for a function; only other threads, and the proof itself, may call it."""

    def __init__(self, why: str, before: Callable[..., Any]) -> None:
        self.why, self.before = why, before
        self.__name__ = getattr(before, "__name__", "")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _by_decoder(sys._getframe(1)):
            raise _stop(f"{self.why}, by {self.__name__.strip('_')}")
        return self.before(*args, **kwargs)


class _Seeding:
    """Stands for `random.Random.seed`, which may be called with a seed."""

    def __init__(self, before: Callable[..., Any]) -> None:
        self.before = before

    def __get__(self, generator: Any, kind: Any = None) -> Any:
        if generator is None:
            return self.before
        return functools.partial(self._seed, generator)

    def _seed(self, generator: random.Random, a: Any = None, version: int = 2) -> Any:
        if a is None and _by_decoder(sys._getframe(1)):
            raise _stop("it draws random numbers without a seed, instead of its draws")
        return self.before(generator, a, version)


def _stop(why: str) -> OutOfReach:
    named, _ = _WATCHED[-1]
    named.stopped = OutOfReach(why)
    return named.stopped


def _by_decoder(frame: types.FrameType) -> bool:
    """Whether a call is a decoder's: in its thread, not the proof's own, nor of a library that is being imported."""
    if not _WATCHED or _WATCHED[-1][1] != threading.get_ident() or _of_module(frame, _OWN):
        return False
    calling: types.FrameType | None = frame
    while calling is not None and not _of_module(calling, _OWN):
        name = str(calling.f_globals.get("__name__"))
        if calling.f_code.co_name == "<module>" and Libraries().has_name(name) and _of_module(calling, name):
            return not getattr(sys.modules[name].__spec__, "_initializing", False)
        calling = calling.f_back
    return True


def _of_module(frame: types.FrameType, begins: str) -> bool:
    """Whether code runs in a module of such a name."""
    scope, name = frame.f_globals, frame.f_globals.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) and name.startswith(begins) else None
    return module is not None and vars(module) is scope


def _all() -> Iterator[tuple[Any, str, Any, Any]]:
    for why, name, functions in _SHUT:
        module = importlib.import_module(name)
        for each in functions.split():
            if (before := getattr(module, each, None)) is not None:
                yield module, each, before, _Refused(why, before)
    yield random.Random, "seed", random.Random.seed, _Seeding(random.Random.seed)


_WATCHED: list[tuple[Named, int]] = []
_FUNCTIONS = tuple(_all())
SHUT = tuple(before for _, _, before, _ in _FUNCTIONS)
"""The functions themselves."""


@contextmanager
def watched(named: Named) -> Iterator[None]:
    """Code of a decoder's runs in here, and nowhere else.

    Args:
        named: carries out what it does with laws, and is stopped by what it must not do.

    Raises:
        OutOfReach: it did, whatever it caught.
    """
    try:
        with watch.own_draws(), _shut(named), Unseen(named) as unseen, named:
            try:
                yield
            except BaseException as error:  # what its frames hold is thrown away here, too
                _clear(error)
                raise
            finally:
                _clear(named.stopped)
            named.check_watched()
            if overrides._get_current_function_mode() is not named or _get_current_dispatch_mode() is not unseen:
                raise OutOfReach("it leaves behind other modes of torch than there were")
    finally:
        if named.stopped is not None:
            raise named.stopped


def _clear(error: BaseException | None) -> None:
    """Let go of what the frames hold that an error came through."""
    seen: list[BaseException] = []
    while error is not None and not any(error is each for each in seen):
        seen.append(error)
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


@contextmanager
def _shut(named: Named) -> Iterator[None]:
    _WATCHED.append((named, threading.get_ident()))
    try:
        if len(_WATCHED) == 1:
            for owner, name, _, refused in _FUNCTIONS:
                setattr(owner, name, refused)
        yield
    finally:
        _WATCHED.pop()
        if not _WATCHED:
            for owner, name, before, _ in _FUNCTIONS:
                setattr(owner, name, before)
