"""Another q than the drafts' own."""

from __future__ import annotations

import torch
from torch import Tensor

from specverify.defects.rounds.defect import made
from specverify.defects.rounds.parts import two_candidates
from specverify.subjects.rounds.kernel import Kernel
from specverify.subjects.rounds.reference import Parts


def _unprocessed(q: Tensor, draft: Tensor) -> Tensor:
    """A law whose most probable tokens q is made of: what q keeps has 0.7 of it, what q has not, 0.3."""
    outside = (q == 0).float()
    spread = outside / outside.sum(-1, keepdim=True).clamp(min=1)
    return torch.where(outside.any(-1, keepdim=True), 0.7 * q + 0.3 * spread, q)


def _softened(q: Tensor, draft: Tensor) -> Tensor:
    """The softmax behind a draft that was its argmax."""
    return torch.where((q == 1).any(-1, keepdim=True), 0.6 * q + 0.4 / q.shape[-1], q)


def _half_precision(q: Tensor, draft: Tensor) -> Tensor:
    return torch.where(q > 0, q.log().bfloat16().float(), -torch.inf).softmax(-1)


DEFECTS = (
    made(
        "raw-q-for-processed-draw",
        "draft-distribution mismatch",
        "standard",
        "huggingface/transformers issue #47932 and PR #47961; mlx-node/mlx-node PR #11",
        "Drafts are drawn from a truncated law, and verified with the law before truncation as q.",
        "q with zeros",
        Parts(draft_law=_unprocessed),
    ),
    made(
        "argmax-draw-softmax-q",
        "draft-distribution mismatch",
        "standard",
        "jaymody/speculative-sampling issue #3; huggingface/transformers issue #32867; ggml-org/llama.cpp",
        "The draft is certain, an argmax, and is verified with the softmax behind it as q.",
        "one-hot drafts, or none with a law",
        Parts(draft_law=_softened),
    ),
    made(
        "bf16-draw-fp32-ratio",
        "draft-distribution mismatch",
        "forced-coins",
        "deepseek-ai/DeepSpec issue #31 and PR #30",
        "Drafts are drawn in one precision, and verified with the softmax of bfloat16 logits as q.",
        "logits that bfloat16 rounds, p that differs from q",
        Parts(draft_law=_half_precision),
    ),
    made(
        "without-replacement-q-not-renormalised",
        "draft-distribution mismatch",
        "standard",
        "mutation of SafeAILab/EAGLE commits e614946 and 2d2d039",
        "A rejected draft has a second candidate, drawn without replacement but tested with the full q.",
        "q that is not one-hot",
        Kernel("without-replacement-q-not-renormalised", two_candidates(renormalised=False)),
    ),
)
