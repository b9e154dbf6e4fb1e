"""Targets and draft models of three tokens of which few worlds can come, for slow samplers. They are in no catalogue.

pair()   three positions: drafts are accepted, rejected for one of two tokens, and followed by a bonus; laws differ
         after each prefix, have zeros, and forbid some drafts
close()  two positions: after a rejection two tokens are left, one of which another draft is kept for at times only
rows()   two positions: drafts are certain, or nearly so, and targets are not, so that two rows have few worlds, too
late()   ten positions, two of which have a choice, the first of them after six tokens

Where a window goes past the end of the first no law leaves a choice, so that it takes no worlds there.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from toymodels.automata import Recursion, StateModel, shifted
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
_Laws = tuple[tuple[tuple[int, int, int], tuple[int, int, int]], ...]
_CLOSE: _Laws = (
    ((47, 31, 22), (40, 10, 50)),
    ((24, 45, 31), (52, 37, 11)),
    ((30, 52, 18), (10, 45, 45)),
    ((36, 20, 44), (55, 5, 40)),
)
_ROWS: _Laws = (
    ((20, 40, 40), (70, 30, 0)),
    ((30, 50, 20), (0, 100, 0)),
    ((25, 15, 60), (100, 0, 0)),
    ((3, 2, 995), (0, 0, 1000)),
)
"""Of two choices both laws, as weights: of the first, and of the second after each token."""


def pair() -> tuple[TableModel, TableModel]:
    """The target and the draft, with the positions past the end."""
    whole = LENGTH + _PAST
    every = [prefix for size in range(whole) for prefix in itertools.product(range(VOCAB), repeat=size)]
    laws = torch.tensor([_laws(prefix) for prefix in every], dtype=torch.float64)
    name = f"brief-{VOCAB}x{whole}"
    return TableModel(name, laws[:, 0], whole), TableModel(f"own:{name}", laws[:, 1], whole)


def close() -> tuple[StateModel, StateModel]:
    """The target and the draft of which a rejected draft leaves much to another one; uniform past the end."""
    return _spaced("close", (0, 1), _CLOSE)


def rows() -> tuple[StateModel, StateModel]:
    """The target and the draft of which two rows of a call have few worlds: in each a draft is rejected for one of two
    tokens, in other ways after each first token; uniform past the end."""
    return _spaced("rows", (0, 1), _ROWS)


def late() -> tuple[StateModel, StateModel]:
    """The same two choices behind others that are none, and apart; uniform past the end."""
    return _spaced("late", (6, 9), _CLOSE)


def _spaced(kind: str, places: tuple[int, int], laws: _Laws) -> tuple[StateModel, StateModel]:
    """Choices at two places. Each other token is the one behind the last, for both models."""
    apart, length = places[1] - places[0], places[1] + 1
    models = []
    for own, model in (("", 0), ("own:", 1)):
        only = [[100 * (each == token) for each in range(VOCAB)] for token in range(VOCAB)]
        table = torch.tensor([*only, *(row[model] for row in laws)])

        def weights(position: Tensor, state: Tensor, table: Tensor = table) -> Tensor:
            row = torch.where(position == places[0], VOCAB, (state[:, -1] + 1) % VOCAB)
            return table[torch.where(position == places[1], VOCAB + 1 + state[:, 0], row)]

        recursion = Recursion(initial=(0,) * apart, update=shifted, weights=weights)
        name = f"{own}{kind}-{VOCAB}x{length}"
        models.append(StateModel(name, VOCAB, length, recursion, torch.float64, torch.device("cpu")))
    return models[0], models[1]


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
