"""Where a refuted sampler, trace or decoder of vectors goes wrong, as a judgement keeps it.

Of a decoder of ids it is `evidence.localise.LocationRow`, of a kernel `rounds.kernel.KernelPlace`.
"""

from __future__ import annotations

from typing import TypedDict

Prefixed = TypedDict(
    "Prefixed",
    {
        "prefix": list[int],  # after which the next token has another law
        "p_value": float,
        "certain": bool,  # whether it is that prefix, but for the alpha that was given
        "token": int,
        "position": int,
        "direction": str,
        "expected": list[float],  # laws of the next token
        "observed": list[float],
        "visits": int,
        "share by position": list[float],  # of the evidence
        "check": str,  # where rows of a group are wrong: which, of which calls, and on which toy
        "where": str,
        "toy": str,
    },
    total=False,
)
"""Of counted sequences; see `sampler_location.locate`."""
Along = TypedDict(
    "Along",
    {
        "position": int,
        "certain": bool,
        "direction": str,
        "excess surprisal": float,
        "distance by position": list[float],
        "refuting checks": list[str],
    },
)
"""Of a trace; see `sampler_location.place_in_trace`."""


class Coordinate(TypedDict):
    """A coordinate that is off."""

    position: int
    dimension: int
    distance: float
    p: float
    direction: str


class Slot(TypedDict):
    """The tokens that came in one slot of a step."""

    slot: int
    tokens: int
    distance: float
    p: float
    direction: str


class Pair(TypedDict):
    """A check of pairs that rejects."""

    check: str
    p: float | None
    found: str


class OfVectors(TypedDict, total=False):
    """Of vectors; see `continuous_location.locate`."""

    setting: str
    where: str
    position: int
    dimension: int
    direction: str
    coordinates: list[Coordinate]
    slots: list[Slot]
    pairs: list[Pair]
