"""Uniform numbers of which only bounds are known, as they are lent to one run of a program.

A number belongs to the run that drew it. One that a program kept from an earlier run, or from another call, would be a
number that was looked at before; it is refused, in a world and outside of any. So is whatever is done with a number but
to compare it, to take it out of its tensor and to arrange it: there is nothing in it that code could read instead.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from specverify.subjects.sampler_worlds import World

FACTS = {
    "shape", "dtype", "device", "ndim", "layout", "is_cuda", "requires_grad", "size", "dim", "numel", "nelement",
    "__len__", "__hash__", "is_floating_point", "is_complex", "get_device",
}  # fmt: skip
"""What may be asked of a number without looking at it."""
ARRANGED = {
    "__getitem__", "reshape", "view", "flatten", "ravel", "squeeze", "unsqueeze", "expand", "unbind", "select",
    "narrow", "permute", "transpose", "t", "contiguous", "clone", "detach", "split", "chunk", "repeat", "tile",
}  # fmt: skip
"""What moves numbers about, none of which depends on what they are."""
CAST = {"to", "float", "double", "cpu", "type_as"}
"""What leaves them the same numbers, elsewhere or in another precision, unless that is a coarse one."""
COARSE = (torch.float16, torch.bfloat16)
"""Numbers of so few bits that they are not to be taken as real: of bfloat16's, one in 256 is 0."""
ONLY = "only comparisons of it can be enumerated"
STALE = (
    "a uniform number was kept from an earlier call, or from another run of this one, and used again: noise is fresh "
    "in every call; draw it where it is used"
)


class Unfollowed(BaseException):
    """Something that cannot be followed: no `except Exception` of a program goes on behind it."""


class Coin(Tensor):
    """Uniform numbers without any data: `places` says which of the world's stand where."""

    world: World
    places: Tensor

    @staticmethod
    def __new__(cls, world: World, places: Tensor, dtype: torch.dtype) -> Coin:
        """One without storage."""
        coin: Coin = Tensor._make_wrapper_subclass(cls, places.shape, dtype=dtype, device=places.device)
        coin.world, coin.places = world, places
        return coin

    def __init__(self, *_: Any) -> None:
        super().__init__()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Where no world is being followed."""
        if asked(func) in FACTS:
            return facts(func, args, kwargs or {})
        raise _stopped(args, STALE)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """What reaches torch's kernels by another way, such as a compiled function."""
        name = str(getattr(func, "__name__", func)).partition(".")[0]
        raise _stopped(args, f"the program uses a uniform number in torch's {name}; {ONLY}")


class Number:
    """A uniform number that was taken out of its tensor (`item`, `tolist`): Python compares it, and nothing else."""

    __slots__ = ("coin",)
    __array_ufunc__ = None
    """So that numpy leaves the comparison to it."""

    def __init__(self, coin: Coin) -> None:
        self.coin = coin

    def __lt__(self, bound: Any) -> Any:
        return self._is(bound, below=True)

    def __gt__(self, bound: Any) -> Any:
        return self._is(bound, below=False)

    __le__, __ge__ = __lt__, __gt__

    def _is(self, bound: Any, below: bool) -> Any:
        if isinstance(bound, Number):
            raise self.coin.world.stop(f"the program compares two uniform numbers; {ONLY}, with what is known")
        found = self.coin.world.compare(self.coin, bound, below)
        return found if isinstance(bound, Tensor) else bool(found)

    def _refuse(self, *_: Any, name: str) -> Any:
        raise self.coin.world.stop(f"the program uses a uniform number in {name}; {ONLY}")

    def __getattr__(self, name: str) -> Any:
        return self._refuse(name=name)

    def __hash__(self) -> int:
        return id(self)


for _name in (
    "bool", "float", "int", "index", "complex", "round", "trunc", "floor", "ceil", "neg", "pos", "abs", "eq", "ne",
    "format", "str", "repr", "reduce_ex", "array", *(side + name for side in ("", "r") for name in (
        "add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow")),
):  # fmt: skip
    setattr(Number, f"__{_name}__", functools.partialmethod(Number._refuse, name=f"__{_name}__"))


def _stopped(args: Any, why: str) -> Unfollowed:
    coin = next((one for one in args if isinstance(one, Coin)), None)
    return Unfollowed(why) if coin is None else coin.world.stop(why)


def asked(func: Any) -> str:
    """The name of a function of torch's, or of the property that it gets."""
    name = str(getattr(func, "__name__", func))
    return str(getattr(getattr(func, "__self__", None), "__name__", name)) if name == "__get__" else name


def facts(func: Any, args: Any, kwargs: Any) -> Any:
    """What is asked of a number without looking at it."""
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args, **kwargs)


def arranged(coin: Coin, func: Any, args: Any, kwargs: Any) -> Any:
    """The same numbers, elsewhere: copies and views of a number are one number."""
    found = func(coin.places, *args, **kwargs)
    if isinstance(found, Tensor):
        return Coin(coin.world, found, coin.dtype)
    return type(found)([Coin(coin.world, one, coin.dtype) for one in found])


def cast(coin: Coin, func: Any, args: Any, kwargs: Any) -> Coin | None:
    """The same numbers on another device or in another precision; None if they are not the same then."""
    like = func(torch.zeros(1, dtype=coin.dtype, device=coin.device), *args, **kwargs)
    if not like.is_floating_point() or like.dtype in COARSE:
        return None
    return Coin(coin.world, coin.places.to(like.device), like.dtype)


def taken_out(coin: Coin) -> Any:
    """`tolist`: numbers in lists, as deep as the tensor is."""
    if coin.places.ndim == 0:
        return Number(coin)
    return [taken_out(Coin(coin.world, one, coin.dtype)) for one in coin.places.unbind(0)]
