"""Intervals by resampling images: every figure of a set of images is computed again from the same random weights.

One set of weights for all figures of a set keeps what they have in common (a slow image that is also a bad one), so
that questions about two figures at once can be answered from their replicates.

Replicates are moved so that their mean is the estimate. A plug-in figure such as a Frechet distance or a Kolmogorov
distance is off by about c / n, and its resampled values by twice that; moved, they show the spread of what n images
give, which is what a comparison between sets of equal size needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from specverify.errors import InputError

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and how far it might be off.

    Attributes:
        value: of the images as they are.
        replicates: of resampled images, with a mean of `value` or close to it.
    """

    value: float
    replicates: Float[np.ndarray, " resamples"]

    @property
    def interval(self) -> tuple[float, float]:
        """Two-sided, at `LEVEL`; it holds the value, which a share of 1 leaves at its end."""
        low, high = np.quantile(self.replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return min(float(low), self.value), max(float(high), self.value)


def weights(images: int, resamples: int, seed: int) -> Int[np.ndarray, "resamples images"]:
    """How often each image is drawn when as many are drawn anew, with replacement.

    Raises:
        InputError: fewer than two images or resamples.
    """
    if images < 2 or resamples < 2:
        raise InputError(f"cannot resample {images} images {resamples} times; both must be at least 2")
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)


def estimate(value: float, replicates: Float[np.ndarray, " resamples"]) -> Estimate:
    """A figure with its replicates as they came, moved to its value."""
    return Estimate(float(value), replicates + (value - replicates.mean()))


def ratio(
    part: Float[np.ndarray, " images"],
    whole: Float[np.ndarray, " images"],
    weight: Int[np.ndarray, "resamples images"],
) -> Estimate:
    """sum(part) / sum(whole), 0 of nothing; the mean of `part` where `whole` is 1."""
    parts, wholes = np.append(part.sum(), weight @ part), np.append(whole.sum(), weight @ whole)
    found = np.divide(parts, wholes, out=np.zeros(len(parts)), where=wholes != 0)
    return estimate(float(found[0]), found[1:])


def product(one: Estimate, other: Estimate) -> Estimate:
    """The product of two figures of the same images, drawn anew by the same weights."""
    return estimate(one.value * other.value, one.replicates * other.replicates)
