"""torch's functions as a program meets them that is followed: draws, and what is done with uniform numbers.

A draw is made for real, too, so that generators move as they would; what it gives is chosen by the world, or is a
`Coin`. A tensor that was filled in place (`uniform_`, `exponential_`) stands for its numbers from then on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from specverify.subjects import sampler_coins as coins_
from specverify.subjects.sampler_coins import ONLY, Coin
from specverify.subjects.sampler_forms import Form, Step
from specverify.subjects.sampler_numbers import Number, holds_numbers, made, taken_out

if TYPE_CHECKING:
    from specverify.subjects.sampler_world import World

MOST = 4096
"""Values that a whole number may have which is followed."""
TOO_MANY = f"which may have more than {MOST:,} values: too many to follow (is it to seed another generator?)"
_NOT = "which cannot be followed"
_COMPARED = {
    "lt": (True, True), "le": (True, False), "gt": (False, True), "ge": (False, False), "less": (True, True),
    "less_equal": (True, False), "greater": (False, True), "greater_equal": (False, False),
}  # fmt: skip
"""Whether it asks if the first lies below, and strictly."""
_ARITHMETIC = {
    "add": "add", "sub": "sub", "subtract": "sub", "rsub": "rsub", "mul": "mul", "multiply": "mul", "div": "truediv",
    "divide": "truediv", "true_divide": "truediv", "truediv": "truediv", "rdiv": "rtruediv", "rtruediv": "rtruediv",
    "radd": "add", "rmul": "mul", "neg": "neg", "negative": "neg", "log": "log", "log1p": "log1p", "log2": "log2",
    "log10": "log10", "exp": "exp", "sqrt": "sqrt", "pow": "pow", "reciprocal": "rtruediv",
}  # fmt: skip
_UNKNOWN_DRAWS = {
    "cauchy_", "geometric_", "log_normal_", "normal", "normal_", "poisson", "randint_like", "randn", "randn_like",
    "random_",
}  # fmt: skip


class Extreme(NamedTuple):
    """What `torch.max` along a dimension returns."""

    values: Any
    indices: Tensor


def plain(name: str) -> tuple[str, bool]:
    """The name of a function without what says how it was called, and whether it works in place."""
    if name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
        return (name[1:], True) if name[:1] == "i" and name[1:] in _ARITHMETIC else (name, False)
    return (name[:-1], True) if name.endswith("_") else (name, False)


def handle(world: World, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What one call of a function of torch's gives."""
    name = getattr(func, "__name__", "")
    if name in _UNKNOWN_DRAWS:
        raise world.stop(f"the program draws with torch's {name}, whose outcomes cannot be enumerated")
    if name in _DRAWS and getattr(func, "__module__", None) == "torch.nn.init":
        raise world.stop(f"the program draws weights with torch.nn.init.{name}, {_NOT}; make its modules beforehand")
    again = name in _DRAWS and name.endswith("_") and id(args[0]) in world.filled
    if world.filled:
        others, kwargs = _substituted(world, args[int(again) :], kwargs)
        args = (*args[: int(again)], *others)
    if name in _DRAWS:
        return _drawn(world, name, func, args, kwargs)
    if name in ("tensor", "as_tensor", "asarray") and args and holds_numbers(args[0]):
        return made(world, args[0], kwargs.get("dtype"))
    if name in ("stack", "cat", "concat", "concatenate", "hstack", "vstack") and args:
        if not isinstance(args[0], Coin) and any(isinstance(one, Coin) for one in args[0]):
            together = coins_.gathered(args[0], func, *args[1:], **kwargs)
            return _unknown(world, f"{name} beside others") if together is None else together
        return func(*args, **kwargs)
    given = [one for one in (*args, *kwargs.values()) if isinstance(one, Coin | Number)]
    if not given:
        return func(*args, **kwargs)
    args = tuple(one.coin if isinstance(one, Number) else one for one in args)
    coins = [one for one in args if isinstance(one, Coin)]
    if any(coin.world is not world for coin in coins):
        raise world.stop(coins_.STALE)
    if len(given) == len(coins) == 1:
        found = _asked(world, coins[0], name, func, args, dict(kwargs))
        if found is not NotImplemented:
            return found
    return _unknown(world, name or str(func))


def _unknown(world: World, name: str) -> Any:
    instead = "; .item() gives a number that can be" if name == "__float__" else ""
    raise world.stop(f"the program uses a uniform number in torch's {name}; {ONLY}{instead}")


