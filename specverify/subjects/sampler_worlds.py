"""Every possible run of a program that draws with torch, with its probability.

The program is run from the start for each world. Each `multinomial` hands out one token after another; a number from
`rand` or `rand_like` is an interval, [0, 1) at first, and every comparison cuts it in two. Whatever else is done with
such a number, and any other draw, cannot be followed and says so.

Numbers are taken as real: a program that goes wrong at a coin of exactly 0 does so here with probability 0. They are
taken as independent, which they are only if none is given out twice: each draw is also made for real, so that
generators move as they would, and numbers that were given out before are refused (`sampler_noise`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from specverify.errors import BudgetError, ContractError
from specverify.subjects.sampler_noise import REMEDY, Streams, Witness, restored

T = TypeVar("T")
_BELOW = {"le", "lt", "__le__", "__lt__", "less", "less_equal"}
_ABOVE = {"ge", "gt", "__ge__", "__gt__", "greater", "greater_equal"}
_OTHER_DRAWS = {
    "bernoulli", "bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "normal", "normal_", "poisson",
    "randint", "randint_like", "randn", "randn_like", "random_", "randperm", "uniform_",
}  # fmt: skip


_OWN = 0x5EED_5EED_0000
"""Where the seeds of torch's global generator begin that programs find: none that they would choose themselves."""
RERUN = 64
"""Worlds that are all run with another seed too."""
NEGLIGIBLE = 1e-15
"""Chances below this come of rounding: where p and q are one law, their ratio may be less than 1 by so much."""


class Coin(Tensor):
    """Uniform numbers of which only bounds are known: one pair for each element, in `low` and `high`."""

    low: list[float]
    high: list[float]


class World(TorchFunctionMode):
    """One run: the choices of a path are taken again, and where it ends the first possible one each time.

    Args:
        path: choices to take again.

    Attributes:
        options: for each choice, the probability of every outcome.
        taken: the outcome that was chosen.
        probability: of all of them together.
        coins: comparisons that could have gone either way.
        streams: the random numbers that the run would have got.
    """

    def __init__(self, path: Sequence[int]) -> None:
        super().__init__()
        self.path = path
        self.options: list[list[float]] = []
        self.taken: list[int] = []
        self.probability = 1.0
        self.coins = 0
        self.streams = Streams()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """What torch calls for each of its functions."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "multinomial":
            with self.streams.draw(kwargs.get("generator")):
                result = self._multinomial(*args, **kwargs)
                func(*args, **kwargs)
            return result
        if name in ("rand", "rand_like"):
            with self.streams.draw(kwargs.get("generator")):
                func(*args, **kwargs)
            kwargs = {key: value for key, value in kwargs.items() if key != "generator"}
            return _fresh(torch.zeros_like(*args, **kwargs) if name == "rand_like" else torch.zeros(*args, **kwargs))
        if name in _OTHER_DRAWS:
            raise ContractError(f"the program draws with torch's {name}, whose outcomes cannot be enumerated")
        coins = [argument for argument in (*args, *kwargs.values()) if isinstance(argument, Coin)]
        if not coins:
            return func(*args, **kwargs)
        if name in _BELOW | _ABOVE and len(args) == 2 and len(coins) == 1:
            # u < x, and x > u, are the same question
            return self._compare(
                coins[0], args[1 if args[0] is coins[0] else 0], (name in _BELOW) == (args[0] is coins[0])
            )
        if name in ("__get__", "__repr__"):  # shape, dtype, device
            return func(*args, **kwargs)
        raise ContractError(
            f"the program uses a uniform number in torch's {name or func}; only comparisons of it can be enumerated"
        )

    def _multinomial(
        self, weights: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None
    ) -> Tensor:
        if num_samples != 1:
            raise ContractError(f"the program draws {num_samples} tokens without replacement, which is not enumerated")
        laws = weights.double().reshape(-1, weights.shape[-1])
        if bool((laws < 0).any()) or not bool(laws.sum(1).isfinite().all()) or bool((laws.sum(1) <= 0).any()):
            raise ContractError(f"the program draws from {laws.tolist()}, which is no law")
        tokens = [self._choose((law / law.sum()).tolist()) for law in laws]
        return torch.tensor(tokens, device=weights.device).reshape(*weights.shape[:-1], 1)

    def _compare(self, coin: Coin, bound: Any, below: bool) -> Tensor:
        """Whether each number lies below its bound; or above it."""
        bounds = torch.as_tensor(bound).double().expand(coin.shape).reshape(-1).tolist()
        outcomes = []
        for place, at in enumerate(bounds):
            low, high = coin.low[place], coin.high[place]
            cut = min(max(at, low), high)
            inside = self._choose([1 - (cut - low) / (high - low), (cut - low) / (high - low)]) == 1
            self.coins += low < cut < high
            coin.low[place], coin.high[place] = (low, cut) if inside else (cut, high)
            outcomes.append(inside == below)
        return torch.tensor(outcomes, device=coin.device).reshape(coin.shape)

    def _choose(self, options: list[float]) -> int:
        depth = len(self.taken)
        if depth < len(self.path):
            chosen = self.path[depth]
        else:
            chosen = next(outcome for outcome, chance in enumerate(options) if chance > NEGLIGIBLE)
        self.options.append(options)
        self.taken.append(chosen)
        self.probability *= options[chosen]
        return chosen


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
    waiting: list[list[int]] = [[]]
    count = 0
    while waiting:
        path = waiting.pop()
        count += 1
        if count > budget:
            raise BudgetError(f"more than {budget:,} worlds; use a smaller toy, fewer drafts, or raise the budget")
        with restored():
            result, world = _run(program, path, count)
            for other in others if count == 1 else others[:1] if count <= RERUN or count % RERUN == 0 else ():
                _rerun(other, result, world)
        for depth in range(len(path), len(world.taken)):
            others_ = range(world.taken[depth] + 1, len(world.options[depth]))
            waiting += [[*world.taken[:depth], other] for other in others_ if world.options[depth][other] > NEGLIGIBLE]
        yield result, world


def _run(program: Callable[[], T], path: Sequence[int], seed: int) -> tuple[T, World]:
    torch.default_generator.manual_seed(_OWN + seed)
    torch.rand((), generator=torch.default_generator)  # where a draw left it, as in any program
    with World(path) as world:
        result = program()
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
        came, again = _run(program, world.taken, -1 - len(world.taken))
    except ContractError:
        raise
    except Exception:  # a path that belongs to other draws
        return None
    return again.streams if again.taken == world.taken and _equal(came, due) else None


def _equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else bool(one == other)


def _fresh(zeros: Tensor) -> Coin:
    coin: Coin = zeros.as_subclass(Coin)
    coin.low, coin.high = [0.0] * zeros.numel(), [1.0] * zeros.numel()
    return coin
