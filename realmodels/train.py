"""Train the shipped checkpoints again: `python -m realmodels.train`, in minutes on two CPU cores.

The recipes, the seed and the split are fixed, so a run repeats itself bit for bit on one machine with one number of
threads; elsewhere rounding differs, and figures move in their third digit.
"""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from realmodels import classifier, continuous, janus_digits, patch_figures, patches, store, transformer
from realmodels.data import CLASSES, LEVELS, SIDE, Images, augment, digits
from realmodels.digits import DigitsModel, load_transformer
from realmodels.figures import figures, held_out_nats, next_pixel_loss
from realmodels.fit import HeldOut, Loss, Recipe, fit
from realmodels.session import ImageTransformer
from realmodels.store import Card, Figures
from specverify import environment
from specverify.errors import InputError

Goals = tuple[Loss, HeldOut]
NULL_SHARE = 0.1  # of training images, shown without their class so that guidance has an unconditional law
AUGMENTED_SHARE = 0.5


@dataclass(frozen=True)
class Job:
    """One checkpoint: what it is, how it is made and judged.

    Attributes:
        card: what tells its kind and sizes to whoever loads it.
        recipe: how it is trained.
        build: the network, of fresh weights.
        loss: of a training batch of pixels and labels.
        held_out: what training makes small, of the held-out images.
        figures: of the weights as stored, from name, folder and number of samples, judged by a classifier.
        write: what stores it, from name, network, card and folder.
    """

    card: Card
    recipe: Recipe
    build: Callable[[torch.Generator], nn.Module]
    loss: Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]
    held_out: Callable[[nn.Module, Images], Tensor]
    figures: Callable[[str, Path, int, nn.Module], Figures]
    write: Callable[[str, nn.Module, Card, Path], None] = store.write


def without_some(labels: Tensor, generator: torch.Generator, null: int = CLASSES) -> Tensor:
    """Labels, a tenth of which stand for no class."""
    without = torch.rand(len(labels), generator=generator) < NULL_SHARE
    return torch.where(without.to(labels.device), null, labels)


