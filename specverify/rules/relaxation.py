"""What a relaxed rule is: a way to judge drafts that buys acceptance with bias, and says what it still guarantees.

With a(x) the chance that a draft x ~ q is kept, A = sum_x q(x) a(x), and r the law that replaces a rejected one, a
token comes out with the law P_out = q a + (1 - A) r. For any rule at all, TV(P_out, p) >= A - (1 - TV(p, q)): what a
rule gains over the token rule is paid for at least one to one. `price.py` tells how far above that a rule pays.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from specverify.claims import Claim, Relaxed
from specverify.rules.token import at

Laws = Float[Tensor, "*shape vocab"]
Tokens = Int[Tensor, "*shape"]
Rates = Float[Tensor, "*shape"]

NOTHING = Relaxed(1.0)
"""The claim of a rule that keeps no promise on every model: any two laws are within a total variation of 1."""


@runtime_checkable
class Relaxation(Protocol):
    """A `Judging` (pure functions of laws, over any leading shape) that may be lossy, and says so."""

    @property
    def claim(self) -> Claim:
        """What holds of whole sequences, of any length, on every model that the rule is meant for."""

    def accept(self, p: Laws, q: Laws, draft: Tokens) -> Rates:
        """The probability to keep each draft; NaN may stand where q cannot have drawn it."""

    def recover(self, p: Laws, q: Laws, draft: Tokens) -> Laws:
        """The law that replaces a rejected draft."""


def of_one_law(laws: Laws) -> bool:
    """Whether many drafts are judged by one law, as `price` tries them: the first axis is expanded, and has it once."""
    return laws.ndim > 1 and laws.stride(0) == 0


def ratio(numerator: Rates, q: Laws, draft: Tokens) -> Rates:
    """min(1, numerator / q(x)) of the draft token x."""
    return (numerator / at(q, draft)).clamp(max=1)
