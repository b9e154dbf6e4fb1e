"""Rules that never claimed to keep the law."""

from __future__ import annotations

import torch
from torch import Tensor

from specverify.defects.rounds.defect import made
from specverify.defects.rounds.parts import favourite
from specverify.rules.token import at
from specverify.subjects.rounds.reference import Parts, Scene


def _typical(scene: Scene) -> Tensor:
    entropy = -torch.special.xlogy(scene.p, scene.p).sum(-1)
    return (at(scene.p, scene.draft) > torch.minimum(torch.tensor(0.09), 0.3 * (-entropy).exp())).float()


DEFECTS = (
    made(
        "typical-acceptance",
        "declared lossy",
        "standard",
        "Medusa; vllm-project/vllm PR #5131",
        "A draft is kept if p gives it more than a threshold that falls with the entropy; else the argmax replaces it.",
        "p is not one-hot",
        Parts(keep=_typical, recover=favourite),
    ),
    made(
        "lenience",
        "declared lossy",
        "standard",
        "lucidrains/speculative-decoding",
        "A draft is kept with probability min(1, 1.5 p / q).",
        "p differs from q",
        Parts(keep=lambda scene: (1.5 * at(scene.p, scene.draft) / at(scene.q, scene.draft)).clamp(max=1)),
    ),
)
