"""Small convolutional classifiers of images, for measuring samples: class accuracy, and features for distances.

A distance between features means something for one set of weights only; `load_classifier` gives the pinned ones.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from realmodels import store
from realmodels.data import CLASSES, LEVELS, SIDE
from specverify.errors import InputError


class Classifier(nn.Module):
    """Three convolutions and two linear layers; 72,842 parameters at width 32.

    Args:
        width: channels of the first convolution.
        side: of an image, in pixels.
        levels: of grey, or of each colour.
        channels: 1, or 3 colours.

    Attributes:
        name: of the checkpoint that its weights come from; empty before any are loaded.
    """

    num_features = 64
    name = ""

    def __init__(self, width: int = 32, side: int = SIDE, levels: int = LEVELS, channels: int = 1) -> None:
        super().__init__()
        self.side, self.levels, self.channels = side, levels, channels
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.third = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.hidden = nn.Linear(2 * width * (side // 4) ** 2, self.num_features)
        self.last = nn.Linear(self.num_features, CLASSES)

    def features(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch features"]:
        """The last hidden layer, after its SiLU (a ReLU leaves a third of these features dead)."""
        x = tokens.view(-1, self.channels, self.side, self.side).to(self.last.weight.dtype)
        x = x / ((self.levels - 1) / 2) - 1
        x = F.max_pool2d(F.relu(self.second(F.relu(self.first(x)))), 2)
        x = F.max_pool2d(F.relu(self.third(x)), 2)
        return F.silu(self.hidden(x.flatten(1)))

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch classes"]:
        """Logits of the ten classes."""
        logits: Tensor = self.last(self.features(tokens))
        return logits


def initialise(
    width: int, generator: torch.Generator, side: int = SIDE, levels: int = LEVELS, channels: int = 1
) -> Classifier:
    """A fresh classifier: He-normal weights, biases zero."""
    model = Classifier(width, side, levels, channels)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        else:
            nn.init.zeros_(parameter)
    return model


def load_classifier(
    name: str = "digits-classifier", device: torch.device | str = "cpu", *, folder: Path = store.SHIPPED
) -> Classifier:
    """The trained classifier, in float32.

    Raises:
        InputError: naming the file that is missing, damaged or not what its card says, and how to train it again.
    """
    card = store.read_card(name, folder)
    try:
        shape = {key: int(size) for key, size in card["shape"].items()}
        if card["kind"] != "classifier" or shape["width"] < 1 or min(shape.values()) < 1:
            raise ValueError(f"kind {card['kind']!r}, sizes {shape}")
        model = Classifier(**shape)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder / name}.json does not describe a classifier ({error!r}); {store.remedy(name, folder)}"
        ) from error
    store.fill(name, model, card, folder)
    model.name = name
    return model.to(device).requires_grad_(False).eval()
