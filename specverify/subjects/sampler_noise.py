"""Which random numbers a program got: places in the streams of its generators, so that none is taken twice.

A draw counts as fresh noise only if its numbers were not given out before. Generators are set back (`manual_seed`,
`set_state`, `fork_rng`), made anew with an old seed, or made in pairs with one seed: each time the same numbers come
again, and that is seen here by the numbers' place, whoever hands them out.

torch's generator on the CPU is a Mersenne twister, as Python's is and numpy's old one: a block of 624 words, of which
some are used up, then another. Each state of numpy's PCG64 gives one word.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from specverify.errors import ContractError

WORDS = 624
PYTHONS, ENTROPY, NUMPYS = random.Random, random.SystemRandom, np.random.Generator
KINDS = (PYTHONS, NUMPYS, np.random.RandomState)
"""Classes of generators: by these names also while a program finds others in their place."""
REMEDY = "samples judge it all the same (--no-exact, exact=False, for these alone)"


_STEP = 0x2360ED051FC65DA44385DF649FCCF645
"""Of numpy's PCG64: from a state to the next, state * _STEP + increment, to 128 bits."""
_FARTHEST = 65_536
"""Words of it that one draw may take."""


@dataclass(frozen=True)
class Place:
    """Where a generator stands: which block of words, and how many of them are used up.

    Attributes:
        block: tells blocks apart.
        used: words, `WORDS` where the next draw begins another block.
        fresh: whether nothing was drawn since it was seeded.
        state: of a PCG64, whose every word is a block: its state and increment, and the half of a word that is kept.
    """

    block: int
    used: int
    fresh: bool = False
    state: tuple[int, int, int | None] | None = None

    def to(self, after: Place) -> list[tuple[int, int, int]]:
        """The words between two places: block, first, behind the last."""
        if self.state is None or after.state is None:
            spans = [(self.block, self.used, after.used)] if self.block == after.block else []
            spans = spans or [(self.block, self.used, WORDS), (after.block, 0, after.used)]
            return [span for span in spans if span[1] < span[2]]
        state, by, half = self.state
        spans = [] if half is None or half == after.state[2] else [(hash((half, state, by)), 0, 1)]
        for _ in range(_FARTHEST):
            if state == after.state[0]:
                return spans
            state = (state * _STEP + by) % 2**128
            spans.append((hash((state, by)), 0, 1))
        raise ContractError(f"one draw takes more than {_FARTHEST:,} numbers of numpy's PCG64; {REMEDY}")


def place_of(generator: Any) -> Place:
    """Where it stands: torch's, numpy's (PCG64 and MT19937) or Python's."""
    if isinstance(generator, PYTHONS):
        *key, used = generator.getstate()[1]
        return Place(hash(tuple(key)), used)
    if not isinstance(generator, torch.Generator):
        return _place_of_numpys(generator)
    state = generator.get_state().numpy()
    if generator.device.type != "cpu":
        raise ContractError(f"it draws on {generator.device.type}, which --exact cannot follow; {REMEDY}")
    left, used = (int(state[at : at + 4].view(np.int32)[0]) for at in (8, 16))
    block = hash(state[24 : 24 + 8 * WORDS].tobytes())
    return Place(block, WORDS, used == 0) if left == 1 else Place(block, used)


def _place_of_numpys(generator: Any) -> Place:
    bits = generator.bit_generator if isinstance(generator, NUMPYS) else generator._bit_generator
    state, name = bits.state, type(bits).__name__
    if name == "MT19937":
        return Place(hash(state["state"]["key"].tobytes()), int(state["state"]["pos"]))
    if name != "PCG64":
        raise ContractError(f"it draws from numpy's {name}, which --exact does not follow; {REMEDY}")
    half = state["uinteger"] if state["has_uint32"] else None
    return Place(0, 0, state=(state["state"]["state"], state["state"]["inc"], half))


