"""Kernels that only look wrong: the law of what they emit is right."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from specverify.defects.rounds.defect import made
from specverify.defects.rounds.parts import ratio, two_candidates
from specverify.rules.token import at
from specverify.subjects.rounds.conventions import tossing
from specverify.subjects.rounds.kernel import Kernel, Outcome, Round
from specverify.subjects.rounds.reference import BLOCK, Parts, Scene, sample_and_match, verify, without_bonus


def _rescaled(scene: Scene, slot: Tensor) -> Tensor:
    """What a rejecting coin says beyond that it rejects: uniform on [0, 1) again."""
    keep = at(ratio(scene), slot)
    return ((at(scene.coins, slot) - keep) / (1 - keep)).clamp(0, 1 - 2.0**-24)


def _only_with_drafts(given: Round, generator: torch.Generator) -> Outcome:
    """Coins are drawn for the rows that have drafts; a second set, so that the stream moves on in any case."""
    coins, pick = torch.zeros(given.draft.shape), torch.rand(len(given.lengths), generator=generator)
    some = given.lengths > 0
    coins[some] = torch.rand(int(some.sum()), given.draft.shape[1], generator=generator)
    torch.rand(int((~some).sum()), generator=generator)
    return verify(Parts(), given, coins, pick)


CONTROLS = (
    made(
        "token-rule",
        "control",
        "none",
        "Leviathan et al., arXiv 2211.17192",
        "The reference kernel itself.",
        "none",
        Parts(),
    ),
    made(
        "block-verification",
        "control",
        "none",
        "Sun et al., arXiv 2403.10444",
        "More drafts are kept than by the token rule, with another law of how many; what is emitted is the same.",
        "suspected wherever gamma is at least 2",
        BLOCK,
    ),
    made(
        "sample-and-match",
        "control",
        "none",
        "ml-explore/mlx-swift-lm PR #459; lablup/mlxcel issue #902 and PR #992; z-lab/dflash issue #74",
        "A token drawn from p is emitted whether or not the draft equals it: every token is a fresh draw from p.",
        "suspected wherever p is not one-hot; it only accepts less",
        Kernel("sample-and-match", tossing(sample_and_match), with_coins=sample_and_match),
    ),
    made(
        "one-hot-rule-with-any-draft",
        "control",
        "none",
        "SafeAILab/EAGLE issues #183 and #329; sgl-project/sglang issue #9877; vllm-project/vllm issue #40149",
        "A draft from any q is kept with probability p(x), else p without x is drawn from: for every x, p.",
        "suspected wherever q is not one-hot; it only accepts less",
        Parts(draft_law=lambda q, draft: one_hot(draft, q.shape[-1]).to(q.dtype)),
    ),
    made(
        "bonus-dropped-on-full-accept",
        "control",
        "none",
        "ohdearquant/lattice PR #509; hao-ai-lab/LookaheadDecoding lade/decoding.py",
        "No bonus token is drawn: the next round's first token has the law that it would have had.",
        "suspected wherever all drafts can be accepted; it only emits less",
        Kernel("bonus-dropped-on-full-accept", tossing(without_bonus), with_coins=without_bonus),
    ),
    made(
        "advance-rng-when-no-draft",
        "control",
        "none",
        "vllm-project/vllm-ascend issue #13608",
        "The generator moves on for rows without drafts as well: other tokens come of a seed, with the same law.",
        "suspected wherever rows have no drafts",
        Kernel("advance-rng-when-no-draft", _only_with_drafts),
    ),
    made(
        "rescaled-coin-picks",
        "control",
        "none",
        "counterpart of flashinfer-ai/flashinfer PR #424",
        "The coin that rejected a draft, scaled back to [0, 1), picks the token from the residual.",
        "suspected wherever a coin is used twice",
        Parts(pick=_rescaled),
    ),
    made(
        "second-candidate-without-replacement",
        "control",
        "none",
        "SafeAILab/EAGLE commits e614946 and 2d2d039",
        "A rejected draft has a second candidate, drawn from q without it and tested with that law.",
        "suspected wherever q is not one-hot",
        Kernel("second-candidate-without-replacement", two_candidates(renormalised=True)),
    ),
)
