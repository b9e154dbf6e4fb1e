"""The decoders of a model of patches: which go with its head, which settings of each are swept, and their making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from realmodels import continuous, store
from specverify.claims import Relaxed
from specverify.decoders import registry
from specverify.decoders.continuous import DraftModel, PathRule, Speculative, Surrogate, TokenRule
from specverify.decoders.judging import Coupling
from specverify.decoders.protocol import Decoder
from specverify.errors import InputError
from specverify.laws import ContinuousModel
from specverify.opening import check_guidance
from specverify.rules.cspd import Criterion
from specverify.tradeoff.plan import AR, Asked, Cell, baselines, check_windows, matching

GUIDANCE = 1.0
WINDOWS = (2, 4, 8)
_WINDOWS: Mapping[str, tuple[int, ...]] = {
    "cspd-released": (2, 4, 8, 16),
    **dict.fromkeys(("jacobi-steps", "jacobi-last", "jacobi-path", "jacobi-noise-path"), (4, 8)),
}
"""Other windows than the usual: whole images for a decoder that commits whole blocks; fewer where they cost most."""
_SWEPT: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "sd": {"limit": (1, 2, 8)},
    "cspd": {"temperature": (2, 4, 42), "sigma-power": (-1,), "prefill": (0, 0.5)},
    "cspd-released": {"prefill": (0.5,)},
}
"""What else a decoder has to be set, at the middle window: see `build`."""


@dataclass(frozen=True)
class Way:
    """A decoder of the registry, judging by a coupling of its choice if it leaves that open."""

    entry: str
    coupling: Coupling | None = None

    @property
    def laws(self) -> str | None:
        """What it goes with: see `registry.Entry`. Every coupling named here judges trajectories."""
        return registry.entry(self.entry).vectors if self.coupling is None else "heads"


_WAYS = {name: Way(name) for name in registry.names("vectors") if name != AR} | {
    "jacobi-path": Way("jacobi", PathRule()),
    "jacobi-noise-path": Way("jacobi-noise", PathRule()),
}


def names() -> tuple[str, ...]:
    """All decoders that a sweep may have; `AR` is always there."""
    return tuple(_WAYS)


def draft_name(model: str) -> str | None:
    """The model that drafts for a model of patches; None if there is none."""
    name = f"{model}-draft"
    return name if name in continuous.names() else None


def why_not(name: str, model: str) -> str | None:
    """Why a decoder does not go with a model; None if it does.

    Raises:
        InputError: for an unknown decoder.
    """
    if name not in _WAYS:
        known = registry.entry(name)  # says which names are near, unless it is one
        if known.vectors is None:
            raise InputError(f"decoder {name!r} decodes ids, and {model} gives vectors; choose from {', '.join(_WAYS)}")
        raise InputError(f"{name!r} ({known.summary}) is measured anyway; leave it out of --decoders")
    way, diffusion = _WAYS[name], store.read_card(model)["kind"] == "diffusion"
    if way.laws == "gaussian":
        gives = "chains of denoising steps" if diffusion else "mixtures"
        return f"needs tokens made from normal noise alone, and this head gives {gives}"
    if way.laws == "heads" and not diffusion:
        return "compares trajectories of denoising steps, and a mixture has none"
    if way.laws == "densities" and diffusion:
        return "needs the density of a token, which is not known where a chain of denoising steps ends"
    if registry.entry(way.entry).needs_draft_model and draft_name(model) is None:
        return f"drafts with a second model, and there is no {model}-draft"
    return None


def plan(model: str, asked: Asked | None = None) -> tuple[tuple[Cell, ...], dict[str, str]]:
    """The settings of a sweep, baselines first, and why decoders are left out, by name.

    Raises:
        InputError: an unknown decoder, or one that was asked for and does not go with the model; an impossible window
            or guidance; a pattern that matches nothing; rules or a drafting, which are for models of ids.
    """
    asked = asked or Asked()
    if asked.rules is not None or asked.drafting is not None:
        raise InputError(
            f"{model} is a model of patches: choose among its decoders with --decoders; --rules and --drafting are for "
            "models of ids"
        )
    guidance = check_guidance((GUIDANCE,) if asked.guidance is None else asked.guidance)
    for scale in guidance:
        continuous.load(model, scale)  # a mixture takes none but 1
    if asked.decoders is not None and not asked.decoders:
        raise InputError("a sweep needs a decoder at least; leave the option out for all")
    check_windows(asked.windows)
    wanted = list(dict.fromkeys(asked.decoders or names()))
    reasons = {name: reason for name in wanted if (reason := why_not(name, model)) is not None}
    if asked.decoders is not None and reasons:
        name, reason = next(iter(reasons.items()))
        others = ", ".join(other for other in names() if why_not(other, model) is None)
        raise InputError(f"decoder {name!r} does not go with {model}: it {reason}; choose from {others}")
    able = [name for name in wanted if name not in reasons]
    cells = [cell for scale in guidance for name in able for cell in _cells(name, scale, asked.windows)]
    like = Cell(able[0], GUIDANCE, window=WINDOWS[0])
    return (*baselines(guidance), *matching(cells, asked.only, like)), reasons


def _cells(name: str, scale: float, asked: Sequence[int] | None) -> list[Cell]:
    windows = _WINDOWS.get(name, WINDOWS) if asked is None else sorted(set(asked))
    middle = (WINDOWS if asked is None else windows)[len(WINDOWS if asked is None else windows) // 2]
    cells = [Cell(name, scale, window=size) for size in windows]
    return cells + [
        Cell(name, scale, window=middle, parameter=parameter, value=value)
        for parameter, values in _SWEPT.get(name, {}).items()
        for value in values
    ]


def build(cell: Cell, draft: ContinuousModel | None) -> Decoder:
    """The decoder of a setting.

    Its parameter may be `limit`: proposals for a rejected draft, after which one is taken as it is (`TokenRule`);
    `prefill`: CSpD's share of positions that the target decodes alone; `temperature` and `sigma-power`: departures from
    its criterion (`Criterion`). A setting without one has none, and CSpD's own prefill of 0.05.
    """
    if cell.rule == AR:
        return registry.build(AR)
    assert cell.window is not None
    way, value = _WAYS[cell.rule], cell.value
    usual = registry.Settings(cell.window, draft_model=draft, judging=way.coupling)
    if cell.parameter is None:
        return registry.build(way.entry, usual)
    assert value is not None
    if cell.parameter == "prefill":
        return registry.build(way.entry, replace(usual, prefill=value))
    if cell.parameter == "limit":
        return registry.build(way.entry, replace(usual, judging=TokenRule(int(value))))
    assert draft is not None
    departure = Criterion(temperature=value) if cell.parameter == "temperature" else Criterion(power=value)
    drafting = DraftModel(draft, usual.prefill, cell.rule)
    return Speculative(drafting, cell.window, Surrogate(departure), Relaxed(1.0), bonus=False)
