"""How good images are: distances to held-out real ones, and whether they show what was asked for.

    fd                   Frechet distance (Heusel et al. 2017, arXiv 1706.08500), by torchmetrics
    kd                   kernel distance, squared and unbiased (Binkowski et al. 2018, arXiv 1801.01401)
    precision, recall    Kynkaanniemi et al. 2019 (arXiv 1904.06991), by prdc
    density, coverage    Naeem et al. 2020 (arXiv 2002.09797), by prdc
    accuracy             the share of images that the classifier takes for their class

Distances are between features, of the pinned classifier (`classifier.py`) or, of colour images, of a network that was
trained on other images (`imagenet.py`), and mean something for the weights of that network alone (`Space`).
A kernel distance does not depend on how many images there are, and is 0 on average for images of the real ones' law;
it may be below. All else does: a Frechet distance of n is biased upwards by about c / n, and neither it
nor its interval is one of the law that the images come from. Compare sets of one size: in the difference that cancels,
but for what their covariances differ in. Resampling draws the measured images anew; the
real ones are the same for every set that is compared, and stay. So do the nearest-neighbour radii of either set.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from realmodels.bootstrap import Estimate, estimate
from realmodels.classifier import Classifier, load_classifier
from realmodels.data import digits
from specverify.errors import InputError

NEIGHBOURS = 5
NOISE = "`sklearn.utils.parallel.delayed`"
METRICS = ("fd", "kd", "precision", "recall", "density", "coverage", "accuracy")


class Given(nn.Identity):
    """Features that are known already, as torchmetrics takes them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = size


@dataclass(frozen=True)
class Space:
    """Where distances between images are taken.

    Attributes:
        network: the name of what gives the features.
        axes: that the features are projected to; None for features as they are.
        features: of images, given as levels of grey in raster order, or of one colour behind the other.
    """

    network: str
    axes: int | None
    features: Callable[[Int[Tensor, "n length"]], Float[Tensor, "n features"]]


@dataclass(frozen=True)
class Reference:
    """What images are measured against.

    Attributes:
        classifier: judges classes.
        space: gives the features.
        features: of the real images.
        root: square root of the covariance of `features`.
        radii: of each real image, the distance to its `NEIGHBOURS`-th nearest among them.
    """

    classifier: Classifier
    space: Space
    features: Float[np.ndarray, "real features"]
    root: Float[np.ndarray, "features features"]
    radii: Float[np.ndarray, " real"]


def reference(classifier: Classifier, tokens: Int[Tensor, "real length"]) -> Reference:
    """Real images to measure against, by the features of the classifier.

    Raises:
        InputError: too few of them, or pixels that are no levels.
    """
    space = own_space(classifier)
    return reference_of(classifier, space, _features(classifier, space, classifier.num_features, tokens, "real images"))


def own_space(classifier: Classifier) -> Space:
    """The features of a classifier."""
    return Space(classifier.name, None, classifier.features)


def reference_of(classifier: Classifier, space: Space, features: Float[np.ndarray, "real features"]) -> Reference:
    """Features of real images to measure against."""
    values, vectors = np.linalg.eigh(np.cov(features.astype(np.float64), rowvar=False))
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    with _quiet():
        radii = _prdc().compute_nearest_neighbour_distances(features, NEIGHBOURS)
    return Reference(classifier, space, features, root, radii)


@cache
def held_out() -> Reference:
    """The 360 real digits that no model was trained on, and the shipped classifier."""
    return reference(load_classifier(), digits()[1].tokens)


@torch.no_grad()
def measure(
    tokens: Int[Tensor, "n length"],
    labels: Int[Tensor, " labels"],
    weight: Int[np.ndarray, "resamples n"],
    against: Reference | None = None,
) -> dict[str, Estimate]:
    """All `METRICS` of a set of images.

    Args:
        tokens: levels of grey in raster order, or of one colour behind the other.
        labels: the class that each image was asked to show.
        weight: see `bootstrap.weights`.
        against: `held_out()` if None.

    Raises:
        InputError: too few images for a covariance of the features, pixels that are no levels, labels that are no
            classes, or torchmetrics or prdc not installed.
    """
    against = against or held_out()
    classes = against.classifier.last.out_features
    if len(labels) != len(tokens) or not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise InputError(f"{len(labels)} labels for {len(tokens)} images; give each a class of 0..{classes - 1}")
    features = _features(against.classifier, against.space, against.features.shape[1], tokens, "images")
    correct = int((against.classifier(tokens).argmax(-1) == labels).sum())
    return measured(features, correct, weight, against)


def measured(
    features: Float[np.ndarray, "n features"], correct: int, weight: Int[np.ndarray, "resamples n"], against: Reference
) -> dict[str, Estimate]:
    """All `METRICS` of images whose features are known, and how many of them the classifier takes for their class."""
    return {
        "fd": _frechet(features, weight, against),
        "kd": _kernel(features, weight, against.features),
        **_neighbourhoods(features, weight, against),
        "accuracy": _share(correct, len(features), weight),
    }


def frechet(
    mean: Float[np.ndarray, "*sets features"],
    covariance: Float[np.ndarray, "*sets features features"],
    other_mean: Float[np.ndarray, " features"],
    other_root: Float[np.ndarray, "features features"],
) -> Float[np.ndarray, "*sets"]:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^1/2) for many (m, C) at once; `other_root` is the square root of C'."""
    inner = other_root @ covariance @ other_root
    overlap = np.sqrt(np.linalg.eigvalsh(inner).clip(0)).sum(-1)
    traces = np.trace(covariance, axis1=-2, axis2=-1) + np.square(other_root).sum()
    return np.asarray(np.square(mean - other_mean).sum(-1) + traces - 2 * overlap)


