"""Decoders of continuous tokens by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from specverify.catalogue import Catalogue
from specverify.claims import Lossless, Relaxed
from specverify.decoders.autoregressive import Autoregressive
from specverify.decoders.continuous.coupling import LastRule, PathRule, Reflection, StepRule
from specverify.decoders.continuous.cspd import Released, Surrogate
from specverify.decoders.draft_model import DraftModel
from specverify.decoders.jacobi import Initial, Jacobi
from specverify.decoders.judging import Coupling, TokenRule
from specverify.decoders.protocol import Decoder
from specverify.decoders.speculative import Drafting, Speculative
from specverify.errors import InputError
from specverify.laws import ContinuousModel

Tokens = Literal["any", "densities", "gaussian", "heads"]


@dataclass(frozen=True)
class Settings:
    """What a decoder may be built from; each takes what it needs.

    Attributes:
        window: draft tokens per forward pass.
        draft_model: for decoders that draft with one.
        initial: the Jacobi decoders' initial drafts.
        coupling: how drafts are judged, for decoders that leave it open; None for the token rule.
        prefill: CSpD's share of positions that the target decodes alone.
    """

    window: int = 4
    draft_model: ContinuousModel | None = None
    initial: Initial = "left-law"
    coupling: Coupling | None = None
    prefill: float = 0.05


@dataclass(frozen=True)
class Entry:
    """A decoder that can be asked for by name.

    Attributes:
        summary: one line.
        build: makes it.
        laws: what it goes with: any laws, those whose density is known, Gaussians, or diffusion heads.
        needs_draft_model: whether `Settings.draft_model` must be given.
        takes_coupling: whether `Settings.coupling` may be given; what it goes with is then the coupling's affair.
    """

    summary: str
    build: Callable[[Settings], Decoder]
    laws: Tokens = "densities"
    needs_draft_model: bool = False
    takes_coupling: bool = False


def names() -> tuple[str, ...]:
    """All decoders."""
    return _DECODERS.names()


def entry(name: str) -> Entry:
    """What is known of a decoder.

    Raises:
        InputError: for an unknown name, with the nearest known ones.
    """
    return _DECODERS[name]


def build(name: str, settings: Settings | None = None) -> Decoder:
    """A decoder by name.

    Raises:
        InputError: for an unknown name, or settings that it cannot be built from.
    """
    settings, known = settings or Settings(), entry(name)
    if settings.coupling is not None and not known.takes_coupling:
        takers = ", ".join(other for other, each in _DECODERS.items() if each.takes_coupling)
        raise InputError(f"decoder {name!r} has its own way of judging; couplings go with {takers}")
    if settings.draft_model is None and known.needs_draft_model:
        raise InputError(f"decoder {name!r} drafts with a second model; give it one, such as the toys' draft models")
    return known.build(settings)


def _drafts(settings: Settings) -> DraftModel:
    assert settings.draft_model is not None  # `build` has looked
    return DraftModel(settings.draft_model)


def _cspd(settings: Settings, name: str) -> DraftModel:
    assert settings.draft_model is not None
    return DraftModel(settings.draft_model, settings.prefill, name)


def _open(drafting: Drafting, settings: Settings) -> Decoder:
    """A biased coupling claims nothing."""
    coupling = settings.coupling or TokenRule()
    return Speculative(drafting, settings.window, coupling, Relaxed(1.0) if coupling.bias > 0 else Lossless())


def _jacobi(settings: Settings, coupling: Coupling) -> Decoder:
    return Speculative(Jacobi(coupling, settings.initial), settings.window, coupling)


_DECODERS: Catalogue[Entry] = Catalogue(
    "decoder of continuous tokens",
    {
        "ar": Entry("autoregressive: one token per forward pass", lambda s: Autoregressive(), "any"),
        "sd": Entry(
            "speculative decoding with a draft model",
            lambda s: _open(_drafts(s), s),
            "densities",
            True,
            takes_coupling=True,
        ),
        "sd-reflection": Entry(
            "speculative decoding, rejected drafts reflected",
            lambda s: Speculative(_drafts(s), s.window, Reflection()),
            "gaussian",
            True,
        ),
        "sd-path": Entry(
            "speculative decoding, whole denoising trajectories judged",
            lambda s: Speculative(_drafts(s), s.window, PathRule()),
            "heads",
            True,
        ),
        "sd-steps": Entry(
            "speculative decoding, trajectories coupled at every denoising step",
            lambda s: Speculative(_drafts(s), s.window, StepRule()),
            "heads",
            True,
        ),
        "sd-last": Entry(
            "speculative decoding, trajectories of one noise coupled at their last step",
            lambda s: Speculative(_drafts(s), s.window, LastRule()),
            "heads",
            True,
        ),
        "jacobi": Entry(
            "Jacobi decoding: drafts redrawn independently",
            lambda s: _open(Jacobi("independent", s.initial, "jacobi"), s),
            takes_coupling=True,
        ),
        "jacobi-maximal": Entry(
            "Jacobi decoding: drafts coupled by the token rule", lambda s: _jacobi(s, TokenRule()), "densities"
        ),
        "jacobi-reflection": Entry(
            "Jacobi decoding: drafts coupled by reflection", lambda s: _jacobi(s, Reflection()), "gaussian"
        ),
        "jacobi-noise": Entry(
            "Jacobi decoding: each position's drafts made from one noise",
            lambda s: _open(Jacobi("noise", s.initial), s),
            "gaussian",
            takes_coupling=True,
        ),
        "jacobi-steps": Entry(
            "Jacobi decoding: trajectories coupled at every denoising step", lambda s: _jacobi(s, StepRule()), "heads"
        ),
        "jacobi-last": Entry(
            "Jacobi decoding: trajectories of one noise coupled at their last step",
            lambda s: _jacobi(s, LastRule()),
            "heads",
        ),
        "cspd": Entry(
            "continuous speculative decoding as published: aligned trajectories, a surrogate ratio",
            lambda s: Speculative(_cspd(s, "cspd"), s.window, Surrogate(), Relaxed(1.0), bonus=False),
            "heads",
            True,
        ),
        "cspd-released": Entry(
            "continuous speculative decoding as released: rejected drafts patched in place, nothing truncated",
            lambda s: Released(_cspd(s, "cspd-released"), s.window),
            "heads",
            True,
        ),
    },
)
