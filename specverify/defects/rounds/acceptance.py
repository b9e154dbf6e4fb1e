"""Wrong tests of a draft: what is kept, and how many."""

from __future__ import annotations

import torch
from torch import Tensor

from specverify.defects.rounds.defect import made
from specverify.defects.rounds.parts import favourite, ratio
from specverify.rules.token import at, residual
from specverify.subjects.rounds.reference import BLOCK, Parts, Scene, block_keep, block_recover


def _first_always(scene: Scene) -> Tensor:
    return ratio(scene).index_fill(1, torch.tensor([0]), 1.0)


def _far_always(scene: Scene) -> Tensor:
    far = torch.arange(scene.draft.shape[1]) >= 5
    return torch.where(far, 1.0, ratio(scene))


def _second_never(scene: Scene) -> Tensor:
    return ratio(scene) * (torch.arange(scene.draft.shape[1]) == 0)


def _clustered(scene: Scene, fallback: bool) -> Tensor:
    """Ratio of the masses of the draft and its neighbours by rank; at the first rank an empty slice, if `fallback`."""
    order = scene.p.argsort(dim=-1, descending=True, stable=True)
    place = (order == scene.draft[..., None]).int().argmax(-1, keepdim=True)
    near = (torch.arange(order.shape[-1]) - place).abs() <= 1
    p, q = ((law.gather(-1, order) * near).sum(-1) for law in (scene.p, scene.q))
    exact = (place[..., 0] == 0) & fallback
    return torch.where(exact, ratio(scene), (p / q).clamp(max=1))


def _stale_target(scene: Scene) -> Tensor:
    """p of the draft, or of the last draft before it that the target's list holds."""
    p = at(scene.p, scene.draft).unbind(1)
    kept = [p[0]]
    for each in p[1:]:
        kept.append(torch.where(each > 0, each, kept[-1]))
    return (torch.stack(kept, 1) / at(scene.q, scene.draft)).clamp(max=1)


