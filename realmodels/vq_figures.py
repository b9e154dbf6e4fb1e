"""What a tokenizer and a transformer of its codes are worth, as cards state it: measured on the weights as stored."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from realmodels import codes, store, vq
from realmodels.classifier import Classifier
from realmodels.images import ImageModel, levels
from realmodels.labelled import Labelled, scaled
from realmodels.store import Figures
from specverify.decoders.registry import Settings, build
from specverify.decoders.run import Run, sample

GUIDANCE = (1.0, 1.5, 2.0)
WINDOWS = (4, 8, 16, 32)
JACOBI = ("sjd", "scd-mc")
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
SEED, BATCH, JACOBI_IMAGES = 0, 250, 100


@torch.no_grad()
def of_classifier(judge: Classifier, held_out: Labelled) -> Figures:
    """The share of held-out images whose class it tells."""
    return {"held_out_accuracy": _share(judge, held_out.levels(), held_out.labels)}


@torch.no_grad()
def of_tokenizer(tokenizer: vq.Tokenizer, held_out: Labelled, judge: Classifier) -> Figures:
    """How near held-out images come back, whether they keep their class, and how many codes they take."""
    pixels = scaled(held_out)
    chosen = tokenizer.encode(pixels)
    back = tokenizer.decode(chosen)
    error = float((back - pixels).square().mean())
    share = torch.bincount(chosen.flatten(), minlength=tokenizer.shape.codes).double() / chosen.numel()
    return {
        "held_out_squared_error": round(error, 5),
        "held_out_psnr_db": round(-10 * math.log10(error), 2),
        "codes_used_by_held_out": int((share > 0).sum()),
        "perplexity_of_codes": round(math.exp(float(-torch.xlogy(share, share).sum())), 1),
        "class_kept": _share(judge, (back * 255).round().long().flatten(1), held_out.labels),
        "class_told_of_originals": _share(judge, held_out.levels(), held_out.labels),
    }


@torch.no_grad()
def of_law(name: str, folder: Path, tokens: Int[Tensor, "n length"], labels: Int[Tensor, " n"]) -> Figures:
    """Held-out likelihood, and how much choice the laws of the next code leave."""
    model = codes.load_transformer(name, folder)
    own, entropies, tops = [], [], []
    for some, of in zip(tokens.split(100), labels.split(100), strict=True):
        logs = codes.logits(model, some, of).log_softmax(-1)
        own.append(logs.gather(-1, some[..., None]).flatten())
        entropies.append(-(logs.exp() * logs).sum(-1).flatten())
        tops.append(logs.exp().amax(-1).flatten())
    entropy = torch.cat(entropies)
    quantiles = entropy.quantile(torch.tensor(QUANTILES)).tolist()
    return {
        "held_out_nats_per_code": round(float(-torch.cat(own).mean()), 4),
        "entropy_nats": {
            "mean": round(float(entropy.mean()), 3),
            **{f"{level:g}": round(value, 3) for level, value in zip(QUANTILES, quantiles, strict=True)},
        },
        "most_probable_code": round(float(torch.cat(tops).mean()), 3),
    }


def of_samples(
    model: ImageModel, judge: Classifier, train: Labelled, codes_of_train: Int[Tensor, "n length"], n: int
) -> Figures:
    """Of plain samples: class accuracy, how new they are, and what they took."""
    found: Figures = {"samples": n, "sample_seed": SEED}
    labels = torch.tensor(model.conditions)[torch.arange(n) % len(model.conditions)]
    known = {tuple(row) for row in codes_of_train.tolist()}
    for guidance in GUIDANCE:
        begun = time.process_time()
        tokens = sample(build("ar"), model.like(guidance=guidance), n, SEED, BATCH).tokens
        seconds = time.process_time() - begun
        images = levels(model, tokens)
        found[f"guidance_{guidance:g}"] = {
            "class_accuracy": _share(judge, images, labels),
            "nearest_train_l1": nearest(images, train),
            "code_grids_of_training_images": sum(tuple(row) in known for row in tokens.tolist()),
            "cpu_seconds": round(seconds, 2),
        }
    return found


def of_decoders(model: ImageModel, n: int) -> Figures:
    """Passes and acceptance of Jacobi decoding, by window."""
    return {
        name: {f"window_{window}": _cost(sample(build(name, Settings(window=window)), model, n, SEED, BATCH))
               for window in WINDOWS}
        for name in JACOBI
    }  # fmt: skip


def nearest(images: Int[Tensor, "n pixels"], train: Labelled) -> float:
    """Mean L1 distance to the nearest training image, in pixels that are wrong altogether."""
    others = train.pixels.flatten(1).float() / 255
    each = [torch.cdist(part.float() / 255, others, p=1).amin(1) for part in images.split(100)]
    return round(float(torch.cat(each).mean()), 2)


def measure(names: dict[str, str], folder: Path, train: Labelled, held_out: Labelled, n: int) -> None:
    """Write into each card what the weights of the folder are worth.

    Args:
        names: of `classifier`, `tokenizer` and `model`.
        folder: of the checkpoints.
        train, held_out: the images that they were made from.
        n: samples per guidance.
    """
    from realmodels.classifier import load_classifier
    from realmodels.session import ImageTransformer

    judge = load_classifier(names["classifier"], folder=folder)
    tokenizer = vq.load_tokenizer(names["tokenizer"], folder=folder)
    network = codes.Codes(names["model"], folder=folder)
    model = ImageTransformer(network, network.conditions)
    known, others = (
        torch.cat([tokenizer.encode(part) for part in scaled(images).split(500)]) for images in (train, held_out)
    )
    figures = {
        "classifier": of_classifier(judge, held_out),
        "tokenizer": of_tokenizer(tokenizer, held_out, judge),
        "model": {
            **of_law(names["model"], folder, others, held_out.labels),
            "nearest_train_l1_of_held_out": nearest(held_out.levels(), train),
            **of_samples(model, judge, train, known, n),
            "jacobi": {"images": JACOBI_IMAGES, **of_decoders(model, JACOBI_IMAGES)},
            "classifier_sha256": store.read_card(names["classifier"], folder)["sha256"],
        },
    }
    for what, name in names.items():
        store.write_card(name, {**store.read_card(name, folder), "figures": figures[what]}, folder)


def _cost(run: Run) -> dict[str, float]:
    return {
        "passes": round(float(run.passes.double().mean()), 2),
        "step_compression": round(run.tokens.shape[1] / float(run.passes.double().mean()), 3),
        "acceptance": round(run.acceptance_rate, 3),
    }


@torch.no_grad()
def _share(judge: Classifier, images: Int[Tensor, "n pixels"], labels: Int[Tensor, " n"]) -> float:
    hits = torch.cat([judge(part).argmax(-1) for part in images.split(500)]) == labels
    return round(float(hits.float().mean()), 4)
