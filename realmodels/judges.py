"""Who judges a model's images: a pinned classifier, real images held out from it, and real ones beside them.

The digits come with scikit-learn. Images of others do not ship, but their features do: distances need no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from realmodels import quality, store
from realmodels.classifier import load_classifier
from realmodels.data import digits
from specverify.errors import InputError

FEATURES = "features"
"""The kind of a checkpoint that holds features of real images."""


@dataclass(frozen=True)
class Real:
    """Real images, spare ones if there are any; else such as a model was trained on.

    Attributes:
        labels: the class of each.
        features: by the classifier.
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


def judge(name: str) -> Judge | None:
    """The judge of an image model that ships; None where there is none.

    Raises:
        InputError: as loading a checkpoint, and for features of another classifier's.
    """
    if name not in store.names():
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
    due, found = card["classifier_sha256"], store.read_card(name)["sha256"]
    if due != found:
        raise InputError(
            f"{own} holds features of a {name} with SHA-256 {due}, and the one here has {found}; {store.remedy(name)}"
        )
    tensors = store.read_weights(own, card)
    reference = quality.reference_of(load_classifier(name), tensors["held_out"].numpy())
    return Judge(reference, Real(tensors["labels"].long(), tensors["train"].numpy(), tensors["told"].bool()))


def keep(name: str, held_out: Tensor, train: Tensor, labels: Tensor, folder: Path) -> None:
    """Store features of real images beside a classifier.

    Args:
        name: the classifier's.
        held_out, train: levels, channel by channel in raster order; of `train`, as many as are to be shown beside
            samples.
        labels: of `train`.
    """
    classifier = load_classifier(name, folder=folder)
    with torch.no_grad():
        tensors = {
            "held_out": classifier.features(held_out),
            "train": classifier.features(train),
            "labels": labels.float(),
            "told": (classifier(train).argmax(-1) == labels).float(),
        }
    card: store.Card = {"kind": FEATURES, "classifier_sha256": store.read_card(name, folder)["sha256"]}
    store.write_tensors(f"{name}-{FEATURES}", tensors, card, folder)
