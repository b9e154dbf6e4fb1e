"""Draws that are enumerated: every outcome of every draw, with its chance.

Each call of a decoder comes to its end, on the first outcome of every draw; for every other outcome it is called again,
with this one chosen. What it asks for on the way to it must be the same each time: the kind of every draw, and its law.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.enumerated_races import chance_of_zero, shared
from specverify.errors import ContractError, DependentRowsError
from specverify.noise import Ledger
from specverify.outcomes import Chosen, Open, opened

DECISIONS = (
    "ask for the decision itself: draws.bernoulli(p, where) for `uniform < p`, draws.categorical(p, where) for the "
    "token at which p adds up to it, draws.accept_run(ratios, where) for how many drafts in a row are kept"
)
"""What to draw instead of a number."""

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
SAME = 1e-6
"""How far apart the chances of an outcome may be on replay: rounding may depend on the batch, laws may not."""


class Enumerated:
    """Replays the outcomes chosen so far, then goes on with the first outcome of every draw, and keeps the others.

    Every row of the batch is a different world: `worlds.follow` splits rows at each draw that is `open`, and calls the
    decoder again for the outcomes that wait. Draws with finitely many outcomes are exact. A race is exact for two
    tokens: token 0 wins if and only if E_0 / (E_0 + E_1), which is uniform on [0, 1], is below p_0, so what is known of
    it is the interval that is left. It is known of the race (`noise.py`): one that is asked again, by whatever copy or
    view, is not fresh.

    Args:
        batch: how many worlds.
        chosen: the outcomes of the first draws.
        known: of the races in the state that the call is made with, as `settle` gave it; None if there are none.
        rows: among how many the chosen outcomes may have come; `batch` if None.

    Attributes:
        chosen: the outcomes of all draws so far.
        open: those of the draws that went on with their first outcomes, by their numbers.

    Raises:
        ContractError: for laws that are no laws, for `uniform` and `normal`, for a race over three tokens or more, for
            what is no noise where noise is due, and again if something caught that and went on.
        DependentRowsError: when the decoder's draws are not the same ones on replay, among other rows.
    """

    def __init__(
        self,
        batch: int,
        chosen: Sequence[Chosen] = (),
        device: torch.device | str = "cpu",
        known: Float[Tensor, "batch races 2"] | None = None,
        rows: int | None = None,
    ) -> None:
        self.batch, self.chosen, self.device = batch, list(chosen), device
        self._rows = batch if rows is None else rows
        self.open: dict[int, Open] = {}
        none = torch.zeros(batch, 0, 2, dtype=torch.float64, device=device)
        self._ledger = Ledger(none if known is None else known)
        self._next = 0
        self._stopped: BaseException | None = None

    def accept_run(
        self, probability: Float[Tensor, "batch w"], where: Bool[Tensor, "batch w"]
    ) -> Int[Tensor, " batch"]:
        """See Draws. Outcomes are the w + 1 lengths, not the 2^w coins."""
        return self._outcome("accept_run", self._lengths, probability, where, slots=1)[:, 0]

    def bernoulli(self, probability: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        """See Draws."""
        return self._outcome("bernoulli", self._coins, probability, where).reshape(where.shape).bool()

    def categorical(
        self, weights: Float[Tensor, "*shape vocab"], where: Bool[Tensor, "*shape"]
    ) -> Int[Tensor, "*shape"]:
        """See Draws."""
        return self._outcome("categorical", self._tokens, weights, where).reshape(where.shape)

    def race(
        self, batch: int, slots: int, vocab: int, where: Bool[Tensor, "batch slots"] | None = None
    ) -> Float[Tensor, "batch slots noise"]:
        """See Draws. Noise is the race's identity; only `Ledger` knows what was learned of it."""
        self._go_on()
        if vocab != 2:
            raise self._stop(
                ContractError(
                    f"a race over {vocab} tokens cannot be enumerated; use a model with two tokens, or test "
                    "statistically"
                )
            )
        if batch != self.batch:
            raise self._stop(ContractError(f"race was asked for {batch} rows of {self.batch}; each row needs its own"))
        return self._ledger.make(slots, where)

    def shown(self, tensor: Tensor) -> Tensor:
        """A tensor of the state, as this call sees it."""
        return self._ledger.shown(tensor)

    def winner(
        self,
        race: Float[Tensor, "batch slots noise"],
        weights: Float[Tensor, "batch slots vocab"],
        where: Bool[Tensor, "batch slots"],
    ) -> tuple[Int[Tensor, "batch slots"], Float[Tensor, "batch slots noise"]]:
        """See Draws. Slots that share a race are asked one after the other, as many draws."""
        self._of_one_size(race, weights, where)
        law = self._law(weights, where, "winner")
        place, _ = self._found(race, where, "winner")
        if not self._one_by_one(place, where):
            return self._winner("winner", place, law, race, where), race
        token, slots = torch.zeros_like(place), torch.arange(where.shape[1], device=place.device)
        for slot in range(where.shape[1]):
            token = token + self._winner("winner of a slot", place, law, race, where & (slots == slot))
        return token, race

    def _lengths(self, probability: Tensor, where: Tensor) -> Tensor:
        # A slot is reached if all before it may succeed; NaN may not.
        may = torch.cat([torch.ones_like(where[:, :1]), (where & (probability > 0))[:, :-1]], 1)
        coin = self._probabilities(probability, where & may.cumprod(1).bool(), "accept_run").double()
        survive = torch.cat([torch.ones_like(coin[:, :1]), coin.cumprod(-1)], 1)
        stop = torch.cat([1 - coin, torch.ones_like(coin[:, :1])], 1)
        return (survive * stop)[:, None, :]

    def _coins(self, probability: Tensor, where: Tensor) -> Tensor:
        coin = self._probabilities(probability, where, "bernoulli").double().reshape(len(where), -1)
        return torch.stack([1 - coin, coin], -1)

    def _tokens(self, weights: Tensor, where: Tensor) -> Tensor:
        return self._law(weights, where, "categorical").reshape(len(where), -1, weights.shape[-1])

    def _one_by_one(self, place: Tensor, where: Tensor) -> bool:
        """Whether slots of a row share a race, here or in the batch that this one is part of."""
        if self._next < len(self.chosen):
            return self.chosen[self._next].kind == "winner of a slot"
        return shared(place, where)

    def _winner(self, kind: str, place: Tensor, law: Tensor, race: Tensor, where: Tensor) -> Tensor:
        _, known = self._found(race, where, "winner")
        low, high = known.unbind(-1)
        inside = law[..., 0].clamp(min=low, max=high)
        zero_wins = ((inside - low) / (high - low)).where(where, 1.0)
        token = self._outcome(kind, _as_given, torch.stack([zero_wins, 1 - zero_wins], -1), where)
        zero = token == 0
        self._ledger.learn(place, where, torch.stack([low.where(zero, inside), inside.where(zero, high)], -1))
        return token

    def earliest(
        self,
        race: Float[Tensor, "batch slots noise"],
        weights: Float[Tensor, "batch vocab"],
        where: Bool[Tensor, "batch slots"],
    ) -> Int[Tensor, " batch"]:
        """See Draws. Races that were already looked at tell less than all of their noise: see `chance_of_zero`."""
        law = self._law(weights, where.any(1), "earliest")[:, 0]
        place, known = self._each_its_own(race, where)
        zero = chance_of_zero(known, law, where)
        token = self._outcome("earliest", _as_given, torch.stack([zero, 1 - zero], -1)[:, None], where, slots=1)[:, 0]
        self._ledger.spend(place, where)
        return token

    def _each_its_own(self, race: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        """What `earliest` is asked with."""
        place, known = self._found(race, where, "earliest")
        if shared(place, where):
            raise self._stop(
                ContractError("earliest was asked with two slots that are one race; give each slot a race of its own")
            )
        return place, known

    def uniform(self, like: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Not enumerable."""
        raise self._stop(ContractError(f"a uniform draw has no finite outcomes; {DECISIONS}"))

    def normal(self, like: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Not enumerable."""
        raise self._stop(
            ContractError(
                "a normal draw has no finite outcomes; decoders of continuous tokens are tested statistically"
            )
        )

    def finish(self, result: T) -> tuple[T, Float[Tensor, "batch races 2"]]:
        """What came of the call, its races numbered anew, and what is known of them.

        Raises:
            ContractError: what a draw raised, if the decoder went on; and if it did not ask again for all that it was
                given before.
        """
        self._go_on()
        if self._next < len(self.chosen):
            raise self._different(f"asked for {self._next} draws where it asked for {len(self.chosen)} before")
        return self._ledger.settle(result)

    def _outcome(
        self,
        kind: str,
        chances: Callable[[Tensor, Tensor], Float[Tensor, "batch slots options"]],
        given: Tensor,
        where: Tensor,
        slots: int | None = None,
    ) -> Int[Tensor, "batch slots"]:
        """The options chosen for this draw, or else the first; 0 where nothing is drawn."""
        self._go_on()
        number, self._next = self._next, self._next + 1
        if number == len(self.chosen):
            if bool(where.any()):
                draw = self.open[number] = opened(kind, where, given, chances(given, where))
                self.chosen.append(draw.chosen)
                return draw.chosen.options
            slots = where.reshape(self.batch, -1).shape[1] if slots is None else slots
            none = torch.zeros(self.batch, slots, dtype=torch.int64, device=where.device)
            self.chosen.append(Chosen(kind, none, where.clone(), torch.zeros(self.batch, 0, device=where.device)))
            return none
        chosen = self.chosen[number]
        if chosen.kind != kind:
            raise self._different(f"asked for {kind} where it asked for {chosen.kind} before")
        nothing = chosen.given.numel() == 0
        if torch.equal(where, chosen.where) and (nothing or torch.equal(given, chosen.given)):
            return chosen.options
        if nothing:
            raise self._different(f"asked for {kind} where it drew nothing before")
        before, now = chances(chosen.given, chosen.where), chances(given, where)
        if before.shape != now.shape:
            raise self._different(f"asked for {kind} of another shape")
        gap = (now - before).abs()
        if float(gap.max()) > SAME:
            place = tuple((gap == gap.max()).nonzero()[0])
            raise self._different(
                f"asked for {kind} with probability {float(now[place]):.6g} where it was {float(before[place]):.6g} "
                "before"
            )
        return chosen.options

    def _possible(self, kind: str, probability: Float[Tensor, "batch slots options"]) -> Int[Tensor, "batch slots"]:
        """The options of a draw whose chances are known."""
        everywhere = torch.ones(len(probability), 1, dtype=torch.bool, device=probability.device)
        return self._outcome(kind, _as_given, probability, everywhere)

    def _different(self, what: str) -> BaseException:
        alone = (
            "its draws depend on something else than its state: make `step` a function of its arguments, and ask for "
            "each draw once for all rows, with `where`, not row by row or as long as some row goes on"
        )
        if self._rows == 1:
            return self._stop(ContractError(f"on replay the decoder {what}: {alone}"))
        among = "alone now, among other rows before" if self.batch == 1 else f"among {self.batch} rows now"
        return self._stop(
            DependentRowsError(
                f"on replay the decoder {what}: {among}, how many rows are in the batch or what "
                f"they hold changes what a row does, or {alone}, row by row"
            )
        )

    def _stop(self, reason: E) -> E:
        self._stopped = reason
        return reason

    def _go_on(self) -> None:
        """Raise what an earlier draw raised, if something caught it."""
        if self._stopped is not None:
            raise self._stopped

    def _of_one_size(self, race: Tensor, weights: Tensor, where: Tensor) -> None:
        if not race.shape[:2] == weights.shape[:2] == where.shape:
            sizes = ", ".join(str(tuple(part.shape)) for part in (race, weights, where))
            raise self._stop(
                ContractError(
                    f"winner was asked with a race, weights and where of {sizes}; all need the same rows and slots"
                )
            )

    def _found(self, race: Tensor, where: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        try:
            return self._ledger.find(race, where, kind)
        except ContractError as error:
            raise self._stop(error) from None

    def _probabilities(self, probability: Tensor, where: Tensor, kind: str) -> Tensor:
        bad = where & ~((probability >= 0) & (probability <= 1 + 1e-9))
        if bool(bad.any()):
            value = float(probability[bad][0])
            wanted = "min(1, p / q)" if kind == "accept_run" else "a number from 0 to 1"
            raise self._stop(
                ContractError(
                    f"{kind} was asked with probability nan; a draft with q = 0 gives NaN here"
                    if math.isnan(value)
                    else f"{value:g} is no probability: {kind} takes {wanted}"
                )
            )
        return probability.where(where, 0.0).clamp(max=1.0)

    def _law(self, weights: Tensor, where: Tensor, kind: str) -> Tensor:
        weights = weights.double()  # before normalising, so that laws of any precision sum to 1
        total = weights.sum(-1)
        # NaN is neither, nor is what has one for its smallest weight or its sum.
        fine = (weights.amin(-1) >= 0) & (total > 0) & (total < math.inf)
        if not bool((fine | ~where).all()):
            bad = where & ~fine
            raise self._stop(
                ContractError(f"{kind} was asked with the weights {weights[bad][0].tolist()}, which are no law")
            )
        law = weights / total[..., None]
        if bool(where.all()):
            return law
        first = torch.zeros_like(law)
        first[..., 0] = 1
        return law.where(where[..., None], first)


def _as_given(probability: Tensor, where: Tensor) -> Tensor:
    return probability
