"""numpy's generators, as a program meets them that is followed.

They draw for real, so that generators move as they would, and hand out what the world chooses: whole numbers, or
uniform numbers that arrays of objects hold.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from specverify.subjects.sampler_coins import Coin, arranged, calculated, gathered
from specverify.subjects.sampler_noise import NUMPYS
from specverify.subjects.sampler_numbers import Number, from_numbers, holds_numbers, taken_out
from specverify.subjects.sampler_torch import exponential
from specverify.subjects.sampler_world import World


class Numbers(np.ndarray):
    """An array of uniform numbers: of objects, each of which numpy asks (`Number`)."""

    def argmax(self, axis: Any = None, **named: Any) -> Any:  # type: ignore[override]
        """Where the largest is: a race."""
        return self._first(True, axis, named)

    def argmin(self, axis: Any = None, **named: Any) -> Any:  # type: ignore[override]
        """Where the smallest is."""
        return self._first(False, axis, named)

    def _first(self, largest: bool, axis: Any, named: Any) -> Any:
        if self.dtype != object:
            plain = self.view(np.ndarray)
            return plain.argmax(axis, **named) if largest else plain.argmin(axis, **named)
        coin = from_numbers(self, None)
        if coin is None or World.current is None:
            raise _refused("argmax of numbers and others")
        flat = coin if axis is not None else gathered([one.coin for one in self.flat], torch.stack)
        assert flat is not None
        found = World.current.first(flat, axis or 0, largest, bool(named.get("keepdims")))
        return found.numpy() if found.ndim else np.int64(found)


def _refused(name: str) -> BaseException:
    assert World.current is not None
    return World.current.stop(f"the program draws with {name}, which is not followed")


def _numbers(coin: Coin) -> Any:
    """Numbers as numpy hands them out: one, or an array."""
    if coin.places.ndim == 0:
        return Number(coin)
    box = np.empty(coin.shape, dtype=object)
    box.reshape(-1)[:] = taken_out(arranged(coin, torch.Tensor.flatten, (), {}))
    return box.view(Numbers)


def _tensor(real: Any) -> torch.Tensor:
    return torch.as_tensor(real, dtype=torch.float64)


Real = Callable[..., Any]
"""The method of the real generator, which draws."""


def _uniform(world: World, real: Real, size: Any = None, dtype: Any = np.float64) -> Any:
    return _numbers(world.uniform(_tensor(real(size, dtype) if dtype is not np.float64 else real(size))))


def _rand(world: World, real: Real, *shape: int) -> Any:
    return _numbers(world.uniform(_tensor(real(*shape))))


def _between(world: World, real: Real, low: float = 0.0, high: float = 1.0, size: Any = None) -> Any:
    coin = world.uniform((_tensor(real(low, high, size)) - low) / (high - low))
    return _numbers(calculated(calculated(coin, "mul", high - low), "add", low))


def _exponential(world: World, real: Real, scale: float = 1.0, size: Any = None) -> Any:
    return _numbers(exponential(world, _tensor(real(scale, size)), scale))


def _standard(world: World, real: Real, size: Any = None) -> Any:
    return _numbers(exponential(world, _tensor(real(size)), 1.0))


def _gumbel(world: World, real: Real, loc: float = 0.0, scale: float = 1.0, size: Any = None) -> Any:
    coin = exponential(world, (-(_tensor(real(loc, scale, size)) - loc) / scale).exp(), 1.0)
    return _numbers(calculated(calculated(calculated(coin, "log"), "mul", -scale), "add", loc))


def _integers(
    world: World, real: Real, low: int, high: int | None = None, size: Any = None, dtype: Any = np.int64,
    endpoint: bool = False,
) -> Any:  # fmt: skip
    first, last = (0, low) if high is None else (low, high)
    drawn = real(low, high, size, dtype, endpoint) if endpoint else real(low, high, size, dtype)
    found = world.integers(int(first), int(last) + endpoint, np.ravel(drawn).tolist())
    return found[0] if size is None else np.array(found, dtype=drawn.dtype).reshape(drawn.shape)


def _choice(
    world: World, real: Real, a: Any, size: Any = None, replace: bool = True, p: Any = None, axis: int = 0,
    shuffle: bool = True,
) -> Any:  # fmt: skip
    if axis != 0 or not (replace or shuffle):
        raise _refused("choice along an axis, or in no order")
    count = int(a) if np.ndim(a) == 0 else len(a)
    drawn = real(count, size, replace, p)
    law = np.full(count, 1 / count) if p is None else np.asarray(p, dtype=np.float64)
    found = world.several((law / law.sum()).tolist(), np.ravel(drawn).tolist(), replace)
    index = np.array(found, dtype=np.int64).reshape(np.shape(drawn))
    if np.ndim(a) == 0:
        return index if size is not None else int(found[0])
    return np.asarray(a)[index] if size is not None else np.asarray(a)[found[0]]


def _multinomial(world: World, real: Real, n: int, pvals: Any, size: Any = None) -> Any:
    drawn, law = real(n, pvals, size), np.asarray(pvals, dtype=np.float64)
    if law.ndim != 1:
        raise _refused("multinomial of several laws")
    rows = np.reshape(drawn, (-1, len(law)))
    found = [world.several(law.tolist(), np.repeat(np.arange(len(law)), row).tolist(), True) for row in rows]
    return np.array([np.bincount(row, minlength=len(law)) for row in found], dtype=drawn.dtype).reshape(drawn.shape)


def _order(world: World, drawn: Sequence[int]) -> list[int]:
    return world.several([1 / len(drawn)] * len(drawn), [int(one) for one in drawn], False) if len(drawn) else []


def _permutation(world: World, real: Real, x: Any) -> Any:
    order = _order(world, real(int(x) if np.ndim(x) == 0 else len(x)))
    return np.array(order, dtype=np.int64) if np.ndim(x) == 0 else np.asarray(x)[order]


def _shuffle(world: World, real: Real, x: Any) -> None:
    drawn = np.arange(len(x))
    real(drawn)
    order = _order(world, drawn.tolist())
    x[:] = x[order] if isinstance(x, np.ndarray) else [x[at] for at in order]


_ALIKE = {"choice": _choice, "uniform": _between, "exponential": _exponential, "standard_exponential": _standard,
          "gumbel": _gumbel, "multinomial": _multinomial, "permutation": _permutation, "shuffle": _shuffle,
          "random": _uniform}  # fmt: skip
_NEW = {**_ALIKE, "integers": _integers}
_OLD = {**_ALIKE, "random_sample": _uniform, "rand": _rand, "randint": _integers}
_NO_DRAW = {"spawn", "bit_generator", "get_state", "set_state", "seed"}


class _Kind(type):
    """A class of generators that those of numpy, or of Python, count as, too."""

    base: type

    def __instancecheck__(cls, one: Any) -> bool:
        return isinstance(one, cls.base)


def _draw(generator: Any, *args: Any, _name: str, **kwargs: Any) -> Any:
    """A method of one of our generators."""
    world, base = World.current, type(generator).base
    real = functools.partial(getattr(base, _name), generator)
    if world is None or world.drawing:  # choice asks for random
        return real(*args, **kwargs)
    if (draw := type(generator).draws.get(_name)) is None or any(map(holds_numbers, (*args, *kwargs.values()))):
        raise _refused(f"numpy's {_name}")
    if kwargs.get("out") is not None:
        raise _refused(f"numpy's {_name} into an array of its own (out)")
    return draw(world, functools.partial(_really, world, generator, real), *args, **kwargs)


def _really(world: World, source: Any, real: Real, *args: Any) -> Any:
    with world.drawing_from(source):
        return real(*args)


class NewGenerator(np.random.Generator, metaclass=_Kind):
    """numpy's Generator."""

    base, draws = NUMPYS, _NEW


class OldGenerator(np.random.RandomState, metaclass=_Kind):
    """numpy's RandomState."""

    base, draws = np.random.RandomState, _OLD


for _ours in (NewGenerator, OldGenerator):
    for _name in dir(_ours.base):
        if not _name.startswith("_") and _name not in _NO_DRAW:
            setattr(_ours, _name, functools.partialmethod(_draw, _name=_name))


def default_rng(seed: Any = None) -> Any:
    """numpy's, in a run that is followed."""
    if seed is None:
        raise _refused("numpy's default_rng() that has no seed; give it the seed of the call")
    if isinstance(seed, NUMPYS):
        return seed
    return NewGenerator(seed if isinstance(seed, np.random.BitGenerator) else np.random.PCG64(seed))


_EVERYBODYS: Any = getattr(np.random.random, "__self__")  # noqa: B009  (no attribute that stubs know)
FUNCTIONS = tuple(
    name
    for name in dir(np.random)
    if getattr(getattr(np.random, name), "__self__", None) is _EVERYBODYS and name in vars(OldGenerator)
)
"""Those of the module `np.random` that draw from the generator that everybody shares."""


def shared() -> OldGenerator:
    """The one behind them."""
    return OldGenerator(_EVERYBODYS._bit_generator)
