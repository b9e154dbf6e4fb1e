"""What a trained digit model is worth: held-out likelihood, samples, their class accuracy, and how new they are."""

from __future__ import annotations

import math
import time

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from realmodels.data import Images, digits
from realmodels.images import ImageModel, labels
from realmodels.store import Figures
from realmodels.transformer import Transformer


def next_pixel_loss(model: nn.Module, tokens: Int[Tensor, "n length"], labels: Int[Tensor, " n"], vocab: int) -> Tensor:
    """Mean -log p of the pixels given their class, in nats per pixel."""
    inputs = torch.cat([vocab + labels[:, None], tokens[:, :-1]], dim=1)
    return F.cross_entropy(model(inputs).flatten(0, 1), tokens.flatten())


@torch.no_grad()
def held_out_nats(transformer: Transformer) -> float:
    """Held-out nats per pixel of the conditional law."""
    _, images = digits()
    return float(next_pixel_loss(transformer, images.tokens, images.labels, transformer.shape.vocab))


def sample(model: ImageModel, n: int, generator: torch.Generator) -> Int[Tensor, "n length"]:
    """Plain autoregressive samples, the classes in turn, one forward pass per pixel."""
    context, pixels = model.start(n), []
    one = torch.ones(n, dtype=torch.int64, device=model.device)
    nothing = one.new_zeros(n, 0)
    for _ in range(model.length):
        pixel = torch.multinomial(model.laws(context, nothing)[:, 0], 1, generator=generator)
        context = model.advance(context, pixel, one)
        pixels.append(pixel)
    return torch.cat(pixels, dim=1)


def nearest(tokens: Int[Tensor, "n length"], images: Images) -> Float[Tensor, " n"]:
    """L1 distance, in grey levels summed over pixels, of each image to the nearest of `images`."""
    return torch.cdist(tokens.float(), images.tokens.float(), p=1).min(dim=1).values


def figures(model: ImageModel, nats: float, classifier: nn.Module, n: int, seed: int = 0) -> Figures:
    """The figures of a model card: held-out bits per dimension, and of samples at three guidances.

    Args:
        model: whose tokens are grey levels, of all classes.
        nats: its held-out -log p, per pixel.
        classifier: that tells classes.
        n: samples per guidance.
        seed: of samples.
    """
    train, held_out = digits()
    asked = labels(model.conditions, n, n)
    card: Figures = {
        "held_out_bits_per_dimension": round(nats / math.log(2), 4),
        "samples": n,
        "sample_seed": seed,
        "nearest_train_l1_of_held_out": _mean(nearest(held_out.tokens, train)),
    }
    for guidance in (1.0, 1.5, 2.0):
        begun = time.process_time()
        images = sample(model.like(guidance=guidance), n, torch.Generator().manual_seed(seed))
        seconds = time.process_time() - begun
        distance = nearest(images, train)
        card[f"guidance_{guidance:g}"] = {
            "class_accuracy": _mean((classifier(images).argmax(-1) == asked).float()),
            "nearest_train_l1": _mean(distance),
            "copies_of_training_images": int((distance == 0).sum()),
            "cpu_seconds": round(seconds, 2),
        }
    return card


def _mean(values: Tensor) -> float:
    return round(float(values.mean()), 4)
