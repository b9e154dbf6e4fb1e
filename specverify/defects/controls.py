"""Controls: decoders that were reported or suspected to be wrong, and are exact. A checker must not flag them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from specverify.claims import Claim, Lossless
from specverify.declared import Smallest
from specverify.decoders.draft_model import DraftModel
from specverify.decoders.jacobi import Jacobi
from specverify.decoders.judging import Match
from specverify.decoders.protocol import Decoder, Info, State
from specverify.decoders.registry import Settings
from specverify.decoders.shared_noise import SharedNoise
from specverify.decoders.speculative import Speculative
from specverify.defects.defect import Defect, drafting
from specverify.defects.views import View
from specverify.draws import Draws
from specverify.model import Context, Model


@dataclass(frozen=True)
class FreshNoise:
    """`SharedNoise` with new races in every step: tokens are drawn from p afresh, and a draft is kept if it matches."""

    decoder: SharedNoise
    claim: Claim = Lossless()  # noqa: RUF009  (frozen)

    @property
    def name(self) -> str:
        """The inner decoder's."""
        return self.decoder.name

    def init(self, model: Model, batch: int, draws: Draws) -> State:
        """See Decoder."""
        return _without_noise(self.decoder.init(model, batch, draws))

    def step(self, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        race = draws.race(len(state.length), model.length, model.vocab)
        after, info = self.decoder.step(replace(state, drafting=replace(state.drafting, race=race)), model, draws)
        return _without_noise(after), info


def _without_noise(state: State) -> State:
    return replace(state, drafting=replace(state.drafting, race=torch.zeros_like(state.drafting.race)))


def _over_trimmed(inner: Model, context: Context, draft: Tensor, tokens: Tensor, count: Tensor) -> Context:
    return inner.advance(context, tokens, torch.where(count > 1, count - 1, count))


def _forgetful_draft(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
    assert settings.draft_model is not None  # Defect.build has looked
    forgetful = View(settings.draft_model, advance=_over_trimmed)
    return Speculative(DraftModel(forgetful), settings.window), model


CONTROLS = (
    Defect(
        id="sample-and-match",
        category="control",
        source="ml-explore/mlx-swift-lm PR #459; lablup/mlxcel issue #902 and its PR #992",
        mechanism="A token drawn from p is emitted whether or not the draft equals it: every token is a fresh draw "
        "from p.",
        conditions="suspected wherever p is not one-hot; it only accepts less",
        smallest=Smallest("dense-2x8", 2),
        assemble=lambda settings, _, model: (FreshNoise(SharedNoise(settings.window)), model),
        needs=("two tokens",),
    ),
    Defect(
        id="one-hot-rule-with-any-draft",
        category="control",
        source="SafeAILab/EAGLE issues #183 and #329; sgl-project/sglang issue #9877; vllm-project/vllm issue #40149",
        mechanism="A draft from any q is kept with probability p(x), else p without x is drawn from: for every x, p.",
        conditions="suspected wherever q is not one-hot; it only accepts less",
        smallest=Smallest("dense-3x6", 2, draft="perturbed"),
        assemble=lambda settings, _, model: (Speculative(drafting(settings), settings.window, Match()), model),
    ),
    Defect(
        id="bonus-dropped-on-full-accept",
        category="control",
        source="ohdearquant/lattice PR #509",
        mechanism="No bonus token is drawn: the next step's first token has the law that it would have had.",
        conditions="suspected wherever all drafts can be accepted; it only emits less per step",
        smallest=Smallest("dense-3x6", 2, draft="perturbed"),
        assemble=lambda settings, _, model: (Speculative(drafting(settings), settings.window, bonus=False), model),
    ),
    Defect(
        id="random-init-outside-allowed-ids",
        category="control",
        source="tyshiwo1/Accelerating-T2I-AR-with-SJD issue #7; junhyukso/GSD issue #1",
        mechanism="Random initial drafts may be tokens that the target forbids: they are rejected for a draw from p.",
        conditions="suspected wherever the target has zeros; it only accepts less",
        smallest=Smallest("sparse-3x5", 2, initial="random"),
        assemble=lambda settings, _, model: (
            Speculative(Jacobi("independent", settings.initial), settings.window),
            model,
        ),
    ),
    Defect(
        id="draft-cache-over-trimmed",
        category="control",
        source="lablup/mlxcel issue #994",
        mechanism="The draft model's cache loses a committed token, so that it drafts from another context, but by "
        "its own q.",
        conditions="suspected wherever a step commits at least 2 tokens; it only accepts less",
        smallest=Smallest("dense-3x6", 2, draft="perturbed"),
        assemble=_forgetful_draft,
        needs=("draft model",),
    ),
)
