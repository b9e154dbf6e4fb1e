"""Plans: which decoder is checked on which model, in which setting and how.

A plan is a list of cells, each small enough to be one unit of work. Its cells, their sizes and the alpha of each of
their checks are fixed before any data are seen. Catalogues are read as `declared` has them: a plan is made, and a
pattern that no cell matches is refused, without the seconds that it takes to import what the names stand for.
"""

from __future__ import annotations

import fnmatch
import math
import shlex
from collections.abc import Callable
from typing import NamedTuple

from specverify import declared, plan_vectors
from specverify.catalogue import near_pattern
from specverify.cell import MORE, REAL_IMAGES, Asked, Cell, settings
from specverify.errors import InputError
from specverify.opening import REAL, Real, named
from specverify.plan_proofs import cells as _proof

RELAXED_ON = ("redundant-4x6", "redundant-8x4", "synonyms-4x5")
"""Toys whose vocabularies are redundant, as those of image models are."""
RELAXED_BESIDE = ("raster-4x6", "dense-3x6")
"""Toys on which relaxed decoders are priced too: rows with and without influence of what lies right of them above."""


def plan(tier: str, only: str | None = None, real: Real | str | None = None) -> tuple[Cell, ...]:
    """The cells of a tier, longest kinds first.

    Args:
        tier: "quick" for every change, "full" for a release.
        only: keep cells whose id matches this shell pattern.
        real: the real model, and how it is run, or its name alone; that which ships as `REAL` if None.

    Raises:
        InputError: for an unknown tier, a model that cannot be opened or run as asked, or a pattern that matches
            nothing.
    """
    if tier not in ("quick", "full"):
        raise InputError(f"unknown tier {tier!r}; choose quick or full")
    chosen = named(real)
    asked = Asked(tier == "full", chosen, _share(chosen))
    kinds = sorted(KINDS.values(), key=lambda kind: kind.place)
    cells = tuple(cell for kind in kinds for cell in kind.cells(asked))
    if only is None:
        return cells
    kept = tuple(cell for cell in cells if fnmatch.fnmatchcase(cell.id, only))
    if not kept:
        listed = " --tier full" * asked.full + f" --real {shlex.quote(chosen.model)}" * (chosen.model != REAL)
        hint = near_pattern(only, (cell.id for cell in cells), f"`specverify list cells{listed}` names them")
        raise InputError(f"no cell of the {tier} tier matches {only!r}; {hint}")
    return kept


def _share(real: Real) -> float:
    """Images of a real model for one of `REAL`; InputError if it cannot be run as asked."""
    real.check()
    if real.label == REAL:
        return 1.0
    from realmodels import models

    model = models.kept(real, "cpu")
    for scale in real.guidance:
        try:
            model.like(guidance=scale)
        except InputError as error:
            raise InputError(f"{error} (--guidance 1)") from None
    return MORE * models.open_model(REAL).length / model.length


def _exact(asked: Asked) -> list[Cell]:
    """Every decoder of ids on every toy that can be enumerated."""
    found = []
    for model in declared.toys():
        vocab, length = (int(part) for part in model.rsplit("-", 1)[1].split("x"))
        if not declared.few_sequences(vocab, length):
            continue
        for name in declared.decoders_of("ids", relaxed=False):
            if declared.decoder(name).races and vocab > 2:
                continue
            for window in _windows(name, vocab, length, asked.full):
                for initial, draft in settings(name, asked.full):
                    # Random initial drafts multiply the worlds by vocab^window; the largest of them add nothing new.
                    if initial in ("random", "sample-left") and window is not None and vocab**window > 300:
                        continue
                    found.append(Cell("exact", name, model, window, initial, draft))
    return found


def _windows(name: str, vocab: int, length: int, full: bool) -> list[int | None]:
    """Windows from 1 to beyond the length; of several chains at once, those that can be enumerated in seconds."""
    if not declared.decoder(name).drafts:
        return [None]
    if (chains := declared.decoder(name).chains) > 1:
        most = 1000 if full or name.startswith("sd-") else 100  # coupled drafts are a part of what is enumerated
        return [window for window in ((1, 2, 3) if full else (1, 2)) if vocab ** (chains * window) <= most]
    if full:
        return list(range(1, length + 2))
    # Beside the decoders that they come from, which are enumerated in wide windows too.
    return [w for w in (1, 3) if vocab**w <= 30] if name in ("sjd-reuse", "sd-match") else [1, 3, length + 1]


def _sampled(asked: Asked) -> list[Cell]:
    """Every decoder of ids."""
    n = 4_000_000 if asked.full else 600_000
    found = []
    for model, window in (
        (("dense-4x6", 4), ("recurrent-3x6", 3), ("eos-3x6", 3)) if asked.full else (("recurrent-3x6", 3),)
    ):
        for name in declared.decoders_of("ids", relaxed=False):
            found.append(
                Cell(
                    "sampled",
                    name,
                    model,
                    window if declared.decoder(name).drafts else None,
                    *settings(name, False)[0],
                    n=n,
                )
            )
    return found


