"""Verdicts: what the evidence says about a claim.

    PROVED-FOR-ALL  as PROVED, and the law is the target's whatever the models' laws are, in a box of sizes; up to the
                  error of a random evaluation, which is stated (`evidence/exact`)
    PROVED        the exact law satisfies the claim on this model
    CONSISTENT    no check saw a discrepancy; one of at least delta would have been missed with probability at most beta
    REFUTED       the exact law breaks the claim, or a check rejected it at its alpha
    INCONCLUSIVE  nothing was rejected, but the checks cannot see discrepancies as small as was asked for
    VACUOUS       nothing was rejected, but nothing was at stake: no draft was verified, none was ever rejected, or the
                  claim allows nearly every law
    ERROR         the check could not be carried out

A verdict is a function of evidence alone. Several combine as follows (`combine`; symmetric, associative):

                    FOR-ALL       PROVED        CONSISTENT    VACUOUS       INCONCLUSIVE  ERROR  REFUTED
    PROVED-FOR-ALL  FOR-ALL       PROVED        CONSISTENT    FOR-ALL       INCONCLUSIVE  ERROR  REFUTED
    PROVED                        PROVED        CONSISTENT    PROVED        INCONCLUSIVE  ERROR  REFUTED
    CONSISTENT                                  CONSISTENT    CONSISTENT    INCONCLUSIVE  ERROR  REFUTED
    VACUOUS                                                   VACUOUS       INCONCLUSIVE  ERROR  REFUTED
    INCONCLUSIVE                                                            INCONCLUSIVE  ERROR  REFUTED
    ERROR                                                                                 ERROR  REFUTED
    REFUTED                                                                                      REFUTED

A verdict on every law of some sizes lifts one on models by name (`lifted`): PROVED or CONSISTENT becomes
PROVED-FOR-ALL, of these sizes, and nothing that is worse becomes better.

A vacuous part adds nothing and takes nothing away; it is reported as not covered. One refutation refutes,
whatever else went wrong.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from specverify.errors import InputError


class Kind(enum.Enum):
    """The seven verdicts."""

    PROVED_FOR_ALL = "PROVED-FOR-ALL"
    PROVED = "PROVED"
    CONSISTENT = "CONSISTENT"
    REFUTED = "REFUTED"
    INCONCLUSIVE = "INCONCLUSIVE"
    VACUOUS = "VACUOUS"
    ERROR = "ERROR"

    @property
    def exit_code(self) -> int:
        """0 if the claim holds, 1 if it is refuted, 2 if nothing can be said, 3 for an error."""
        return {Kind.REFUTED: 1, Kind.INCONCLUSIVE: 2, Kind.VACUOUS: 2, Kind.ERROR: 3}.get(self, 0)

    @property
    def proved(self) -> bool:
        """Whether a claim was proved, on models that are named or for all laws."""
        return self in (Kind.PROVED, Kind.PROVED_FOR_ALL)


_PRECEDENCE = (
    Kind.REFUTED,
    Kind.ERROR,
    Kind.INCONCLUSIVE,
    Kind.CONSISTENT,
    Kind.PROVED,
    Kind.PROVED_FOR_ALL,
    Kind.VACUOUS,
)


@dataclass(frozen=True)
class Verdict:
    """What can be said of a claim, and why.

    Attributes:
        kind: which of the seven.
        reason: one sentence with the figures that it rests on.
    """

    kind: Kind
    reason: str


def combine(kinds: Iterable[Kind]) -> Kind:
    """The verdict over several parts, by the table above.

    Raises:
        InputError: for no parts at all: nothing checked is not a pass.
    """
    present = set(kinds)
    for kind in _PRECEDENCE:
        if kind in present:
            return kind
    raise InputError("no verdicts to combine: nothing was checked, so nothing can be said")


def lifted(models: Sequence[Kind], laws: Sequence[Kind]) -> Kind:
    """The verdict over models by name and over every law of some sizes.

    Args:
        models: verdicts on models by name, proved or tested.
        laws: verdicts of tries to prove it for every law.

    Raises:
        InputError: for no parts at all.
    """
    if not models or not laws:
        return combine([*models, *laws])
    over, every = combine(models), combine(laws)
    if over in (Kind.PROVED, Kind.CONSISTENT) and every is Kind.PROVED_FOR_ALL:
        return every
    return combine([over, every])
