"""Plans: which decoder is checked on which model, in which setting and how.

A plan is a list of cells, each small enough to be one unit of work. Its cells, their sizes and the alpha of each of
their checks are fixed before any data are seen.
"""

from __future__ import annotations

import fnmatch
import math
from dataclasses import dataclass
from typing import Literal

import toymodels.catalogue
import toymodels.continuous
from realmodels import models
from specverify import defects, plan_proofs
from specverify.catalogue import near, near_pattern
from specverify.decoders import registry
from specverify.decoders.jacobi import Initial
from specverify.defects import continuous as continuous_defects
from specverify.errors import InputError
from specverify.rules import registry as relaxed_rules

Tier = Literal["quick", "full"]
CellKind = Literal["exact", "proof", "relaxed", "defect", "sampled", "paired", "real", "density", "continuous"]

ALPHA = 1e-6
"""Probability that a campaign over perfect decoders raises any false alarm."""
BETA = 1e-6
"""Probability that one check misses a discrepancy of the size that is asked for."""
RELAXED_ON = ("redundant-4x6", "redundant-8x4", "synonyms-4x5")
"""Toys whose vocabularies are redundant, as those of image models are."""
DELTA = {"joint law (g)": 0.02, "total variation": 0.05, "e-process": 0.02, "PIT uniformity": 0.02, "surprisal": 0.05}
"""The discrepancy that each check must be able to see for a statistical pass, in the check's own metric."""
DELTA_REAL = {
    "quick": {check: DELTA[check] for check in ("PIT uniformity", "surprisal")},
    "full": {"PIT uniformity": 0.006, "surprisal": 0.01},
}
"""The same on the real model, by tier: a release must see SCD's slip as released, some 0.012 nats a token there
(`sensitivity`)."""
REAL = "digits-s"
"""The real model, unless another one is asked for."""
REAL_IMAGES = {"quick": 1600, "full": 18000}
"""Images of each cell on it."""
MORE = 1.6
"""Tokens of each cell on another one, as a multiple: flatter laws take more of them for the same delta."""
DELTA_CONTINUOUS = {"Rosenblatt uniformity": 0.01}
"""The same over continuous tokens."""

CONTINUOUS_BESIDE = (
    ("sd", "gauss-1x6", "shifted"),
    ("sd-reflection", "gauss-1x6", "shifted"),
    ("ar", "full-2x4", None),
    ("sd", "mix-2x4", "narrower"),
    ("sd-reflection", "full-2x4", "shifted"),
    ("sd", "full-8x4", "wider"),
    ("sd-steps", "chain-8x3", "shifted"),
    ("jacobi-noise", "gauss-8x4", None),
    ("sd-reflection", "gauss-16x4", "shifted"),
    ("jacobi-maximal", "gauss-16x4", None),
    # Only where a law's covariance does not depend on the tokens before can Jacobi decoding reflect its drafts.
    ("jacobi-reflection", "equal-1x6", None),
    ("jacobi-reflection", "equal-4x4", None),
    ("jacobi-reflection", "equal-16x4", None),
)
"""Decoders of continuous tokens that are checked on more toys than the smallest in the quick tier."""


