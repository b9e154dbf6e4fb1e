"""Python's generator, `random.Random`, as a program meets it that is followed: see `sampler_numpy`."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch

from specverify.subjects.sampler_coins import calculated
from specverify.subjects.sampler_noise import PYTHONS
from specverify.subjects.sampler_numbers import Number, holds_numbers
from specverify.subjects.sampler_torch import exponential
from specverify.subjects.sampler_world import World

Real = Callable[..., Any]
"""The method of the real generator, which draws."""


def _refused(name: str) -> BaseException:
    assert World.current is not None
    return World.current.stop(f"the program draws with Python's {name}, which is not followed")


def _tensor(real: float) -> torch.Tensor:
    return torch.tensor(real, dtype=torch.float64)


def _random(world: World, real: Real) -> Number:
    return Number(world.uniform(_tensor(real())))


def _uniform(world: World, real: Real, a: float, b: float) -> Number:
    coin = world.uniform((_tensor(real(a, b)) - a) / (b - a))
    return Number(calculated(calculated(coin, "mul", b - a), "add", a))


def _expovariate(world: World, real: Real, lambd: float = 1.0) -> Number:
    return Number(exponential(world, _tensor(real(lambd)), 1 / lambd))


def _choice(world: World, real: Real, seq: Any) -> Any:
    return seq[world.integers(0, len(seq), [real(range(len(seq)))])[0]]


def _choices(
    world: World, real: Real, population: Any, weights: Any = None, *, cum_weights: Any = None, k: int = 1
) -> list[Any]:
    count = len(population)
    if cum_weights is not None:
        weights = [high - low for low, high in zip([0, *cum_weights], cum_weights, strict=False)]
    drawn = real(range(count), weights, k=k)
    law = [1.0] * count if weights is None else [float(weight) for weight in weights]
    return [population[at] for at in world.several([weight / sum(law) for weight in law], drawn, True)]


def _randrange(world: World, real: Real, start: int, stop: int | None = None, step: int = 1) -> int:
    values = range(start) if stop is None else range(start, stop, step)
    return values[world.integers(0, len(values), [values.index(real(start, stop, step))])[0]]


def _randint(world: World, real: Real, a: int, b: int) -> int:
    return world.integers(a, b + 1, [real(a, b)])[0]


def _getrandbits(world: World, real: Real, k: int) -> int:
    return world.integers(0, 1 << k, [real(k)])[0]


def _sample(world: World, real: Real, population: Sequence[Any], k: int) -> list[Any]:
    count = len(population)
    return [population[at] for at in world.several([1 / count] * count, real(range(count), k), False)]


def _shuffle(world: World, real: Real, x: Any) -> None:
    drawn = list(range(len(x)))
    real(drawn)
    order = world.several([1 / len(drawn)] * len(drawn), drawn, False) if drawn else []
    x[:] = [x[at] for at in order]


_DRAWS: dict[str, Callable[..., Any]] = {
    "random": _random, "uniform": _uniform, "expovariate": _expovariate, "choice": _choice, "choices": _choices,
    "randrange": _randrange, "randint": _randint, "getrandbits": _getrandbits, "sample": _sample, "shuffle": _shuffle,
}  # fmt: skip
_UNKNOWN = (
    "betavariate", "gammavariate", "gauss", "lognormvariate", "normalvariate", "paretovariate", "randbytes",
    "triangular", "vonmisesvariate", "weibullvariate",
)  # fmt: skip
FUNCTIONS = (*_DRAWS, *_UNKNOWN)
"""Those of the module `random` that draw."""


class _Kind(type):
    """So that Python's own generators count as ours, too."""

    def __instancecheck__(cls, one: Any) -> bool:
        return isinstance(one, PYTHONS)


class Generator(random.Random, metaclass=_Kind):
    """Python's Random."""

    real: random.Random
    seedless = False

    def __init__(self, x: Any = None) -> None:
        self.real, self.seedless = PYTHONS(x), x is None

    def seed(self, a: Any = None, version: int = 2) -> None:
        """Python's."""
        self.real.seed(a, version)
        self.seedless = a is None

    def getstate(self) -> tuple[Any, ...]:
        """Python's."""
        return self.real.getstate()

    def setstate(self, state: tuple[Any, ...]) -> None:
        """Python's."""
        self.real.setstate(state)


def _draw(generator: Generator, *args: Any, _name: str, **kwargs: Any) -> Any:
    """A method of one of our generators."""
    world, real = World.current, getattr(generator.real, _name)
    if world is None or world.drawing or generator.seedless:  # a library's; a program's own gives it away (`_rerun`)
        return real(*args, **kwargs)
    known = _DRAWS.get(_name)
    if known is None or any(map(holds_numbers, (*args[1 - (_name in ("choices",)) :], *kwargs.values()))):
        raise _refused(_name)
    return known(world, functools.partial(_really, world, generator.real, real), *args, **kwargs)


def _really(world: World, source: random.Random, real: Real, *args: Any, **kwargs: Any) -> Any:
    with world.drawing_from(source):
        return real(*args, **kwargs)


for _name in FUNCTIONS:
    setattr(Generator, _name, functools.partialmethod(_draw, _name=_name))


def shared() -> Generator:
    """The one behind the functions of the module."""
    found = Generator.__new__(Generator)
    found.real = random.seed.__self__  # type: ignore[attr-defined]
    return found
