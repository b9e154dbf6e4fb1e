"""Every world of a decoder on unknown laws: its own `step`, enumerated with chances that have names.

As in `enumerate.py`, worlds are taken up by length and equal ones are one. A state waits as integers alone: its laws as
the names of their numbers. What comes out is the weight of every sequence as a residue, and so is the target's law,
which is `target_law` carried out on the same names.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from specverify import tree
from specverify.decoders.protocol import Decoder, State
from specverify.errors import BudgetError, ContractError
from specverify.evidence import accounts
from specverify.evidence.budget import Budget
from specverify.evidence.exact import states
from specverify.evidence.exact.algebra import Algebra
from specverify.evidence.exact.box import Asked
from specverify.evidence.exact.chances import Chances
from specverify.evidence.exact.conditions import Conditions, both
from specverify.evidence.exact.draws import NamedDraws
from specverify.evidence.exact.goals import Lossless
from specverify.evidence.exact.keeping import changed, kept
from specverify.evidence.exact.numbers import ONE, ZERO, NeedsOrder, Numbers, OutOfReach
from specverify.evidence.exact.orders import Orders
from specverify.evidence.exact.shut import watched
from specverify.evidence.exact.tensors import Named
from specverify.evidence.exact.words import after
from specverify.evidence.sequences import sequence_index
from specverify.model import Model
from specverify.noise import Noise
from specverify.outcomes import Chosen, Open

_THROWN_AWAY = 50_000
"""How many objects are made until what holds itself is thrown away."""


@dataclass
class Place:
    """Worlds of one state: their weight, where all of them have none, and the size of the weight as a function.

    Beside the state stands what is known of the races in it.
    """

    state: tuple[Any, Tensor] | None
    weight: int
    zero: Conditions
    size: int


@dataclass(frozen=True)
class Followed:
    """What came of a decoder.

    Attributes:
        law, due: residue of each sequence's chance, of the decoder and of the target.
        numbers: all numbers of the run.
        chances: all products of chances.
        worlds: outcomes that were followed.
        size: of all differences between `law` and `due` together.
        asked: what of the box was.
    """

    law: dict[int, int]
    due: dict[int, int]
    numbers: Numbers
    chances: Chances
    worlds: int
    size: int
    asked: Asked

    @property
    def error_bits(self) -> float:
        """b such that, with chance at least 1 - 2^-b, no two different functions were taken for one.

        A difference of functions of size s is a fraction of polynomials of degrees up to s, with coefficients of up to
        s bits. If it is not 0, some coefficient of its numerator is not, and has at most s / 126 prime factors of the
        2^119.5 primes that one was drawn from; and modulo a prime P it is 0 at a random point with chance at most s / P
        (Schwartz and Zippel). Both together: below s / 2^125. Any two names, and any two products of chances, may have
        been taken for one; and so may a name, or a sum of entries, and a function that was looked for by its residue:
        a difference of two names, perhaps over a sum of entries.
        """
        names, products = self.numbers.size, self.chances.size
        total = len(names) ** 2 * (2 * max(names) + 1) + len(products) ** 2 * (2 * max(products) + 1) + self.size
        widest = max(len(law) for law in self.numbers.laws)
        total += self.numbers.field.asked * len(names) * (4 * max(names) + 2 * widest**2 + 1)
        return 125 - math.log2(total)

    @property
    def differing(self) -> list[int]:
        """The sequences whose chances differ, by `sequence_index`."""
        return [x for x in sorted(self.law.keys() | self.due.keys()) if self.law.get(x, 0) != self.due.get(x, 0)]


@torch.no_grad()
def follow(
    make: Callable[[], Decoder],
    target: Model,
    tables: Sequence[Sequence[Tensor]],
    numbers: Numbers,
    budget: Budget,
    goal: Lossless,
    drafts: Model,
    orders: Orders | None = None,
) -> Followed:
    """Run every world of a decoder on laws that are unknown.

    Args:
        make: makes the decoder.
        target: its model; at the real point, its laws are those in its table.
        tables: of each model, every tensor that holds its laws, Float[contexts, vocab], the longest first.
        numbers: a fresh run's.
        budget: how much it may take.
        goal: what is due.
        drafts: the draft model.
        orders: decides which of two laws' numbers is the larger, and notes it; None if that is refused.

    Raises:
        OutOfReach: the decoder cannot be followed.
        BudgetError: it takes too much.
    """
    collecting = gc.isenabled()
    gc.disable()  # it would run code of the decoder's where nobody looks, and so would showing warnings
    try:
        with warnings.catch_warnings(record=True):
            return _Following(make, target, tables, numbers, budget, goal, drafts, orders).run()
    finally:
        if collecting:
            gc.enable()


@dataclass
class _Following:
    make: Callable[[], Decoder]
    target: Model
    tables: Sequence[Sequence[Tensor]]
    numbers: Numbers
    budget: Budget
    goal: Lossless
    drafts: Model
    orders: Orders | None
    worlds: int = 0
    tokens: int = 0
    ended: bool = False
    parts: list[Any] | None = None
    law: dict[int, int] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)

    def run(self) -> Followed:
        self.named = Named(Algebra(self.numbers, self.orders))
        self.chances = Chances(self.named)
        for number, table in enumerate(self.tables):
            rows = self._laws(self.goal if number == 0 else Lossless(), table[0])
            for place, row in enumerate(rows.tolist()):
                behind = after(place, len(row), len(rows))
                for token, name in enumerate(row):
                    if name not in (ZERO, ONE):
                        self.numbers.entry.setdefault(self.numbers.residue[name], f"{'pq'[number]}({token}{behind})")
            for copy in table:
                self.named.bind(copy, rows[: len(copy)], lasting=True)
        try:
            before = self._made()
            if where := changed(before, self._made()):  # another, which is the one that is run
                raise OutOfReach(f"it is another each time that it is made, in {where}")
        except NeedsOrder as error:  # nothing is known of what it keeps
            raise OutOfReach(str(error)) from None
        try:
            found = self._followed()
        except (Exception, OutOfReach):  # it may be run again, and what is proved then must be so of this run, too
            self._unchanged(before)
            raise
        self._unchanged(before)
        return found

    def _followed(self) -> Followed:
        with self.named:
            law = self.goal.due(self.target, self.drafts)
            beside = self.goal.equal(self.target, self.drafts)
        due = self.named.names(law)
        sides = [[self.named.names(each).reshape(-1).tolist() for each in pair] for pair in beside]
        expected = self._residues(due)
        self.named.read.clear()
        self._go_through()
        for number, (one, other) in enumerate((one, other) for pair in sides for one, other in zip(*pair, strict=True)):
            self.law[-1 - number], expected[-1 - number] = self._residue(one), self._residue(other)
        self.numbers.check()
        names = [*due.tolist(), *(name for pair in sides for side in pair for name in side)]
        due_size = sum(self.numbers.size[name] for name in names)
        drafted = any(table.untyped_storage().data_ptr() in self.named.read for table in self.tables[1])
        asked = Asked(self.tokens, self.ended, drafted)
        size = sum(self.sizes.values()) + due_size
        return Followed(self.law, expected, self.numbers, self.chances, self.worlds, size, asked)

    def _go_through(self) -> None:
        """Every world, by the length of what it has committed."""
        self.waiting: dict[int, dict[tuple[int, ...], Place]] = defaultdict(dict)
        one = self.chances.number(1, frozenset(), 0)
        self._resolve(None, [Place(None, 1, frozenset(), 0)], torch.tensor([one]))
        for length in range(self.target.length):
            places = list(self.waiting.pop(length, {}).values())
            for start in range(0, len(places), self.budget.rows):
                chunk = places[start : start + self.budget.rows]
                states = tree.join([place.state for place in chunk])
                weight = [self.chances.number(1, place.zero, 0) for place in chunk]
                self._resolve(states, chunk, torch.tensor(weight))

    def _unchanged(self, before: dict[str, object]) -> None:
        if where := changed(before, self._kept()):
            raise OutOfReach(
                f"it keeps something between calls, in {where}: what it does may change after more of them"
            )

    def _made(self) -> dict[str, object]:
        """Make the decoder; what it keeps."""
        with watched(self.named):
            self.decoder = self.make()
        self.named.check_untouched()
        return self._kept()

    def _kept(self) -> dict[str, object]:
        return kept(
            self.decoder, self.target, self.drafts, type(self.target.start(1)), State, NamedDraws, Tensor, Noise
        )

    def _laws(self, goal: Lossless, table: Tensor) -> Tensor:
        """Names for the laws of a table."""
        names = goal.names(self.named.algebra, table.tolist(), self.target.vocab)
        if self.orders is not None:
            for law in names:
                self.orders.law(law)
        return torch.tensor(names)

    def _resolve(self, states: Any, places: list[Place], weight: Tensor) -> None:
        """Call the decoder in every world of these states, and file what comes of it."""
        every = torch.arange(len(places))
        stack: list[tuple[Tensor, list[Chosen]]] = [(every, [])]
        while stack:
            row, chosen = stack.pop()
            before, known = (None, None) if states is None else tree.rows(states, row)
            draws = NamedDraws(self.chances, weight[row], chosen, known)
            after = self._called(before, draws)
            self._take(len(row))
            for number, draw in draws.open.items():
                stack += self._split(draw, row, draws.chosen[:number])
            self._file(after, draws.weight.tolist(), [places[k] for k in row.tolist()])

    def _called(self, before: Any, draws: NamedDraws) -> tuple[State, Tensor]:
        """The state after a call of the decoder, its laws as names, and what is known of the races in it."""
        self.named.begin()
        given = None if before is None else self._mapped(before, lambda part: states.shown(self.named, draws, part))
        info = None
        with watched(self.named):
            if given is None:
                after = self.decoder.init(self.target, draws.batch, draws)
            else:
                after, info = self.decoder.step(given, self.target, draws)
        if not dataclasses.is_dataclass(after) and not isinstance(after, tuple):
            raise OutOfReach(f"its state is a {type(after).__name__}; make it a dataclass or a named tuple of tensors")
        noise, known = draws.finish([part for part in tree.tensors(after) if isinstance(part, Noise)])
        if given is not None:
            accounts.check_progress(type(self.decoder).__name__, given, after)
            self.tokens = max(self.tokens, int((after.length - given.length).max()))
            states.check_lent(self.named, draws, before, given)
        self.parts = states.check_parts(after, self.parts)
        numbered = iter(noise)
        hidden: State = self._mapped(after, lambda part: states.hidden(self.named, part, numbered))
        with watched(self.named):  # and so is code that runs as something is thrown away
            del after, given, info
            self.named.check_let_go()
            if gc.get_count()[0] > _THROWN_AWAY:
                gc.collect(0)
        return hidden, known

    def _mapped(self, state: Any, function: Callable[[Tensor], Tensor]) -> Any:
        """A state with other tensors; code of its own that runs as it is made is watched as all of a decoder's."""

        def unseen(tensor: Tensor) -> Tensor:
            with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
                return function(tensor)

        with watched(self.named):
            return tree.map_tensors(state, unseen)

    def _split(self, draw: Open, row: Tensor, chosen: list[Chosen]) -> list[tuple[Tensor, list[Chosen]]]:
        self._take(0, ahead=int(draw.others.sum()))
        found = []
        parent, outcome, _ = draw.expand((draw.others > 0).nonzero().squeeze(1))
        for piece in torch.arange(len(parent)).split(self.budget.rows) if len(parent) else ():
            mine = parent[piece]
            found.append((row[mine], [*(tree.rows(each, mine) for each in chosen), tree.rows(outcome, piece)]))
        return found

    def _file(self, found: tuple[Any, Tensor], weight: list[int], places: list[Place]) -> None:
        """Add up finished worlds, and let the others wait with those that are equal."""
        prime, (after, _) = self.numbers.field.prime, found
        done, length = after.done.tolist(), after.length.tolist()
        vocab, long = self.target.vocab, self.target.length
        sequence = [self.goal.outcome(x, vocab, long) for x in sequence_index(after.tokens, vocab).tolist()]
        keys = tree.to_bits(found).tolist()
        for row, (chance, place) in enumerate(zip(weight, places, strict=True)):
            share = place.weight * self.chances.residue[chance] % prime
            size = place.size + self.chances.size[chance] + 1
            if done[row]:
                self.ended |= length[row] < long
                self.law[sequence[row]] = (self.law.get(sequence[row], 0) + share) % prime
                self.sizes[sequence[row]] = self.sizes.get(sequence[row], 0) + size
                continue
            zero, slot = self.chances.zero[chance], self.waiting[length[row]]
            key = tuple(keys[row])
            if (known := slot.get(key)) is None:
                slot[key] = Place(tree.rows(found, torch.tensor([row])), share, zero, size)
            else:
                known.weight, known.size = (known.weight + share) % prime, known.size + size
                known.zero = both(known.zero, zero)

    def _residues(self, names: Tensor) -> dict[int, int]:
        found: dict[int, int] = {}
        for index, name in enumerate(names.tolist()):
            outcome = self.goal.outcome(index, self.target.vocab, self.target.length)
            found[outcome] = (found.get(outcome, 0) + self._residue(name)) % self.numbers.field.prime
        return {outcome: residue for outcome, residue in found.items() if residue}

    def _residue(self, name: int) -> int:
        residue = self.numbers.residue[name]
        if residue is None:
            raise ContractError(f"what is due on {self.target.name!r} is no number")
        return residue

    def _take(self, worlds: int, ahead: int = 0) -> None:
        deadline = self.budget.deadline
        self.worlds += worlds
        if self.worlds + ahead > self.budget.worlds or (deadline is not None and deadline.over):
            raise BudgetError(f"{self.worlds:,} worlds were followed when the time or the budget was over")