@dataclass(frozen=True)
class Cell:
    """One unit of work.

    Attributes:
        kind: exact (enumerate), proof (for every law of some sizes at once, by field arithmetic), relaxed (enumerate
            with a relaxed rule: its distance and its speed), sampled (statistics on a toy), paired (token for token
            against plain decoding with the same noise), real (statistics on a real model), defect (a known-wrong
            decoder, which must be refuted: enumerated, or with an `n` by the statistics of its model), density (one
            step over continuous tokens, by quadrature), continuous (statistics on a toy over continuous tokens).
        decoder: a name of `decoders.registry`, or of `defects`; or a rule of `continuous_cells`.
        model: a name of `toymodels.catalogue`, of `toymodels.continuous`, or one that `open_model` takes; of a proof
            the sizes (see `Box.sizes`).
        window: draft tokens per forward pass; None for decoders without drafts.
        initial: the Jacobi decoders' initial drafts.
        draft: the kind of draft model.
        guidance: scale of classifier-free guidance.
        n: sequences to draw.
        batch: rows that run together.
        rule: a name of `rules.registry`, instead of the token rule.
        value: of the rule's parameter.
    """

    kind: CellKind
    decoder: str
    model: str
    window: int | None = None
    initial: str | None = None
    draft: str | None = None
    guidance: float | None = None
    n: int | None = None
    batch: int | None = None
    rule: str | None = None
    value: float | None = None

    @property
    def timed_alone(self) -> bool:
        """Whether nothing is tested: a few images, one at a time, for what a single one costs."""
        return self.kind == "real" and self.batch == 1

    @property
    def id(self) -> str:
        """What `--only` matches, and what the cell's seed derives from."""
        parts = [self.kind, self.decoder, self.model]
        parts += [f"w{self.window}"] if self.window is not None and self.kind != "proof" else []
        parts += [str(part) for part in (self.initial, self.draft) if part is not None]
        parts += [f"g{self.guidance:g}"] if self.guidance is not None else []
        parts += [f"b{self.batch}"] if self.batch is not None else []
        parts += [f"n{self.n}"] if self.kind == "defect" and self.n is not None else []
        if self.rule is not None:
            parts.append(self.rule if self.value is None else f"{self.rule}={self.value:g}")
        return "/".join(parts)


def plan(tier: str, only: str | None = None, real: str | None = None) -> tuple[Cell, ...]:
    """The cells of a tier, longest kinds first.

    Args:
        tier: "quick" for every change, "full" for a release.
        only: keep cells whose id matches this shell pattern.
        real: the real model, by a name that `open_model` takes; `REAL` if None.

    Raises:
        InputError: for an unknown tier or model, or a pattern that matches nothing.
    """
    if tier not in ("quick", "full"):
        raise InputError(f"unknown tier {tier!r}; choose quick or full")
    full = tier == "full"
    real = REAL if real is None else real
    share = _share(real)
    cells = [
        *_real(full, real, share),
        *_latency(full, real),
        *_paired(full, real),
        *_sampled(full),
        *_exact(full),
        *_proofs(full),
        *_relaxed(full),
        *_defects(full, real, share),
    ]
    cells += [*_continuous(full), *_density()]
    if only is not None:
        kept = [cell for cell in cells if fnmatch.fnmatchcase(cell.id, only)]
        if not kept:
            hint = near_pattern(only, (cell.id for cell in cells), "`specverify list cells` names them")
            raise InputError(f"no cell of the {tier} tier matches {only!r}; {hint}")
        cells = kept
    return tuple(cells)


def _share(real: str) -> float:
    """Images of a real model for one of `REAL`."""
    if real == REAL:
        return 1.0
    known = models.names()
    if real not in known:
        raise InputError(f"unknown image model {real!r}; {near(real, known)}")
    return MORE * models.open_model(REAL).length / models.open_model(real).length


def _settings(name: str, full: bool) -> list[tuple[Initial | None, str | None]]:
    """(initial, draft) settings that a decoder is checked in."""
    if registry.entry(name).needs_draft_model:
        return [
            (None, draft) for draft in (("perturbed", "independent", "disjoint", "one-hot") if full else ("perturbed",))
        ]
    if name in ("sjd", "sjd-block", "scd-mc", "scd-gs"):
        return [
            (initial, None)
            for initial in (("repeat-left", "zero", "random", "sample-left") if full else ("repeat-left",))
        ]
    return [(None, None)]


def _windows(name: str, vocab: int, length: int, full: bool) -> list[int | None]:
    """Windows from 1 to beyond the length; of several chains at once, those that can be enumerated in seconds."""
    if not registry.entry(name).drafts:
        return [None]
    if (chains := registry.entry(name).chains) > 1:
        return [window for window in ((1, 2, 3) if full else (1, 2)) if vocab ** (chains * window) <= 1000]
    return list(range(1, length + 2)) if full else [1, 3, length + 1]


