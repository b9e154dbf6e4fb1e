"""What a trained model of patches is worth: held-out likelihood or its bound, samples, their class accuracy."""

from __future__ import annotations

import math
import time

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from realmodels.continuous import ContinuousDigits, PatchTransformer
from realmodels.data import CLASSES, digits
from realmodels.figures import nearest
from realmodels.heads import DiffusionHead, MixtureHead
from realmodels.patches import DIM, STEP, to_patches, to_pixels
from realmodels.store import Figures
from specverify.draws import Draws, Sampled
from specverify.laws import Mixture

REPEATS = 4  # times that the head is trained on a patch per pass of the trunk, with other noise (Li et al. 2024)
VARIANCE_SHARE = 0.1  # of the bound in the training loss of a diffusion head; it teaches the variances alone


def mixture_nats(model: PatchTransformer, patches: Float[Tensor, "n length dim"], labels: Int[Tensor, " n"]) -> Tensor:
    """Mean -log p of the patches given their class, in nats per dimension."""
    assert isinstance(model.head, MixtureHead)
    law = Mixture(*model.head(model.read(labels, patches)))
    return -law.log_prob(patches).mean() / DIM


def diffusion_losses(
    model: PatchTransformer,
    patches: Float[Tensor, "n length dim"],
    labels: Int[Tensor, " n"],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """See DiffusionHead.loss: means over the patches, each at `REPEATS` random times."""
    head = model.head
    assert isinstance(head, DiffusionHead)
    features = model.read(labels, patches).flatten(0, 1).repeat(REPEATS, 1)
    targets = patches.flatten(0, 1).repeat(REPEATS, 1)
    t = torch.randint(1, head.steps + 1, (len(targets),), generator=generator)
    error, nats = head.loss(features, targets, t, torch.randn(targets.shape, generator=generator))
    return error.mean(), nats.mean()


def loss(
    model: nn.Module, patches: Float[Tensor, "n length dim"], labels: Int[Tensor, " n"], generator: torch.Generator
) -> Tensor:
    """What training makes small: nats per dimension of a mixture; the error of the noise and a share of the bound."""
    assert isinstance(model, PatchTransformer)
    if isinstance(model.head, MixtureHead):
        return mixture_nats(model, patches, labels)
    error, nats = diffusion_losses(model, patches, labels, generator)
    return error + VARIANCE_SHARE * nats


def bits(nats: float) -> float:
    """Bits per dimension of grey levels, from nats per dimension of dequantised patches."""
    return (nats - math.log(STEP)) / math.log(2)


@torch.no_grad()
def held_out(model: PatchTransformer, seed: int = 0) -> dict[str, float]:
    """Held-out figures of the conditional law; the noise of dequantisation and of diffusion is that of the seed.

    Bits per dimension bound those of the law of the grey levels from above (Theis et al. 2016, eq. 4); for a chain
    they bound this bound (Ho et al. 2020, eq. 5).
    """
    generator = torch.Generator().manual_seed(seed)
    images = digits()[1]
    patches = to_patches(images.tokens, generator)
    if isinstance(model.head, MixtureHead):
        nats = float(mixture_nats(model, patches, images.labels))
        return {"nats_per_dimension": nats, "bits_per_dimension_bound": bits(nats)}
    head, features, targets = model.head, model.read(images.labels, patches).flatten(0, 1), patches.flatten(0, 1)
    errors, kept = [], float(head.table[1, -1])
    nats = float((kept * targets.square() + (1 - kept) - 1 - math.log(1 - kept)).mean()) / 2  # of x_T against N(0, 1)
    for t in range(1, head.steps + 1):
        error, step = head.loss(
            features, targets, torch.full((len(targets),), t), torch.randn(targets.shape, generator=generator)
        )
        errors.append(float(error.mean()))
        nats += float(step.mean())
    return {
        "noise_error": sum(errors) / len(errors),
        "nats_per_dimension_bound": nats,
        "bits_per_dimension_bound": bits(nats),
    }


def sample(model: ContinuousDigits, labels: Int[Tensor, " batch"], draws: Draws) -> Float[Tensor, "batch length dim"]:
    """Plain autoregressive samples of the given classes, one forward pass of the trunk per patch."""
    context, patches = model.start_with(labels), []
    one = torch.ones_like(labels)
    nothing = torch.empty(len(labels), 0, model.dim, dtype=model.dtype, device=model.device)
    for _ in range(model.length):
        law = model.laws(context, nothing)
        patch = law.sample(draws, torch.ones_like(one, dtype=torch.bool)[:, None])
        context = model.advance(context, patch, one)
        patches.append(patch)
    return torch.cat(patches, dim=1)


def figures(network: PatchTransformer, classifier: nn.Module, n: int, seed: int = 0) -> Figures:
    """The figures of a model card: `held_out`, and of `n` samples; at guidance 1.5 too where there is guidance."""
    train, _ = digits()
    labels = torch.arange(n) % CLASSES
    found = {f"held_out_{name}": round(value, 4) for name, value in held_out(network).items()}
    card: Figures = {**found, "samples": n, "sample_seed": seed}
    for guidance in (1.0,) if isinstance(network.head, MixtureHead) else (1.0, 1.5):
        begun = time.process_time()
        images = to_pixels(sample(ContinuousDigits(network, guidance), labels, Sampled(seed)))
        seconds = time.process_time() - begun
        distance = nearest(images, train)
        card[f"guidance_{guidance:g}"] = {
            "class_accuracy": round(float((classifier(images).argmax(-1) == labels).float().mean()), 4),
            "nearest_train_l1": round(float(distance.mean()), 4),
            "copies_of_training_images": int((distance == 0).sum()),
            "cpu_seconds": round(seconds, 2),
        }
    return card
