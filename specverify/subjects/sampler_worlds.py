"""Every possible run of a program that draws with torch, with its probability.

The program is run from the start for each world. Each `multinomial` hands out one token after another; a number from
`rand` or `rand_like` is an interval, [0, 1) at first, and every comparison cuts it in two (`sampler_coins`). Whatever
else is done with such a number, and any other draw, cannot be followed and says so, however the program goes on.

Numbers are taken as real: a program that goes wrong at a coin of exactly 0 does so here with probability 0. They are
taken as independent, which they are only if none is given out twice: each draw is also made for real, so that
generators move as they would, and numbers that were given out before are refused (`sampler_noise`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from specverify.errors import BudgetError, ContractError
from specverify.subjects import sampler_coins as coins_
from specverify.subjects.sampler_coins import ONLY, Coin, Number, Unfollowed
from specverify.subjects.sampler_noise import REMEDY, Streams, Witness, restored

T = TypeVar("T")
_BELOW = {"le", "lt", "__le__", "__lt__", "less", "less_equal"}
_ABOVE = {"ge", "gt", "__ge__", "__gt__", "greater", "greater_equal"}
_DRAWS = {"multinomial", "rand", "rand_like"}
_OTHER_DRAWS = {
    "bernoulli", "bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "normal", "normal_", "poisson",
    "randint", "randint_like", "randn", "randn_like", "random_", "randperm", "uniform_",
}  # fmt: skip

_NOT = "which cannot be followed"

_OWN = 0x5EED_5EED_0000
"""Where the seeds of torch's global generator begin that programs find: none that they would choose themselves."""
RERUN = 64
"""Worlds that are all run with another seed too."""
NEGLIGIBLE = 1e-15
"""Chances below this come of rounding: where p and q are one law, their ratio may be less than 1 by so much."""
SAME = 1e-9
"""How far apart the chances of a draw may be when a path is taken again: rounding, no more."""
STATE = "it keeps state between calls: the same draws led to others when they were taken again"


