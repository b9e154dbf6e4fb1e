"""Targets and draft models of three tokens of which few worlds can come, for slow samplers. They are in no catalogue.

pair()   three positions: drafts are accepted, rejected for one of two tokens, and followed by a bonus; laws differ
         after each prefix, have zeros, and forbid some drafts
close()  two positions: after a rejection two tokens are left, one of which another draft is kept for at times only
late()   positions with a choice behind others that leave none, the first of them after six tokens

Where a window goes past the end no law leaves a choice, so that it takes no worlds there.
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
_ROOM = 24
"""The same of the others, whose laws are no table."""
_FIRST = ((0.31, 0.09, 0.60), (0.17, 0.48, 0.35))
_SECOND = (
    ((0.11, 0.52, 0.37), (0.50, 0.26, 0.24)),
    ((0.41, 0.59, 0.00), (0.73, 0.27, 0.00)),
    ((0.00, 0.23, 0.77), (0.18, 0.46, 0.36)),
)
"""After each first token the target's law and the draft's."""
CLOSE, LATE, PLACES = 2, 10, (6, 7, 9)
"""Positions of the closer pair and of the later one, and where that has a choice."""
_OPEN = (((47, 31, 22), (40, 10, 50)),)
_NEXT = (
    ((24, 45, 31), (52, 37, 11)),
    ((30, 52, 18), (10, 45, 45)),
    ((36, 20, 44), (55, 5, 40)),
)
_THEN = (
    ((70, 30, 0), (40, 60, 0)),
    ((0, 55, 45), (0, 80, 20)),
    ((35, 0, 65), (50, 0, 50)),
)
"""Of both the laws at these, in hundredths: the first, by the token before, and by the sum of the first two."""


def pair() -> tuple[TableModel, TableModel]:
    """The target and the draft, with the positions past the end."""
    whole = LENGTH + _PAST
    every = [prefix for size in range(whole) for prefix in itertools.product(range(VOCAB), repeat=size)]
    laws = torch.tensor([_laws(prefix) for prefix in every], dtype=torch.float64)
    name = f"brief-{VOCAB}x{whole}"
    return TableModel(name, laws[:, 0], whole), TableModel(f"own:{name}", laws[:, 1], whole)


def close() -> tuple[StateModel, StateModel]:
    """The target and the draft of which a rejected draft leaves much to another one, with positions past the end."""
    return _of_states("close", (0, 1), CLOSE)


def late() -> tuple[StateModel, StateModel]:
    """The same behind tokens that are certain, and one more choice far behind."""
    return _of_states("late", PLACES, LATE)


def _of_states(kind: str, places: tuple[int, ...], length: int) -> tuple[StateModel, StateModel]:
    models = [
        StateModel(f"{own}{kind}-{VOCAB}x{length + _ROOM}", VOCAB, length + _ROOM, _spaced(places, length, drafts),
                   torch.float64, torch.device("cpu"))
        for own, drafts in (("", False), ("own:", True))
    ]  # fmt: skip
    return models[0], models[1]


def _spaced(places: tuple[int, ...], length: int, drafts: bool) -> Recursion:
    """Choices at the places; the laws depend on those before. Each other token is the one behind the last, and so the
    same for both models up to the end."""
    first, second, third = (torch.tensor([row[drafts] for row in rows]) for rows in (_OPEN, _NEXT, _THEN))

    def weights(position: Tensor, state: Tensor) -> Tensor:
        last = state[:, -1]
        law = torch.nn.functional.one_hot((last + 1) % VOCAB, VOCAB)
        law = torch.where((position >= length)[:, None], torch.nn.functional.one_hot(last * 0 + drafts, VOCAB), law)
        law = torch.where((position == places[0])[:, None], first[0], law)
        law = torch.where((position == places[1])[:, None], second[last], law)
        if len(places) > 2:
            before = state[:, places[0] - places[2]] + state[:, places[1] - places[2]]
            law = torch.where((position == places[2])[:, None], third[before % VOCAB], law)
        return law

    return Recursion(initial=(0,) * (places[-1] + 1), update=shifted, weights=weights)


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
