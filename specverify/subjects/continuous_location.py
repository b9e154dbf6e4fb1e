"""Where a decoder of continuous tokens goes wrong: position, dimension, direction, and the place within a step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import special, stats

from specverify.evidence.result import Evidence
from specverify.evidence.rosenblatt import Transforms
from specverify.subjects.continuous_play import Played
from specverify.subjects.places import OfVectors, Slot

SHOWN = 8
"""Coordinates that are listed at most."""
RARE = 1e-6
"""The p-value up to which a slot is said to deviate; no verdict rests on it."""
TELLING = 1e-3
"""The p-value below which a coordinate by itself is told of, where pairs are rejected."""


def locate(uniforms: Transforms, played: Played, evidence: Sequence[Evidence], label: str) -> OfVectors:
    """The most deviant coordinate, or all tokens, which way they deviate, and in which slots of a step; or pairs.

    Args:
        uniforms: the transforms of all tokens.
        played: what the decoder did.
        evidence: the checks of all tokens, of each coordinate, and of pairs, in this order.
        label: the setting.
    """
    found: OfVectors = {"setting": label}
    by = evidence[1]
    if by.rejected:
        dim = uniforms.shape[2]
        p_values, distances = np.asarray(by.data["p_value"]), np.asarray(by.data["distance"])
        order = np.lexsort((-distances, p_values))
        position, dimension = divmod(int(order[0]), dim)
        found = {
            "setting": label,
            "position": position,
            "dimension": dimension,
            "direction": direction(uniforms[:, position, dimension]),
            "coordinates": [
                {"position": int(k) // dim, "dimension": int(k) % dim, "distance": float(distances[k]),
                 "p": float(p_values[k]), "direction": direction(uniforms[:, int(k) // dim, int(k) % dim])}
                for k in order[:SHOWN] if by.data["rejected"][k]
            ],
            "slots": _slots(uniforms, played),
        }  # fmt: skip
    elif evidence[0].rejected:
        found = {"setting": label, "direction": direction(uniforms.ravel()), "slots": _slots(uniforms, played)}
    else:
        found["pairs"] = [
            {"check": item.check, "p": item.p_value, "found": item.detail} for item in evidence if item.rejected
        ]
    return found


def said(found: OfVectors, reason: str, coordinates: Evidence, n: int) -> str:
    """What was rejected, with where and which way where that is known.

    Args:
        found: what `locate` found.
        reason: what was rejected.
        coordinates: the check of each coordinate.
        n: sequences.
    """
    if "direction" in found:
        words = f"tokens are {found['direction']} ({reason}, n = {n:,})"
        if "position" in found:
            words = f"at position {found['position']}, dimension {found['dimension']} {words}"
        return words
    # A slip in the law of some tokens may show in pairs first, which hold earlier tokens, too.
    alone = coordinates.p_value is not None and coordinates.p_value < TELLING
    return f"{reason}; each by itself: {coordinates.detail}" if alone else reason


def _slots(uniforms: Transforms, played: Played) -> list[Slot]:
    """Distances of the tokens that came first in their step, second, and so on: which slot one has follows from what
    came before it, so that right tokens are uniform in each."""
    slot = played.slot.cpu().numpy()
    rows: list[Slot] = []
    for k in range(int(slot.max()) + 1):
        values = uniforms[slot == k].ravel()
        if len(values):
            test = stats.kstest(values, "uniform")
            said = direction(values) if test.pvalue <= RARE else "as is due"
            tokens, distance = int((slot == k).sum()), float(test.statistic)
            rows.append({"slot": k, "tokens": tokens, "distance": distance, "p": float(test.pvalue), "direction": said})
    return rows


def direction(uniforms: Float[np.ndarray, " n"]) -> str:
    """How tokens differ from their law, by quartiles, in standard deviations where it is Gaussian: what exceeds four
    standard errors."""
    low, middle, high = special.ndtri(np.clip(np.quantile(uniforms, [0.25, 0.5, 0.75]), 1e-300, 1 - 1e-16))
    spread = (high - low) / (2 * special.ndtri(0.75))
    error = 4 * 1.26 * spread / np.sqrt(len(uniforms))
    said = [f"too {'high' if middle > 0 else 'low'} by {abs(middle):.3g} standard deviations"]
    said = said if abs(middle) > error else []
    said += [f"{spread:.3g} times as spread as is due"] if abs(spread - 1) > error else []
    return " and ".join(said) or "of another shape than is due"
