"""Whether a cache of keys and values would hold what a decoder commits, on the models that it is judged on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from specverify.deadline import Deadline
from specverify.decoders.registry import Settings
from specverify.evidence.cached import held
from specverify.model import Model
from specverify.seeds import derived_seed
from specverify.subjects.factory import Factory
from specverify.subjects.modes import Mode
from specverify.subjects.sampling import FAR, beyond
from specverify.subjects.suite import label

TINY = (64, *[1] * 16, 64)
"""Rows of the batches that are drawn of each tiny model."""
LONG = (64, 1)
"""Of sequences of `FAR` positions, in each window."""
EVERY = (1000, 1, 2, 3, 5, 7, 8, 9, 12, 16, 17, 33, 65, 100, 129, 257, 513, 2, 3, 5)
"""Of sequences of `MIDDLE` positions, in one window."""
SLOW = (1, 7), (), (3, 9, 17, 2)
"""The same three of a decoder that is slow."""
MIDDLE, END = 20, 1
"""Positions, and the token that ends a sequence early there and in the long ones."""
MESSAGE = 200
"""Characters of somebody's error message that are repeated."""


def breaches(
    factory: Factory, modes: Sequence[Mode], seed: int, slow: bool, deadline: Deadline
) -> Iterator[tuple[str, str]]:
    """Where a cache would hold something else than what was committed, and where that could not be looked at.

    Args:
        factory: of the decoder.
        modes: how it is run.
        seed: of the draws.
        slow: whether it takes long.
        deadline: after which no more is drawn.

    Yields:
        what is wrong and an empty string, or what was not looked at and why.
    """
    for number, (name, settings, model, batches) in enumerate(_runs(modes, slow)):
        if deadline.over:
            yield f"whether a cache would hold what it commits, on {name}", "time ran out"
            continue
        try:
            breach = held(factory.build, settings, model, batches, derived_seed(seed, number), deadline)
        except Exception as error:
            why = f"on a model with a cache it raised {type(error).__name__}: {' '.join(str(error).split())[:MESSAGE]}"
            yield f"whether a cache would hold what it commits, on {name}", why
            continue
        if breach:
            yield f"on {name}, {breach}", ""
            return
        if deadline.over:
            yield f"whether a cache would hold what it commits, in some batches on {name}", "time ran out"


def _runs(modes: Sequence[Mode], slow: bool) -> Iterator[tuple[str, Settings, Model, tuple[int, ...]]]:
    """What is run: a name, the settings, the target, and the rows of each batch."""
    tiny, long, every = SLOW if slow else (TINY, LONG, EVERY)
    for mode in modes:
        yield f"{MIDDLE} positions", *beyond(mode, 7, MIDDLE, mode.windows[len(mode.windows) // 2], END), every
        for weights in mode.ends():
            case = mode.case(weights)
            target = case.target()
            yield label(case), case.settings(target), target, tiny
        for window in mode.windows if long else ():
            name = f"{FAR} positions" + ("" if window is None else f", window {window}")
            yield name, *beyond(mode, 7, FAR, window, END), long
