"""Who judges a model's images: a pinned classifier, real images held out from it, and real ones beside them.

The digits come with scikit-learn. Images of others do not ship, but their features do: distances need no more. Of
grey images these are the classifier's; of colour images EfficientNet-Lite0's, along principal axes (`imagenet.py`), and
the classifier judges classes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from realmodels import imagenet, quality, store
from realmodels.classifier import Classifier, load_classifier
from realmodels.data import digits
from specverify.errors import InputError

FEATURES = "features"
"""The kind of a checkpoint that holds features of real images."""


@dataclass(frozen=True)
class Real:
    """Real images, spare ones if there are any; else such as a model was trained on.

    Attributes:
        labels: the class of each.
        features: in the space of the reference.
        told: whether the classifier takes them for their class.
        tokens: their grey levels; None where they do not ship.
    """

    labels: Int[Tensor, " n"]
    features: Float[np.ndarray, "n features"] | None
    told: Bool[Tensor, " n"] | None
    tokens: Int[Tensor, "n pixels"] | None = None


@dataclass(frozen=True)
class Judge:
    """What images of a model are measured against.

    Attributes:
        reference: real images that no model was trained on.
        train: real images beside them.
    """

    reference: quality.Reference
    train: Real


def known(name: str) -> bool:
    """Whether an image model has a judge: those that ship do."""
    return name in store.names()


def judge(name: str) -> Judge | None:
    """The judge of an image model that ships; None where there is none.

    Raises:
        InputError: as loading a checkpoint or `imagenet.load`, and for features of another classifier's or network's.
    """
    if not known(name):
        return None
    own = store.read_card(name).get("judge")
    return _of_digits() if own is None else _of_features(own)


@cache
def _of_digits() -> Judge:
    train, _ = digits()
    return Judge(quality.held_out(), Real(train.labels, None, None, train.tokens))


@cache
def _of_features(name: str) -> Judge:
    own = f"{name}-{FEATURES}"
    card = store.read_card(own)
    own_sha256 = {name: store.read_card(name)["sha256"], imagenet.NAME: imagenet.SHA256}
    due = {name: card["classifier_sha256"]}
    if "network" in card:
        due[card["network"]] = card["network_sha256"]
    for network, sha256 in due.items():
        if own_sha256.get(network) != sha256:
            raise InputError(
                f"{own} holds features of {network} with SHA-256 {sha256}, and the one here has "
                f"{own_sha256.get(network)}; {store.remedy(name)}"
            )
    tensors, classifier = store.read_weights(own, card), load_classifier(name)
    if "network" in card:
        space = _of_network(classifier, imagenet.Projection(tensors["centre"], tensors["axes"]))
    else:
        space = quality.own_space(classifier)
    reference = quality.reference_of(classifier, space, tensors["held_out"].numpy())
    return Judge(reference, Real(tensors["labels"].long(), tensors["train"].numpy(), tensors["told"].bool()))


def _of_network(classifier: Classifier, projection: imagenet.Projection) -> quality.Space:
    """The space of colour images such as a classifier takes."""
    features = imagenet.Projected(imagenet.load(), projection, classifier.side, classifier.levels)
    return quality.Space(imagenet.NAME, len(projection.axes), features)


@torch.no_grad()
def keep(name: str, held_out: Tensor, beside: Tensor, labels: Tensor, others: Tensor, folder: Path) -> None:
    """Store features of real images beside a classifier.

    Args:
        name: the classifier's.
        held_out, beside: levels, channel by channel in raster order; of `beside`, as many as are to be shown beside
            samples.
        labels: of `beside`.
        others: further images, from which the axes of colour images come.
        folder: where all checkpoints lie.

    Raises:
        InputError: as `imagenet.load` and `imagenet.principal`, of colour images.
    """
    classifier = load_classifier(name, folder=folder)
    card: store.Card = {"kind": FEATURES, "classifier_sha256": store.read_card(name, folder)["sha256"]}
    space, tensors = quality.own_space(classifier), dict[str, Tensor]()
    if classifier.channels == imagenet.COLOURS:
        pixels = imagenet.scaled(others, classifier.side, classifier.levels)
        projection = imagenet.principal(imagenet.features(imagenet.load(), pixels))
        space, tensors = _of_network(classifier, projection), {"centre": projection.centre, "axes": projection.axes}
        card |= {"network": imagenet.NAME, "network_sha256": imagenet.SHA256}
    tensors |= {
        "held_out": space.features(held_out),
        "train": space.features(beside),
        "labels": labels.float(),
        "told": (classifier(beside).argmax(-1) == labels).float(),
    }
    store.write_tensors(f"{name}-{FEATURES}", tensors, card, folder)
