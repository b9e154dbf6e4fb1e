"""Decoders by name, of ids and of vectors, for the command line and for plans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from specverify.catalogue import Catalogue
from specverify.claims import Claim, Lossless, Relaxed
from specverify.declared import Initial, OfDecoder, Tokens, names_of
from specverify.decoders.autoregressive import Autoregressive
from specverify.decoders.block import Block
from specverify.decoders.continuous.coupling import LastRule, PathRule, Reflection, StepRule
from specverify.decoders.continuous.cspd import Released, Surrogate
from specverify.decoders.draft_model import DraftModel
from specverify.decoders.jacobi import Jacobi
from specverify.decoders.judging import Coupling, Judging, Match, TokenRule
from specverify.decoders.multi_draft import Alike, ListGumbel, MultiDraft
from specverify.decoders.protocol import Decoder
from specverify.decoders.shared_noise import SharedNoise
from specverify.decoders.sibling_tree import sibling_tree
from specverify.decoders.speculative import Drafting, Speculative
from specverify.decoders.unverified import Unverified
from specverify.decoders.wavefront import Wavefront
from specverify.errors import InputError
from specverify.rules.relaxation import NOTHING


@dataclass(frozen=True)
class Settings:
    """What a decoder may be built from; each takes what it needs.

    Attributes:
        window: draft tokens per forward pass.
        initial: the Jacobi decoders' initial drafts; None for those that are usual for the tokens.
        draft_model: for decoders that draft with one; a model of ids or of vectors, as the target is.
        judging: how drafts are judged, for decoders that leave it open: a rule that judges ids one by one, or a
            coupling of vectors; None for the token rule.
        prefill: CSpD's share of positions that the target decodes alone.
    """

    window: int = 4
    initial: Initial | None = None
    draft_model: Any = None
    judging: Judging | Coupling | None = None
    prefill: float = 0.05


@dataclass(frozen=True)
class Entry(OfDecoder):
    """A decoder that can be asked for by name.

    Attributes:
        summary: one line.
        build: makes it.
    """

    summary: str
    build: Callable[[Settings], Decoder]


def _speculative(drafting: Drafting, settings: Settings) -> Decoder:
    judging = TokenRule() if settings.judging is None else settings.judging
    return Speculative(drafting, settings.window, judging, _claim(judging))


def _claim(judging: Judging | Coupling) -> Claim:
    """What a rule claims; one that claims nothing passes for lossless only where it is an exact coupling."""
    own = getattr(judging, "claim", None)
    if isinstance(own, Claim):
        return own
    coupled = type(judging) is TokenRule or not isinstance(judging, Judging)
    return Lossless() if coupled and isinstance(judging, Coupling) and judging.bias == 0 else Relaxed(1.0)


def _coupled(settings: Settings, coupling: Coupling) -> Decoder:
    """Jacobi decoding of vectors whose drafts are judged and redrawn by one coupling."""
    return Speculative(Jacobi(coupling, settings.initial), settings.window, coupling)


def _drafted(name: str, make: Callable[[Any, Settings], Decoder]) -> Callable[[Settings], Decoder]:
    """To build a decoder that drafts with a model."""

    def build(settings: Settings) -> Decoder:
        if settings.draft_model is None:
            raise InputError(f"decoder {name!r} drafts with a second model; give it one, such as a toy's draft model")
        return make(settings.draft_model, settings)

    return build


_DECODERS: Catalogue[Entry] = Catalogue(
    "decoder",
    {
        "ar": Entry(
            "autoregressive: one token per forward pass", lambda s: Autoregressive(), vectors="any", drafts=False
        ),
        "ar-race": Entry(
            "autoregressive by Gumbel races with fixed noise", lambda s: Autoregressive(True), drafts=False, races=True
        ),
        "sd": Entry(
            "speculative decoding with a draft model",
            _drafted("sd", lambda model, s: _speculative(DraftModel(model), s)),
            vectors="densities",
            needs_draft_model=True,
            takes_judging=True,
        ),
        "sd-block": Entry(
            "speculative decoding with a draft model, verified by the block",
            _drafted("sd-block", lambda model, s: Speculative(DraftModel(model), s.window, Block())),
            needs_draft_model=True,
        ),
        "sd-match": Entry(
            "speculative decoding by sample-and-match: a token drawn from the target is emitted, whatever was drafted",
            _drafted("sd-match", lambda model, s: Speculative(DraftModel(model), s.window, Match())),
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
        "sjd-reuse": Entry(
            "speculative Jacobi decoding: drafts kept behind a rejection where their new law allows it (SJD++)",
            lambda s: _speculative(Jacobi("reuse", s.initial), s),
            takes_judging=True,
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
        "sjd-tree": Entry(
            "speculative Jacobi decoding: drafts maximally coupled, with a tree of siblings at the cut",
            lambda s: sibling_tree(s.window, initial=s.initial),
            chains=2,
        ),
        "sjd-race": Entry(
            "Jacobi decoding with shared Gumbel noise, verified by matching: equals ar-race token for token",
            lambda s: SharedNoise(s.window),
            races=True,
        ),
        "sd-alike": Entry(
            "two chains of drafts; siblings that the target goes on from alike lend each other mass (CASCADE's family, "
            "whose own formula is not public)",
            _drafted("sd-alike", lambda model, s: MultiDraft(model, s.window, rule=Alike(), claim=NOTHING)),
            needs_draft_model=True,
            chains=2,
            relaxed=True,
        ),
        "vvs": Entry(
            "speculative decoding with two chains of drafts, of which every second time one is taken unverified (VVS)",
            _drafted("vvs", lambda model, s: Unverified(MultiDraft(model, s.window), every=2)),
            needs_draft_model=True,
            chains=2,
            relaxed=True,
        ),
        "zipar": Entry(
            "wavefront decoding (ZipAR): a row of the image begins once the row above is a window of tokens ahead",
            lambda s: Wavefront(s.window),
            drafts=False,
            relaxed=True,
        ),
        "sd-reflection": Entry(
            "speculative decoding, rejected drafts reflected",
            _drafted("sd-reflection", lambda model, s: Speculative(DraftModel(model), s.window, Reflection())),
            ids=False,
            vectors="gaussian",
            needs_draft_model=True,
        ),
        "sd-path": Entry(
            "speculative decoding, whole denoising trajectories judged",
            _drafted("sd-path", lambda model, s: Speculative(DraftModel(model), s.window, PathRule())),
            ids=False,
            vectors="heads",
            needs_draft_model=True,
        ),
        "sd-steps": Entry(
            "speculative decoding, trajectories coupled at every denoising step",
            _drafted("sd-steps", lambda model, s: Speculative(DraftModel(model), s.window, StepRule())),
            ids=False,
            vectors="heads",
            needs_draft_model=True,
        ),
        "sd-last": Entry(
            "speculative decoding, trajectories of one noise coupled at their last step",
            _drafted("sd-last", lambda model, s: Speculative(DraftModel(model), s.window, LastRule())),
            ids=False,
            vectors="heads",
            needs_draft_model=True,
        ),
        "jacobi": Entry(
            "Jacobi decoding: drafts redrawn independently",
            lambda s: _speculative(Jacobi("independent", s.initial, "jacobi"), s),
            ids=False,
            vectors="densities",
            takes_judging=True,
        ),
        "jacobi-maximal": Entry(
            "Jacobi decoding: drafts coupled by the token rule",
            lambda s: _coupled(s, TokenRule()),
            ids=False,
            vectors="densities",
        ),
        "jacobi-reflection": Entry(
            "Jacobi decoding: drafts coupled by reflection",
            lambda s: _coupled(s, Reflection()),
            ids=False,
            vectors="gaussian",
        ),
        "jacobi-noise": Entry(
            "Jacobi decoding: each position's drafts made from one noise",
            lambda s: _speculative(Jacobi("noise", s.initial), s),
            ids=False,
            vectors="gaussian",
            takes_judging=True,
        ),
        "jacobi-steps": Entry(
            "Jacobi decoding: trajectories coupled at every denoising step",
            lambda s: _coupled(s, StepRule()),
            ids=False,
            vectors="heads",
        ),
        "jacobi-last": Entry(
            "Jacobi decoding: trajectories of one noise coupled at their last step",
            lambda s: _coupled(s, LastRule()),
            ids=False,
            vectors="heads",
        ),
        "cspd": Entry(
            "continuous speculative decoding as published: aligned trajectories, a surrogate ratio",
            _drafted(
                "cspd",
                lambda model, s: Speculative(
                    DraftModel(model, s.prefill, "cspd"), s.window, Surrogate(), Relaxed(1.0), bonus=False
                ),
            ),
            ids=False,
            vectors="heads",
            needs_draft_model=True,
        ),
        "cspd-released": Entry(
            "continuous speculative decoding as released: rejected drafts patched in place, nothing truncated",
            _drafted(
                "cspd-released",
                lambda model, s: Released(DraftModel(model, s.prefill, "cspd-released"), s.window),
            ),
            ids=False,
            vectors="heads",
            needs_draft_model=True,
        ),
    },
)


def names(tokens: Tokens | None = None, relaxed: bool | None = None) -> tuple[str, ...]:
    """The decoders in the order of the literature: all, or those of ids or of vectors, relaxed ones or others."""
    return names_of(_DECODERS, tokens, relaxed)


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
