"""Uniform numbers of which only bounds are known, as they are lent to one run of a program.

A number belongs to the run that drew it. One that a program kept from an earlier run, or from another call, would be a
number that was looked at before; it is refused, in a world and outside of any. What may be done with a number is to
arrange it, to do arithmetic with constants (`sampler_forms`), to compare it with what is known, and to round it down:
there is nothing in it that code could read instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from specverify.subjects import sampler_forms as forms
from specverify.subjects.sampler_forms import Form, Step

if TYPE_CHECKING:
    from specverify.subjects.sampler_world import World

FACTS = {
    "shape", "dtype", "device", "ndim", "layout", "is_cuda", "requires_grad", "size", "dim", "numel", "nelement",
    "__len__", "__hash__", "is_floating_point", "is_complex", "get_device",
}  # fmt: skip
"""What may be asked of a number without looking at it."""
ARRANGED = {
    "__getitem__", "reshape", "view", "flatten", "ravel", "squeeze", "unsqueeze", "expand", "unbind", "select",
    "narrow", "permute", "transpose", "t", "contiguous", "clone", "detach", "split", "chunk", "repeat", "tile",
    "gather", "index_select", "take_along_dim", "expand_as", "view_as", "reshape_as", "flip", "roll",
    "repeat_interleave",
}  # fmt: skip
"""What moves numbers about, none of which depends on what they are."""
CAST = {"to", "float", "double", "cpu", "type_as"}
"""What leaves them the same numbers, elsewhere or in another precision, unless that is a coarse one."""
COARSE = (torch.float16, torch.bfloat16)
"""Numbers of so few bits that they are not to be taken as real: of bfloat16's, one in 256 is 0."""
ONLY = "only comparisons of it with what is known, and arithmetic with constants, can be followed"
STALE = (
    "a uniform number was kept from an earlier call, or from another run of this one, and used again: noise is fresh "
    "in every call; draw it where it is used"
)


class Unfollowed(BaseException):
    """Something that cannot be followed: no `except Exception` of a program goes on behind it."""


class Coin(Tensor):
    """Uniform numbers without any data: `places` says which of the world's stand where, `form` what became of them.

    Attributes:
        viewed: whether another tensor may show the same numbers, so that neither can be changed in place.
    """

    world: World
    places: Tensor
    form: Form
    viewed: bool

    @staticmethod
    def __new__(cls, world: World, places: Tensor, dtype: torch.dtype, form: Form = ()) -> Coin:
        """One without storage."""
        coin: Coin = Tensor._make_wrapper_subclass(cls, places.shape, dtype=dtype, device=places.device)
        coin.world, coin.places, coin.form, coin.viewed = world, places, form, False
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
    shape = coin.places.shape
    steps = [step.map(lambda a: func(a.expand(shape), *args, **kwargs)) for step in coin.form]
    coin.viewed = True
    if isinstance(found, Tensor):
        return _viewed(Coin(coin.world, found, coin.dtype, tuple(steps)))
    return type(found)(
        [
            _viewed(Coin(coin.world, one, coin.dtype, tuple(Step(s.kind, s.a[at], s.b[at]) for s in steps)))
            for at, one in enumerate(found)
        ]
    )


def _viewed(coin: Coin) -> Coin:
    coin.viewed = True
    return coin


