"""Targets and draft models of which few worlds can come, for slow samplers. They are in no catalogue.

pair()   three tokens, three positions: drafts are accepted, rejected for one of two tokens, and followed by a bonus;
         laws differ after each prefix, have zeros, and forbid some drafts
close()  three tokens, two positions: after a rejection two tokens are left, one of which another draft is kept for at
         times only
late()   three tokens, ten positions, guided: the first two tokens choose at which of the others there is a choice, and
         by which laws; nothing is left open elsewhere, so that a window's last slot and its bonus meet one, too
ends()   three tokens and an end, eight positions: the first token chooses at which one or two others there is a choice,
         of an end among others, and a token to be cut; so a window's bonus meets an end, or lacks what cuts it
rows()   three tokens, five positions: two choices, apart, by drafts that are certain or nearly so, so that two rows of
         a call have few worlds, and one can fall behind the other
wide()   four tokens, one position: after a rejection three are left
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from specverify.processors import Guided
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
_Law = tuple[int, ...]
_Both = tuple[_Law, _Law]
_Row = Callable[[Tensor, Callable[[int], Tensor]], Tensor]
_NONE = -1
LATE = 10
"""Positions of the late pair."""
_CLOSE: tuple[_Both, ...] = (
    ((47, 31, 22), (40, 10, 50)),
    ((24, 45, 31), (52, 37, 11)),
    ((30, 52, 18), (10, 45, 45)),
    ((36, 20, 44), (55, 5, 40)),
)
_ROWS: tuple[_Both, ...] = (
    ((20, 40, 40), (70, 30, 0)),
    ((30, 50, 20), (0, 100, 0)),
    ((25, 15, 60), (100, 0, 0)),
    ((3, 2, 995), (0, 0, 1000)),
)
"""Of two choices both laws, as weights: of the first, and of the second after each token."""
_LATE: tuple[_Both, ...] = (
    *_CLOSE,
    ((86, 9, 5), (93, 2, 5)),  # nearly certain, and often drafted
    ((51, 30, 19), (53, 29, 18)),  # nearly the same
    ((0, 45, 55), (60, 30, 10)),  # the likely draft is forbidden
    ((0, 100, 0), (30, 50, 20)),  # greedy
    ((22, 31, 47), (50, 40, 10)),
)
"""The same of one choice, by where it is: as many as two tokens can choose."""
_WITHOUT: tuple[_Law, ...] = ((20, 30, 50), (45, 25, 30), (30, 55, 15))
"""Laws without the condition, at each choice one of them."""
_ENDS: tuple[_Both, ...] = (
    ((30, 45, 25, 0), (50, 20, 30, 0)),
    ((22, 30, 8, 40), (10, 20, 30, 40)),
    ((40, 28, 6, 26), (20, 20, 20, 40)),
    ((7, 25, 33, 35), (40, 25, 15, 20)),
)
"""The same of the first token, and of the choice behind each."""
ENDS, _PLACES = 8, ((2, 2), (4, 7), (5, 6))
"""Positions of the pair with ends, and where the choices are behind each first token."""
_WIDE: tuple[_Both, ...] = (((35, 30, 25, 10), (30, 10, 10, 50)),)


def pair() -> tuple[TableModel, TableModel]:
    """The target and the draft, with the positions past the end."""
    whole = LENGTH + _PAST
    every = [prefix for size in range(whole) for prefix in itertools.product(range(VOCAB), repeat=size)]
    laws = torch.tensor([_laws(prefix) for prefix in every], dtype=torch.float64)
    name = f"brief-{VOCAB}x{whole}"
    return TableModel(name, laws[:, 0], whole), TableModel(f"own:{name}", laws[:, 1], whole)


def close() -> tuple[StateModel, StateModel]:
    """The target and the draft of which a rejected draft leaves much to another one; uniform past the end."""
    return _of_rows("close", VOCAB, 2, _CLOSE, lambda position, at: torch.where(position == 0, 0, 1 + at(0)))


def rows() -> tuple[StateModel, StateModel]:
    """The target and the draft of which two rows of a call have few worlds; uniform past the end."""
    return _of_rows(
        "rows", VOCAB, 5, _ROWS,
        lambda position, at: torch.where(position == 0, 0, torch.where(position == 2, 1 + at(0), _NONE)),
    )  # fmt: skip


def wide() -> tuple[StateModel, StateModel]:
    """The target and the draft of four tokens; uniform past the end."""
    return _of_rows("wide", 4, 1, _WIDE, lambda position, at: 0 * position)


def ends() -> tuple[StateModel, StateModel]:
    """The target and the draft of which rows end behind two to seven other tokens, or go on: token 0 behind an end."""

    def row(position: Tensor, at: Callable[[int], Tensor]) -> Tensor:
        first = at(0).clamp(max=2)
        open_here = (position[:, None] == torch.tensor(_PLACES)[first]).any(1)
        return torch.where(position == 0, 0, torch.where(open_here, 1 + first, _NONE))

    return _of_rows("ends", 4, ENDS, _ENDS, row, eos=3)


def late() -> tuple[Guided, StateModel]:
    """The target and the draft with one choice, anywhere; uniform past the end. The target is guided."""

    def row(position: Tensor, at: Callable[[int], Tensor]) -> Tensor:
        chosen = VOCAB * at(0) + at(1)
        here = torch.where(position == 2 + chosen % (LATE - 2), 1 + chosen, _NONE)
        return torch.where(position < 2, 0, here)

    laws, without = (((1, 1, 1), (1, 1, 1)), *_LATE), [((1, 1, 1),) * 2, *((_WITHOUT[i % 3],) * 2 for i in range(9))]
    conditional, drafts = _of_rows("late", VOCAB, LATE, laws, row)
    unconditional, _ = _of_rows("without", VOCAB, LATE, tuple(without), row)
    return Guided(conditional, unconditional, 1.5, name=f"{conditional.name}|guided"), drafts


def _of_rows(
    kind: str, vocab: int, length: int, laws: tuple[_Both, ...], row: _Row, eos: int | None = None
) -> tuple[StateModel, StateModel]:
    """Laws by a function of (position, the token at a position before) that says which it is, or `_NONE`: then the
    token comes that is the one behind the last, of both models alike; where rows may end, the last again, and behind an
    end the first."""
    models = []
    for own, model in (("", 0), ("own:", 1)):
        only = [[each == token for each in range(vocab)] for token in range(vocab)]
        table = torch.tensor([both[model] for both in laws] + [[int(each) for each in line] for line in only])

        def weights(position: Tensor, state: Tensor, table: Tensor = table) -> Tensor:
            found = row(position, functools.partial(_token, state, position))
            behind = 1 if eos is None else (state[:, -1] == eos).long()
            return table[torch.where(found == _NONE, len(laws) + (state[:, -1] + behind) % vocab, found)]

        recursion = Recursion(initial=(0,) * length, update=shifted, weights=weights, eos=eos)
        name = f"{own}{kind}-{vocab}x{length}"
        models.append(StateModel(name, vocab, length, recursion, torch.float64, torch.device("cpu")))
    return models[0], models[1]


def _token(state: Tensor, position: Tensor, place: int) -> Tensor:
    """The token at a place, in states of the last tokens."""
    length = state.shape[1]
    return state.gather(1, (length - position + place).clamp(0, length - 1)[:, None])[:, 0]


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
