"""Chances of worlds: products, and where they are 0."""

from __future__ import annotations

from specverify.evidence.exact.assumed import discharged
from specverify.evidence.exact.conditions import Conditions, either
from specverify.evidence.exact.numbers import Assumptions, NeedsOrder, Unsettled
from specverify.evidence.exact.races import Races
from specverify.evidence.exact.supports import Supports
from specverify.evidence.exact.tensors import Named
from specverify.evidence.exact.words import words


class Chances:
    """Products of chances: their residues, and conditions of which each makes one of the factors 0.

    Attributes:
        residue, zero, size: lists over their numbers.
        discharged: how many assumptions were found to fail in worlds of weight 0 only.
        races: what may be known of races in worlds.
    """

    def __init__(self, named: Named) -> None:
        self.named, self.prime = named, named.numbers.field.prime
        self.residue: list[int] = []
        self.zero: list[Conditions] = []
        self.size: list[int] = []
        self.discharged: set[Assumptions] = set()
        self.races = Races(named.algebra)
        self._known: dict[tuple[int, Conditions], int] = {}
        self._products: dict[tuple[int, int], int] = {}

    def number(self, residue: int, zero: Conditions, size: int) -> int:
        """The number of a product."""
        if (known := self._known.get((residue, zero))) is None:
            known = self._known[residue, zero] = len(self.residue)
            self.residue.append(residue)
            self.zero.append(zero)
            self.size.append(size)
        return known

    def times(self, chance: int, name: int) -> int:
        """A product with a chance that has a name."""
        if (known := self._products.get((chance, name))) is None:
            numbers, residue = self.named.numbers, self.named.numbers.residue[name]
            if residue is None:
                raise Unsettled("a chance comes of a division by 0")
            known = self._products[chance, name] = self.number(
                self.residue[chance] * residue % self.prime,
                either(self.zero[chance], numbers.zero_where[name]),
                self.size[chance] + numbers.size[name],
            )
        return known

    def require(self, chance: int, assumed: Assumptions, what: str) -> None:
        """Raise OutOfReach unless what is assumed can fail only where a product is 0."""
        if assumed and self.residue[chance]:
            algebra = self.named.algebra
            while (failing := discharged(algebra.numbers, assumed, self.zero[chance])) is not None:
                if algebra.orders is None or not algebra.orders.split(failing.number):
                    hopeless = algebra.orders is not None or Supports(algebra.numbers).needed(failing.number) is None
                    raise (Unsettled if hopeless else NeedsOrder)(
                        f"{what} depends on whether {words(algebra, failing.number)} is 0, and worlds in which it is "
                        "may have a chance"
                    )
            self.discharged.add(assumed)
