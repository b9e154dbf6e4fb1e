"""A random finite field, and the free symbol that stands for min(1, r) in it.

Residues are Python integers modulo one random prime of 127 bits. Nothing of a proof waits for them: tensors hold the
*names* of numbers (`numbers.py`), each different number is computed once, and so one prime of 127 bits costs no more
than one of 61 bits in an int64 would, and leaves errors below 2^-60 where the small one would need several runs.
"""

from __future__ import annotations

import random
from fractions import Fraction

from specverify.seeds import derived_seed

BITS = 127
_WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


class Field:
    """Residues modulo a prime, and an oracle M with M(0) = 0, M(1) = 1, M(r) = r M(1 / r), else random.

    Args:
        seed: of the prime, of the point at which laws are evaluated, and of the oracle.

    Attributes:
        prime: modulus, from 2^126 to 2^127.
        symbols: how many values of the oracle are free.
        asked: how many functions were looked for among all that have a name.
        multiples: positive constants, and 1 over them: what their size is, by residue.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(derived_seed(seed, BITS))
        self.prime = self._prime()
        self.symbols = self.asked = 0
        self._symbols: dict[int, tuple[int, int]] = {}
        self.multiples: dict[int, int] = {1: 0}
        self._positive: dict[int, tuple[int, int]] = {}

    def uniform(self) -> int:
        """A random residue other than 0."""
        return self._random.randrange(1, self.prime)

    def inverse(self, value: int) -> int:
        """1 / value, for residues other than 0."""
        return pow(value, -1, self.prime)

    def minimum(self, one: int, other: int, size: int) -> tuple[int, int]:
        """The symbol of min(one, other), for residues other than 0: other * M(one / other); and its size.

        It is the same both ways, and for all pairs with the same ratio; and as min(a, b) = a - (a - b)+, it follows
        for a pair with the difference of an earlier one, that turned round, or a multiple of it by a positive constant.

        Args:
            one, other: residues.
            size: of both functions together (see `numbers.py`).
        """
        self.asked += 1 + 2 * len(self.multiples)
        ratio = one * self.inverse(other) % self.prime
        if ratio == 1:
            return one, size
        back, gap = self.inverse(ratio), (one - other) % self.prime
        key, unit = (ratio, other) if ratio < back else (back, one)
        if (symbol := self._symbols.get(key)) is None:
            symbol = self._symbols[key] = self._from_difference(one, gap, unit, size)
        found, whole = unit * symbol[0] % self.prime, size + symbol[1]
        self._positive.setdefault(gap, ((one - found) % self.prime, size + whole))
        return found, whole

    def _from_difference(self, one: int, gap: int, unit: int, size: int) -> tuple[int, int]:
        for multiple, bits in self.multiples.items():
            for turned in (False, True):
                known = self._positive.get((-gap if turned else gap) * multiple % self.prime)
                if known is not None:
                    part = known[0] * self.inverse(multiple) + (gap if turned else 0)
                    return (one - part) * self.inverse(unit) % self.prime, 3 * size + known[1] + bits
        self.symbols += 1
        return self.uniform(), 1

    def multiple(self, residue: int, bits: int) -> None:
        """Say that there is a positive constant: the positive part of a multiple by it is the multiple of one."""
        for constant in (residue, self.inverse(residue)):
            self.multiples.setdefault(constant, bits)

    def fraction(self, value: Fraction) -> int:
        """A fraction's residue."""
        return value.numerator * self.inverse(value.denominator % self.prime) % self.prime

    def _prime(self) -> int:
        while True:
            candidate = self._random.getrandbits(BITS) | (1 << (BITS - 1)) | 1
            if self._is_prime(candidate):
                return candidate

    def _is_prime(self, n: int) -> bool:
        """Miller and Rabin's test, with small bases and 40 random ones: a composite passes with chance below 2^-80."""
        if any(n % p == 0 for p in _WITNESSES):
            return False
        odd, twos = n - 1, 0
        while odd % 2 == 0:
            odd, twos = odd // 2, twos + 1
        return all(self._passes(n, base, odd, twos) for base in (*_WITNESSES, *self._bases(n)))

    def _bases(self, n: int) -> list[int]:
        return [self._random.randrange(2, n - 1) for _ in range(40)]

    @staticmethod
    def _passes(n: int, base: int, odd: int, twos: int) -> bool:
        power = pow(base, odd, n)
        if power in (1, n - 1):
            return True
        for _ in range(twos - 1):
            power = power * power % n
            if power == n - 1:
                return True
        return False
