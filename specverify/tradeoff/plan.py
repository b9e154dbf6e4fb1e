"""Which settings a sweep measures: rule x parameter x drafting x guidance, beside what they are compared with."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from specverify.decoders.jacobi import Redraw
from specverify.errors import InputError
from specverify.rules import registry

REAL, AR, LOSSLESS = "real", "ar", "lossless"
DRAFTING: tuple[Redraw, ...] = get_args(Redraw)
GUIDANCE = 1.5
CLUSTERS = (12.0, 8.0, 5.0, 3.0)
"""Numbers of clusters for the rules that take a partition and have no parameter of their own."""
_SAME = ("amplify",)
"""Rules that another one's sweep has already: left out unless asked for."""


@dataclass(frozen=True)
class Cell:
    """One setting.

    Attributes:
        rule: a relaxed rule, or `REAL` (images of the training set, as many as are sampled), `AR`, or `LOSSLESS` (the
            token rule).
        guidance: of the model; None for real images.
        drafting: how drafts are redrawn; None where there are none.
        parameter, value: what is swept, and where this setting stands; None if there is nothing.
        repeat: AR is measured twice, with seeds of its own: what lies between the two is noise.
    """

    rule: str
    guidance: float | None = None
    drafting: Redraw | None = None
    parameter: str | None = None
    value: float | None = None
    repeat: int = 0

    @property
    def id(self) -> str:
        """What it is called."""
        last = f"{self.parameter}={self.value:g}" if self.parameter else f"seed-{self.repeat}" * (self.rule == AR)
        where = f"guidance-{self.guidance:g}" if self.guidance is not None else ""
        return "/".join(part for part in (where, self.drafting, self.rule, last) if part)

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared with it: it is measured whatever is asked for."""
        return self.rule in (REAL, AR)


def plan(
    rules: Sequence[str] | None = None,
    drafting: Sequence[str] | None = None,
    guidance: Sequence[float] = (GUIDANCE,),
    only: str | None = None,
) -> tuple[Cell, ...]:
    """The settings of a sweep, baselines first.

    Args:
        rules: names from `specverify.rules.registry`, or "lossless", which is always there; None for all of them but
            those that repeat another.
        drafting: of `DRAFTING`; all if None.
        guidance: the model's.
        only: keep the settings whose id matches this shell pattern, and the baselines.

    Raises:
        InputError: an unknown rule or drafting, an impossible guidance, or a pattern that matches nothing.
    """
    kinds = list(dict.fromkeys(DRAFTING if drafting is None else drafting))
    for kind in kinds:
        if kind not in DRAFTING:
            raise InputError(f"unknown drafting {kind!r}; choose from {', '.join(DRAFTING)}")
    for scale in guidance:
        if not (math.isfinite(scale) and scale >= 0):
            raise InputError(f"guidance {scale} is not a finite number of at least 0; 1 is the conditional law")
    if not guidance or not kinds or (rules is not None and not rules):
        raise InputError("a sweep needs a rule, a drafting and a guidance at least; leave the option out for all")
    names = [name for name in registry.names() if name not in _SAME] if rules is None else list(dict.fromkeys(rules))
    settings = [(LOSSLESS, None, None), *(setting for name in names if name != LOSSLESS for setting in _sweep(name))]
    baselines = [Cell(REAL), *(Cell(AR, scale, repeat=repeat) for scale in guidance for repeat in (0, 1))]
    cells = [
        Cell(rule, scale, kind, parameter, value)
        for scale in guidance
        for kind in DRAFTING
        if kind in kinds
        for rule, parameter, value in settings
    ]
    if only is not None:
        cells = [cell for cell in cells if fnmatch.fnmatchcase(cell.id, only)]
        if not cells:
            raise InputError(f"no setting matches {only!r}; ids look like {Cell(LOSSLESS, GUIDANCE, 'maximal').id!r}")
    return (*baselines, *cells)


def _sweep(name: str) -> Iterator[tuple[str, str | None, float | None]]:
    rule = registry.rule(name)
    if rule.parameter is not None:
        yield from ((name, rule.parameter, value) for value in rule.sweep)
    elif "partition" in rule.needs:
        yield from ((name, "clusters", value) for value in CLUSTERS)
    else:
        yield name, None, None
