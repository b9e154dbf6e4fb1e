"""Train the models of MNIST again: `python -m realmodels.train_vq --data mnist.npz`, in some 15 minutes on one core.

In their order: a classifier, which judges samples; a tokenizer; a transformer of its codes. The recipes, the seed and
the split are fixed, so that a run repeats itself bit for bit on one machine with one number of threads. Other data of
the same kind (Fashion-MNIST) are a matter of the file; the models' names stay.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, cast

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from torch import Tensor, nn

from realmodels import classifier, codes, judges, labelled, store, vq, vq_figures
from realmodels.adapters.llamagen_gpt import Shape as Sizes
from realmodels.adapters.llamagen_gpt import Transformer
from realmodels.data import move
from realmodels.fit import Recipe
from realmodels.labelled import Labelled, scaled
from realmodels.store import Card
from realmodels.train import Goals, carry_out, without_some

HELD_OUT, SHOWN, MOVED = 1000, 2000, 4
"""Images held out; training images whose features are kept; changed copies of each, for the transformer."""
CLASSIFIER, TOKENIZER, MODEL = "mnist-classifier", "mnist-vq-tokenizer", "mnist-vq"
LICENCE = "Apache-2.0; data CC BY-SA 3.0"
RECIPES = {
    CLASSIFIER: Recipe(steps=800, batch=64, rate=2e-3, decay=0.05, every=100),
    TOKENIZER: Recipe(steps=3000, batch=64, rate=3e-3, decay=0.0, every=100),
    MODEL: Recipe(steps=1200, batch=64, rate=3e-3, decay=0.3, average=0.99, every=100),
}
"""What is trained, in this order."""


@dataclass(frozen=True)
class Data:
    """Images to train on and images held out, and the folder with what was trained before."""

    train: Labelled
    held_out: Labelled
    out: Path

    @cached_property
    def codes(self) -> tuple[Tensor, Tensor]:
        """The codes of both, by the tokenizer of the folder; of the first as they are, and `MOVED` times changed."""
        tokenizer = vq.load_tokenizer(TOKENIZER, folder=self.out)
        pixels, generator = scaled(self.train), torch.Generator().manual_seed(0)
        moved = [move(pixels, generator, 1.0).clamp(0, 1) for _ in range(MOVED)]
        train = torch.stack([encoded(tokenizer, part) for part in (pixels, *moved)])
        return train, encoded(tokenizer, scaled(self.held_out))

    @property
    def classes(self) -> int:
        """How many there are."""
        return int(self.train.labels.max()) + 1


@torch.no_grad()
def encoded(tokenizer: vq.Tokenizer, pixels: Tensor) -> Tensor:
    """Codes of images, Int[n, cells]."""
    return torch.cat([tokenizer.encode(part) for part in pixels.split(500)])


def built(name: str, data: Data, generator: torch.Generator) -> tuple[nn.Module, Card]:
    """A fresh network, and what tells its kind and sizes to whoever loads it."""
    side = data.train.pixels.shape[-1]
    if name == CLASSIFIER:
        shape = {"width": 16, "side": side, "levels": 256}
        return classifier.initialise(**shape, generator=generator), {"kind": "classifier", "shape": shape}
    if name == TOKENIZER:
        tokenizer = vq.Shape(side=side, codes=256, width=32, dim=8)
        return vq.initialise(tokenizer, generator), {"kind": "tokenizer", "shape": asdict(tokenizer)}
    sizes = Sizes(vocab=256, dim=128, layers=4, heads=4, hidden=344, side=side // 4, classes=data.classes)
    kept = {key: size for key, size in asdict(sizes).items() if size}
    card: Card = {
        "kind": codes.KIND,
        "shape": kept,
        "tokenizer": TOKENIZER,
        "tokenizer_sha256": store.read_card(TOKENIZER, data.out)["sha256"],
        "judge": CLASSIFIER,
    }
    return codes.initialise(sizes, generator), card


def goals(name: str, data: Data) -> Goals:
    """What `fit` needs: the loss of a random training batch, and the held-out loss."""
    labels, others = data.train.labels, data.held_out.labels

    def drawn(generator: torch.Generator, batch: int) -> Tensor:
        return torch.randint(len(labels), (batch,), generator=generator)

    def judged(module: nn.Module, index: Tensor, images: Labelled, smoothing: float) -> Tensor:
        pixels = images.pixels[index].flatten(1)
        return F.cross_entropy(module(pixels), images.labels[index], label_smoothing=smoothing)

    def classifying(module: nn.Module, generator: torch.Generator, batch: int) -> Tensor:
        return judged(module, drawn(generator, batch), data.train, 0.1)

    def rounding(module: nn.Module, generator: torch.Generator, batch: int) -> Tensor:
        return vq.loss(cast("vq.Tokenizer", module), scaled(data.train, drawn(generator, batch)), generator)

    def continuing(module: nn.Module, generator: torch.Generator, batch: int) -> Tensor:
        index, which = drawn(generator, batch), torch.randint(2 * MOVED, (batch,), generator=generator)
        tokens = data.codes[0][(which - MOVED + 1).clamp(min=0), index]  # half of them as they are
        given = without_some(labels[index], generator, data.classes)
        return codes.loss(cast("Transformer", module), tokens, given)

    def held_out_class(module: nn.Module) -> Tensor:
        return judged(module, torch.arange(len(others)), data.held_out, 0.0)

    def held_out_pixels(module: nn.Module) -> Tensor:
        tokenizer, pixels = cast("vq.Tokenizer", module), scaled(data.held_out)
        return F.mse_loss(tokenizer.decode(tokenizer.encode(pixels)), pixels)

    def held_out_codes(module: nn.Module) -> Tensor:
        return codes.loss(cast("Transformer", module), data.codes[1], others)

    train: Callable[[nn.Module, torch.Generator, int], Tensor] = {
        CLASSIFIER: classifying, TOKENIZER: rounding, MODEL: continuing
    }[name]  # fmt: skip
    held: Callable[[nn.Module], Tensor] = {
        CLASSIFIER: held_out_class, TOKENIZER: held_out_pixels, MODEL: held_out_codes
    }[name]  # fmt: skip

    @torch.no_grad()
    def look(module: nn.Module) -> float:
        return float(held(module))

    return train, look


def run(name: str, data: Data, recipe: Recipe, console: Console) -> bool:
    """Train one model and store it; False if it was interrupted first."""
    model, card = built(name, data, torch.Generator().manual_seed(recipe.seed))
    training = carry_out(name, model, goals(name, data), recipe, data.out, console)
    if training is None:
        return False
    described: Card = {
        **card,
        "data": f"MNIST: {len(data.train.labels)} training and {len(data.held_out.labels)} held-out images",
        "licence": LICENCE,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training": training,
    }
    store.write(name, model, described, data.out)
    return True


app = typer.Typer(add_completion=False)


@app.command()
def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Among {', '.join(RECIPES)}. By default, all.")] = None,
    data: Annotated[Path, typer.Option(help="Images: an .npz, or IDX with its labels beside it.")] = Path("mnist.npz"),
    labels: Annotated[Path | None, typer.Option(help="Labels as IDX, where the images are IDX.")] = None,
    held_out: Annotated[int, typer.Option(min=1, help="Images that nothing is trained on.")] = HELD_OUT,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps; by default the recipe's.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the checkpoints and of unfinished runs.")] = Path("checkpoints"),
    samples: Annotated[int, typer.Option(min=0, help="Images sampled per guidance for the figures; 0: none.")] = 500,
) -> None:
    """Train a tokenizer of MNIST, a transformer of its codes and a classifier, and write them as checkpoints.

    Ctrl-C stops after the current step; the same command takes up where it stopped.
    """
    from specverify.errors import InputError

    try:
        _train(names or list(RECIPES), labelled.read(data, labels).split(held_out), steps, out, samples)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _train(names: Sequence[str], parts: tuple[Labelled, Labelled], steps: int | None, out: Path, samples: int) -> None:
    from specverify.errors import InputError

    data = Data(*parts, out)
    for name in names:
        if name not in RECIPES:
            raise InputError(f"no model {name!r} to train; choose among {', '.join(RECIPES)}")
        recipe = RECIPES[name]
        if not run(name, data, dataclasses.replace(recipe, steps=steps or recipe.steps), Console(stderr=True)):
            raise typer.Exit(130)
    if CLASSIFIER in (names or ()):
        train, held_out = parts
        shown = train.pixels[:SHOWN].flatten(1).long()
        judges.keep(CLASSIFIER, held_out.pixels.flatten(1).long(), shown, train.labels[:SHOWN], out)
    if samples:
        roles = {"classifier": CLASSIFIER, "tokenizer": TOKENIZER, "model": MODEL}
        vq_figures.measure(roles, out, *parts, samples)


if __name__ == "__main__":
    sys.exit(app())