def _paired(asked: Asked) -> list[Cell]:
    """The decoder that shares its noise with plain decoding."""
    found = [
        Cell("paired", "sjd-race", "hash-16x24", window, n=4000, batch=1000)
        for window in ((1, 4, 30) if asked.full else (4,))
    ]
    real = asked.real
    n = math.ceil((400 if asked.full else 200) * min(1.0, asked.share))
    for scale in real.guidance:
        found.append(Cell("paired", "sjd-race", real.label, 8, guidance=scale, n=n, batch=min(200, real.batch)))
        found.append(Cell("paired", "sjd-race", real.label, 8, guidance=scale, n=10 if asked.full else 4, batch=1))
    return found


def _real(asked: Asked) -> list[Cell]:
    """Plain decoding beside the lossless ones, in batches, then one image at a time."""
    return [*_together(asked), *_alone(asked)]


def _together(asked: Asked) -> list[Cell]:
    n, real = math.ceil(REAL_IMAGES["full" if asked.full else "quick"] * asked.share), asked.real
    found = []
    for scale in real.guidance:
        for name in ("ar", "sjd", "scd-mc", "scd-gs"):
            for window in ((4, 8, 16, 32) if asked.full else (16,)) if declared.decoder(name).drafts else (None,):
                initial = "repeat-left" if window else None
                found.append(Cell("real", name, real.label, window, initial, guidance=scale, n=n, batch=real.batch))
    return found


def _alone(asked: Asked) -> list[Cell]:
    """One image at a time, plain decoding beside the lossless ones: what a single image costs in passes and seconds."""
    found, scale = [], asked.real.guidance[-1]
    for name in ("ar", "sjd", "scd-mc", "scd-gs"):
        window = 16 if declared.decoder(name).drafts else None
        initial = "repeat-left" if window else None
        found.append(
            Cell("real", name, asked.real.label, window, initial, guidance=scale, n=100 if asked.full else 20, batch=1)
        )
    return found


def _relaxed(asked: Asked) -> list[Cell]:
    """Every relaxed rule over its sweep, and the token rule beside it, on toys with redundant vocabularies."""
    judged: list[tuple[str | None, float | None]] = [(None, None)]
    for name, sweep in declared.sweeps().items():
        judged += [(name, value) for value in sweep or (None,)]
    found = []
    for model in RELAXED_ON:
        for decoder, initial, draft in (
            ("sjd", "repeat-left", None),
            ("scd-mc", "repeat-left", None),
            ("sd", None, "perturbed"),
        ):
            for window in (2, 4, 8) if asked.full else (4,):
                found += [
                    Cell("relaxed", decoder, model, window, initial, draft, rule=rule, value=value)
                    for rule, value in judged
                ]
    for model in (*RELAXED_ON, *RELAXED_BESIDE):
        vocab = int(model.rsplit("-", 1)[1].split("x")[0])
        for name in declared.decoders_of("ids", relaxed=True):
            draft = "perturbed" if declared.decoder(name).needs_draft_model else None
            chains = declared.decoder(name).chains
            windows = [w for w in (1, 2) if chains == 1 or vocab ** (chains * w) <= 100]
            found += [Cell("relaxed", name, model, window, draft=draft) for window in windows]
    return found


def _defect(asked: Asked) -> list[Cell]:
    """Every known-wrong decoder enumerated; some of them sampled, so that the statistics are seen to reject too."""
    wrong = declared.known_wrong()
    found = [Cell("defect", name, *smallest) for name, smallest in wrong.items()]
    sampled = ("recovered-from-target", "stale-scores-after-coupling", "bonus-from-draft", "inverted-ratio")
    found += [Cell("defect", name, *wrong[name], n=200_000) for name in sampled]
    shown = {"residual-rewarped": 1600} | ({"stale-scores-after-coupling": REAL_IMAGES["full"]} if asked.full else {})
    real = asked.real
    for name, n in shown.items():
        n, scale = math.ceil(n * asked.share), real.guidance[0]
        found.append(Cell("defect", name, real.label, 16, "repeat-left", guidance=scale, n=n, batch=real.batch))
    return found


class Kind(NamedTuple):
    """A kind of cell; how one is carried out is in the file of its name in `kinds`.

    Attributes:
        done: what is done, as a report says it.
        place: kinds are carried out in this order, those with the longest cells first.
        cells: which there are.
    """

    done: str
    place: int
    cells: Callable[[Asked], list[Cell]]


KINDS = {
    "exact": Kind("every possible outcome enumerated, on a toy model", 50, _exact),
    "proof": Kind("run on numbers of a random finite field: for every law of some sizes at once", 60, _proof),
    "relaxed": Kind("enumerated with a relaxed rule: how far from the target, and how fast", 70, _relaxed),
    "sampled": Kind("sequences drawn on a toy model, and tested", 40, _sampled),
    "paired": Kind("token for token against plain decoding with the same noise", 30, _paired),
    "real": Kind("sequences drawn on a real image model, tested and timed", 20, _real),
    "density": Kind("the output density of one continuous token, summed by quadrature", 99, plan_vectors.density),
    "continuous": Kind("sequences of vectors drawn on a toy model, and tested", 90, plan_vectors.continuous),
    "defect": Kind("a known-wrong decoder, which the checker must refute", 80, _defect),
}
"""By name, as a report lists them."""
