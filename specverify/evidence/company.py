"""Rows in company: what a row does in a batch, held against what the same row does alone with the same coins.

The coins of a row belong to it: they are a function of its number, of how many steps it has gone, and of which of its
draws is asked. So a row of a batch must do what it does alone, token by token, whoever stands beside it; if it does
not, its law, or whose outcomes it takes, depends on the others. Nothing here is a matter of chance but which laws and
states are looked at. Rows whose models begin with conditions of their own must keep these, too.

Batches: of many sizes, from the start, at one length, at mixed lengths, at the two ends of what there is, and with all
rows done but one. Rows that take each other's outcomes where they are in one state are seen only if they are in one
state with other coins, which rows that go their own ways seldom are after a few tokens. So one row's states are gone
on from with the coins of `TWINS` others, alone and in batches: at one step in all places, and at a step of its own in
each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify import tree
from specverify.deadline import Deadline
from specverify.decoders.protocol import State
from specverify.draws import Sampled
from specverify.evidence.dealt import Dealt
from specverify.model import Model

SIZES = (2, 3, 5, 7, 8, 13, 16, 32, 33, 64, 128, 600, 1024)
ROWS = 24
"""Rows that are run alone; batches are made of them."""
DEALT = 3
"""Rows that begin with conditions of their own."""
TWINS = 8
"""Rows that go on from each state of one row with coins of their own."""
TOGETHER = 8
"""Steps of that row that a batch of each size is wholly at, spread over its way."""
STEPS = 3
"""That a batch is followed for."""
_MIX = (-4658895280553007687, -7723592293110705685)


class Coins(Sampled):
    """Draws whose outcome in a row depends on that row alone.

    Args:
        seed: of all of them.
        rows: number of each row.
        steps: that each row has gone.
    """

    def __init__(self, seed: int, rows: Int[Tensor, " batch"], steps: Int[Tensor, " batch"]) -> None:
        super().__init__(seed)
        self._row = _mixed(_mixed(rows + (seed % 2**40 << 20)) + steps)
        self._asked = torch.zeros_like(rows)

    def uniform(self, like: Float[Tensor, "*shape"], where: Tensor) -> Float[Tensor, "*shape"]:
        """See Draws. A draw that a row has no use for does not count as one of its draws."""
        if len(self._row):
            self._asked += where.reshape(len(self._row), -1).any(1)
        dtype = torch.promote_types(like.dtype, torch.float32)
        return self._numbers(like.shape, self._row + self._asked, 24 if dtype == torch.float32 else 53).to(dtype)

    def race(
        self, batch: int, slots: int, vocab: int, where: Bool[Tensor, "batch slots"] | None = None
    ) -> Float[Tensor, "batch slots noise"]:
        """See Draws."""
        self._asked += 1
        noise = -torch.log1p(-self._numbers(torch.Size((batch, slots, vocab)), self._row - self._asked, 53))
        return noise if where is None else noise.where(where[..., None], 0.0)

    def _numbers(self, shape: torch.Size, state: Tensor, bits: int) -> Tensor:
        found = _mixed(state).reshape(-1, *[1] * (len(shape) - 1))
        for axis in range(1, len(shape)):
            found = _mixed(found + torch.arange(shape[axis]).reshape(-1, *[1] * (len(shape) - 1 - axis)))
        return ((found >> 10) & ((1 << bits) - 1)).double() / (1 << bits)


@dataclass(frozen=True)
class Seen:
    """What came of it.

    Attributes:
        apart: how a row was seen to do otherwise than alone; empty if none did.
        largest: the largest batch that was run.
        row: which one it was, of that batch.
    """

    apart: str
    largest: int
    row: int = 0


@dataclass(frozen=True)
class Alone:
    """All states that rows went through by themselves, one row after the other.

    Attributes:
        states: of all rows together.
        first: of each row, where its own begin.
        last: of each row, how many steps were taken; of one that was followed to its end, until it was done.
        number: of each row, which its coins are.
        gone: steps that each row had gone before its first state.
    """

    states: State
    first: Int[Tensor, " rows"]
    last: Int[Tensor, " rows"]
    number: Int[Tensor, " rows"]
    gone: Int[Tensor, " rows"]

    @classmethod
    def of(cls, runs: list[list[State]], number: Int[Tensor, " rows"], gone: Int[Tensor, " rows"]) -> Alone:
        """Of the states of each row by itself."""
        many = torch.tensor([len(states) for states in runs])
        together = tree.join([state for states in runs for state in states])
        return cls(together, many.cumsum(0) - many, many - 1, number, gone)

    def after(self, rows: Int[Tensor, " batch"], steps: Int[Tensor, " batch"]) -> State:
        """The states of rows after so many steps; of those that were done before, the last."""
        found: State = tree.rows(self.states, self.first[rows] + torch.minimum(steps, self.last[rows]))
        return found

    def coins(self, seed: int, rows: Int[Tensor, " batch"], steps: Int[Tensor, " batch"]) -> Coins:
        """Of rows that have gone so many steps from their first state."""
        return Coins(seed, self.number[rows], self.gone[rows] + steps)


@torch.no_grad()
def company(decoder: Any, model: Model, seed: int, deadline: Deadline) -> Seen:
    """Run rows alone, and the same rows in batches, until one does otherwise or the time is over.

    Args:
        decoder: behind the guard, or bare; draws are its only randomness.
        model: the target.
        seed: of the coins, and of who stands beside whom.
        deadline: after which no batch is begun.
    """
    if apart := _dealt(decoder, model, seed):
        return Seen(f"of {DEALT} rows that begin with conditions of their own, {apart[0]}", DEALT, apart[1])
    runs = []
    for row in range(ROWS):
        if deadline.over:
            return Seen("", 1)
        runs.append(_alone(decoder, model, seed, row))
    alone = Alone.of(runs, torch.arange(ROWS), torch.zeros(ROWS, dtype=torch.int64))
    longest = max(runs, key=len)
    twins = _twins(decoder, model, seed, longest[:-1] or longest)
    generator = torch.Generator().manual_seed(seed % 2**40)
    for number, size in enumerate(SIZES):
        for what, rows, steps in _batches(alone.last, size, generator):
            if deadline.over:
                return Seen("", SIZES[number - 1] if number else 1)
            state = alone.after(rows, steps)
            if what == "from the start":
                state = decoder.init(model, size, alone.coins(seed, rows, steps - 1))
            if apart := _run(decoder, model, seed, alone, (rows, steps), state, STEPS):
                return Seen(f"in a batch of {size:,} rows {what}, {apart[0]}", size, apart[1])
        for what, rows in _of_twins(len(twins.last), size, number, generator):
            steps = torch.zeros_like(rows)
            if apart := _run(decoder, model, seed, twins, (rows, steps), twins.after(rows, steps), 1):
                return Seen(f"in a batch of {size:,} rows {what}, {apart[0]}", size, apart[1])
    return Seen("", SIZES[-1])


def _alone(decoder: Any, model: Model, seed: int, row: int) -> list[State]:
    """The states that a row goes through by itself; in the last it is done."""
    number = torch.tensor([row])
    states = [decoder.init(model, 1, Coins(seed, number, torch.tensor([-1])))]
    while not bool(states[-1].done.all()) and len(states) <= model.length:
        states.append(decoder.step(states[-1], model, Coins(seed, number, torch.tensor([len(states) - 1])))[0])
    return states


def _dealt(decoder: Any, model: Model, seed: int) -> tuple[str, int] | None:
    """How a row whose condition is its own does otherwise than alone, from the start to the end, and which one."""
    rows = torch.arange(DEALT)
    runs = [_alone(decoder, Dealt(model, row), seed, row) for row in range(DEALT)]
    alone = Alone.of(runs, rows, torch.zeros_like(rows))
    together, gone = Dealt(model), torch.zeros_like(rows)
    state = decoder.init(together, DEALT, alone.coins(seed, rows, gone - 1))
    return _run(decoder, together, seed, alone, (rows, gone), state, model.length)


def _twins(decoder: Any, model: Model, seed: int, states: list[State]) -> Alone:
    """A step from each state with coins of several rows, each alone: state by state, `TWINS` rows of each."""
    number = ROWS + torch.arange(TWINS).repeat(len(states))
    gone = torch.arange(len(states)).repeat_interleave(TWINS)
    runs = [
        [states[step], decoder.step(states[step], model, Coins(seed, number[row : row + 1], gone[row : row + 1]))[0]]
        for row, step in enumerate(gone.tolist())
    ]
    return Alone.of(runs, number, gone)


def _batches(
    last: Int[Tensor, " rows"], size: int, generator: torch.Generator
) -> Iterator[tuple[str, Int[Tensor, " batch"], Int[Tensor, " batch"]]]:
    """What a batch is like, which rows are in it, and how many steps each has gone."""

    def drawn(below: int) -> Tensor:
        return torch.randint(below, (size,), generator=generator)

    rows = drawn(len(last))
    yield "from the start", rows, torch.zeros_like(rows)
    rows = drawn(len(last))
    yield "of mixed lengths", rows, drawn(1 << 30) % (last[rows] + 1)
    step = 1 + int(drawn(1 << 30)[0]) % max(1, int(last.max()) - 1)
    yield f"after {step} steps", rows, last[rows].clamp(max=step)
    rows = drawn(len(last))
    yield "of the longest and the shortest", rows, drawn(2) * (last[rows] - 1).clamp(min=0)
    one = torch.arange(size) == drawn(size)[0]
    yield "of which one is unfinished", rows, torch.where(one, drawn(1 << 30) % last[rows].clamp(min=1), last[rows])


def _of_twins(
    count: int, size: int, offset: int, generator: torch.Generator
) -> Iterator[tuple[str, Int[Tensor, " batch"]]]:
    """What a batch of twins is like, and which of `count` are in it."""
    steps = count // TWINS
    for part in range(min(TOGETHER, steps)):
        step = (offset + part * steps // TOGETHER) % steps
        yield "in one state", step * TWINS + torch.randint(TWINS, (size,), generator=generator)
    yield "in one of a few states each", torch.randint(count, (size,), generator=generator)


def _run(
    decoder: Any, model: Model, seed: int, alone: Alone, batch: tuple[Tensor, Tensor], state: State, ahead: int
) -> tuple[str, int] | None:
    """How a row of this batch does otherwise than alone in the steps that are ahead, and which one; None if none."""
    rows, gone = batch
    for steps in (gone + number for number in range(ahead)):
        if bool(state.done.all()):
            return None
        state, _ = decoder.step(state, model, alone.coins(seed, rows, steps))
        due = alone.after(rows, steps + 1)
        other = (state.tokens != due.tokens).any(1) | (state.length != due.length)
        if bool(other.any()):
            place = int(other.int().argmax())
            return (
                f"{int(other.sum()):,} do otherwise than alone with the same coins, such as row {place}, which "
                f"comes to {_committed(state, place)} instead of {_committed(due, place)}"
            ), place
    return None


def _committed(state: State, row: int) -> list[int]:
    return state.tokens[row, : int(state.length[row])].tolist()


def _mixed(numbers: Tensor) -> Tensor:
    """Integers, each scattered over 64 bits, as by splitmix64."""
    numbers = numbers * 7046029254386353131 + 1442695040888963407
    for shift, factor in zip((30, 27), _MIX, strict=True):
        numbers = (numbers ^ ((numbers >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return numbers ^ ((numbers >> 31) & ((1 << 33) - 1))
