"""A target and a draft model of three tokens and three positions of which few worlds can come, for slow samplers.

Drafts are accepted, rejected for one of two tokens, and followed by a bonus; laws differ after each prefix, have zeros,
and forbid some drafts. Where a window goes past the end no law leaves a choice, so that it takes no worlds there. They
are in no catalogue.
"""

from __future__ import annotations

import itertools

import torch

from toymodels.tables import TableModel

VOCAB, LENGTH = 3, 3
_PAST = 5
"""Positions past the end that have laws: larger windows find uniform ones there."""
_FIRST = ((0.31, 0.09, 0.60), (0.17, 0.48, 0.35))
_SECOND = (
    ((0.11, 0.52, 0.37), (0.50, 0.26, 0.24)),
    ((0.41, 0.59, 0.00), (0.73, 0.27, 0.00)),
    ((0.00, 0.23, 0.77), (0.18, 0.46, 0.36)),
)
"""After each first token the target's law and the draft's."""


def pair() -> tuple[TableModel, TableModel]:
    """The target and the draft, with the positions past the end."""
    whole = LENGTH + _PAST
    every = [prefix for size in range(whole) for prefix in itertools.product(range(VOCAB), repeat=size)]
    laws = torch.tensor([_laws(prefix) for prefix in every], dtype=torch.float64)
    name = f"brief-{VOCAB}x{whole}"
    return TableModel(name, laws[:, 0], whole), TableModel(f"own:{name}", laws[:, 1], whole)


def _laws(prefix: tuple[int, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of the token after a prefix: the target's law and the draft's."""
    if not prefix:
        return _FIRST
    if len(prefix) == 1:
        return _SECOND[prefix[0]]
    if len(prefix) > 2:
        return _only(0), _only(1)
    first, second = prefix
    if (first + second) % 2:
        return _only(second), _only((second + 1) % VOCAB)
    likely, drafted = 0.6 + 0.03 * first + 0.07 * second, 0.2 + 0.02 * first + 0.05 * second
    return _two(second, likely), _two(second, drafted)


def _only(token: int) -> tuple[float, ...]:
    return tuple(float(each == token) for each in range(VOCAB))


def _two(token: int, chance: float) -> tuple[float, ...]:
    """A token, or the one behind it."""
    return tuple(chance if each == token else (1 - chance) * (each == (token + 1) % VOCAB) for each in range(VOCAB))
