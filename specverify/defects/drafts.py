"""Drafts that were not drawn from the law q that is kept beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.declared import Smallest
from specverify.decoders.draft_model import DraftModel
from specverify.decoders.jacobi import Carried, Jacobi
from specverify.decoders.judging import Draft
from specverify.decoders.protocol import Decoder, State
from specverify.decoders.registry import Settings
from specverify.decoders.speculative import Drafting, Speculative
from specverify.defects.defect import Assemble, Defect
from specverify.draws import Draws
from specverify.laws import window as from_slot
from specverify.model import Model, row_mask
from specverify.processors import Processed, Processor, top_k
from specverify.rules.token import at

Carry = Callable[[Drafting, State, State, Draft, Tensor, Tensor, Draws], Any]


@dataclass(frozen=True)
class Altered:
    """A drafting with another report of its drafts, or another way to carry on.

    Args:
        inner: the drafting.
        report: (state, drafts) -> the drafts that the decoder gets to see.
        carrying: as `Drafting.carry`, with `inner` before its arguments.
    """

    inner: Drafting
    report: Callable[[State, Draft], Draft] = lambda state, draft: draft
    carrying: Carry = lambda inner, *arguments: inner.carry(*arguments)

    @property
    def name(self) -> str:
        """The inner drafting's."""
        return self.inner.name

    def start(self, model: Model, batch: int, window: int, draws: Draws) -> Any:
        """See Drafting."""
        return self.inner.start(model, batch, window, draws)

    def propose(self, state: State, model: Model, window: int, draws: Draws) -> Draft:
        """See Drafting."""
        return self.report(state, self.inner.propose(state, model, window, draws))

    def carry(
        self,
        before: State,
        after: State,
        draft: Draft,
        laws: Float[Tensor, "batch slots vocab"],
        count: Int[Tensor, " batch"],
        draws: Draws,
    ) -> Any:
        """See Drafting."""
        return self.carrying(self.inner, before, after, draft, laws, count, draws)


