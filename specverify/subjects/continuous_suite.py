"""Where a decoder of continuous tokens is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from specverify.decoders.registry import Settings
from specverify.errors import InputError
from specverify.evidence.cached import Cached
from specverify.laws import ContinuousModel
from specverify.subjects.continuous_play import TRIAL
from specverify.subjects.factory import Factory
from toymodels import continuous, continuous_drafts

_DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class Setting:
    """A toy, its precision, and a draft model for it and a window where the subject takes them.

    Batches of nine rows are played `often` times as often: where drafts are rejected and their residual is far from
    the law, a row has most to say, and a place in the batch is seen by itself.
    """

    toy: str
    draft: str | None = None
    window: int | None = None
    dtype: str = "float64"
    often: int = 1

    def __str__(self) -> str:
        window = None if self.window is None else f"w{self.window}"
        dtype = None if self.dtype == "float64" else self.dtype
        return "/".join(part for part in (self.toy, self.draft, window, dtype) if part)

    def model(self) -> ContinuousModel:
        """The toy."""
        return continuous.toy(self.toy, _DTYPES[self.dtype])

    def draft_model(self) -> ContinuousModel | None:
        """Its draft model, None where the subject takes none."""
        return continuous_drafts.draft(self.draft, self.model()) if self.draft else None

    def settings(self) -> Settings:
        """What the subject's decoder is built from."""
        return Settings(self.window or 1, "left-law", self.draft_model())

    @property
    def overlap_is_known(self) -> bool:
        """Whether there is a formula, or a sum, for what the first token's law has in common with its draft's."""
        family, size = self.toy.split("-")
        moved = self.draft in ("shifted", "near", "disjoint", "leaning")
        known = self.draft not in (None, "identical") and (size.startswith("1x") or (moved and family != "mix"))
        return known and self.dtype == "float64"


SUITE = (
    Setting("gauss-1x6", "disjoint", 2),
    Setting("gauss-2x6", "other", 3),
    Setting("mix-2x4", "other", 3),
    Setting("full-3x4", "leaning", 2),
    Setting("equal-4x4", "leaning", 2, "float32"),
    Setting("equal-1x6", "shifted", 3, often=40),
    Setting("calm-2x12", "wider", 8),
    Setting("varied-1x4", "wider", 2),
    Setting("gauss-1x6", "near", 1),
    Setting("forked-2x4", "other", 2),
    Setting("gauss-2x12", "narrower", 8, "float32"),
    Setting("varied-2x4", "narrower", 3),
    Setting("full-5x4", "other", 5, "float32"),
    Setting("gauss-1x40", "shifted", 5),
    Setting("mix-5x4", "wider", 4, "float32"),
    Setting("equal-1x6", "identical", 2),
    Setting("calm-8x4", "shifted", 3),
    Setting("gauss-3x7", "other", 6),
    Setting("chain-3x3", "other", 2, "float32"),
    Setting("gauss-16x4", "leaning", 3),
    Setting("calm-17x3", "other", 2),
)
"""Each kind of law, in dimensions beside and between the powers of 2; windows from 1 to beyond the length, and well
within it; drafts from one law with the target's to none in common; both precisions. What tells most is early: those
behind it may have no time left."""


def settings(factory: Factory, toys: Sequence[str] | None) -> list[Setting]:
    """Those that differ in what the subject takes.

    Raises:
        InputError: for toys that there are none of, or that cannot be tested.
    """
    for name in toys or ():
        if continuous.toy(name).name.startswith("score"):
            raise InputError(f"toy {name!r}: each of its transforms costs a quadrature; choose toys with closed forms")
    chosen = [one for one in SUITE if toys is None or one.toy in toys]
    whole = {one.toy for one in SUITE if one.dtype == "float64"}
    chosen += [Setting(toy, "other", 3) for toy in toys or () if toy not in whole]
    drafts, windows = "draft_model" in factory.takes, "window" in factory.takes
    adapted = [
        replace(one, draft=one.draft if drafts else None, window=one.window if windows else None) for one in chosen
    ]
    return list(dict.fromkeys(adapted))


def maker(factory: Factory, one: Setting) -> tuple[Callable[[], Any], Cached | None]:
    """What makes the subject's decoder in a setting, and its draft model, which notes what a cache would not hold."""
    settings = one.settings()
    drafts = None if settings.draft_model is None else Cached(settings.draft_model, TRIAL)
    return partial(factory.build, replace(settings, draft_model=drafts)), drafts