def _exact(full: bool) -> list[Cell]:
    cells = []
    for model in toymodels.catalogue.names():
        if not toymodels.catalogue.enumerable(model):
            continue
        vocab, length = (int(part) for part in model.rsplit("-", 1)[1].split("x"))
        for name in registry.names("ids"):
            if registry.entry(name).races and vocab > 2:
                continue
            for window in _windows(name, vocab, length, full):
                for initial, draft in _settings(name, full):
                    # Random initial drafts multiply the worlds by vocab^window; the largest of them add nothing new.
                    if initial in ("random", "sample-left") and window is not None and vocab**window > 300:
                        continue
                    cells.append(Cell("exact", name, model, window, initial, draft))
    return cells


def _proofs(full: bool) -> list[Cell]:
    found = plan_proofs.planned(full, lambda name: [initial for initial, _ in _settings(name, True) if initial])
    return [Cell("proof", n, b.sizes, b.window, b.initial, rule=b.rule, value=b.value) for n, b in found]


def _relaxed(full: bool) -> list[Cell]:
    """Every relaxed rule over its sweep, and the token rule beside it, on toys with redundant vocabularies."""
    rules: list[tuple[str | None, float | None]] = [(None, None)]
    for name in relaxed_rules.names():
        rules += [(name, value) for value in relaxed_rules.rule(name).sweep or (None,)]
    cells = []
    for model in RELAXED_ON:
        for decoder, initial, draft in (
            ("sjd", "repeat-left", None),
            ("scd-mc", "repeat-left", None),
            ("sd", None, "perturbed"),
        ):
            for window in (2, 4, 8) if full else (4,):
                cells += [
                    Cell("relaxed", decoder, model, window, initial, draft, rule=rule, value=value)
                    for rule, value in rules
                ]
    return cells


def _defects(full: bool, real: str, share: float) -> list[Cell]:
    """Every known-wrong decoder enumerated; some of them sampled, so that the statistics are seen to reject too."""
    wrong = [defects.get(name) for name in defects.names() if defects.get(name).lossy]
    cells = [Cell("defect", defect.id, *defect.smallest) for defect in wrong]
    sampled = ("recovered-from-target", "stale-scores-after-coupling", "bonus-from-draft", "inverted-ratio")
    cells += [Cell("defect", name, *defects.get(name).smallest, n=200_000) for name in sampled]
    shown = {"residual-rewarped": 1600} | ({"stale-scores-after-coupling": REAL_IMAGES["full"]} if full else {})
    for name, n in shown.items():
        n = math.ceil(n * share)
        cells.append(Cell("defect", name, real, 16, "repeat-left", guidance=1.0, n=n, batch=400))
    return cells


def _sampled(full: bool) -> list[Cell]:
    n = 4_000_000 if full else 600_000
    cells = []
    for model, window in (("dense-4x6", 4), ("recurrent-3x6", 3), ("eos-3x6", 3)) if full else (("recurrent-3x6", 3),):
        for name in registry.names("ids"):
            cells.append(
                Cell(
                    "sampled",
                    name,
                    model,
                    window if registry.entry(name).drafts else None,
                    *_settings(name, False)[0],
                    n=n,
                )
            )
    return cells


def _paired(full: bool, real: str) -> list[Cell]:
    cells = [
        Cell("paired", "sjd-race", "hash-16x24", window, n=4000, batch=1000)
        for window in ((1, 4, 30) if full else (4,))
    ]
    for guidance in (1.0, 1.5):
        cells.append(Cell("paired", "sjd-race", real, 8, guidance=guidance, n=400 if full else 200, batch=200))
        cells.append(Cell("paired", "sjd-race", real, 8, guidance=guidance, n=10 if full else 4, batch=1))
    return cells