class Streams:
    """The numbers that one run of a program was given.

    Attributes:
        seeded: whether the program seeded torch's global generator, or drew from generators of its own.
    """

    def __init__(self) -> None:
        self.taken: list[tuple[int, int, int, int]] = []  # block, first word, behind the last word, draw
        self.owners: list[Any] = []  # by draw; kept, so that no two have one id
        self.seeded = False
        self._known = [place_of(torch.default_generator)]

    @contextlib.contextmanager
    def draw(self, generator: Any) -> Iterator[None]:
        """Around a draw that is made for its numbers' sake.

        Raises:
            ContractError: its numbers were given out before.
        """
        source = torch.default_generator if generator is None else generator
        if source is torch.default_generator:
            self.check()
        self.seeded |= source is not torch.default_generator or place_of(source).fresh
        before = place_of(source)
        yield
        after = place_of(source)
        spans = before.to(after)
        number = len(self.owners)
        self.owners.append(source)
        for span in spans:
            if (earlier := self._same(*span)) is not None:
                raise ContractError(self._twice(earlier, number))
        self.taken += [(*span, number) for span in spans]
        if source is torch.default_generator:
            self._known.append(after)

    def check(self) -> None:
        """Whether torch's global generator stands where its last draw left it, or was seeded, or set back.

        Raises:
            ContractError: something else was drawn from it.
        """
        here = place_of(torch.default_generator)
        if not here.fresh and here not in self._known:
            raise ContractError(
                f"the program draws from torch's generator in a way that cannot be enumerated; {REMEDY}"
            )

    def shared(self, other: Streams) -> bool:
        """Whether another run was given some of the same numbers."""
        return any(other._same(*span[:3]) is not None for span in self.taken)

    def _same(self, block: int, first: int, last: int) -> int | None:
        return next((d for b, low, high, d in self.taken if b == block and low < last and first < high), None)

    def _twice(self, earlier: int, number: int) -> str:
        if self.owners[earlier] is not self.owners[number]:
            how = "two generators were seeded alike"
        elif self.owners[number] is torch.default_generator:
            how = "torch's global generator was set back (manual_seed, set_rng_state or fork_rng)"
        else:
            how = "a generator was set back (seeded again, or its state was set)"
        return (
            f"noise is used twice within a call: draw {number + 1} gets the random numbers of draw {earlier + 1}, "
            f"because {how}. Seed one generator once in a call, or {REMEDY}"
        )


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Leaves the generators that everybody shares as they were."""
    torch_state, python_state = torch.default_generator.get_state(), random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        torch.default_generator.set_state(torch_state)
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


class Witness:
    """Which generators other than torch's a program uses while this is entered, by name, in `names`.

    Args:
        begin: seeds everybody's generators, as is done before the program runs.
    """

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin = begin
        self.names: list[str] = []
        self._made = {"numpy": False, "Python's random": False}

    def __enter__(self) -> Witness:
        self._begin()
        self._begun = _states()
        np.random.random()  # noqa: NPY002
        random.random()  # or a program that seeds them would leave them as it did when it ran before
        self._before = _states()
        self._patched = [
            (owner, name, getattr(owner, name))
            for owner, name in ((np.random, "default_rng"), (np.random, "RandomState"), (np.random, "Generator"),
                                (random, "Random"))
        ]  # fmt: skip
        for owner, name, was in self._patched:
            setattr(owner, name, self._noting(was, "numpy" if owner is np.random else "Python's random"))
        return self

    def __exit__(self, *_: Any) -> None:
        for owner, name, was in self._patched:
            setattr(owner, name, was)
        after = _states()
        moved = {
            key[0]
            for key, state in self._before.items()
            if key in after and after[key] not in (state, self._begun.get(key))
        }
        self.names = [name for name, made in self._made.items() if made or name in moved]

    def _noting(self, maker: Any, name: str) -> Any:
        def made(*given: Any, **named: Any) -> Any:
            self._made[name] = True
            return maker(*given, **named)

        return made


class Elsewhere:
    """Refuses what is drawn from elsewhere than torch while this is entered, as soon as it is left.

    Looked at are numpy's and Python's shared generators, those that were about when this was made, and the system's
    entropy, of which new ones are seeded unless they are given a seed.

    Raises:
        ContractError: on leaving it.
    """

    def __init__(self) -> None:
        everybodys = [getattr(shared, "__self__", None) for shared in (np.random.random, random.seed)]  # see `_shared`
        self._own = [one for one in _instances() if not any(one is other for other in everybodys)]

    def __enter__(self) -> None:
        self._drawn: list[str] = []
        self._patched = [(owner, name, getattr(owner, name)) for owner, name, _ in _SOURCES]
        for (owner, name, called), (_, _, was) in zip(_SOURCES, self._patched, strict=True):
            noting: Any = functools.partial(_note, self._drawn, called, was)
            setattr(owner, name, functools.partialmethod(_seeded, noting, was) if owner is PYTHONS else noting)
        self._before = _shared(), _positions(self._own)

    def __exit__(self, kind: Any, *_: Any) -> None:
        for owner, name, was in self._patched:
            setattr(owner, name, was)
        now = _shared(), _positions(self._own)
        moved = [name for name, was in self._before[0].items() if was != now[0][name]]
        moved += ["a generator of numpy's or Python's that it keeps"] * (self._before[1] != now[1])
        if kind is None and (drawn := [*dict.fromkeys(self._drawn), *moved]):
            raise ContractError(f"it draws from {' and '.join(drawn)}, which --exact does not follow; {REMEDY}")


_SOURCES: tuple[tuple[Any, str, str], ...] = (
    (os, "urandom", "os.urandom"), (random, "_urandom", "os.urandom"),
    (PYTHONS, "seed", "a random.Random that has no seed"),
)  # fmt: skip


def _note(drawn: list[str], called: str, was: Callable[..., Any], *given: Any) -> Any:
    """Some entropy; but modules that are imported on the way may make their own generators."""
    frame: Any = sys._getframe(1)
    while frame is not None and "importlib._bootstrap" not in frame.f_code.co_filename:
        frame = frame.f_back
    drawn += [called] * (frame is None)
    return was(*given)


def _seeded(generator: Any, noting: Any, was: Any, a: Any = None, version: int = 2) -> None:
    (was if a is not None else noting)(generator, a, version)


def _shared() -> dict[str, object]:
    """Where the generators stand that everybody shares."""
    state: Any = np.random.get_state()  # noqa: NPY002
    _, key, *place = state
    return {"numpy": (place, key.tobytes()), "Python's random": random.getstate()}


def _instances() -> list[Any]:
    """All of numpy's and Python's generators that are about."""
    # `type`: isinstance would ask the object, and some warn or fail when they are asked
    return [one for one in gc.get_objects() if issubclass(type(one), KINDS) and type(one) is not ENTROPY]


def _positions(instances: list[Any]) -> list[Any]:
    return [_position(one) for one in instances]


def _position(one: Any) -> Any:
    if isinstance(one, PYTHONS):
        return one.getstate()
    return str(one.bit_generator.state if isinstance(one, NUMPYS) else one.get_state(legacy=False))


def _states() -> dict[tuple[str, int], Any]:
    """The states of all of numpy's and Python's generators that are about, the global ones too."""
    shared = str(np.random.get_state(legacy=False))  # noqa: NPY002
    found: dict[tuple[str, int], Any] = {("numpy", 0): shared, ("Python's random", 0): random.getstate()}
    names = ("numpy", "Python's random")
    return found | {(names[isinstance(one, random.Random)], id(one)): _position(one) for one in _instances()}
