"""How much an enumeration may take, and which sizes are certain to fit."""

from __future__ import annotations

from dataclasses import dataclass, field

from specverify.deadline import Deadline
from specverify.decoders.protocol import Decoder
from specverify.errors import BudgetError, InputError
from specverify.model import Model
from specverify.worlds import Pace


@dataclass(frozen=True)
class Budget:
    """How much an enumeration may take.

    Attributes:
        worlds: outcomes followed in all.
        rows: rows per call of `step`; 1 runs every world alone, as a check that rows do not influence each other.
        deadline: when to give up, whatever is left; None for never.
        pace: of enumerations of this budget's rows one after the other, what is known of how long a call takes; by
            default each with a deadline finds it out anew.
    """

    worlds: int = 20_000_000
    rows: int = 1 << 16
    deadline: Deadline | None = None
    pace: Pace | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.worlds < 1 or self.rows < 1:
            raise InputError(f"an enumeration budget of {self.worlds} worlds and {self.rows} rows; both are at least 1")


def advice(model: Model, decoder: Decoder, worlds: int, races: bool) -> str:
    """Which sizes are certain to fit, by the worst case: every state (prefix, old drafts, drafts) times every outcome.

    What is known of a race depends on the drafts of every pass that its slot was in, at most one per slot.
    """

    def bound(vocab: int, length: int, window: int) -> int:
        reach = [min(window, length - done) for done in range(length)]
        return sum(
            vocab ** (done + 1 + chains * width * (2 + (width if races else 1))) for done, width in enumerate(reach)
        )

    window, chains = getattr(decoder, "window", 1), getattr(decoder, "chains", 1)
    windows = [w for w in range(1, window) if bound(model.vocab, model.length, w) <= worlds]
    lengths = [n for n in range(1, model.length) if bound(model.vocab, n, window) <= worlds]
    fits = []
    if windows:
        fits.append(f"a window of {windows[-1]}")
    if lengths:
        fits.append(f"a length of {lengths[-1]}")
    return f"{' or '.join(fits)} fits for certain" if fits else "a smaller vocabulary may fit"


class Spent:
    """What an enumeration has taken of its budget."""

    def __init__(self, budget: Budget, decoder: Decoder, model: Model) -> None:
        self.budget, self.decoder, self.model = budget, decoder, model
        self.worlds = 0
        self.races = False

    def look(self, kind: str, worlds: int) -> None:
        """See ahead whether there is enough for all worlds that wait at a draw, before they are made.

        Raises:
            BudgetError: as `take`.
        """
        self.races |= kind.startswith(("winner", "earliest"))
        self.take(0, ahead=worlds)

    def take(self, worlds: int, *, ahead: int = 0) -> None:
        """Count worlds that were followed.

        Raises:
            BudgetError: if there is not enough for them and those ahead, or the time is over; it says which size would
                fit.
        """
        if self.budget.deadline is not None and self.budget.deadline.over:
            raise BudgetError(
                f"enumerating {self.decoder.name!r} on {self.model.name!r} was given up after {self.worlds:,} worlds, "
                "when the time that it had was over; give it more seconds, or a smaller model"
            )
        self.worlds += worlds
        if self.worlds + ahead > self.budget.worlds:
            raise BudgetError(
                f"enumerating {self.decoder.name!r} on {self.model.name!r} takes more than {self.budget.worlds:,} "
                f"worlds; {advice(self.model, self.decoder, self.budget.worlds, self.races)}, or raise the budget"
            )