def _frechet(features: np.ndarray, weight: np.ndarray, against: Reference) -> Estimate:
    metric = _torchmetrics().FrechetInceptionDistance(feature=Given(features.shape[1]))
    metric.update(torch.from_numpy(against.features), real=True)
    metric.update(torch.from_numpy(features), real=False)
    centre = against.features.astype(np.float64).mean(0)
    return estimate(float(metric.compute()), resampled(features, weight, centre, against.root))


def resampled(
    features: Float[np.ndarray, "n features"],
    weight: Int[np.ndarray, "resamples n"],
    other_mean: Float[np.ndarray, " features"],
    other_root: Float[np.ndarray, "features features"],
) -> Float[np.ndarray, " resamples"]:
    """The Frechet distance of resampled images from a fixed law; see `frechet`."""
    n, x = len(features), features.astype(np.float64)
    means = weight @ x / n
    spread = np.stack([(x * w[:, None]).T @ x for w in weight]) - n * means[:, :, None] * means[:, None, :]
    return frechet(means, spread / (n - 1), other_mean, other_root)


def _kernel(features: np.ndarray, weight: np.ndarray, real: np.ndarray) -> Estimate:
    """The squared distance of mean embeddings under the kernel (x y / d + 1)^3; an image is no pair with itself."""
    x, y = features.astype(np.float64), real.astype(np.float64)

    def kernel(left: np.ndarray, right: np.ndarray) -> Float[np.ndarray, "left right"]:
        return np.asarray((left @ right.T / left.shape[1] + 1) ** 3)

    among, own = kernel(x, x), kernel(y, y)
    theirs = (own.sum() - np.trace(own)) / (len(y) * (len(y) - 1))
    across = kernel(x, y).mean(1)

    def distance(drawn: Float[np.ndarray, "sets n"]) -> Float[np.ndarray, " sets"]:
        pairs, alike = ((drawn @ among) * drawn).sum(1), np.square(drawn)
        within = (pairs - alike @ np.diag(among)) / (drawn.sum(1) ** 2 - alike.sum(1))
        return np.asarray(within + theirs - 2 * drawn @ across / drawn.sum(1))

    return estimate(float(distance(np.ones((1, len(x))))[0]), distance(weight.astype(np.float64)))


def _neighbourhoods(features: np.ndarray, weight: np.ndarray, against: Reference) -> dict[str, Estimate]:
    prdc = _prdc()
    with _quiet():
        found = prdc.compute_prdc(against.features, features, NEIGHBOURS)
        distance = prdc.compute_pairwise_distance(against.features, features)
        radii = prdc.compute_nearest_neighbour_distances(features, NEIGHBOURS)
    near_real, near_image = distance < against.radii[:, None], distance < radii
    drawn = (weight > 0).astype(np.float32)
    n = len(features)
    replicates = {
        "precision": weight @ near_real.any(0) / n,
        "recall": (drawn @ near_image.T.astype(np.float32) > 0).mean(1),
        "density": weight @ near_real.sum(0) / (NEIGHBOURS * n),
        "coverage": (drawn @ near_real.T.astype(np.float32) > 0).mean(1),
    }
    moved = {name: estimate(float(found[name]), values) for name, values in replicates.items()}
    return {
        name: one if name == "density" else Estimate(one.value, one.replicates.clip(0, 1))
        for name, one in moved.items()
    }


def _share(count: int, n: int, weight: np.ndarray) -> Estimate:
    """A share near 1 has no spread under resampling; Jeffreys' posterior has."""
    generator = np.random.default_rng([count, n, int(weight[0] @ np.arange(n))])
    return Estimate(count / n, generator.beta(count + 0.5, n - count + 0.5, size=len(weight)))


def _features(
    classifier: Classifier, space: Space, size: int, tokens: Tensor, what: str
) -> Float[np.ndarray, "n features"]:
    pixels, levels = classifier.channels * classifier.side**2, classifier.levels
    if tokens.ndim != 2 or tokens.shape[1] != pixels or not 0 <= int(tokens.min()) <= int(tokens.max()) < levels:
        raise InputError(
            f"the {what} have shape {tuple(tokens.shape)}; they are [n, {pixels}] levels of 0..{levels - 1}"
        )
    if len(tokens) <= size:
        raise InputError(f"{len(tokens)} {what} give no covariance of {size} features; use at least {size + 1}")
    with torch.no_grad():
        return space.features(tokens).cpu().numpy()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """prdc reports the numbers of images, and shares out work in a way that newer scikit-learn warns of every time.

    The warnings come from threads that meddle with the filters, so they are dropped where they would be shown as well.
    """
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", NOISE, UserWarning)
        shown = warnings.showwarning

        def show(message: Warning | str, *rest: Any) -> None:
            if not str(message).startswith(NOISE):
                shown(message, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def check_installed() -> None:
    """Raise InputError unless the libraries that measure are there."""
    _torchmetrics()
    _prdc()


def _torchmetrics() -> ModuleType:
    return _extra("torchmetrics.image.fid")


def _prdc() -> Any:
    return _extra("prdc.prdc")


def _extra(name: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"image quality needs {error.name}, which is not installed: pip install 'specverify[real]'"
        ) from error
