"""Wrong replacements of a rejected draft."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from specverify.defects.rounds.defect import made
from specverify.defects.rounds.parts import ratio
from specverify.rules.token import at, residual
from specverify.subjects.rounds.kernel import process
from specverify.subjects.rounds.reference import BLOCK, Parts, Scene, block_keep


def _by_position(scene: Scene) -> Tensor:
    """Each side lists the tokens of its support by id; entries are subtracted place by place."""
    order, theirs = ((law == 0).int().argsort(dim=-1, stable=True) for law in (scene.p, scene.q))
    left = (scene.p.gather(-1, order) - scene.q.gather(-1, theirs)).clamp(min=0)
    mass = left.sum(-1, keepdim=True)
    return torch.where(mass > 0, torch.zeros_like(left).scatter(-1, order, left / mass), scene.p)


def _rewarped(scene: Scene) -> Tensor:
    laws = residual(scene.p, scene.q)
    return torch.where(
        (scene.given.temperature > 0)[:, None, None], process(laws, scene.given.temperature, scene.given.top_k), laws
    )


def _smoothed(scene: Scene) -> Tensor:
    left = (scene.p - scene.q).clamp(min=0)
    return torch.where(left.sum(-1, keepdim=True) > 0, left + 1e-10, scene.p)


def _nan_as_zero(scene: Scene) -> Tensor:
    left = (scene.p - scene.q).nan_to_num(0.0).clamp(min=0)
    first = one_hot(torch.zeros_like(scene.draft), left.shape[-1]).to(left.dtype)
    return torch.where(left.sum(-1, keepdim=True) > 0, left, first)


def _wide_path(scene: Scene) -> Tensor:
    return scene.p if scene.p.shape[-1] % 32 == 0 else residual(scene.p, scene.q)


def _certain_late(scene: Scene) -> Tensor:
    late = (torch.arange(scene.draft.shape[1]) >= 4) & (scene.given.q is None)
    return torch.where(late[:, None], scene.p, residual(scene.p, scene.q))


def _equals_kept(scene: Scene) -> Tensor:
    return residual(torch.where(scene.p == scene.q, 2 * scene.p, scene.p), scene.q)


DEFECTS = (
    made(
        "recovered-from-target",
        "residual",
        "standard",
        "junhyukso/SCD cosmos speculative_sampler.py (its SJD baseline)",
        "A rejected draft is replaced by a plain draw from p, which may be the rejected token again.",
        "p differs from q",
        Parts(recover=lambda scene: scene.p),
    ),
    made(
        "residual-softmaxed",
        "residual",
        "standard",
        "huggingface/transformers PR #28508",
        "(p - q)+ goes through a softmax instead of being normalised, so that every token gets a share.",
        "p differs from q",
        Parts(recover=lambda scene: (scene.p - scene.q).clamp(min=0).softmax(-1)),
    ),
    made(
        "residual-by-list-position",
        "residual",
        "standard",
        "ggml-org/llama.cpp examples/speculative/speculative.cpp",
        "p and q are lists of different tokens, and are subtracted entry by entry, not token by token.",
        "supports that differ",
        Parts(recover=_by_position),
    ),
    made(
        "residual-rewarped",
        "residual",
        "standard",
        "tyshiwo1/Accelerating-T2I-AR-with-SJD; Alpha-VLLM/Lumina-mGPT-2.0; junhyukso/GSD",
        "(p - q)+ passes through temperature and top-k again although p is already processed.",
        "a temperature other than 1, a residual over at least 2 tokens",
        Parts(recover=_rewarped),
    ),
    made(
        "inplace-target-zeroed",
        "residual",
        "standard",
        "vllm-project/vllm-ascend PR #2881",
        "The residual of a certain draft is made in place before the draft is tested: its p then reads as 0.",
        "drafts without a law, or one-hot, with p > 0",
        Parts(keep=lambda scene: ratio(scene).masked_fill(at(scene.q, scene.draft) == 1, 0.0)),
    ),
    made(
        "nan-draft-row-re-emits-rejected",
        "residual",
        "nan-rows",
        "vllm-project/vllm PR #41834",
        "A draft law of NaN leaves no residual at all, and the first token is emitted: the one just rejected.",
        "a draft law of NaN, token 0 with p = 0",
        Parts(recover=_nan_as_zero),
    ),
    made(
        "residual-smoothing-leak",
        "residual",
        "forced-coins",
        "junhyukso/SCD cosmos speculative_sampler.py",
        "1e-10 is added to every entry of (p - q)+ before it is normalised, and leaks into what p forbids.",
        "p with zeros, and a pick at the edge of a token's part",
        Parts(recover=_smoothed),
    ),
    made(
        "q-clamped-0.99-in-residual",
        "residual",
        "forced-coins",
        "Alpha-VLLM/Lumina-mGPT-2.0 sjds.py",
        "In the residual q is clamped to 0.99, so that a token that was just rejected may come back.",
        "one-hot drafts with p > 0.99",
        Parts(recover=lambda scene: residual(scene.p, scene.q.clamp(max=0.99))),
    ),
    made(
        "block-verify-tokenwise-residual",
        "residual",
        "forced-coins",
        "vllm-project/vllm-ascend issue #7807 and PR #7808",
        "Block verification replaces a draft from (p - q)+ instead of (w p - q)+.",
        "gamma of at least 2, w < 1 at the cut, a residual over at least 2 tokens",
        Parts(keep=block_keep, count=BLOCK.count),
    ),
    made(
        "residual-keeps-equal-tokens",
        "residual",
        "standard",
        "mutation: p >= q where p > q was meant",
        "Tokens to which p and q give exactly the same keep all of p in the residual, where nothing is left of them.",
        "p and q equal to the last bit at some tokens, and not at others",
        Parts(recover=_equals_kept),
    ),
    made(
        "wide-path-recovers-from-target",
        "residual",
        "standard",
        "mutation: a second path, for vocabularies of full vectors",
        "Where the vocabulary is a multiple of 32, another path is taken, which replaces a rejected draft from p.",
        "a vocabulary of a multiple of 32 tokens",
        Parts(recover=_wide_path),
    ),
    made(
        "certain-late-drafts-recover-from-target",
        "residual",
        "standard",
        "mutation: the rejected token is taken out of p in the first slots alone",
        "A draft without a law in the fifth slot or later is replaced from p, which may be the rejected token again.",
        "windows of at least 5 drafts without a law",
        Parts(recover=_certain_late),
    ),
)