def _misreported(
    processor: Callable[[float], Processor],
) -> Assemble:
    """To assemble SD that draws its drafts from the draft model's processed law and reports the raw one as q."""

    def assemble(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
        raw = settings.draft_model
        assert raw is not None  # Defect.build has looked

        def report(state: State, draft: Draft) -> Draft:
            law = raw.laws(state.drafting, draft.token)[:, :-1]
            return replace(draft, law=law, passes=draft.passes + 1)

        inner = DraftModel(Processed(raw, (processor(strength),)))
        return Speculative(Altered(inner, report=report), settings.window), model

    return assemble


def _beam(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
    """SD whose drafts are the draft model's most probable continuation, reported with the laws that it was found by."""
    raw = settings.draft_model
    assert raw is not None  # Defect.build has looked

    def report(state: State, draft: Draft) -> Draft:
        best, best_law, best_score = draft.token, draft.law, torch.full_like(draft.law[:, 0, 0], -torch.inf)
        choices = torch.arange(raw.vocab, device=best.device)
        for continuation in torch.cartesian_prod(*[choices] * best.shape[1]).view(-1, best.shape[1]):  # few: toys
            token = continuation.expand_as(best)
            law = raw.laws(state.drafting, token)[:, :-1]
            score = at(law, token).log().sum(1)
            better = score > best_score
            best, best_law = token.where(better[:, None], best), law.where(better[:, None, None], best_law)
            best_score = score.where(better, best_score)
        return replace(draft, token=best, law=best_law, passes=draft.passes + raw.vocab ** best.shape[1])

    return Speculative(Altered(DraftModel(raw), report=report), settings.window), model


def _half_precision(law: Tensor, setting: None) -> Tensor:
    return law.log().bfloat16().to(law.dtype).softmax(-1)


def _jacobi(inner: Jacobi, carrying: Carry, settings: Settings) -> Decoder:
    return Speculative(Altered(inner, carrying=carrying), settings.window)


def _stale_scores(
    inner: Drafting, before: State, after: State, draft: Draft, laws: Tensor, count: Tensor, draws: Draws
) -> Carried:
    carried: Carried = inner.carry(before, after, draft, laws, count, draws)
    window = draft.token.shape[1]
    slot = count[:, None] + torch.arange(window, device=count.device)
    old = slot.clamp(max=window - 1)
    same = (draft.token.gather(1, old) == carried.token) & (slot < window) & row_mask(carried.count, window)
    old_law = draft.law.gather(1, old[..., None].expand_as(draft.law))
    return replace(carried, law=torch.where(same[..., None], old_law, carried.law))


def _labelled_new(
    inner: Drafting, before: State, after: State, draft: Draft, laws: Tensor, count: Tensor, draws: Draws
) -> Carried:
    carried: Carried = inner.carry(before, after, draft, laws, count, draws)
    window = draft.token.shape[1]
    valid = row_mask(carried.count, window)[..., None]
    return replace(carried, law=from_slot(laws, count, window).where(valid, 0.0))


def _unshifted(
    inner: Drafting, before: State, after: State, draft: Draft, laws: Tensor, count: Tensor, draws: Draws
) -> Any:
    race = before.drafting.race
    # Shifted the other way first, so that after the right shift each slot's noise is where it was.
    slot = (torch.arange(race.shape[1], device=count.device) - count[:, None]).clamp(min=0)
    moved = race.gather(1, slot[..., None].expand_as(race))
    before = replace(before, drafting=replace(before.drafting, race=moved))
    return inner.carry(before, after, draft, laws, count, draws)


DEFECTS = (
    Defect(
        id="raw-q-for-processed-draw",
        category="draft-distribution mismatch",
        source="huggingface/transformers issue #47932 and PR #47961; mlx-node/mlx-node PR #11",
        mechanism="Drafts are drawn from the top-k (the strength) of the draft model's law, and the whole law is "
        "reported as q.",
        conditions="a top-k that removes something",
        smallest=Smallest("dense-3x6", 1, draft="perturbed"),
        assemble=_misreported(lambda k: Processor(f"top-k={k:g}", top_k, int(k))),
        needs=("draft model",),
        strength=2.0,
        harmless=2.0**20,
    ),
    Defect(
        id="argmax-draw-softmax-q",
        category="draft-distribution mismatch",
        source="jaymody/speculative-sampling issue #3; huggingface/transformers issue #32867; "
        "ggml-org/llama.cpp examples/speculative",
        mechanism="The draft is the argmax of the draft model's law, and the law is reported as q.",
        conditions="a draft model that is not one-hot",
        smallest=Smallest("dense-2x8", 1, draft="perturbed"),
        assemble=_misreported(lambda _: Processor("top-k=1", top_k, 1)),
        needs=("draft model",),
    ),
    Defect(
        id="beam-search-draw-q",
        category="draft-distribution mismatch",
        source="apple/ml-recurrent-drafter issue #6",
        mechanism="The draft is the draft model's most probable continuation, and its probability is taken for q.",
        conditions="a draft model that is not one-hot; from a window of 2 on it differs from the greedy draft",
        smallest=Smallest("dense-2x8", 2, draft="perturbed"),
        assemble=_beam,
        needs=("draft model",),
    ),
    Defect(
        id="bf16-draw-fp32-ratio",
        category="draft-distribution mismatch",
        source="deepseek-ai/DeepSpec issue #31",
        mechanism="Drafts are drawn from the softmax of bfloat16 logits, and q is that of the same logits in full "
        "precision.",
        conditions="logits that bfloat16 rounds, and p that differs from q",
        smallest=Smallest("dense-2x8", 1, draft="perturbed"),
        assemble=_misreported(lambda _: Processor("bfloat16", _half_precision, None)),
        needs=("draft model",),
        within_rounding=True,
    ),
    Defect(
        id="stale-scores-after-coupling",
        category="draft-distribution mismatch",
        source="junhyukso/SCD lumina1/scheduler/jacobi_iteration_lumina_mgpt_SCDMC.py and janus_pro",
        mechanism="A draft that the coupling keeps also keeps its old law as q, although it now has the new one.",
        conditions="a window of at least 2: a slot behind a rejection must be looked at twice",
        smallest=Smallest("dense-2x8", 2, initial="repeat-left"),
        assemble=lambda settings, _, model: (
            _jacobi(Jacobi("maximal", settings.initial), _stale_scores, settings),
            model,
        ),
    ),
    Defect(
        id="reuse-labelled-target",
        category="draft-distribution mismatch",
        source="SJD++, arXiv 2512.07503, as reimplemented; no official code is public",
        mechanism="A draft that is reused behind a rejection, or redrawn there, is labelled with the new law p, not "
        "with the law of what reuse leaves.",
        conditions="a window of at least 2: a slot behind a rejection must be looked at twice",
        smallest=Smallest("dense-3x6", 2, initial="repeat-left"),
        assemble=lambda settings, _, model: (
            _jacobi(Jacobi("reuse", settings.initial), _labelled_new, settings),
            model,
        ),
    ),
    Defect(
        id="race-not-shifted",
        category="randomness reuse",
        source="junhyukso/SCD lumina1/scheduler/jacobi_iteration_lumina_mgpt_GS.py, on steps of one token; here on all",
        mechanism="The table of Gumbel noise stays in place when the window moves, so that a slot meets noise that was "
        "already looked at.",
        conditions="a window of at least 2",
        smallest=Smallest("dense-2x8", 2, initial="repeat-left"),
        assemble=lambda settings, _, model: (_jacobi(Jacobi("gumbel", settings.initial), _unshifted, settings), model),
        needs=("two tokens",),
    ),
)
