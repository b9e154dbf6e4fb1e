"""What a trained digit model is worth: held-out likelihood, samples, their class accuracy, and how new they are."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from realmodels.data import CLASSES, Images, digits
from realmodels.digits import DigitsModel
from realmodels.store import Figures
from realmodels.transformer import Transformer


def next_pixel_loss(model: nn.Module, tokens: Int[Tensor, "n length"], labels: Int[Tensor, " n"], vocab: int) -> Tensor:
    """Mean -log p of the pixels given their class, in nats per pixel."""
    inputs = torch.cat([vocab + labels[:, None], tokens[:, :-1]], dim=1)
    return F.cross_entropy(model(inputs).flatten(0, 1), tokens.flatten())


@torch.no_grad()
def held_out_bits(transformer: Transformer) -> float:
    """Held-out bits per dimension of the conditional law."""
    _, images = digits()
    return float(next_pixel_loss(transformer, images.tokens, images.labels, transformer.shape.vocab)) / math.log(2)


def sample(
    model: DigitsModel, labels: Int[Tensor, " batch"], generator: torch.Generator
) -> Int[Tensor, "batch length"]:
    """Plain autoregressive samples of the given classes, one forward pass per pixel."""
    context, pixels = model.start_with(labels), []
    one = torch.ones_like(labels)
    nothing = labels.new_zeros(len(labels), 0)
    for _ in range(model.length):
        pixel = torch.multinomial(model.laws(context, nothing)[:, 0], 1, generator=generator)
        context = model.advance(context, pixel, one)
        pixels.append(pixel)
    return torch.cat(pixels, dim=1)


def nearest(tokens: Int[Tensor, "n length"], images: Images) -> Float[Tensor, " n"]:
    """L1 distance, in grey levels summed over pixels, of each image to the nearest of `images`."""
    return torch.cdist(tokens.float(), images.tokens.float(), p=1).min(dim=1).values


def figures(transformer: Transformer, classifier: nn.Module, n: int, seed: int = 0) -> Figures:
    """The figures of a model card: held-out bits per dimension, and of `n` samples at three guidances."""
    train, held_out = digits()
    labels = torch.arange(n) % CLASSES
    card: Figures = {
        "held_out_bits_per_dimension": round(held_out_bits(transformer), 4),
        "samples": n,
        "sample_seed": seed,
        "nearest_train_l1_of_held_out": _mean(nearest(held_out.tokens, train)),
    }
    for guidance in (1.0, 1.5, 2.0):
        images = sample(DigitsModel(transformer, guidance), labels, torch.Generator().manual_seed(seed))
        distance = nearest(images, train)
        card[f"guidance_{guidance:g}"] = {
            "class_accuracy": _mean((classifier(images).argmax(-1) == labels).float()),
            "nearest_train_l1": _mean(distance),
            "copies_of_training_images": int((distance == 0).sum()),
        }
    return card


def _mean(values: Tensor) -> float:
    return round(float(values.mean()), 4)
