"""Decoders that judge by another target law than the one they are held to: the real ones, shown a view of the model.

A processor that is forgotten is a temperature t here, the strength: if p is the law after it, the law before it is p at
temperature 1 / t.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from specverify.declared import Smallest
from specverify.decoders.draft_model import DraftModel
from specverify.decoders.judging import Draft
from specverify.decoders.protocol import Decoder, State
from specverify.decoders.registry import Settings
from specverify.decoders.speculative import Speculative
from specverify.defects.defect import Assemble, Defect, drafting
from specverify.defects.views import BonusFrom, View
from specverify.draws import Draws
from specverify.model import Context, Model
from specverify.processors import temperature


class _AskedAgain(DraftModel):
    """A draft model that is asked once more in every step, for the law behind the window."""

    def propose(self, state: State, model: Model, window: int, draws: Draws) -> Draft:
        """See Drafting."""
        draft = super().propose(state, model, window, draws)
        return replace(draft, passes=draft.passes + 1)


def _bonus_from_draft(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
    assert settings.draft_model is not None  # Defect.build has looked
    return Speculative(_AskedAgain(settings.draft_model), settings.window), BonusFrom(model, settings.draft_model)


def _unprocessed(rows: slice) -> Assemble:
    """To assemble a decoder that sees, in some rows of its window, the law before the temperature."""

    def assemble(settings: Settings, t: float, model: Model) -> tuple[Decoder, Model]:
        def laws(inner: Model, context: Context, draft: Tensor) -> Tensor:
            right = inner.laws(context, draft)
            hit = torch.zeros(right.shape[1], 1, dtype=torch.bool, device=right.device)
            hit[rows] = True
            return torch.where(hit, temperature(right, 1 / t), right)

        return Speculative(drafting(settings), settings.window), View(model, laws=laws)

    return assemble


DEFECTS = (
    Defect(
        id="bonus-from-draft",
        category="bonus token",
        source="mutation of Leviathan et al., arXiv 2211.17192, algorithm 1",
        mechanism="After a full acceptance the next token is drawn from the draft model's law, not from p.",
        conditions="p differs from q; a step that accepts all its drafts with room behind them",
        smallest=Smallest("dense-2x8", 1, draft="perturbed"),
        assemble=_bonus_from_draft,
        needs=("draft model",),
    ),
    Defect(
        id="bonus-unwarped",
        category="bonus token",
        source="SafeAILab/EAGLE utils.py from commit 2f982e2 to c892473",
        mechanism="The bonus token comes from the softmax of the raw logits; verification uses the processed law.",
        conditions="a temperature (the strength) other than 1; a step that ends in a bonus token",
        smallest=Smallest("dense-2x8", 1, draft="perturbed"),
        assemble=_unprocessed(slice(-1, None)),
        strength=0.5,
        harmless=1.0,
    ),
    Defect(
        id="processor-only-on-bonus",
        category="bonus token",
        source="sgl-project/sglang PR #28242; vllm-project/vllm issue #42744; RightNow-AI/picolm PR #30",
        mechanism="Drafts are verified against the raw law; the processors reach the bonus token alone.",
        conditions="a temperature (the strength) other than 1",
        smallest=Smallest("dense-2x8", 1, draft="perturbed"),
        assemble=_unprocessed(slice(None, -1)),
        strength=0.5,
        harmless=1.0,
    ),
    Defect(
        id="params-dropped-on-spec-path",
        category="processor mismatch",
        source="NVIDIA/TensorRT-LLM PR #17701; vllm-project/vllm issue #9834; mlc-ai/mlc-llm PR #2940",
        mechanism="The speculative path never reads a sampling parameter that the autoregressive path honours.",
        conditions="a temperature (the strength) other than 1",
        smallest=Smallest("dense-2x8", 1, initial="repeat-left"),
        assemble=_unprocessed(slice(None)),
        strength=0.5,
        harmless=1.0,
    ),
)