def gathered(coins: Sequence[Any], func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Coin | None:
    """Numbers put together (`stack`, `cat`); None where others stand among them, or such as became other things."""
    if not coins or not all(isinstance(coin, Coin) for coin in coins):
        return None
    kinds = [[step.kind for step in coin.form] for coin in coins]
    if any(kind != kinds[0] for kind in kinds) or any(coin.world is not coins[0].world for coin in coins):
        return None
    steps = [
        Step(
            kind,
            func([c.form[at].a for c in coins], *args, **kwargs),
            func([c.form[at].b for c in coins], *args, **kwargs),
        )
        for at, kind in enumerate(kinds[0])
    ]
    for coin in coins:
        coin.viewed = True
    return _viewed(Coin(coins[0].world, func([c.places for c in coins], *args, **kwargs), coins[0].dtype, tuple(steps)))


def cast(coin: Coin, func: Any, args: Any, kwargs: Any) -> Any:
    """The same numbers on another device or in another precision, or rounded down; None if they cannot be."""
    like = func(torch.zeros(1, dtype=coin.dtype, device=coin.device), *args, **kwargs)
    if like.dtype in COARSE or like.dtype is torch.bool or like.dtype.is_complex:
        return None
    if not like.is_floating_point():
        return coin.world.whole(coin, towards_zero=True).to(like.dtype)
    coin.viewed = True
    return _viewed(Coin(coin.world, coin.places.to(like.device), like.dtype, coin.form))


def calculated(coin: Coin, name: str, other: Any = None, turned: bool = False) -> Coin:
    """Arithmetic: `name` of the number, or of it and something known, the other way round if it is `turned`."""
    if isinstance(other, Coin):
        raise coin.world.stop(f"the program calculates with two uniform numbers at once ({name}); {ONLY}")
    like = 0.0 if other is None else other
    try:
        kind = torch.float64 if isinstance(like, float) else None
        known = torch.as_tensor(like, dtype=kind, device=coin.places.device)
        dtype = coin.dtype if known.ndim == 0 else torch.promote_types(coin.dtype, known.dtype)
        places, known = torch.broadcast_tensors(coin.places, known.detach().to(torch.float64, copy=True))
    except (TypeError, ValueError, RuntimeError):
        raise coin.world.stop(f"the program uses a uniform number in {name} with a {type(other).__name__}") from None
    form = tuple(step.map(lambda a: a.expand(places.shape)) for step in coin.form)
    low, high = coin.world.bounds(places)
    try:
        form = _form(form, name, known, turned, low, high)
    except forms.Unclear as error:
        raise coin.world.stop(f"the program uses a uniform number in {name}, which makes {error}; {ONLY}") from None
    return Coin(coin.world, places, dtype, form)


def _form(form: Form, name: str, known: Tensor, turned: bool, low: Tensor, high: Tensor) -> Form:
    one, zero = torch.ones_like(low), torch.zeros_like(low)
    if name in ("add", "sub"):
        sign = -one if name == "sub" and turned else one
        by = -known if name == "sub" and not turned else known
        return form if bool((sign == 1).all()) and forms.guarded(form, by) else forms.affine(form, sign, by)
    if name == "mul" or (name == "truediv" and not turned):
        factor = known if name == "mul" else 1 / known
        if bool(factor.isinf().any()) and bool((forms.span(form, low, high)[0] < 0).any()):
            raise forms.Unclear("infinity of either sign")
        return forms.affine(form, factor, zero)
    if name == "truediv":
        return forms.affine(forms.power(form, -one, low, high), known, zero)
    if name in ("pow", "sqrt"):
        exponent = known if name == "pow" else one / 2
        if bool((exponent == 0).any()):
            raise forms.Unclear("a constant")
        return forms.power(form, exponent, low, high)
    if name in ("log", "log1p", "log2", "log10"):
        form = forms.log(forms.affine(form, one, one) if name == "log1p" else form, low, high)
        base = {"log2": math.log(2), "log10": math.log(10)}.get(name, 1.0)
        return forms.affine(form, one / base, zero)
    if name == "neg":
        return forms.affine(form, -one, zero)
    return forms.exp(form, low)


def kept_within(coin: Coin, least: Any, most: Any) -> Coin:
    """`clamp`, by numbers or tensors that are known, or None."""
    least, most = -math.inf if least is None else least, math.inf if most is None else most
    try:
        places, least, most = torch.broadcast_tensors(
            coin.places,
            *(
                torch.as_tensor(bound, device=coin.places.device).to(torch.float64, copy=True)
                for bound in (least, most)
            ),
        )
    except (TypeError, ValueError, RuntimeError):
        raise coin.world.stop(f"the program clamps a uniform number by what is not known; {ONLY}") from None
    form = tuple(step.map(lambda a: a.expand(places.shape)) for step in coin.form)
    try:
        return Coin(coin.world, places, coin.dtype, forms.clamp(form, least, most, *coin.world.bounds(places)))
    except forms.Unclear as error:
        raise coin.world.stop(f"the program clamps a uniform number, which makes {error}; {ONLY}") from None
