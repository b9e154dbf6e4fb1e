"""Draws that are enumerated with chances that have names.

The order of outcomes, and that the same draws are asked for on replay, are those of `Enumerated`; only chances are
named numbers instead of floats. A chance counts once nothing that it assumes can fail in a world of positive weight.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import NoReturn

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.enumerated import Enumerated
from specverify.evidence.exact.chances import Chances
from specverify.evidence.exact.numbers import ONE, ZERO, Assumptions, OutOfReach, Unsettled
from specverify.evidence.exact.words import words
from specverify.outcomes import Chosen

RACES = 5
"""Most of them of which the earliest token is followed: each makes its chance four times as long."""
FAINT = 1e-4
"""Where less is left of races at the real point, a number that is divided by it is rounded too much to be looked at."""


class NamedDraws(Enumerated):
    """See Enumerated.

    Args:
        chances: of the run.
        weight: of each world, Int[batch], numbers of `chances`.
        chosen: outcomes of the first draws.
        known: of the races in the state; in place of an interval [k, k + 1], where k is the number of what is known in
            `chances.races`.

    Attributes:
        weight: times the chances of the outcomes so far.
    """

    def __init__(
        self, chances: Chances, weight: Tensor, chosen: Sequence[Chosen] = (), known: Tensor | None = None
    ) -> None:
        super().__init__(len(weight), chosen, known=known)
        self.chances, self.weight = chances, weight
        self.named, self.numbers = chances.named, chances.named.numbers

    def accept_run(
        self, probability: Float[Tensor, "batch w"], where: Bool[Tensor, "batch w"]
    ) -> Int[Tensor, " batch"]:
        """See Draws."""
        with self._unseen():
            rows = self._asked(probability, where, "accept_run")
            weights = []
            for live, row in zip(self.weight.tolist(), rows, strict=True):
                options = []
                for name, tests in row:
                    coin = self._coin(live, name, tests, "accept_run")
                    options.append(self._times(live, coin, against=True))
                    live = self._times(live, name)
                weights.append([*options, live])
            return self._taken("accept_run", torch.tensor(weights)[:, None])[:, 0]

    def bernoulli(self, probability: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        """See Draws."""
        with self._unseen():
            rows = self._asked(probability.reshape(len(probability), -1), where.reshape(len(where), -1), "bernoulli")
            names = [
                [
                    [self.named.algebra.apply("sub", ONE, self._coin(live, name, tests, "bernoulli")), name]
                    for name, tests in row
                ]
                for live, row in zip(self.weight.tolist(), rows, strict=True)
            ]
            return self._several("bernoulli", names).reshape(probability.shape).bool()

    def categorical(
        self, weights: Float[Tensor, "*shape vocab"], where: Bool[Tensor, "*shape"]
    ) -> Int[Tensor, "*shape"]:
        """See Draws."""
        with self._unseen():
            shape = weights.shape[:-1]
            laws = self.named.names(weights).reshape(len(weights), -1, weights.shape[-1]).tolist()
            used, tests = self._mask(where)
            names = [
                [
                    self._chances(live, law, use, self.named.assumptions(test), "categorical")
                    for law, use, test in zip(row, uses, assumed, strict=True)
                ]
                for live, row, uses, assumed in zip(self.weight.tolist(), laws, used, tests, strict=True)
            ]
            return self._several("categorical", names).reshape(shape)

    def race(
        self, batch: int, slots: int, vocab: int, where: Bool[Tensor, "batch slots"] | None = None
    ) -> Float[Tensor, "batch slots noise"]:
        """See Draws. Refused for more than two tokens; one that is asked for where none is drawn is none here, too."""
        if vocab != 2:
            self._refuse(f"it draws by races over {vocab} tokens, which are followed for two tokens only")
        with self._unseen():
            if where is not None:
                for live, tests in zip(self.weight.tolist(), self._mask(where)[1], strict=True):
                    for test in tests:
                        self.chances.require(live, self.named.assumptions(test), "whether a race is drawn")
            return self.named.noise(super().race(batch, slots, vocab, where))  # type: ignore[no-any-return]

    def winner(
        self,
        race: Float[Tensor, "batch slots noise"],
        weights: Float[Tensor, "batch slots vocab"],
        where: Bool[Tensor, "batch slots"],
    ) -> tuple[Int[Tensor, "batch slots"], Float[Tensor, "batch slots noise"]]:
        """See Draws. Slots are asked one after the other, as some may share a race."""
        with self._unseen():
            self._of_one_size(race, weights, where)
            self.named.has_names(race)  # which refuses what is noise by its class alone
            laws, (used, tests) = self.named.names(weights).tolist(), self._mask(where)
            winners = torch.zeros(where.shape, dtype=torch.int64)
            for slot in range(where.shape[1]):
                place, known = self._found(race, where, "winner")
                mine = [(row[slot], use[slot], test[slot]) for row, use, test in zip(laws, used, tests, strict=True)]
                winners[:, slot], now = self._look(known[:, slot, 0].long().tolist(), mine)
                number = torch.tensor(now, dtype=torch.float64)[:, None]
                here = slice(slot, slot + 1)
                self._ledger.learn(place[:, here], where[:, here], torch.stack([number, number + 1], -1))
            return winners, race

    def earliest(
        self,
        race: Float[Tensor, "batch slots noise"],
        weights: Float[Tensor, "batch vocab"],
        where: Bool[Tensor, "batch slots"],
    ) -> Int[Tensor, " batch"]:
        """See Draws."""
        with self._unseen():
            self.named.has_names(race)  # which refuses what is noise by its class alone
            place, known = self._each_its_own(race, where)
            laws, (used, tests) = self.named.names(weights).tolist(), self._mask(where)
            names = []
            for live, numbers, law, use, test in zip(
                self.weight.tolist(), known[..., 0].long().tolist(), laws, used, tests, strict=True
            ):
                for each in test:
                    self.chances.require(live, self.named.assumptions(each), "whether a race is asked")
                asked = [number for number, here in zip(numbers, use, strict=True) if here]
                if len(asked) > RACES:
                    raise OutOfReach(f"it asks for the earliest token of {len(asked)} races; {RACES} are followed")
                zero, one = self._chances(live, law, bool(asked), frozenset(), "earliest")
                looked = asked and self.chances.residue[live] != 0
                names.append([list(self._first(live, asked, (zero, one)) if looked else (zero, one))])
            token = self._several("earliest", names)[:, 0]
            self._ledger.spend(place, where)
            return token

    def uniform(self, like: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Refused."""
        self._refuse("it draws uniform numbers")

    def normal(self, like: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Refused."""
        self._refuse("it draws normal numbers")

    def _look(
        self, known: list[int], asked: list[tuple[list[int], bool, int]]
    ) -> tuple[Int[Tensor, " batch"], list[int]]:
        """Each row's winner of a race, and what is known then.

        Args:
            known: what is known before.
            asked: names of weights, whether the race is asked, and the number of what that assumes.
        """
        races, every, names = self.chances.races, [], []
        for live, number, (law, use, test) in zip(self.weight.tolist(), known, asked, strict=True):
            zero, one = self._chances(live, law, use, self.named.assumptions(test), "winner")
            looked = use and self.chances.residue[live] != 0
            parts, length = (races.parts(number, (zero, one)), races.length(number)) if looked else ((ONE, ZERO), ONE)
            names.append([[self._share(live, part, length) for part in parts]])
            every.append((number, parts))
        winner = self._several("winner", names)[:, 0]
        return winner, [
            races.after(number, token, parts) for (number, parts), token in zip(every, winner.tolist(), strict=True)
        ]

    def _first(self, live: int, asked: list[int], law: tuple[int, int]) -> tuple[int, int]:
        """The chances that token 0, and token 1, come first in races, in a world with the weight `live`."""
        races, algebra, numbers = self.chances.races, self.named.algebra, self.numbers
        name, left = races.first(asked, law), 1.0
        for length in map(races.length, asked):
            before, left = len(numbers), left * numbers.value[length]
            name = algebra.apply("div", name, length)
            if name >= before and not left > FAINT:
                numbers.value[name] = math.nan
        self.chances.require(live, numbers.assumed[name], "the earliest token of several races")
        # As the chance of an event; and a token of no weight never comes.
        zero, one = (numbers.zero_where[each] for each in law)
        numbers.name(numbers.residue[name], math.nan, 0, numbers.assumed[name], zero=zero, one=one)
        facts = numbers.facts(name)
        facts.nonnegative = facts.at_most_1 = True
        return name, algebra.apply("sub", ONE, name)

    def _share(self, live: int, part: int, length: int) -> int:
        """The chance of a part of what is left of a race, in a world with the weight `live`."""
        name = self.named.algebra.apply("div", part, length)
        self.chances.require(live, self.numbers.assumed[name], "the winner of a race")
        if not self.numbers.facts(part).nonnegative or not self.numbers.facts(length).nonnegative:
            raise Unsettled(
                f"a race is won with the chance {words(self.named.algebra, name)}, of which the sign is open"
            )
        return name

    @contextlib.contextmanager
    def _unseen(self) -> Iterator[None]:
        """Nothing in here is the decoder's doing; what is refused stays refused."""
        try:
            with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
                yield
        except OutOfReach as error:
            self.named.stopped = error
            raise
        except Exception as error:  # which a decoder may catch
            self.named.stopped = OutOfReach(f"a draw raised {type(error).__name__}: {error}")
            raise self.named.stopped from None

    def _different(self, what: str) -> BaseException:
        """Another draw on replay: it may come of a sign of a number that was found in between."""
        orders = self.named.algebra.orders
        if orders is None or not orders.found:
            return super()._different(what)
        return self._stop(Unsettled(f"on replay it {what}, as it compared numbers of laws in between"))

    def _refuse(self, why: str) -> NoReturn:
        self.named.stopped = OutOfReach(why)
        raise self.named.stopped

    def _asked(self, probability: Tensor, where: Tensor, kind: str) -> list[list[tuple[int, Assumptions]]]:
        """Each row's chances, 0 where none is asked for, and what the masks assume."""
        names = self.named.names(probability).tolist()
        used, tests = self._mask(where)
        return [
            [
                (name if use else ZERO, self.named.assumptions(test))
                for name, use, test in zip(row, uses, assumed, strict=True)
            ]
            for row, uses, assumed in zip(names, used, tests, strict=True)
        ]

    def _mask(self, where: Tensor) -> tuple[list[list[bool]], list[list[int]]]:
        flat = where.reshape(len(where), -1)
        return flat.tolist(), self.named.tests(where).reshape(flat.shape).tolist()

    def _coin(self, live: int, name: int, tests: Assumptions, kind: str) -> int:
        """A chance that is one, in a world with the weight `live`."""
        if self.chances.residue[live] == 0:
            return ZERO if self.numbers.residue[name] is None else name
        self.chances.require(live, tests | self.numbers.assumed[name], f"the chance of {kind}")
        facts = self.numbers.facts(name)
        residue = self.numbers.residue[name]
        at_most_1 = facts.at_most_1 or (residue is not None and self.numbers.knows(1 - residue).nonnegative)
        if not (facts.nonnegative and at_most_1):
            raise Unsettled(
                f"{kind} is asked with {words(self.named.algebra, name)}, which is not certain to lie between 0 and 1 "
                "for all laws"
            )
        return name

    def _chances(self, live: int, law: list[int], used: bool, tests: Assumptions, kind: str) -> list[int]:
        """A law's chances, in a world with the weight `live`; where it is not used, the first outcome is certain."""
        self.chances.require(live, tests, "whether a law is drawn from")
        if not used or self.chances.residue[live] == 0:
            return [ONE] + [ZERO] * (len(law) - 1)
        total = ZERO
        for name in law:
            self.chances.require(live, self.numbers.assumed[name], "a law that is drawn from")
            if not self.numbers.facts(name).nonnegative:
                raise Unsettled(
                    f"{kind} is asked with the weight {words(self.named.algebra, name)}, which is not certain to "
                    "be at least 0 for all laws"
                )
            total = self.named.algebra.apply("add", total, name)
        if self.numbers.residue[total] == 0:
            raise OutOfReach(f"{kind} is asked with weights whose sum is 0")
        if self.numbers.residue[total] == 1:
            return law
        chances = [self.named.algebra.apply("div", name, total) for name in law]
        for name in chances:
            self.chances.require(live, self.numbers.assumed[name], "a law that is drawn from")
        return chances

    def _times(self, live: int, name: int, against: bool = False) -> int:
        """A weight times a chance, or times what is left of 1."""
        name = self.named.algebra.apply("sub", ONE, name) if against else name
        return self.chances.times(live, name)

    def _several(self, kind: str, names: list[list[list[int]]]) -> Tensor:
        """The outcomes of independent slots; names: those of the chances, of rows, slots and options."""
        table = torch.tensor(names, dtype=torch.int64).reshape(len(names), -1, len(names[0][0]) if names[0] else 1)
        different, place = table.unique(return_inverse=True)
        possible = torch.tensor([self.numbers.residue[name] != 0 for name in different.tolist()], dtype=torch.float64)
        options = self._possible(kind, possible[place].reshape(table.shape))
        for slot in range(table.shape[1]):
            taken = table[:, slot].gather(1, options[:, slot, None]).squeeze(1)
            self.weight = self.named.each(self.chances.times, self.weight, taken)
        return options.clone()

    def _taken(self, kind: str, weights: Tensor) -> Tensor:
        """The outcomes of one slot; weights: those of the worlds after each option."""
        different, place = weights.unique(return_inverse=True)
        possible = torch.tensor([self.chances.residue[each] != 0 for each in different.tolist()], dtype=torch.float64)
        options = self._possible(kind, possible[place].reshape(weights.shape))
        self.weight = weights[:, 0].gather(1, options).squeeze(1)
        return options.clone()
