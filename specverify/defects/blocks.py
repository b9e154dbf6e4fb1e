"""Block verification gone wrong: its coins, its stop and its residual belong together, and its drafts must be fresh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.claims import Relaxed
from specverify.declared import Smallest
from specverify.decoders.block import Block, last_kept
from specverify.decoders.jacobi import Jacobi
from specverify.decoders.judging import Draft
from specverify.decoders.protocol import Decoder
from specverify.decoders.registry import Settings
from specverify.decoders.speculative import Speculative
from specverify.defects.defect import Assemble, Defect, drafting
from specverify.draws import Draws
from specverify.laws import at as row
from specverify.model import Model, row_mask
from specverify.rules.block import block_residual, keep_probability, prefix_weights
from specverify.rules.joint import ALPHA, joint_keep, repeating, rising
from specverify.rules.token import accept_probability, at, residual

Coins = Callable[[Tensor, Draft, Tensor], Tensor]
"""(p, drafts, how many are judged) -> the probability with which each slot's coin passes."""
Stop = Callable[[Tensor, Tensor, Draws], Tensor]
"""(those probabilities, how many are judged, draws) -> how many drafts are kept."""


def _by_block(p: Tensor, draft: Draft, drafted: Tensor) -> Tensor:
    return keep_probability(p, draft.law, prefix_weights(p, draft.law, draft.token), drafted)


def _by_token(p: Tensor, draft: Draft, drafted: Tensor) -> Tensor:
    return accept_probability(p, draft.law, draft.token)


def _jointly(goes_on: Callable[[Tensor, Tensor], Tensor], alpha: float = ALPHA) -> Coins:
    def coins(p: Tensor, draft: Draft, drafted: Tensor) -> Tensor:
        return joint_keep(p, draft.law, draft.token, goes_on(p, draft.token), drafted, alpha)

    return coins


def _together(p: Tensor, draft: Tensor) -> Tensor:
    return torch.arange(draft.shape[1], device=draft.device).expand_as(draft) > 0


def _first_failure(keep: Tensor, drafted: Tensor, draws: Draws) -> Tensor:
    return draws.accept_run(keep, row_mask(drafted, keep.shape[1]))


@dataclass(frozen=True)
class Window:
    """Block verification with its coins or its stop replaced, or with the token rule's residual."""

    coins: Coins = _by_block
    stop: Stop = last_kept
    weighted: bool = False
    name: str = "block"

    def verify(
        self,
        p: Float[Tensor, "batch window vocab"],
        draft: Draft,
        drafted: Int[Tensor, " batch"],
        draws: Draws,
    ) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"]]:
        """See WindowJudging."""
        run = self.stop(self.coins(p, draft, drafted), drafted, draws)
        slot = run.clamp(max=p.shape[1] - 1)
        ours, theirs = row(p, slot), row(draft.law, slot)
        if not self.weighted:
            return run, residual(ours, theirs)
        return run, block_residual(ours, theirs, at(prefix_weights(p, draft.law, draft.token), run))


def _judged_by(window: Window) -> Assemble:
    def assemble(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
        return Speculative(drafting(settings), settings.window, window), model

    return assemble


def _on_coupled_drafts(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
    return Speculative(Jacobi("maximal", settings.initial), settings.window, Block(), Relaxed(1.0)), model


DEFECTS = (
    Defect(
        id="block-verify-tokenwise-accept",
        category="acceptance rule",
        source="vllm-project/vllm-ascend issue #7807 and PR #7808",
        mechanism="Drafts are kept up to the last that passes, but each is tossed for with the token rule's chance.",
        conditions="a window of at least 2",
        smallest=Smallest("dense-2x8", 2, draft="perturbed"),
        assemble=_judged_by(Window(coins=_by_token)),
    ),
    Defect(
        id="block-verify-break-at-first",
        category="acceptance rule",
        source="suggested in review of vllm-project/vllm-ascend PR #11985",
        mechanism="The coins and the residual are block verification's, but the first coin that fails ends the block.",
        conditions="a window of at least 2",
        smallest=Smallest("dense-2x8", 2, draft="perturbed"),
        assemble=_judged_by(Window(stop=_first_failure, weighted=True)),
    ),
    Defect(
        id="joint-ratio-one-coin",
        category="acceptance rule",
        source="the joint ratio with fallback of SJD-SV (ICML 2026), with the token rule's residual",
        mechanism="One coin is compared with the ratio p/q of every prefix, and the longest that passes is kept.",
        conditions="a window of at least 2",
        smallest=Smallest("dense-2x8", 2, draft="perturbed"),
        assemble=_judged_by(Window(coins=_jointly(_together, 1.0), stop=_first_failure)),
    ),
    Defect(
        id="joint-ratio-segments",
        category="acceptance rule",
        source="SJD-SV, arXiv 2609.13245 (ICML 2026); no code is public",
        mechanism="Runs of drafts along which p(x) does not fall are tested by one coin against their joint ratio p/q, "
        "over the tail that holds four fifths of their p, and dropped from behind until it passes.",
        conditions="a window of at least 2",
        smallest=Smallest("dense-3x6", 2, initial="repeat-left"),
        assemble=_judged_by(Window(coins=_jointly(rising), stop=_first_failure)),
    ),
    Defect(
        id="joint-ratio-phrases",
        category="acceptance rule",
        source="SJD-PV, arXiv 2603.06666, with repeated codes for its table of phrases; no code is public",
        mechanism="Drafts that form a phrase are tested by one coin against their joint ratio p/q, and dropped from "
        "behind until it passes.",
        conditions="a window of at least 2; a phrase that is drafted",
        smallest=Smallest("dense-3x6", 2, initial="repeat-left"),
        assemble=_judged_by(Window(coins=_jointly(repeating), stop=_first_failure)),
    ),
    Defect(
        id="block-verify-tokenwise-residual",
        category="residual",
        source="vllm-project/vllm-ascend issue #7807 and PR #7808",
        mechanism="The drafts kept are block verification's, but what follows is drawn from (p - q)+, without the "
        "weight of the prefix.",
        conditions="a window of at least 2; a residual over at least 2 tokens behind a prefix of weight below 1",
        smallest=Smallest("ties-3x5", 2, draft="perturbed"),
        assemble=_judged_by(Window()),
        needs=("draft model",),
    ),
    Defect(
        id="block-on-coupled-drafts",
        category="draft-distribution mismatch",
        source="block verification (arXiv 2403.10444) joined to the coupled drafts of SCD (arXiv 2510.24211)",
        mechanism="Block verification looks ahead at drafts whose laws tell what the drafts before them were.",
        conditions="coupled drafts; a window of at least 2",
        smallest=Smallest("ties-3x5", 2, initial="repeat-left"),
        assemble=_on_coupled_drafts,
    ),
)
