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

ROWS, FEW = ((1, 16), (64, 512)), ((1, 2), (7, 14))
"""Rows of a batch, and sequences that are drawn in such batches of each tiny model; and of a decoder that is slow."""
LONG = ((1, 4), (64, 64))
"""The same of sequences of `FAR` positions, in each window."""
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
    for number, (name, settings, model, rows, n) in enumerate(_runs(modes, slow)):
        if deadline.over:
            yield f"whether a cache would hold what it commits, on {name}", "time ran out"
            continue
        try:
            if breach := held(factory.build, settings, model, rows, n, derived_seed(seed, number), deadline):
                yield f"on {name}, {rows} at once, {breach}", ""
                return
        except Exception as error:
            why = f"on a model with a cache it raised {type(error).__name__}: {' '.join(str(error).split())[:MESSAGE]}"
            yield f"whether a cache would hold what it commits, on {name}", why


def _runs(modes: Sequence[Mode], slow: bool) -> Iterator[tuple[str, Settings, Model, int, int]]:
    """What is run: a name, the settings, the target, rows of a batch and sequences."""
    for mode in modes:
        for weights in mode.ends():
            case = mode.case(weights)
            target = case.target()
            for rows, n in FEW if slow else ROWS:
                yield label(case), case.settings(target), target, rows, n
        for window in () if slow else mode.windows:
            name = f"{FAR} positions" + ("" if window is None else f", window {window}")
            for rows, n in LONG:
                yield name, *beyond(mode, 7, FAR, window), rows, n
