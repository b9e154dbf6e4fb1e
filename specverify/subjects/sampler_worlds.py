"""Every possible run of a program that draws, with its probability.

The program is run from the start for each world (`sampler_world`). What cannot be followed says so, however the program
goes on.

Numbers are taken as real: a program that goes wrong at a coin of exactly 0 does so here with probability 0. They are
taken as independent, which they are only if none is given out twice: each draw is also made for real, so that
generators move as they would, and numbers that were given out before are refused (`sampler_noise`).
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from specverify.errors import BudgetError, ContractError, SpecverifyError
from specverify.subjects.sampler_forms import NEGLIGIBLE
from specverify.subjects.sampler_generators import followed
from specverify.subjects.sampler_noise import REMEDY, Streams, Witness, restored
from specverify.subjects.sampler_world import STATE, World, close

T = TypeVar("T")

_OWN = 0x5EED_5EED_0000
"""Where the seeds of torch's global generator begin that programs find: none that they would choose themselves."""
FORGIVEN = 1e-9
"""Chance of a world in which the program may raise an error: rounding leads there, as p / (q + 1e-10) does where p is
q, and a residual of nothing."""
RERUN = 64
"""Worlds that are all run with another seed too."""


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
    program: Callable[[], T], *, budget: int, others: Sequence[Callable[[], T]] = (), missing: float = 0.0
) -> Iterator[tuple[T, World]]:
    """What the program returns in every world, the likely ones first.

    Args:
        program: draws with torch, numpy and Python alone; otherwise a function of nothing.
        budget: most worlds.
        others: the same program with other seeds. In the first `RERUN` worlds, and in one of `RERUN` from then on, one
            of them must return the same where the draws have the same outcomes, and from other random numbers.
        missing: worlds may be left out whose chances sum to at most so much, as of endless loops.

    Raises:
        BudgetError: there are more.
        ContractError: for a draw that cannot be followed, and for noise that is used twice.
    """
    waiting: list[tuple[float, int, list[int], list[list[float]]]] = [(-1.0, 0, [], [])]
    count, seen, mass = 0, 0, 1.0
    while waiting and mass > missing:
        chance, _, path, due = heapq.heappop(waiting)
        count += 1
        if count > budget:
            raise BudgetError(f"more than {budget:,} worlds; use a smaller toy, fewer drafts, or raise the budget")
        with restored():
            try:
                result, world = _run(program, path, count, due)
            except SpecverifyError:
                raise
            except Exception:
                if -chance > FORGIVEN:
                    raise
                continue  # its chance is missing
            if len(world.taken) < len(path):
                raise ContractError(STATE)
            for other in others if count == 1 else others[:1] if count <= RERUN or count % RERUN == 0 else ():
                if not world.rare:
                    _rerun(other, result, world)
        chance = -chance
        for depth in range(len(path), len(world.taken)):
            options, taken = world.options[depth], world.taken[depth]
            for outcome, share in enumerate(options):
                if outcome != taken and share > NEGLIGIBLE:
                    seen += 1
                    heapq.heappush(waiting, (-chance * share, seen, [*world.taken[:depth], outcome], world.options))
            chance *= options[taken]
        if not world.rare:
            mass -= chance
            yield cast("T", result), world


def twins(program: Callable[[], T], seed: int) -> tuple[T, T]:
    """What a program returns as it runs, and where it is followed, with the same random numbers.

    Raises:
        ContractError: for a draw that cannot be followed.
    """
    with restored():
        _seed(seed)
        plain = program()
        return plain, cast("T", _run(program, None, seed)[0])


def _seed(seed: int) -> None:
    random.seed(_OWN + seed)
    np.random.seed([_OWN % 2**32, seed % 2**32])  # noqa: NPY002
    torch.default_generator.manual_seed(_OWN + seed)
    torch.rand((), generator=torch.default_generator)  # where a draw left it, as in any program


def _run(
    program: Callable[[], T],
    path: Sequence[int] | None,
    seed: int,
    due: Sequence[list[float]] = (),
    hidden: bool = False,
) -> tuple[T | None, World]:
    _seed(seed)
    world = World(path, due)
    result = None
    try:
        with _Hidden(world) if hidden else contextlib.nullcontext(), followed(world), world:
            result = program()
    except BaseException:
        if world.stopped is None and not world.rare:
            raise
    if world.stopped is not None:
        raise ContractError(str(world.stopped)) from None
    world.streams.check()
    return (None if world.rare else result), world


def _rerun(program: Callable[[], T], due: T | None, world: World) -> None:
    """The same world with another seed."""
    found = _same(program, due, world)
    if found is None:
        witness = Witness(functools.partial(_seed, -1 - len(world.taken)))
        with contextlib.suppress(Exception), witness:
            _same(program, due, world)
        names = " and ".join(witness.names) or "a source of randomness"
        raise ContractError(
            f"it draws from {names} by a way that --exact does not follow, such as a generator that was there before "
            "the call, or keeps something from call to call: with another seed it gives other tokens, although "
            f"{'every draw' if len(world.taken) else 'it draws nothing'} from torch"
            f"{' has the same outcome' if len(world.taken) else ''}; {REMEDY}"
        )
    if found.shared(world.streams):
        raise ContractError(
            "noise is shared by calls: another seed gets some of the same random numbers. Seed a generator with the "
            f"seed of the call, once, or {REMEDY}"
        )


def _same(program: Callable[[], T], due: T | None, world: World) -> Streams | None:
    """The numbers that the same world gets with another seed; None if it is not the same."""
    try:
        came, again = _run(program, world.taken, -1 - len(world.taken), hidden=True)
    except ContractError as error:
        if str(error) == STATE:
            return None
        raise
    except BudgetError:  # the time was up
        raise
    except Exception:  # a path that belongs to other draws
        return None
    alike = again.taken == world.taken and all(map(close, again.options, world.options))
    return again.streams if alike and _equal(came, due) else None


def _equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else bool(one == other)