DEFECTS = (
    made(
        "accept-all-prefix-count",
        "acceptance rule",
        "standard",
        "huggingface/transformers PR #28508",
        "The count of leading matches always comes out as all drafts, so that every one is kept.",
        "p differs from q",
        Parts(count=lambda passed, scene: scene.given.lengths),
    ),
    made(
        "first-draft-unverified",
        "acceptance rule",
        "standard",
        "ohdearquant/lattice issue #243",
        "Row i of the laws is compared with draft i + 1: the first draft is never tested.",
        "p differs from q",
        Parts(keep=_first_always),
    ),
    made(
        "drafts-beyond-fifth-unverified",
        "acceptance rule",
        "standard",
        "mutation: a loop of fixed length",
        "Five drafts are tested, whatever the window is; those behind are kept.",
        "gamma of at least 6",
        Parts(keep=_far_always),
    ),
    made(
        "synthetic-prob-always-accept",
        "acceptance rule",
        "standard",
        "openvinotoolkit/openvino.genai PR #2331",
        "A certain draft carries a made-up probability where the test reads a ratio, and passes.",
        "one-hot drafts, or none with a law, that p is not certain of",
        Parts(keep=lambda scene: ratio(scene).masked_fill(at(scene.q, scene.draft) == 1, 1.0)),
    ),
    made(
        "zero-coin-inclusive",
        "acceptance rule",
        "forced-coins",
        "sgl-project/sglang issue #35771 and PR #35798; SafeAILab/EAGLE; ggml-org/llama.cpp examples/speculative",
        "A coin that equals the ratio passes: 0 accepts what p forbids, once in 2^24 draws of a float32 coin.",
        "p with zeros, and a coin of 0",
        Parts(passes=lambda coin, keep: coin <= keep),
    ),
    made(
        "argmax-verify-at-temperature",
        "acceptance rule",
        "standard",
        "lablup/mlxcel issue #902; hao-ai-lab/LookaheadDecoding PR #6; EricLBuehler/mistral.rs PR #2424",
        "Drafts are verified against the argmax of p, which replaces a mismatch; only bonuses are drawn.",
        "p is not one-hot",
        Parts(keep=lambda scene: at(favourite(scene), scene.draft), recover=favourite),
    ),
    made(
        "match-else-redraw",
        "acceptance rule",
        "standard",
        "variant of the matching rule of ml-explore/mlx-swift-lm PR #459 and lablup/mlxcel PR #992",
        "A draft is kept if a token drawn from p equals it; if not, that one is discarded and another drawn.",
        "p is not one-hot",
        Parts(keep=lambda scene: at(scene.p, scene.draft), recover=lambda scene: scene.p),
    ),
    made(
        "block-verify-tokenwise-accept",
        "acceptance rule",
        "standard",
        "vllm-project/vllm-ascend issue #7807 and PR #7808",
        "As many drafts are kept as end with the last that passes, but each is tested and replaced by the token rule.",
        "gamma of at least 2",
        Parts(count=BLOCK.count),
    ),
    made(
        "block-verify-break-at-first",
        "acceptance rule",
        "standard",
        "review suggestion on vllm-project/vllm-ascend PR #11985",
        "Block verification stops at the first draft that fails instead of going on to the last that passes.",
        "gamma of at least 2",
        Parts(keep=block_keep, recover=block_recover),
    ),
    made(
        "shape-bug-accept-count",
        "acceptance rule",
        "standard",
        "lucidrains/speculative-decoding commit a536030",
        "How many drafts are accepted is read off the first alone: when it passes, the second token comes from the "
        "residual as if its draft had been rejected.",
        "gamma of at least 2",
        Parts(keep=_second_never),
    ),
    made(
        "cluster-ratio-token-residual",
        "acceptance rule",
        "standard",
        "junhyukso/GSD scheduler/jacobi_iteration_lumina_mgpt.py; jadohu/LANTERN; here with one neighbour to each side",
        "A draft passes with the ratio of its neighbourhood's masses, and is replaced from the residual of tokens.",
        "at least 3 tokens",
        Parts(keep=lambda scene: _clustered(scene, fallback=False)),
    ),
    made(
        "exception-fallback-to-other-rule",
        "acceptance rule",
        "standard",
        "junhyukso/GSD scheduler/jacobi_iteration_lumina_mgpt.py; here with one neighbour to each side",
        "For the first ranks the neighbourhood is an empty slice, whose exception is caught by the exact rule.",
        "tokens of both kinds of rank",
        Parts(keep=lambda scene: _clustered(scene, fallback=True)),
    ),
    made(
        "duplicate-node-reverified",
        "acceptance rule",
        "standard",
        "SafeAILab/EAGLE before commit 476cac0; ggml-org/llama.cpp examples/speculative; here a chain listed twice",
        "A rejected draft is tested once more against the residual, fails, and q is subtracted a second time.",
        "q that is not one-hot, a residual over at least 2 tokens",
        Parts(recover=lambda scene: residual(residual(scene.p, scene.q), scene.q)),
    ),
    made(
        "pad-id-collides-with-token-0",
        "acceptance rule",
        "standard",
        "SafeAILab/EAGLE before commit 476cac0",
        "Id 0 pads missing candidates: a true draft 0 is neither tested nor subtracted, but replaced from p.",
        "q(0) > 0",
        Parts(
            keep=lambda scene: ratio(scene).masked_fill(scene.draft == 0, 0.0),
            recover=lambda scene: torch.where((scene.draft == 0)[..., None], scene.p, residual(scene.p, scene.q)),
        ),
    ),
    made(
        "stale-target-prob-when-absent",
        "acceptance rule",
        "standard",
        "ggml-org/llama.cpp examples/speculative/speculative.cpp; there over sequences, here over slots",
        "Where the target's list lacks the draft, its probability keeps the value of the one tested before.",
        "p with zeros, gamma of at least 2",
        Parts(keep=_stale_target),
    ),
    made(
        "forced-accept-special-tokens",
        "acceptance rule",
        "standard",
        "jadohu/LANTERN models/ea_model_lumina_mgpt.py",
        "A drafted token of the image's syntax (here the last id) is accepted whatever p says.",
        "a drafted syntax token with p < q",
        Parts(keep=lambda scene: ratio(scene).masked_fill(scene.draft == scene.p.shape[-1] - 1, 1.0)),
    ),
)