class World(TorchFunctionMode):
    """One run: the choices of a path are taken again, and where it ends the first possible one each time.

    Args:
        path: choices to take again; None to choose as the random numbers say that are drawn for real.
        due: the options that these choices had; where there are others now the program is none that can be followed.

    Attributes:
        options: for each choice, the probability of every outcome.
        taken: the outcome that was chosen.
        probability: of all of them together.
        coins: comparisons that could have gone either way.
        streams: the random numbers that the run would have got.
        stopped: why it cannot be followed, if it cannot, whatever the program made of it.
    """

    current: ClassVar[World | None] = None

    def __init__(self, path: Sequence[int] | None, due: Sequence[list[float]] = ()) -> None:
        super().__init__()
        self.path, self.due = path, due
        self.options: list[list[float]] = []
        self.taken: list[int] = []
        self.probability = 1.0
        self.coins = 0
        self.streams = Streams()
        self.stopped: Unfollowed | None = None
        self.drawing = False
        self._low: list[float] = []
        self._high: list[float] = []
        self._real: list[float] = []

    def __enter__(self) -> World:
        self._outer, World.current = World.current, self
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        World.current = self._outer
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def stop(self, why: str) -> Unfollowed:
        """Why the run that goes on cannot be followed, to be raised; also where this one is over."""
        current = World.current
        error = Unfollowed(why if current is self else coins_.STALE)
        if current is not None:
            current.stopped = current.stopped or error
        return error

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """What torch calls for each of its functions."""
        if self.stopped is not None:
            raise self.stopped
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _DRAWS:
            return self._drawn(name, func, args, kwargs)
        if name in _OTHER_DRAWS:
            raise self.stop(f"the program draws with torch's {name}, whose outcomes cannot be enumerated")
        given = [one for one in (*args, *kwargs.values()) if isinstance(one, Coin | Number)]
        if not given:
            return func(*args, **kwargs)
        args = tuple(one.coin if isinstance(one, Number) else one for one in args)
        coins = [one for one in args if isinstance(one, Coin)]
        if any(coin.world is not self for coin in coins):
            raise self.stop(coins_.STALE)
        if len(given) == len(coins) == 1:
            if name in _BELOW | _ABOVE and len(args) == 2 and not kwargs:
                # u < x, and x > u, are the same question
                first = args[0] is coins[0]
                return self.compare(coins[0], args[int(first)], (name in _BELOW) == first)
            if args[0] is coins[0]:
                return self._asked(coins[0], name, func, args, kwargs)
        raise self._unknown(name or str(func))

    def _asked(self, coin: Coin, name: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What is done with a number alone."""
        if coins_.asked(func) in coins_.FACTS:
            return coins_.facts(func, args, kwargs)
        if name in coins_.ARRANGED and not any(isinstance(one, torch.dtype) for one in (*args, *kwargs.values())):
            return coins_.arranged(coin, func, args[1:], kwargs)
        if name in coins_.CAST and (same := coins_.cast(coin, func, args[1:], kwargs)) is not None:
            return same
        if name == "item" and coin.places.numel() == 1:
            return Number(coins_.arranged(coin, Tensor.reshape, ((),), {}))
        if name == "tolist":
            return coins_.taken_out(coin)
        raise self._unknown(name)

    def _unknown(self, name: str) -> Unfollowed:
        return self.stop(f"the program uses a uniform number in torch's {name}; {ONLY}")

    def _drawn(self, name: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """A draw, which is made for its numbers' sake, too; an error of torch's is the program's."""
        if kwargs.get("out") is not None:
            raise self.stop(f"the program draws with torch's {name} into a tensor of its own (out), {_NOT}")
        try:
            with self.streams.draw(kwargs.get("generator")):
                self.drawing = True
                real: Tensor = func(*args, **kwargs)
        except ContractError as error:
            raise self.stop(str(error)) from None
        finally:
            self.drawing = False
        return self._multinomial(real, *args, **kwargs) if name == "multinomial" else self._uniform(real)

    def _uniform(self, real: Tensor) -> Coin:
        if real.dtype in coins_.COARSE:
            raise self.stop(f"the program draws uniform numbers of {real.dtype}, {_NOT}: they are far from real ones")
        first, count = len(self._low), real.numel()
        self._low += [0.0] * count
        self._high += [1.0] * count
        self._real += real.double().flatten().tolist()
        return Coin(self, torch.arange(first, first + count, device=real.device).reshape(real.shape), real.dtype)

    def _multinomial(
        self, real: Tensor, weights: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None
    ) -> Tensor:
        if num_samples != 1:
            raise self.stop(f"the program draws {num_samples} tokens without replacement, which is not enumerated")
        laws = weights.double().reshape(-1, weights.shape[-1])
        came = real.flatten().tolist()
        tokens = [self._choose((law / law.sum()).tolist(), at) for law, at in zip(laws, came, strict=True)]
        return torch.tensor(tokens, device=weights.device).reshape(*weights.shape[:-1], 1)

    def compare(self, coin: Coin, bound: Any, below: bool) -> Tensor:
        """Whether each number lies below its bound; or above it."""
        if World.current is not self:
            raise self.stop(coins_.STALE)
        bounds = torch.as_tensor(bound, dtype=torch.float64, device=coin.places.device)
        bounds, places = torch.broadcast_tensors(bounds, coin.places)
        outcomes = []
        for place, at in zip(places.flatten().tolist(), bounds.flatten().tolist(), strict=True):
            if at != at:  # nothing is below NaN, nor above it
                outcomes.append(False)
                continue
            low, high = self._low[place], self._high[place]
            cut = min(max(at, low), high)
            within = (cut - low) / (high - low)
            inside = self._choose([1 - within, within], int(self._real[place] < at)) == 1
            self.coins += low < cut < high
            self._low[place], self._high[place] = (low, cut) if inside else (cut, high)
            outcomes.append(inside == below)
        return torch.tensor(outcomes, device=places.device).reshape(places.shape)

    def _choose(self, options: list[float], real: int) -> int:
        depth = len(self.taken)
        if self.path is None:
            chosen = real
        elif depth < len(self.path):
            chosen = self.path[depth]
            if chosen >= len(options) or (depth < len(self.due) and not _close(options, self.due[depth])):
                raise self.stop(STATE)
        else:
            chosen = next(outcome for outcome, chance in enumerate(options) if chance > NEGLIGIBLE)
        self.options.append(options)
        self.taken.append(chosen)
        self.probability *= options[chosen]
        return chosen


class _Hidden(TorchDispatchMode):
    """Draws that are made inside of other functions of torch's, however they hide it."""

    def __init__(self, world: World) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.world = world

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to say so would import the compiler, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags and not self.world.drawing:
            raise self.world.stop(
                f"the program draws from torch's generator in a way that cannot be enumerated ({func.__name__})"
            )
        return func(*args, **(kwargs or {}))


def worlds(
    program: Callable[[], T], *, budget: int, others: Sequence[Callable[[], T]] = ()
) -> Iterator[tuple[T, World]]:
    """What the program returns in every world.

    Args:
        program: draws with torch alone; otherwise a function of nothing.
        budget: most worlds.
        others: the same program with other seeds. In the first `RERUN` worlds, and in one of `RERUN` from then on, one
            of them must return the same where the draws have the same outcomes, and from other random numbers.

    Raises:
        BudgetError: there are more.
        ContractError: for a draw that cannot be followed, and for noise that is used twice.
    """
    waiting: list[tuple[list[int], list[list[float]]]] = [([], [])]
    count = 0
    while waiting:
        path, due = waiting.pop()
        count += 1
        if count > budget:
            raise BudgetError(f"more than {budget:,} worlds; use a smaller toy, fewer drafts, or raise the budget")
        with restored():
            result, world = _run(program, path, count, due)
            if len(world.taken) < len(path):
                raise ContractError(STATE)
            for other in others if count == 1 else others[:1] if count <= RERUN or count % RERUN == 0 else ():
                _rerun(other, result, world)
        for depth in range(len(path), len(world.taken)):
            others_ = range(world.taken[depth] + 1, len(world.options[depth]))
            waiting += [
                ([*world.taken[:depth], other], world.options)
                for other in others_
                if world.options[depth][other] > NEGLIGIBLE
            ]
        yield result, world


def twins(program: Callable[[], T], seed: int) -> tuple[T, T]:
    """What a program returns as it runs, and where it is followed, with the same random numbers.

    Raises:
        ContractError: for a draw that cannot be followed.
    """
    with restored():
        _seed(seed)
        plain = program()
        return plain, _run(program, None, seed)[0]


def _seed(seed: int) -> None:
    torch.default_generator.manual_seed(_OWN + seed)
    torch.rand((), generator=torch.default_generator)  # where a draw left it, as in any program


def _run(
    program: Callable[[], T],
    path: Sequence[int] | None,
    seed: int,
    due: Sequence[list[float]] = (),
    hidden: bool = False,
) -> tuple[T, World]:
    _seed(seed)
    world = World(path, due)
    try:
        with _Hidden(world) if hidden else contextlib.nullcontext(), world:
            result = program()
    except BaseException:
        if world.stopped is None:
            raise
    if world.stopped is not None:
        raise ContractError(str(world.stopped)) from None
    world.streams.check()
    return result, world


def _rerun(program: Callable[[], T], due: T, world: World) -> None:
    """The same world with another seed."""
    found = _same(program, due, world)
    if found is None:
        witness = Witness()
        with contextlib.suppress(Exception), witness:
            _same(program, due, world)
        names = " and ".join(witness.names) or "a source of randomness"
        raise ContractError(
            f"it draws from {names}, which --exact does not follow: with another seed it gives other tokens, although "
            f"{'every draw' if len(world.taken) else 'it draws nothing'} from torch"
            f"{' has the same outcome' if len(world.taken) else ''}; {REMEDY}"
        )
    if found.shared(world.streams):
        raise ContractError(
            "noise is shared by calls: another seed gets some of the same random numbers. Seed a generator with the "
            f"seed of the call, once, or {REMEDY}"
        )


def _same(program: Callable[[], T], due: T, world: World) -> Streams | None:
    """The numbers that the same world gets with another seed; None if it is not the same."""
    try:
        came, again = _run(program, world.taken, -1 - len(world.taken), hidden=True)
    except ContractError as error:
        if str(error) == STATE:
            return None
        raise
    except Exception:  # a path that belongs to other draws
        return None
    alike = again.taken == world.taken and all(map(_close, again.options, world.options))
    return again.streams if alike and _equal(came, due) else None


def _close(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and all(abs(a - b) < SAME for a, b in zip(one, other, strict=True))


def _equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else bool(one == other)
