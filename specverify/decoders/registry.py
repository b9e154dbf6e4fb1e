"""Decoders by name, for the command line and for plans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from specverify.catalogue import Catalogue
from specverify.claims import Relaxed
from specverify.decoders.autoregressive import Autoregressive
from specverify.decoders.block import Block
from specverify.decoders.draft_model import DraftModel
from specverify.decoders.jacobi import Initial, Jacobi
from specverify.decoders.judging import Judging, TokenRule
from specverify.decoders.multi_draft import ListGumbel, MultiDraft
from specverify.decoders.protocol import Decoder
from specverify.decoders.shared_noise import SharedNoise
from specverify.decoders.speculative import Drafting, Speculative
from specverify.errors import InputError
from specverify.model import Model


@dataclass(frozen=True)
class Settings:
    """What a decoder may be built from; each takes what it needs.

    Attributes:
        window: draft tokens per forward pass.
        initial: the Jacobi decoders' initial drafts.
        draft_model: for decoders that draft with one.
        judging: a rule instead of the token rule, for decoders that judge drafts one by one.
    """

    window: int = 4
    initial: Initial = "repeat-left"
    draft_model: Model | None = None
    judging: Judging | None = None


@dataclass(frozen=True)
class Entry:
    """A decoder that can be asked for by name.

    Attributes:
        summary: one line.
        build: makes it.
        drafts: whether it verifies drafts at all (and so has a window).
        needs_draft_model: whether `Settings.draft_model` must be given.
        races: whether it draws by races, which can be enumerated for two tokens only.
        takes_judging: whether `Settings.judging` may be given.
        chains: of drafts that it verifies at once; enumerating takes worlds to the power of them.
    """

    summary: str
    build: Callable[[Settings], Decoder]
    drafts: bool = True
    needs_draft_model: bool = False
    races: bool = False
    takes_judging: bool = False
    chains: int = 1


def _speculative(drafting: Drafting, settings: Settings) -> Decoder:
    """What such a decoder claims is what its rule claims; a rule that claims nothing never passes for lossless."""
    if settings.judging is None or type(settings.judging) is TokenRule:
        return Speculative(drafting, settings.window)
    claim = getattr(settings.judging, "claim", Relaxed(1.0))
    return Speculative(drafting, settings.window, settings.judging, claim)


def _drafted(name: str, make: Callable[[Model, Settings], Decoder]) -> Callable[[Settings], Decoder]:
    """To build a decoder that drafts with a model."""

    def build(settings: Settings) -> Decoder:
        if settings.draft_model is None:
            raise InputError(f"decoder {name!r} drafts with a second model; give it one (for toys: --draft perturbed)")
        return make(settings.draft_model, settings)

    return build


_DECODERS: Catalogue[Entry] = Catalogue(
    "decoder",
    {
        "ar": Entry("autoregressive: one token per forward pass", lambda s: Autoregressive(), drafts=False),
        "ar-race": Entry(
            "autoregressive by Gumbel races with fixed noise", lambda s: Autoregressive(True), drafts=False, races=True
        ),
        "sd": Entry(
            "speculative decoding with a draft model",
            _drafted("sd", lambda model, s: _speculative(DraftModel(model), s)),
            needs_draft_model=True,
            takes_judging=True,
        ),
        "sd-block": Entry(
            "speculative decoding with a draft model, verified by the block",
            _drafted("sd-block", lambda model, s: Speculative(DraftModel(model), s.window, Block())),
            needs_draft_model=True,
        ),
        "sd-multi": Entry(
            "speculative decoding with two chains of drafts, tested one after the other",
            _drafted("sd-multi", lambda model, s: MultiDraft(model, s.window)),
            needs_draft_model=True,
            chains=2,
        ),
        "sd-list-gumbel": Entry(
            "speculative decoding with two chains of drafts, drawn and verified by Gumbel races",
            _drafted("sd-list-gumbel", lambda model, s: MultiDraft(model, s.window, rule=ListGumbel())),
            needs_draft_model=True,
            races=True,
            chains=2,
        ),
        "sjd": Entry(
            "speculative Jacobi decoding: drafts redrawn independently",
            lambda s: _speculative(Jacobi("independent", s.initial), s),
            takes_judging=True,
        ),
        "sjd-block": Entry(
            "speculative Jacobi decoding, verified by the block",
            lambda s: Speculative(Jacobi("independent", s.initial), s.window, Block()),
        ),
        "scd-mc": Entry(
            "speculative coupled decoding: drafts maximally coupled",
            lambda s: _speculative(Jacobi("maximal", s.initial), s),
            takes_judging=True,
        ),
        "scd-gs": Entry(
            "speculative coupled decoding: drafts coupled by Gumbel noise",
            lambda s: _speculative(Jacobi("gumbel", s.initial), s),
            races=True,
            takes_judging=True,
        ),
        "sjd-race": Entry(
            "Jacobi decoding with shared Gumbel noise, verified by matching: equals ar-race token for token",
            lambda s: SharedNoise(s.window),
            races=True,
        ),
    },
)


def names() -> tuple[str, ...]:
    """All decoders, in the order of the literature."""
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
    settings = settings or Settings()
    if settings.judging is not None and not entry(name).takes_judging:
        takers = ", ".join(known for known, each in _DECODERS.items() if each.takes_judging)
        raise InputError(f"decoder {name!r} has its own way of judging; rules go with {takers}")
    return entry(name).build(settings)
