"""A training loop that can be stopped and taken up again without changing a bit of its result.

`fit` is a generator of `Progress`: the caller shows it, counts it, or stops it. All that the next step depends on
(weights, their moving average, optimiser moments, the random state) and the best weights so far are one file.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from realmodels.store import replace
from specverify.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """The numbers of a training run; a saved run can only be taken up with the same ones.

    Attributes:
        steps: optimiser steps in all.
        batch: images per step.
        rate: peak learning rate; warmed up linearly, then a half cosine down to a tenth.
        decay: weight decay of the matrices.
        average: share of the old weights kept by the moving average at each step.
        every: steps between two looks at the held-out images.
        seed: of all random choices.
    """

    steps: int
    batch: int
    rate: float
    decay: float = 0.1
    average: float = 0.99
    every: int = 50
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """What one step gave: its loss, the last held-out loss and the best one so far (infinite before the first look)."""

    step: int
    loss: float
    held_out: float
    best: float
    best_step: int


Loss = Callable[[nn.Module, torch.Generator, int], Tensor]  # of a fresh random batch of that size
HeldOut = Callable[[nn.Module], float]


def fit(
    model: nn.Module, loss: Loss, held_out: HeldOut, recipe: Recipe, state: Path
) -> Generator[Progress, None, None]:
    """Train `model`; when the generator is exhausted, `model` holds the averaged weights that did best held out.

    The state file is written at every look at the held-out images and when the generator is closed (close it between
    steps: an exception inside a step leaves the last look's file). It is read if it exists, and deleted at the end.

    Raises:
        InputError: the state file is damaged or belongs to another recipe.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    average, best = copy.deepcopy(model).requires_grad_(False), copy.deepcopy(model).requires_grad_(False)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.decay}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.95))
    modules = {"model": model, "average": average, "best": best}
    done = Progress(0, math.inf, math.inf, math.inf, 0)
    if state.exists():
        done = _resume(state, recipe, modules, optimiser, generator)
    step, last, best_loss, best_step = done.step, done.held_out, done.best, done.best_step
    while step < recipe.steps:
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * _schedule(step, recipe.steps)
        value = loss(model, generator, recipe.batch)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        # A short memory at first, so that the average forgets the random start.
        keep = min(recipe.average, step / (step + 10))
        for old, new in zip(average.parameters(), model.parameters(), strict=True):
            old.lerp_(new.detach(), 1 - keep)
        looking = step % recipe.every == 0 or step == recipe.steps
        if looking:
            last = held_out(average)
            if last < best_loss:
                best_loss, best_step = last, step
                best.load_state_dict(average.state_dict())
        progress = Progress(step, float(value.detach()), last, best_loss, best_step)
        if looking:
            _save(state, recipe, progress, modules, optimiser, generator)
        try:
            yield progress
        except GeneratorExit:
            _save(state, recipe, progress, modules, optimiser, generator)
            raise
    model.load_state_dict(best.state_dict())
    state.unlink(missing_ok=True)


def _schedule(step: int, steps: int) -> float:
    warm = min(100, steps // 10)
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def _save(
    path: Path,
    recipe: Recipe,
    progress: Progress,
    modules: dict[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    tensors = {f"{part}/{key}": value for part, module in modules.items() for key, value in module.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"moments/{index}/{key}": value for key, value in moments.items()}
    tensors["generator"] = generator.get_state()
    run = {"recipe": asdict(recipe), "progress": asdict(progress)}
    replace(path, serialise(tensors, metadata={"run": json.dumps(run)}))


def _resume(
    path: Path,
    recipe: Recipe,
    modules: dict[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> Progress:
    try:
        with safe_open(path, framework="pt") as file:
            run = json.loads(file.metadata()["run"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if run["recipe"] != asdict(recipe):
            raise InputError(f"{path} is of a run with {run['recipe']}, not {asdict(recipe)}; delete it to start anew")
        for part, module in modules.items():
            module.load_state_dict({key: tensors[f"{part}/{key}"] for key in module.state_dict()})
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("moments/"):
                _, index, key = name.split("/")
                moments.setdefault(int(index), {})[key] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
        generator.set_state(tensors["generator"])
        return Progress(**run["progress"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a state of this training run ({error}); delete it to start anew") from error
