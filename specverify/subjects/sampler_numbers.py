"""A uniform number as Python and numpy hold it: out of a tensor, in a list, in an array of objects.

numpy asks of each object in an array what it asks of the array, so that arrays of numbers are compared, and calculated
with, one by one. What would read a number (`float`, `format`, `hash`, `==`) is refused.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from specverify.subjects.sampler_coins import COARSE, ONLY, Coin, arranged, calculated, gathered


@contextlib.contextmanager
def quiet(known: Any) -> Iterator[None]:
    """While a number is held against one that is known, what is computed for that is not followed itself; a tensor may
    hold random numbers, and is."""
    if not isinstance(known, float | int | np.generic):
        yield
        return
    with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
        yield


if TYPE_CHECKING:
    from specverify.subjects.sampler_world import World


class Number:
    """A uniform number that was taken out of its tensor (`item`, `tolist`), or that Python or numpy drew."""

    __slots__ = ("coin",)

    def __init__(self, coin: Coin) -> None:
        self.coin = coin

    def __lt__(self, bound: Any) -> Any:
        return self._is(bound, True, True)

    def __le__(self, bound: Any) -> Any:
        return self._is(bound, True, False)

    def __gt__(self, bound: Any) -> Any:
        return self._is(bound, False, True)

    def __ge__(self, bound: Any) -> Any:
        return self._is(bound, False, False)

    def _is(self, bound: Any, below: bool, strict: bool) -> Any:
        if isinstance(bound, np.ndarray) and bound.ndim:
            return np.array([self._is(one, below, strict) for one in bound.flat], dtype=bool).reshape(bound.shape)
        if bound is self:  # as a search does that goes on from where the last key was
            return not strict
        if isinstance(bound, Number | Coin):
            raise self.coin.world.stop(f"the program compares two uniform numbers; {ONLY}")
        with quiet(bound):
            found = self.coin.world.compare(self.coin, bound, below, strict)
        return found if isinstance(bound, Tensor) else bool(found)

    def _by(self, other: Any, name: str, turned: bool = False) -> Any:
        if isinstance(other, np.ndarray) and other.ndim:
            found = np.empty(other.shape, dtype=object)
            for at, one in np.ndenumerate(other):
                found[at] = self._by(one, name, turned)
            return found
        if isinstance(other, Number):
            raise self.coin.world.stop(f"the program calculates with two uniform numbers at once ({name}); {ONLY}")
        with quiet(other):
            came = calculated(self.coin, name, other, turned)
        return came if isinstance(other, Tensor) else Number(came)

    def _of(self, name: str) -> Number:
        with quiet(0.0):
            return Number(calculated(self.coin, name))

    def log(self) -> Number:
        """As numpy asks of what stands in arrays of objects."""
        return self._of("log")

    def exp(self) -> Number:
        """The same."""
        return self._of("exp")

    def sqrt(self) -> Number:
        """The same."""
        return self._of("sqrt")

    def item(self) -> Number:
        """A number of numpy's as one of Python's."""
        return self

    def __neg__(self) -> Number:
        return self._of("neg")

    def __pos__(self) -> Number:
        return self

    def __int__(self) -> int:
        return int(self.coin.world.whole(self.coin, towards_zero=True))

    __trunc__ = __int__

    def __floor__(self) -> int:
        return int(self.coin.world.whole(self.coin, towards_zero=False))

    def __array_ufunc__(self, function: Any, method: str, *given: Any, **named: Any) -> Any:
        """numpy asks of each object what it asks of arrays."""
        if method != "__call__" or named:
            return self._refuse(name=f"numpy's {function.__name__}")
        return function(*(boxed(one) if isinstance(one, Number) else one for one in given))

    def _refuse(self, *_: Any, name: str) -> Any:
        raise self.coin.world.stop(f"the program uses a uniform number in {name}; {ONLY}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__array"):  # numpy looks for what it may read
            raise AttributeError(name)
        return self._refuse(name=name)


def boxed(number: Number) -> Any:
    """An array of numpy's with a number in it."""
    box = np.empty((), dtype=object)
    box[()] = number
    return box


for _name in (
    "bool", "float", "index", "complex", "round", "ceil", "abs", "eq", "ne", "hash", "format", "str", "repr",
    "reduce_ex", "copy", "deepcopy", "mod", "rmod", "floordiv", "rfloordiv", "divmod", "rdivmod", "rpow",
):  # fmt: skip
    setattr(Number, f"__{_name}__", functools.partialmethod(Number._refuse, name=f"__{_name}__"))
for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(Number, f"__{_name}__", functools.partialmethod(Number._by, name=_name))
    if _name != "pow":
        setattr(Number, f"__r{_name}__", functools.partialmethod(Number._by, name=_name, turned=True))


def taken_out(coin: Coin) -> Any:
    """`tolist`: numbers in lists, as deep as the tensor is."""
    if coin.places.ndim == 0:
        return Number(coin)
    return [taken_out(one) for one in arranged(coin, Tensor.unbind, (0,), {})]


def from_numbers(given: Any, dtype: torch.dtype | None) -> Coin | None:
    """A tensor of numbers in lists or in an array of numpy's; None where others stand among them."""
    box = given if isinstance(given, np.ndarray) else boxed(given) if isinstance(given, Number) else None
    if box is None:
        box = np.empty(np.shape(given) if not _has(given) else _shape(given), dtype=object)
        for at in np.ndindex(box.shape):
            box[at] = functools.reduce(lambda inner, index: inner[index], at, given)
    found = gathered([getattr(one, "coin", None) for one in box.flat], torch.stack)
    if found is None:
        return None
    shaped = arranged(found, Tensor.reshape, (box.shape,), {})
    return Coin(shaped.world, shaped.places, dtype or shaped.dtype, shaped.form)


def made(world: World, given: Any, dtype: torch.dtype | None) -> Coin:
    """A tensor of numbers that Python or numpy drew."""
    if dtype is not None and (not dtype.is_floating_point or dtype in COARSE):
        raise world.stop(f"the program makes a tensor of {dtype} of uniform numbers; {ONLY}")
    if (found := from_numbers(given, dtype)) is None:
        raise world.stop(f"the program puts uniform numbers into a tensor beside others; {ONLY}")
    return found


def _has(given: Any) -> bool:
    return isinstance(given, Number) or (isinstance(given, list | tuple) and any(map(_has, given)))


def _shape(given: Any) -> tuple[int, ...]:
    return (len(given), *_shape(given[0])) if isinstance(given, list | tuple) else ()


def holds_numbers(given: Any) -> bool:
    """Whether uniform numbers stand in what a tensor is to be made of."""
    if isinstance(given, np.ndarray):
        return given.dtype == object and any(isinstance(one, Number) for one in given.flat)
    return _has(given)
