"""What a decoder says of itself: the claim that a verdict upholds or refutes."""

from __future__ import annotations

from dataclasses import dataclass

from specverify.errors import InputError


@dataclass(frozen=True)
class Lossless:
    """The law of the output sequence is exactly that of plain autoregressive decoding."""

    def __str__(self) -> str:
        return "lossless"


@dataclass(frozen=True)
class ClusterLossless:
    """The law of the output is exact once every token is replaced by its cluster.

    Attributes:
        partition: disjoint clusters of token ids that together cover the vocabulary.
    """

    partition: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        members = sorted(token for cluster in self.partition for token in cluster)
        if not members or members != list(range(len(members))):
            raise InputError(f"{self.partition} is no partition of token ids 0..V-1; each id belongs to one cluster")

    def __str__(self) -> str:
        return f"cluster-lossless({len(self.partition)} clusters)"


@dataclass(frozen=True)
class Relaxed:
    """The law of the output sequence is within `tv` of that of autoregressive decoding, in total variation."""

    tv: float

    def __post_init__(self) -> None:
        if not 0 <= self.tv <= 1:
            raise InputError(f"Relaxed(tv={self.tv}): a total variation lies between 0 and 1")

    def __str__(self) -> str:
        short = f"{self.tv:g}"
        # What rounds to 1 is not 1, which claims nothing.
        return f"relaxed(tv<={self.tv if short == '1' and self.tv < 1 else short})"


Claim = Lossless | ClusterLossless | Relaxed
EMPTY = 0.99
"""A bound on the total variation that is empty: of long sequences even unrelated laws may be nearer than this."""


def says_nothing(claim: Claim) -> bool:
    """Whether nearly every law keeps a claim: of a total variation near 1, or of a single cluster."""
    if isinstance(claim, ClusterLossless):
        return len(claim.partition) == 1
    return isinstance(claim, Relaxed) and claim.tv >= EMPTY
