"""Another p than the processed one: for bonus tokens, for all, in greedy rows."""

from __future__ import annotations

import torch
from torch import Tensor

from specverify.defects.rounds.defect import made
from specverify.defects.rounds.parts import ratio
from specverify.rules.token import accept_probability
from specverify.subjects.rounds.kernel import Round, process
from specverify.subjects.rounds.reference import Parts, Scene


def _sampled_raw(given: Round) -> Tensor:
    return torch.where((given.temperature == 0)[:, None, None], given.p, given.raw)


def _without_top_k(given: Round) -> Tensor:
    return process(given.raw, given.temperature, torch.full_like(given.top_k, given.raw.shape[-1]))


def _mask_until_padding(given: Round) -> Tensor:
    short = given.lengths < given.draft.shape[1]
    return torch.where(short[:, None, None], _without_top_k(given), given.p)


def _greedy_ratio(scene: Scene) -> Tensor:
    raw = accept_probability(scene.given.raw[:, :-1], scene.q, scene.draft)
    return torch.where((scene.given.temperature == 0)[:, None], raw, ratio(scene))


def _divided_by_zero(given: Round) -> Tensor:
    greedy = (given.temperature == 0)[:, None, None]
    return torch.where(greedy, (given.raw.log() / given.temperature[:, None, None]).softmax(-1), given.p)


def _other_kernel(given: Round) -> Tensor:
    """Laws off by a factor of 1 -+ 0.001 per draft of the window, as of another order of summation."""
    sign = torch.where(torch.arange(given.raw.shape[-1]) % 2 == 0, 1.0, -1.0)
    bent = given.raw * (1 + 0.001 * given.lengths[:, None, None] * sign)
    return process(bent / bent.sum(-1, keepdim=True), given.temperature, given.top_k)


DEFECTS = (
    made(
        "bonus-unwarped",
        "bonus token",
        "standard",
        "SafeAILab/EAGLE utils.py from 2f982e2 to bf10ac5",
        "Bonus tokens are drawn from the law before temperature and top-k.",
        "a temperature other than 1, or a top-k",
        Parts(bonus=_sampled_raw),
    ),
    made(
        "processor-only-on-bonus",
        "bonus token",
        "standard",
        "sgl-project/sglang PR #28242; vllm-project/vllm issue #42744; RightNow-AI/picolm PR #30",
        "Drafts are verified against the law before temperature and top-k; only bonus tokens have them.",
        "a temperature other than 1, or a top-k",
        Parts(target=_sampled_raw),
    ),
    made(
        "bonus-mask-dropped-after-padding",
        "bonus token",
        "standard",
        "vllm-project/vllm PR #44292",
        "The first padded slot switches the mask (here top-k) off, and the bonus token is drawn without it.",
        "a mask, rows with fewer drafts than slots",
        Parts(bonus=_mask_until_padding),
    ),
    made(
        "target-unwarped-draft-warped",
        "processor mismatch",
        "standard",
        "vllm-project/vllm issue #9834 and PR #10198; mlc-ai/mlc-llm PR #2940",
        "The target's laws are scored without temperature and top-k, for drafts and bonus alike.",
        "a temperature other than 1, or a top-k",
        Parts(target=_sampled_raw, bonus=_sampled_raw),
    ),
    made(
        "params-dropped-on-spec-path",
        "processor mismatch",
        "standard",
        "NVIDIA/TensorRT-LLM PR #17701 and #17955; sgl-project/sglang issue #10617; junhyukso/SCD cosmos model.py",
        "The speculative path never reads one parameter, here top-k.",
        "a top-k",
        Parts(target=_without_top_k, bonus=_without_top_k),
    ),
    made(
        "greedy-with-raw-ratio",
        "greedy",
        "standard",
        "jaymody/speculative-sampling issues #3 and #9",
        "In greedy rows drafts are still accepted by the ratio of p and q at temperature 1.",
        "greedy rows, a draft that is not the argmax",
        Parts(keep=_greedy_ratio),
    ),
    made(
        "greedy-sentinel-mismatch",
        "greedy",
        "standard",
        "vllm-project/vllm PR #27077",
        "A temperature of 0 is not recognised as greedy, and logits are divided by it.",
        "greedy rows in a mixed batch",
        Parts(target=_divided_by_zero, bonus=_divided_by_zero),
    ),
    made(
        "verify-kernel-argmax-flip",
        "greedy",
        "standard",
        "ggml-org/llama.cpp issue #25618; kekzl/imp PR #1471; ml-explore/mlx-lm PR #1109",
        "The laws of a window differ from those of single steps in the third decimal, which flips near ties.",
        "greedy rows, near ties",
        Parts(target=_other_kernel, bonus=_other_kernel),
    ),
)
