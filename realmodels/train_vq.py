"""Train the models of codes again: `python -m realmodels.train_vq --data mnist.npz`, or another file, see `labelled`.

In their order: a classifier, which judges samples; a tokenizer; a transformer of its codes. Grey images make the models
of MNIST, in some 15 minutes on one core; images of three colours those of CIFAR-10, in some two hours of a core, in
one run or in many. `--device cuda` is for a GPU, and so is `--larger`. The recipes, the seed and the split are fixed,
so that a run repeats itself bit for bit on one machine's processor with one number of threads. Other data of the same
kind (Fashion-MNIST) are a matter of the file; the models' names stay.
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

from realmodels import classifier, codes, families, imagenet, judges, labelled, store, vq, vq_figures
from realmodels.adapters.llamagen_gpt import Shape as Sizes
from realmodels.adapters.llamagen_gpt import Transformer
from realmodels.families import Family
from realmodels.fit import Recipe
from realmodels.labelled import Labelled, scaled
from realmodels.store import Card
from realmodels.train import Goals, carry_out, without_some

HELD_OUT, SHOWN, TOGETHER = 1000, 2000, 250
"""Images held out; other real ones whose features are kept, and as many that axes come from; images of one pass."""


@dataclass(frozen=True)
class Data:
    """Images to train on, held out, and spare ones, and the folder with what was trained before."""

    family: Family
    train: Labelled
    held_out: Labelled
    spare: Labelled
    out: Path

    @cached_property
    def codes(self) -> tuple[Tensor, Tensor]:
        """The codes of both, by the tokenizer of the folder; of the first as they are, and of changed copies."""
        tokenizer = vq.load_tokenizer(self.family.tokenizer, folder=self.out).to(self.train.pixels.device)
        pixels, generator = scaled(self.train), torch.Generator().manual_seed(0)
        copies = self.family.changed(pixels, generator)
        train = torch.stack([encoded(tokenizer, part) for part in (pixels, *copies)])
        return train, encoded(tokenizer, scaled(self.held_out))

    def on(self, device: str) -> Data:
        """The same where a network is trained."""
        train, held_out = (
            Labelled(one.pixels.to(device), one.labels.to(device)) for one in (self.train, self.held_out)
        )
        return dataclasses.replace(self, train=train, held_out=held_out)

    @cached_property
    def classes(self) -> int:
        """How many there are."""
        return int(self.train.labels.max()) + 1


def spread(n: int, most: int) -> Tensor:
    """Indices of that many of n, or of all, at equal distances: files may be sorted by class."""
    count = min(n, most)
    return torch.arange(count) * n // count


@torch.no_grad()
def encoded(tokenizer: vq.Tokenizer, pixels: Tensor) -> Tensor:
    """Codes of images, Int[n, cells]."""
    return torch.cat([tokenizer.encode(part) for part in pixels.split(500)])


def built(name: str, data: Data, generator: torch.Generator) -> tuple[nn.Module, Card]:
    """A fresh network, and what tells its kind and sizes to whoever loads it."""
    family, rounding = data.family, data.family.rounding
    if name == family.classifier:
        judge = classifier.initialise(**family.judge, generator=generator)
        return judge, {"kind": "classifier", "shape": family.judge}
    if name == family.tokenizer:
        shape = {key: size for key, size in asdict(rounding).items() if key != "levels"}
        grid: Card = {"levels": list(rounding.levels)} if rounding.levels else {}
        return vq.initialise(rounding, generator), {"kind": "tokenizer", "shape": shape, **grid}
    sizes = Sizes(vocab=rounding.codes, side=rounding.grid, classes=data.classes, **family.law)
    kept = {key: size for key, size in asdict(sizes).items() if size}
    card: Card = {
        "kind": codes.KIND,
        "shape": kept,
        "tokenizer": family.tokenizer,
        "tokenizer_sha256": store.read_card(family.tokenizer, data.out)["sha256"],
        "judge": family.classifier,
    }
    return codes.initialise(sizes, generator, vq.places(rounding) if rounding.levels else None), card


def goals(name: str, data: Data) -> Goals:
    """What `fit` needs: the loss of a random training batch, and the held-out loss."""
    family, labels, others = data.family, data.train.labels, data.held_out.labels

    def drawn(generator: torch.Generator, batch: int) -> Tensor:
        return torch.randint(len(labels), (batch,), generator=generator)

    def judged(module: nn.Module, index: Tensor, images: Labelled, smoothing: float) -> Tensor:
        return F.cross_entropy(module(images.levels(index)), images.labels[index], label_smoothing=smoothing)

    def classifying(module: nn.Module, generator: torch.Generator, batch: int) -> Tensor:
        return judged(module, drawn(generator, batch), data.train, 0.1)

    def rounding(module: nn.Module, generator: torch.Generator, batch: int) -> Tensor:
        return vq.loss(cast("vq.Tokenizer", module), scaled(data.train, drawn(generator, batch)), generator)

    def continuing(module: nn.Module, generator: torch.Generator, batch: int) -> Tensor:
        copies = len(data.codes[0]) - 1
        index, which = drawn(generator, batch), torch.randint(2 * copies, (batch,), generator=generator)
        tokens = data.codes[0][(which - copies + 1).clamp(min=0), index]  # half of them as they are
        given = without_some(labels[index], generator, data.classes)
        return codes.loss(cast("Transformer", module), tokens, given)

    def held_out_class(module: nn.Module, part: Tensor) -> Tensor:
        return judged(module, part, data.held_out, 0.0)

    def held_out_pixels(module: nn.Module, part: Tensor) -> Tensor:
        tokenizer, pixels = cast("vq.Tokenizer", module), scaled(data.held_out, part)
        return F.mse_loss(tokenizer.decode(tokenizer.encode(pixels)), pixels)

    def held_out_codes(module: nn.Module, part: Tensor) -> Tensor:
        return codes.loss(cast("Transformer", module), data.codes[1][part], others[part])

    train: Callable[[nn.Module, torch.Generator, int], Tensor] = {
        family.classifier: classifying, family.tokenizer: rounding, family.model: continuing
    }[name]  # fmt: skip
    held: Callable[[nn.Module, Tensor], Tensor] = {
        family.classifier: held_out_class, family.tokenizer: held_out_pixels, family.model: held_out_codes
    }[name]  # fmt: skip

    @torch.no_grad()
    def look(module: nn.Module) -> float:
        parts = torch.arange(len(others)).split(TOGETHER)
        return float(sum(held(module, part) * len(part) for part in parts)) / len(others)

    return train, look


def run(name: str, data: Data, recipe: Recipe, console: Console, device: str = "cpu") -> bool:
    """Train one model on a device and store it; False if it was interrupted first."""
    model, card = built(name, data, torch.Generator().manual_seed(recipe.seed))
    training = carry_out(name, model.to(device), goals(name, data.on(device)), recipe, data.out, console)
    if training is None:
        return False
    family = data.family
    if name == family.model:
        codes.settle(cast("Transformer", model))
    described: Card = {
        **card,
        "data": f"{family.data}: {len(data.train.labels)} training and {len(data.held_out.labels)} held-out images",
        "licence": family.licence,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training": training,
    }
    store.write(name, model, described, data.out)
    return True


app = typer.Typer(add_completion=False)


@app.command()
def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(help=f"Among {', '.join(families.names())}. By default, all of the kind of the images."),
    ] = None,
    data: Annotated[Path, typer.Option(help="Images: an .npz, IDX with its labels beside it, or a folder of .bin.")] = (
        Path("mnist.npz")
    ),
    labels: Annotated[Path | None, typer.Option(help="Labels as IDX, where the images are IDX.")] = None,
    held_out: Annotated[int, typer.Option(min=1, help="Images that nothing is trained on.")] = HELD_OUT,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps; by default the recipe's.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the checkpoints and of unfinished runs.")] = Path("checkpoints"),
    samples: Annotated[int, typer.Option(min=0, help="Images sampled per guidance for the figures; 0: none.")] = 500,
    device: Annotated[str, typer.Option(help="Where networks are trained, cpu or cuda.")] = "cpu",
    larger: Annotated[bool, typer.Option("--larger", help="A larger transformer of colour images.")] = False,
) -> None:
    """Train a tokenizer of images, a transformer of its codes and a classifier, and write them as checkpoints.

    Grey images make the models of MNIST, images of three colours those of CIFAR-10. Ctrl-C stops after the current
    step; the same command takes up where it stopped.
    """
    from specverify import environment
    from specverify.errors import InputError

    try:
        environment.check_device(device)
        images = labelled.read(data, labels)
        family = next(one for one in families.FAMILIES if one.channels == images.pixels.shape[1])
        if larger:
            family = families.larger(family)
        for name in names or ():
            if name not in family.recipes:
                raise InputError(
                    f"no model {name!r} to train on images of {family.channels} channel(s); choose among "
                    f"{', '.join(family.recipes)}"
                )
        _train(names or list(family.recipes), Data(family, *images.split(held_out), out), steps, samples, device)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _train(names: Sequence[str], data: Data, steps: int | None, samples: int, device: str) -> None:
    family = data.family
    if family.classifier in names and family.channels == imagenet.COLOURS:
        imagenet.load()  # what is missing is said before the work
    for name in names:
        recipe = family.recipes[name]
        if not run(name, data, dataclasses.replace(recipe, steps=steps or recipe.steps), Console(stderr=True), device):
            raise typer.Exit(130)
        if name == family.classifier:
            beside = data.spare if len(data.spare.labels) else data.train
            shown = spread(len(beside.labels), SHOWN)
            others = data.train.levels(spread(len(data.train.labels), SHOWN))
            judges.keep(name, data.held_out.levels(), beside.levels(shown), beside.labels[shown], others, data.out)
    if samples:
        roles = {"classifier": family.classifier, "tokenizer": family.tokenizer, "model": family.model}
        vq_figures.measure(roles, data.out, data.train, data.held_out, samples)


if __name__ == "__main__":
    sys.exit(app())
