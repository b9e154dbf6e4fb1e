"""In which features the distances of a sweep are, and how reports say so.

Records from before they said it have features of the classifier of the model's own images.
"""

from __future__ import annotations

from specverify.tradeoff.shape import Sweep

METRICS = ("fd", "kd", "precision", "recall", "density", "coverage")
"""What is taken between features."""


def network(record: Sweep) -> str:
    """Whose features they are."""
    found = record.get("features")
    return "the classifier" if found is None else found["network"]


def space(record: Sweep) -> str:
    """Whose they are, and what they are projected to."""
    found = record.get("features")
    if found is None:
        return "a classifier"
    return found["network"] + (f" along {found['axes']} principal axes" if found["axes"] else "")


def on(record: Sweep) -> str:
    """What the name of a distance ends with: distances on other networks are other metrics."""
    found = record.get("features")
    return "" if found is None else f" on {found['network']}"


def alike(old: Sweep, new: Sweep) -> bool:
    """Whether two records' distances are in the same features."""
    found = [record.get("features") for record in (old, new)]
    said = [one for one in found if one is not None]
    return found[0] == found[1] or (len(said) == 1 and said[0]["axes"] is None)
