"""Which settings a sweep measures, beside what they are compared with.

Of a model of ids: rule x parameter x drafting x guidance; where there are several windows, at the middle one, and each
rule at the middle of its parameter's values over all of them. Of a model of patches, every decoder that goes with its
head, over windows and what else it has to be set; see `decoders.py`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from specverify.catalogue import near, near_pattern
from specverify.decoders.jacobi import Redraw
from specverify.errors import InputError
from specverify.opening import check_guidance
from specverify.rules import registry

REAL, AR, LOSSLESS = "real", "ar", "lossless"
DRAFTING: tuple[Redraw, ...] = get_args(Redraw)
GUIDANCE = 1.5
CLUSTERS = (12.0, 8.0, 5.0, 3.0)
"""Numbers of clusters for the rules that take a partition and have no parameter of their own."""
KNOWN_WRONG = ("gsd-released", "cspd", "cspd-released")
"""What is measured for comparison alone and never recommended: released code that is not what its paper says, and CSpD,
which is not lossless as it is said to be, nor bounded; with all that it may be set to."""
_SAME = ("amplify",)
"""Rules that another one's sweep has already: left out unless asked for."""


@dataclass(frozen=True)
class Cell:
    """One setting.

    Attributes:
        rule: a relaxed rule, or `REAL` (real images, as many as are sampled), `AR`, or `LOSSLESS` (the
            token rule); of a model of patches, `REAL`, `AR`, or a decoder.
        guidance: of the model; None for real images.
        drafting: how drafts are redrawn; None where there are none, and where the decoder says it.
        parameter, value: what is swept, and where this setting stands; None if there is nothing.
        repeat: AR is measured twice, with seeds of its own: what lies between the two is noise.
        window: drafts per forward pass, where that is not the same for all settings.
    """

    rule: str
    guidance: float | None = None
    drafting: Redraw | None = None
    parameter: str | None = None
    value: float | None = None
    repeat: int = 0
    window: int | None = None

    @property
    def id(self) -> str:
        """What it is called."""
        last = f"{self.parameter}={self.value:g}" if self.parameter else f"seed-{self.repeat}" * (self.rule == AR)
        where = f"guidance-{self.guidance:g}" if self.guidance is not None else ""
        size = f"window-{self.window}" if self.window is not None else ""
        return "/".join(part for part in (where, self.drafting, self.rule, size, last) if part)

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared with it: it is measured whatever is asked for."""
        return self.rule in (REAL, AR)


@dataclass(frozen=True)
class Asked:
    """What a sweep is to have; None for all, or what is usual.

    Attributes:
        rules: names from `specverify.rules.registry`, or "lossless", which is always there; usual are all but those
            that repeat another. For models of ids, as `drafting` is.
        drafting: of `DRAFTING`.
        decoders: names from `decoders.names()`; for models of patches.
        windows: drafts per forward pass; of models of ids, where settings differ in them.
        guidance: the model's.
        only: keep the settings whose id matches this shell pattern, and the baselines.
    """

    rules: Sequence[str] | None = None
    drafting: Sequence[str] | None = None
    decoders: Sequence[str] | None = None
    windows: Sequence[int] | None = None
    guidance: Sequence[float] | None = None
    only: str | None = None


def plan(asked: Asked | None = None) -> tuple[Cell, ...]:
    """The settings of a sweep of a model of ids, baselines first.

    Raises:
        InputError: an unknown rule or drafting, an impossible guidance or window, a pattern that matches nothing, or
            decoders, which are for models of patches.
    """
    asked = asked or Asked()
    if asked.decoders is not None:
        raise InputError("a model of ids is swept over --rules and --drafting; --decoders are for models of patches")
    windows = check_windows(asked.windows)
    kinds = list(dict.fromkeys(DRAFTING if asked.drafting is None else asked.drafting))
    for kind in kinds:
        if kind not in DRAFTING:
            raise InputError(f"unknown drafting {kind!r}; {near(kind, DRAFTING)}")
    guidance = check_guidance((GUIDANCE,) if asked.guidance is None else asked.guidance)
    rules = asked.rules
    if not kinds or (rules is not None and not rules):
        raise InputError("a sweep needs a rule and a drafting at least; leave the option out for all")
    names = [name for name in registry.names() if not repeats(name)] if rules is None else list(dict.fromkeys(rules))
    sweeps = [sweep_of(name) for name in (LOSSLESS, *(name for name in names if name != LOSSLESS))]
    middle = windows[len(windows) // 2]
    cells = [
        Cell(rule, scale, kind, parameter, value, window=window)
        for scale in guidance
        for kind in DRAFTING
        if kind in kinds
        for sweep in sweeps
        for window in windows
        for rule, parameter, value in (sweep if window == middle else sweep[len(sweep) // 2 :][:1])
    ]
    like = Cell(LOSSLESS, GUIDANCE, "maximal", window=middle)
    return (*baselines(guidance), *matching(cells, asked.only, like))


def check_windows(windows: Sequence[int] | None) -> Sequence[int | None]:
    """The windows in order, each once, or that of all settings if None; InputError if one is impossible."""
    if windows is None:
        return [None]
    if not windows:
        raise InputError("a sweep needs a window at least; leave the option out for the usual one")
    for size in windows:
        if size < 1:
            raise InputError(f"window {size}: it is the number of draft tokens per forward pass, at least 1")
    return sorted(set(windows))


def baselines(guidance: Sequence[float]) -> list[Cell]:
    """What settings are compared with."""
    return [Cell(REAL), *(Cell(AR, scale, repeat=repeat) for scale in guidance for repeat in (0, 1))]


def matching(cells: list[Cell], only: str | None, like: Cell) -> list[Cell]:
    """The cells whose id matches a pattern, or InputError if there are none, with an id that is `like` them."""
    found = [cell for cell in cells if only is None or fnmatch.fnmatchcase(cell.id, only)]
    if not found:
        hint = near_pattern(only or "*", (cell.id for cell in cells), f"ids look like {like.id!r}")
        raise InputError(f"no setting matches {only!r}; {hint}")
    return found


def repeats(name: str) -> bool:
    """Whether another rule's sweep has a rule's settings already."""
    return name in _SAME


def sweep_of(name: str) -> list[tuple[str, str | None, float | None]]:
    """The usual settings of a rule: its name, its parameter and the parameter's value, from timid to bold."""
    if name == LOSSLESS:
        return [(name, None, None)]
    rule = registry.rule(name)
    if rule.parameter is not None:
        return [(name, rule.parameter, value) for value in rule.sweep]
    if "partition" in rule.needs:
        return [(name, "clusters", value) for value in CLUSTERS]
    return [(name, None, None)]
