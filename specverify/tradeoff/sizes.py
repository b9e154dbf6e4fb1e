"""Sizes are checked before the work: against the model's length, and against the memory that there is."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from realmodels.quality import Reference
from specverify import room
from specverify.errors import InputError
from specverify.tradeoff.setting import Setting

LARGEST_SEED = 2**63 - 1
_PAIR = 32
"""Bytes for each pair of images while their neighbours are looked for: two distances, and what sorting them takes."""
_REAL = 24
"""Bytes for each image and real image: their distance."""


def check(
    setting: Setting,
    length: int,
    classes: int,
    reference: Reference | None,
    windows: Sequence[int | None],
    per_row: int,
    jobs: int,
) -> None:
    """Raise InputError unless all sizes can be worked with, with all that is wrong.

    Args:
        setting: see there.
        length: tokens of an image.
        classes: that are dealt in turn.
        reference: what images are measured against, if there is anything.
        windows: drafts per forward pass, of all cells that have any.
        per_row: bytes of one image's buffers while it is decoded, and of one draft token, about.
        jobs: processes side by side.
    """
    wrong = []
    if not 0 <= setting.seed <= LARGEST_SEED:
        wrong.append(f"seed {setting.seed} is not between 0 and {LARGEST_SEED}; choose one that is")
    real, features = (0, 1) if reference is None else reference.features.shape
    if setting.n <= features:
        wrong.append(
            f"n = {setting.n} images give no covariance of {features} features; "
            f"use at least {features + 1} (1,000 for figures worth comparing)"
        )
    for window in dict.fromkeys(windows):
        if window is not None and window > length:
            wrong.append(
                f"window {window} is more than the {length} tokens of an image of {setting.model}, and drafts beyond "
                f"its end are never used; choose --window of at most {length}"
            )
    if setting.batch % classes:
        wrong.append(
            f"batch {setting.batch} is no multiple of {classes}: classes are dealt in turn within a batch, and each "
            f"must come equally often; choose --batch {classes * max(1, round(setting.batch / classes))}"
        )
    if wrong:
        raise InputError("; and ".join(wrong))
    measuring = setting.n * (setting.n * _PAIR + real * _REAL + setting.resamples * 24 + length * 80)
    decoding = min(setting.batch, setting.n) * per_row if torch.device(setting.device).type == "cpu" else 0
    for what, size, bytes_, remedy in (
        ("n", setting.n, measuring, "fewer images (--n)"),
        ("batch", setting.batch, decoding, "a smaller --batch"),
    ):
        room.check(what, size, bytes_, remedy, jobs)