def _substituted(world: World, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """Tensors that were filled with random numbers, as those."""

    def numbers(one: Any) -> Any:
        if isinstance(one, list | tuple) and any(isinstance(part, Tensor) for part in one):
            return type(one)(map(numbers, one)) if type(one) in (list, tuple) else one
        if not isinstance(one, Tensor) or isinstance(one, Coin):
            return one
        if (known := world.filled.get(id(one))) is not None:
            return known[1]
        if one.layout is torch.strided and one.untyped_storage()._cdata in world.storages:
            raise world.stop("the program uses a view of a tensor that was filled with random numbers in place")
        return one

    return tuple(map(numbers, args)), {name: numbers(one) for name, one in kwargs.items()}


def _asked(world: World, coin: Coin, name: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What is done with numbers and nothing else that is random."""
    if coins_.asked(func) in coins_.FACTS:
        return coins_.facts(func, args, kwargs)
    first = args[0] is coin
    base, inside = plain(name)
    if base in _COMPARED and len(args) == 2 and not kwargs and not inside:
        below, strict = _COMPARED[base]
        # u < x, and x > u, are the same question
        return world.compare(coin, args[int(first)], below == first, strict)
    if base in _ARITHMETIC and set(kwargs) <= {"other", "exponent"} and len(args) + len(kwargs) <= 2:
        return _calculated(world, coin, base, inside, args, kwargs)
    if base in ("searchsorted", "bucketize"):
        return _sorted_in(world, coin, base, args, kwargs)
    if not first:
        return NotImplemented
    if base in ("clamp", "clip", "clamp_min", "clamp_max"):
        least, most = _ends(base, args[1:], kwargs)
        return (
            _changed(world, coin, coins_.kept_within(coin, least, most))
            if inside
            else coins_.kept_within(coin, least, most)
        )
    if name in coins_.ARRANGED and not any(isinstance(one, torch.dtype) for one in (*args, *kwargs.values())):
        return coins_.arranged(coin, func, args[1:], kwargs)
    if name in coins_.CAST | {"long", "int"} and (same := coins_.cast(coin, func, args[1:], kwargs)) is not None:
        return same
    if base == "floor" and not inside and len(args) == 1:
        return world.whole(coin, towards_zero=False).to(coin.dtype)
    if base in ("argmax", "argmin"):
        return _race(world, coin, base == "argmax", *args[1:], **kwargs)
    if base in ("max", "min") and (len(args) > 1 or "dim" in kwargs):
        return _extreme(world, coin, base, *args[1:], **kwargs)
    if name == "item" and coin.places.numel() == 1:
        return Number(coins_.arranged(coin, Tensor.reshape, ((),), {}))
    return taken_out(coin) if name == "tolist" else NotImplemented


def _calculated(
    world: World, coin: Coin, base: str, inside: bool, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    given = (*args, *kwargs.values())
    first = given[0] is coin
    other = next((one for one in given if one is not coin), None)
    name = _ARITHMETIC[base]
    turned = not first
    if name in ("rsub", "rtruediv"):
        name, turned = name[1:], not turned
        other = 1.0 if base == "reciprocal" else other
    if other is None and name in ("add", "sub", "mul", "truediv", "pow"):
        return NotImplemented
    if turned and name == "pow":
        return NotImplemented
    found = coins_.calculated(coin, name, other, turned)
    if not inside:
        return found
    return _changed(world, coin, found) if first else _filled(world, given[0], found)


def _changed(world: World, coin: Coin, found: Coin) -> Coin:
    """A tensor of numbers that was changed in place."""
    if coin.viewed or found.shape != coin.shape:
        raise world.stop("the program changes uniform numbers in place of which there are views, or copies")
    coin.places, coin.form = found.places, found.form
    return coin


def _filled(world: World, tensor: Any, found: Coin) -> Coin:
    """A tensor that stands for numbers from now on. What reads its memory without torch finds NaN there."""
    if not isinstance(tensor, Tensor) or tensor.shape != found.shape or not tensor.is_floating_point():
        raise world.stop("the program writes uniform numbers into a tensor of another kind, in place")
    if tensor.dtype in coins_.COARSE:
        raise world.stop(f"the program draws uniform numbers of {tensor.dtype}, {_NOT}: they are far from real ones")
    with torch.no_grad():
        tensor.fill_(math.nan)
    if id(tensor) in world.filled:
        return _changed(world, world.filled[id(tensor)][1], found)
    kept = Coin(world, found.places, tensor.dtype, found.form)
    world.filled[id(tensor)] = (tensor, kept)
    world.storages.add(tensor.untyped_storage()._cdata)
    return kept


def _ends(base: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    if base == "clamp_min":
        return (args or tuple(kwargs.values()))[0], None
    if base == "clamp_max":
        return None, (args or tuple(kwargs.values()))[0]
    ends = [*args, None, None][:2]
    return kwargs.get("min", ends[0]), kwargs.get("max", ends[1])


def _sorted_in(world: World, coin: Coin, base: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """How many of a sorted row lie below each number; with `right`, or at it."""
    right = bool(kwargs.get("right")) or kwargs.get("side") == "right"
    rows = args[0] if base == "searchsorted" else args[1]
    if len(args) != 2 or set(kwargs) - {"out_int32", "right", "side"} or rows is coin:
        return NotImplemented
    rows = torch.as_tensor(rows)
    wide = coins_.arranged(coin, Tensor.unsqueeze, (-1,), {})
    bounds = rows if rows.ndim == 1 else rows.unsqueeze(-2)
    found = world.compare(wide, bounds, False, not right).sum(-1)
    return found.to(torch.int32) if kwargs.get("out_int32") else found


def _race(world: World, coin: Coin, largest: bool, dim: int | None = None, keepdim: bool = False) -> Tensor:
    if dim is None:
        coin, dim = coins_.arranged(coin, Tensor.flatten, (), {}), 0
    return world.first(coin, dim, largest, keepdim)


def _extreme(world: World, coin: Coin, base: str, dim: int, keepdim: bool = False) -> Any:
    """`max` and `min` along `dim`: the numbers themselves are used up, so that only the indices can be used."""
    at = world.first(coin, dim, base == "max", True)
    values = coins_.arranged(coin, Tensor.gather, (dim, at), {})
    if not keepdim:
        at, values = at.squeeze(dim), coins_.arranged(values, Tensor.squeeze, (dim,), {})
    return Extreme(values, at)


def _drawn(world: World, name: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A draw, which is made for its numbers' sake, too; an error of torch's is the program's."""
    if kwargs.get("out") is not None:
        raise world.stop(f"the program draws with torch's {name} into a tensor of its own (out), {_NOT}")
    if any(isinstance(one, Coin | Number) for one in (*args, *kwargs.values())):
        return _unknown(world, name)
    with world.drawing_from(kwargs.get("generator")):
        real = func(*args, **kwargs)
    return _DRAWS[name](world, real, *args, **{key: one for key, one in kwargs.items() if key != "generator"})


def _uniform(world: World, real: Tensor, *_: Any, **__: Any) -> Coin:
    if real.dtype in coins_.COARSE:
        raise world.stop(f"the program draws uniform numbers of {real.dtype}, {_NOT}: they are far from real ones")
    return world.uniform(real)


def _uniform_in_place(world: World, real: Tensor, tensor: Tensor, *ends: Any, **named: Any) -> Coin:
    first, last = [*ends, 0.0, 1.0][: len(ends)] + [0.0, 1.0][len(ends) :]
    low, high = named.get("from", first), named.get("to", last)
    size = real.double() * 0 + (high - low)
    form: Form = () if (low, high) == (0, 1) else (Step("affine", size, size * 0 + low),)
    return _filled(world, tensor, world.uniform((real.double() - low) / (high - low), form))


def _exponential(world: World, real: Tensor, tensor: Tensor, lambd: float = 1.0) -> Coin:
    return _filled(world, tensor, exponential(world, real.double(), 1 / lambd))


def exponential(world: World, real: Tensor, scale: float) -> Coin:
    """Numbers of an exponential law: -log u, scaled."""
    zero = torch.zeros_like(real)
    form = (Step("log", zero, zero), Step("affine", zero - scale, zero))
    return world.uniform((-real / scale).exp(), form)


def _multinomial(
    world: World,
    real: Tensor,
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
) -> Tensor:
    laws, came = input.double().reshape(-1, input.shape[-1]), real.reshape(-1, num_samples)
    found = [
        world.several((law / law.sum()).tolist(), row, replacement)
        for law, row in zip(laws, came.tolist(), strict=True)
    ]
    return torch.tensor(found, device=input.device).reshape(*input.shape[:-1], num_samples)


def _bernoulli(world: World, real: Tensor, input: Tensor, p: Any = None) -> Tensor:
    chances = torch.as_tensor(input if p is None else p, dtype=torch.float64).expand(real.shape)
    found = [
        world.choose([1 - chance, chance], int(one))
        for chance, one in zip(chances.flatten().tolist(), real.flatten().tolist(), strict=True)
    ]
    return torch.tensor(found, device=real.device).reshape(real.shape).to(real.dtype)


def _bernoulli_in_place(world: World, real: Tensor, tensor: Tensor, p: Any = 0.5) -> Tensor:
    return tensor.copy_(_bernoulli(world, real, tensor, p))


def _randint(world: World, real: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    ends = [one for one in args if isinstance(one, int)]
    high = kwargs.get("high", ends[-1] if ends else None)
    low = kwargs.get("low", ends[0] if len(ends) > 1 or (ends and "high" in kwargs) else 0)
    assert high is not None  # torch has drawn
    return (
        torch.tensor(world.integers(low, high, real.flatten().tolist()), device=real.device)
        .reshape(real.shape)
        .to(real.dtype)
    )


def _randperm(world: World, real: Tensor, n: int, **_: Any) -> Tensor:
    if n == 0:
        return real
    return torch.tensor(world.several([1 / n] * n, real.tolist(), False), device=real.device).to(real.dtype)


_DRAWS: dict[str, Callable[..., Any]] = {
    "rand": _uniform, "rand_like": _uniform, "uniform_": _uniform_in_place, "exponential_": _exponential,
    "multinomial": _multinomial, "bernoulli": _bernoulli, "bernoulli_": _bernoulli_in_place, "randint": _randint,
    "randperm": _randperm,
}  # fmt: skip
