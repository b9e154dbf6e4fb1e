"""One unit of a campaign's work, and what all of them share: rates and deltas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from specverify import declared
from specverify.declared import Initial
from specverify.opening import USUAL, Real

Tier = Literal["quick", "full"]
ALPHA = 1e-6
"""Probability that a campaign over perfect decoders raises any false alarm."""
BETA = 1e-6
"""Probability that one check misses a discrepancy of the size that is asked for."""
DELTA = {"joint law (g)": 0.02, "total variation": 0.05, "e-process": 0.02, "PIT uniformity": 0.02, "surprisal": 0.05}
"""The discrepancy that each check must be able to see for a statistical pass, in the check's own metric."""
DELTA_REAL = {
    "quick": {check: DELTA[check] for check in ("PIT uniformity", "surprisal")},
    "full": {"PIT uniformity": 0.006, "surprisal": 0.01},
}
"""The same on the real model, by tier: a release must see SCD's slip as released, some 0.012 nats a token there
(`sensitivity`)."""
REAL_IMAGES = {"quick": 1600, "full": 18000}
"""Images of each cell on `opening.REAL`."""
MORE = 1.6
"""Tokens of each cell on another one, as a multiple: flatter laws take more of them for the same delta."""
DELTA_CONTINUOUS = {"Rosenblatt uniformity": 0.01}
"""The same over continuous tokens."""


@dataclass(frozen=True)
class Cell:
    """One unit of work.

    Attributes:
        kind: exact (enumerate), proof (for every law of some sizes at once, by field arithmetic), relaxed (enumerate
            with a relaxed rule: its distance and its speed), sampled (statistics on a toy), paired (token for token
            against plain decoding with the same noise), real (statistics on a real model), defect (a known-wrong
            decoder, which must be refuted: enumerated, or with an `n` by the statistics of its model), density (one
            step over continuous tokens, by quadrature), continuous (statistics on a toy over continuous tokens).
        decoder: a name of `decoders.registry`, or of `defects`; or a rule of `kinds.density`.
        model: a name of `toymodels.catalogue`, of `toymodels.continuous`, or the `label` of the real one; of a
            proof the sizes (see `Box.sizes`).
        window: draft tokens per forward pass; None for decoders without drafts.
        initial: the Jacobi decoders' initial drafts.
        draft: the kind of draft model.
        guidance: scale of classifier-free guidance.
        n: sequences to draw.
        batch: rows that run together.
        rule: a name of `rules.registry`, instead of the token rule.
        value: of the rule's parameter.
    """

    kind: str
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


@dataclass(frozen=True)
class Asked:
    """What a campaign is to have.

    Attributes:
        full: whether it is for a release.
        real: the real model, and how it is run.
        share: its images for one of `opening.REAL`.
    """

    full: bool
    real: Real = USUAL
    share: float = 1.0


def settings(name: str, full: bool) -> list[tuple[Initial | None, str | None]]:
    """(initial, draft) settings that a decoder is checked in."""
    if declared.decoder(name).needs_draft_model:
        return [
            (None, draft) for draft in (("perturbed", "independent", "disjoint", "one-hot") if full else ("perturbed",))
        ]
    if name in ("sjd", "sjd-block", "sjd-tree", "sjd-reuse", "scd-mc", "scd-gs"):
        return [
            (initial, None)
            for initial in (("repeat-left", "zero", "random", "sample-left") if full else ("repeat-left",))
        ]
    return [(None, None)]