def _pixel_loss(model: nn.Module, tokens: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    return next_pixel_loss(model, tokens, without_some(labels, generator), LEVELS)


def _pixels(recipe: Recipe, **sizes: int) -> Job:
    shape = transformer.Shape(vocab=LEVELS, classes=CLASSES, length=SIDE * SIDE, **sizes)
    return Job(
        {"kind": "transformer", "shape": asdict(shape)},
        recipe,
        lambda rng: transformer.initialise(shape, rng),
        _pixel_loss,
        lambda model, images: next_pixel_loss(model, images.tokens, images.labels, LEVELS),
        _pixel_figures,
    )


def _pixel_figures(name: str, out: Path, samples: int, judge: nn.Module) -> Figures:
    transformer = load_transformer(name, out)
    return figures(DigitsModel(transformer), held_out_nats(transformer), judge, samples)


def _janus_loss(model: nn.Module, tokens: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    return janus_digits.loss(model, tokens, without_some(labels, generator))


def _held_out_janus_loss(model: nn.Module, images: Images) -> Tensor:
    return janus_digits.loss(model, images.tokens, images.labels)


def _janus_figures(name: str, out: Path, samples: int, judge: nn.Module) -> Figures:
    network = janus_digits.JanusDigits(name, folder=out)
    with torch.no_grad():
        nats = float(_held_out_janus_loss(network.model, digits()[1]))
    return figures(ImageTransformer(network, network.conditions), nats, judge, samples)


def _janus(recipe: Recipe, **shape: int) -> Job:
    return Job(
        {"kind": janus_digits.KIND, "shape": shape, "licence": "Apache-2.0; data CC BY 4.0"},
        recipe,
        lambda rng: janus_digits.initialise(shape, rng),
        _janus_loss,
        _held_out_janus_loss,
        _janus_figures,
        janus_digits.write,
    )


def _patch_loss(model: nn.Module, tokens: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    labels = without_some(labels, generator)
    return patch_figures.loss(model, patches.to_patches(tokens, generator), labels, generator)


def _held_out_patch_loss(model: nn.Module, images: Images) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return patch_figures.loss(model, patches.to_patches(images.tokens, generator), images.labels, generator)


def _patches(recipe: Recipe, kind: str, head: dict[str, int], sizes: dict[str, int]) -> Job:
    shape = continuous.Shape(dim=patches.DIM, classes=CLASSES, length=patches.LENGTH, heads=4, **sizes)
    return Job(
        {"kind": kind, "shape": asdict(shape), "head": head},
        recipe,
        lambda rng: continuous.initialise(continuous.build(kind, shape, head), rng),
        _patch_loss,
        _held_out_patch_loss,
        lambda name, out, samples, judge: patch_figures.figures(continuous.load_network(name, out), judge, samples),
    )


def _mixture(recipe: Recipe, **sizes: int) -> Job:
    return _patches(recipe, "mixture", {"components": 8}, sizes)


def _diffusion(recipe: Recipe, hidden: int, blocks: int, **sizes: int) -> Job:
    return _patches(recipe, "diffusion", {"steps": 20, "hidden": hidden, "blocks": blocks}, sizes)


def _class_loss(model: nn.Module, tokens: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    return F.cross_entropy(model(tokens), labels, label_smoothing=0.1)


def _accuracy(name: str, out: Path, samples: int, judge: nn.Module) -> Figures:
    _, held_out = digits()
    hits = classifier.load_classifier(name, folder=out)(held_out.tokens).argmax(-1) == held_out.labels
    return {"held_out_accuracy": round(float(hits.float().mean()), 4)}


JOBS = {
    "digits-classifier": Job(
        {"kind": "classifier", "shape": {"width": 32}},
        Recipe(steps=600, batch=64, rate=2e-3, decay=0.05),
        lambda rng: classifier.initialise(32, rng),
        _class_loss,
        lambda model, images: F.cross_entropy(model(images.tokens), images.labels),
        _accuracy,
    ),
    "digits-s": _pixels(Recipe(steps=1200, batch=64, rate=8e-3, decay=0.5), dim=64, layers=3, heads=4),
    "digits-gmm": _mixture(Recipe(steps=2500, batch=64, rate=6e-3, decay=0.5), width=96, layers=4),
    "digits-gmm-draft": _mixture(Recipe(steps=1500, batch=64, rate=8e-3, decay=0.5), width=48, layers=2),
    "digits-diff": _diffusion(Recipe(steps=1500, batch=64, rate=4e-3, decay=0.5), 128, 3, width=96, layers=4),
    "digits-diff-draft": _diffusion(Recipe(steps=1500, batch=64, rate=4e-3, decay=0.5), 64, 2, width=48, layers=2),
    "janus-digits": _janus(
        Recipe(steps=1200, batch=64, rate=4e-3, decay=0.5),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
    ),
}

app = typer.Typer(add_completion=False)


@app.command()
def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Among {', '.join(JOBS)}. By default, all.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps; by default the recipe's.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the checkpoints and of unfinished runs.")] = Path("checkpoints"),
    seed: Annotated[int | None, typer.Option(help="Of all random choices; by default the recipe's.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Images sampled per guidance for the card's figures.")] = 1000,
) -> None:
    """Train digit models on scikit-learn's digits and write <name>.safetensors and <name>.json.

    Ctrl-C stops after the current step; the same command takes up where it stopped.
    """
    try:
        for name in names or list(JOBS):
            if name not in JOBS:
                raise InputError(f"no model {name!r} to train; choose among {', '.join(JOBS)}")
            if not run(name, out, steps, seed, samples, Console(stderr=True)):
                raise typer.Exit(130)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def run(name: str, out: Path, steps: int | None, seed: int | None, samples: int, console: Console) -> bool:
    """Train one model and store it; False if it was interrupted first."""
    job = JOBS[name]
    recipe = dataclasses.replace(
        job.recipe,
        steps=job.recipe.steps if steps is None else steps,
        seed=job.recipe.seed if seed is None else seed,
    )
    model = job.build(torch.Generator().manual_seed(recipe.seed))
    training = carry_out(name, model, objectives(job), recipe, out, console)
    if training is None:
        return False
    card: Card = {
        **job.card,
        "data": "scikit-learn load_digits: 1437 training and 360 held-out images",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training": training,
    }
    job.write(name, model, card, out)
    _measure(name, job, out, samples)
    return True


def carry_out(name: str, model: nn.Module, goals: Goals, recipe: Recipe, out: Path, console: Console) -> Figures | None:
    """Train a model, with a bar on a terminal; what its card says of that, or None if it was interrupted first."""
    out.mkdir(parents=True, exist_ok=True)
    begun, progress = time.process_time(), None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[best]}"),
        TimeRemainingColumn(),
    )
    with _interruptions() as interrupted, Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=recipe.steps, best="")
        training = fit(model, *goals, recipe, out / f"{name}.state.safetensors")
        for progress in training:
            bar.update(task, completed=progress.step, best=f"held-out loss {progress.best:.4f}")
            if interrupted():
                training.close()
                return None
    return {
        **asdict(recipe),
        "best_step": None if progress is None else progress.best_step,
        "cpu_minutes": round((time.process_time() - begun) / 60, 2),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **({} if (card := _accelerator(model)) is None else {"device": card}),
    }


def _accelerator(model: nn.Module) -> str | None:
    return environment.accelerator(str(next(model.parameters()).device))


def objectives(job: Job) -> Goals:
    """What `fit` needs of a job: the loss of a random training batch, and the held-out loss."""
    train, held_out = digits()

    def loss(model: nn.Module, generator: torch.Generator, batch: int) -> Tensor:
        chosen = torch.randint(len(train.labels), (batch,), generator=generator)
        tokens, changed = train.tokens[chosen], round(batch * AUGMENTED_SHARE)
        tokens = torch.cat([augment(tokens[:changed], generator), tokens[changed:]])
        return job.loss(model, tokens, train.labels[chosen], generator)

    @torch.no_grad()
    def judge(model: nn.Module) -> float:
        return float(job.held_out(model, held_out))

    return loss, judge


def _measure(name: str, job: Job, out: Path, samples: int) -> None:
    """Add to a card the figures of the weights as stored; class accuracy needs the classifier of the same folder."""
    card = store.read_card(name, out)
    judge = "digits-classifier"
    judge_folder = out if judge in store.names(out) else store.SHIPPED
    measured = job.figures(name, out, samples, classifier.load_classifier(judge, folder=judge_folder))
    if name != judge:
        measured["classifier_sha256"] = store.read_card(judge, judge_folder)["sha256"]
    store.write_card(name, {**card, "figures": measured}, out)


@contextmanager
def _interruptions() -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C only sets a flag, so that a step is never left half done; the second one interrupts."""
    seen: list[int] = []

    def note(number: int, _frame: object) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    sys.exit(app())
