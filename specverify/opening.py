"""Which image model is opened and how, as a command line says it: one that ships, or a folder with a checkpoint."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from specverify import declared, fetched
from specverify.errors import InputError

REAL = "digits-s"
"""The real model, unless another one is asked for."""
Condition = str | int | tuple[int, ...]
"""A prompt as text, a class, or a prompt as token ids."""


@dataclass(frozen=True)
class Opening:
    """An image model, and how it is opened.

    Attributes:
        model: a name, a folder or an id that `realmodels.models.open_model` takes.
        conditions: classes or prompts that take turns; all classes if None, which a folder has not.
        dtype: of the weights.
        processors: what shapes the law behind guidance, as "temperature=0.9,top_k=100".
        compiled: whether torch compiles its passes.
    """

    model: str = REAL
    conditions: tuple[Condition, ...] | None = None
    dtype: str = "float32"
    processors: str = ""
    compiled: bool = False

    @property
    def options(self) -> list[str]:
        """How a command line says what is not as usual, beside the model."""
        said = [one if isinstance(one, str) else json.dumps(one) for one in self.conditions or ()]
        return [
            *(f"--condition {shlex.quote(one)}" for one in said),
            *[f"--dtype {self.dtype}"] * (self.dtype != Opening.dtype),
            *[f"--processors {shlex.quote(self.processors)}"] * bool(self.processors),
            *["--compile"] * self.compiled,
        ]


@dataclass(frozen=True)
class Real(Opening):
    """The real model of a campaign, and in what settings it is run there.

    Attributes:
        guidance: the scales, each in cells of its own.
        batch: images decoded together, at most.
    """

    guidance: tuple[float, ...] = (1.0, 1.5)
    batch: int = 400

    @property
    def ships(self) -> bool:
        """Whether it is a model that ships, opened as it ships."""
        return not self.options and self.model in _names()[0]

    @property
    def label(self) -> str:
        """What cells call it: its name, which is never that of a toy or, opened in another way, of one that ships."""
        if self.ships:
            return self.model
        name = Path(os.path.abspath(self.model)).name  # not resolved: a link is called as its owner calls it
        name = re.sub("@([0-9a-f]{7})[0-9a-f]*$", r"-\1", name)  # of one that was fetched, its commit in short
        name = re.sub(r"[^A-Za-z0-9._=+-]+", "-", name).strip("-.")[:60] or "model"
        return f"{name}-own" if name in _names()[1] else name

    @property
    def words(self) -> list[str]:
        """How the command `verify` says it."""
        scales = ",".join(f"{scale:g}" for scale in self.guidance)
        return [
            *[f"--real {shlex.quote(self.model)}"] * (self.model != USUAL.model),
            *self.options,
            *[f"--guidance {scales}"] * (self.guidance != USUAL.guidance),
            *[f"--batch {self.batch}"] * (self.batch != USUAL.batch),
        ]

    @property
    def folder(self) -> str:
        """A name for the folder of its results, another one for each setting."""
        said = " ".join(self.words)
        if said in ("", f"--real {self.label}"):
            return self.label
        return f"{self.label}-{hashlib.sha256(said.encode()).hexdigest()[:6]}"

    def check(self) -> None:
        """Raise InputError if no campaign can be had on it, as far as that is seen without opening it."""
        check_guidance(self.guidance)
        if self.batch < 2:
            raise InputError(f"batch {self.batch} is not at least 2; cells of one image at a time are there anyway")
        if self.conditions is None and (Path(self.model).is_dir() or fetched.find(self.model) is not None):
            raise InputError(
                f"{self.model} is a checkpoint, whose model has no classes of its own: say what its images are of, "
                "with --condition once for each prompt, as text, as token ids such as '[1, 7, 2]', or as a class"
            )


USUAL = Real()
"""That which ships, in the usual settings."""


def named(real: Real | str | None) -> Real:
    """The real model that is meant: the usual one, one by its name, or as it is."""
    return USUAL if real is None else Real(real) if isinstance(real, str) else real


def check_guidance(guidance: Sequence[float]) -> Sequence[float]:
    """The scales, or InputError if one is impossible or there is none."""
    for scale in guidance:
        if not (math.isfinite(scale) and scale >= 0):
            raise InputError(f"guidance {scale} is not a finite number of at least 0; 1 is the conditional law")
    if not guidance:
        raise InputError("a run needs a guidance at least; leave the option out for the usual one")
    return guidance


@functools.cache
def _names() -> tuple[frozenset[str], frozenset[str]]:
    """Of trained models of ids that ship; of all models that do."""
    every = [*declared.models(), *declared.continuous_models()]
    return frozenset(declared.trained()), frozenset(name for name, _ in every)