def _real(full: bool, real: str, share: float) -> list[Cell]:
    n = math.ceil(REAL_IMAGES["full" if full else "quick"] * share)
    cells = []
    for guidance in (1.0, 1.5):
        for name in ("ar", "sjd", "scd-mc", "scd-gs"):
            for window in ((4, 8, 16, 32) if full else (16,)) if registry.entry(name).drafts else (None,):
                initial = "repeat-left" if window else None
                cells.append(Cell("real", name, real, window, initial, guidance=guidance, n=n, batch=400))
    return cells


def _latency(full: bool, real: str) -> list[Cell]:
    """One image at a time, plain decoding beside the lossless ones: what a single image costs in passes and seconds."""
    cells = []
    for name in ("ar", "sjd", "scd-mc", "scd-gs"):
        window = 16 if registry.entry(name).drafts else None
        initial = "repeat-left" if window else None
        cells.append(Cell("real", name, real, window, initial, guidance=1.5, n=100 if full else 20, batch=1))
    return cells


def _density() -> list[Cell]:
    """Rules of one step over continuous tokens: the exact ones, and CSpD wherever its factor Sigma is not 1, or is."""
    gauss, altered = "gauss-1x6", ("shifted", "wider", "narrower")
    chosen = [("thinning", model, draft) for model in (gauss, "mix-1x6") for draft in altered]
    chosen += [("thinning", gauss, "disjoint"), ("reflection", gauss, "shifted")]
    chosen += [("maximal", gauss, draft) for draft in ("wider", "narrower")]
    for rule in ("last-step", "steps", "path"):
        chosen += [(rule, model, draft) for model in ("chain-1x4", "score-1x4") for draft in altered]
    slips = ("inverted-factor", "acceptance-temperature", "zero-after-100", "released")
    for draft in ("wider", "narrower"):
        chosen += [(name, "chain-1x4", draft) for name in ("cspd", *(f"cspd-{slip}" for slip in slips))]
    for model, draft in (("score-1x4", "wider"), ("score-1x4", "shifted"), ("chain-1x4", "shifted")):
        chosen += [("cspd", model, draft), ("cspd-released", model, draft)]
    chosen.append(("cspd-acceptance-temperature", "chain-1x4", "shifted"))
    return [Cell("density", rule, model, draft=draft) for rule, model, draft in chosen]


def _continuous(full: bool) -> list[Cell]:
    """Every decoder of continuous tokens on a toy of one dimension, and some on more; all on all for a release.

    The known-wrong ones come first, where they show, and their control.
    """
    values = 1_000_000 if full else 360_000
    toys = {"heads": ("chain",), "gaussian": ("gauss", "full", "equal")}
    chosen: list[tuple[str, str, str | None]] = []
    for name in registry.names("vectors"):
        entry = registry.entry(name)
        families = toys.get(entry.vectors or "any", ("gauss", "full", "mix", "chain", "equal"))
        models = [model for model in toymodels.continuous.names() if model.split("-")[0] in families]
        drafts: tuple[str | None, ...] = ("wider", "narrower", "shifted") if full else ("wider",)
        if not entry.needs_draft_model:
            drafts = (None,)
        elif name.startswith("cspd"):
            # As published it is exact where drafts are shifted, and in 16 dimensions where they are narrower: Sigma is
            # then next to 0, no draft is kept, and when all proposals have failed the target's last step is drawn.
            drafts, models = drafts[:2], [model for model in models if "16x" not in model]
        chosen += [(name, model, draft) for model in (models if full else models[:1]) for draft in drafts]
    chosen += [] if full else CONTINUOUS_BESIDE
    known: list[tuple[str, str, int | None, str | None]] = [
        (name, *continuous_defects.get(name).smallest) for name in continuous_defects.names()
    ]
    known += [(name, model, None if name == "ar" else 3, draft) for name, model, draft in chosen]
    wrong = {"cspd", "cspd-released"} | {defect.id for defect in continuous_defects.DEFECTS}
    cells = []
    for name, model, window, draft in known:
        dim, length = (int(part) for part in model.split("-")[1].split("x"))
        n = -(-values // (dim * length)) // (10 if name in wrong else 1)
        cells.append(Cell("continuous", name, model, window, draft=draft, n=n))
    return cells
