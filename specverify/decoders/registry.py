"""Decoders by name, for the command line and for plans."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from specverify.decoders.autoregressive import Autoregressive
from specverify.decoders.draft_model import DraftModel
from specverify.decoders.jacobi import Initial, Jacobi
from specverify.decoders.protocol import Decoder
from specverify.decoders.shared_noise import SharedNoise
from specverify.decoders.speculative import Speculative
from specverify.errors import InputError
from specverify.model import Model


@dataclass(frozen=True)
class Settings:
    """What a decoder may be built from; each takes what it needs.

    Attributes:
        window: draft tokens per forward pass.
        initial: the Jacobi decoders' initial drafts.
        draft_model: for decoders that draft with one.
    """

    window: int = 4
    initial: Initial = "repeat-left"
    draft_model: Model | None = None


@dataclass(frozen=True)
class Entry:
    """A decoder that can be asked for by name.

    Attributes:
        summary: one line.
        build: makes it.
        drafts: whether it verifies drafts at all (and so has a window).
        needs_draft_model: whether `Settings.draft_model` must be given.
        races: whether it draws by races, which can be enumerated for two tokens only.
    """

    summary: str
    build: Callable[[Settings], Decoder]
    drafts: bool = True
    needs_draft_model: bool = False
    races: bool = False


def _with_draft_model(settings: Settings) -> Decoder:
    if settings.draft_model is None:
        raise InputError("decoder 'sd' drafts with a second model; give it one (for toys: --draft perturbed)")
    return Speculative(DraftModel(settings.draft_model), settings.window)


_DECODERS: dict[str, Entry] = {
    "ar": Entry("autoregressive: one token per forward pass", lambda s: Autoregressive(), drafts=False),
    "ar-race": Entry(
        "autoregressive by Gumbel races with fixed noise", lambda s: Autoregressive(True), drafts=False, races=True
    ),
    "sd": Entry("speculative decoding with a draft model", _with_draft_model, needs_draft_model=True),
    "sjd": Entry(
        "speculative Jacobi decoding: drafts redrawn independently",
        lambda s: Speculative(Jacobi("independent", s.initial), s.window),
    ),
    "scd-mc": Entry(
        "speculative coupled decoding: drafts maximally coupled",
        lambda s: Speculative(Jacobi("maximal", s.initial), s.window),
    ),
    "scd-gs": Entry(
        "speculative coupled decoding: drafts coupled by Gumbel noise",
        lambda s: Speculative(Jacobi("gumbel", s.initial), s.window),
        races=True,
    ),
    "sjd-race": Entry(
        "Jacobi decoding with shared Gumbel noise, verified by matching: equals ar-race token for token",
        lambda s: SharedNoise(s.window),
        races=True,
    ),
}


def names() -> tuple[str, ...]:
    """All decoders, in the order of the literature."""
    return tuple(_DECODERS)


def entry(name: str) -> Entry:
    """What is known of a decoder.

    Raises:
        InputError: for an unknown name, with the nearest known ones.
    """
    if name not in _DECODERS:
        near = difflib.get_close_matches(name, _DECODERS, n=3, cutoff=0.3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(_DECODERS)}"
        raise InputError(f"unknown decoder {name!r}; {hint}")
    return _DECODERS[name]


def build(name: str, settings: Settings | None = None) -> Decoder:
    """A decoder by name."""
    return entry(name).build(settings or Settings())
