"""Wrong laws for the token that replaces a rejected draft."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from specverify.declared import Smallest
from specverify.defects.defect import Defect, Judge, OnLaws, judged
from specverify.processors import temperature
from specverify.rules.token import accept_probability, at, residual


def _recovering(replace: OnLaws) -> Judge:
    return Judge(replace=replace)


def _softmaxed(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
    return (p - q).clamp(min=0).softmax(-1)


def _by_position(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
    """Each side lists the tokens of its support by id, and entry i of one is subtracted from entry i of the other."""
    order = (p == 0).to(torch.int64).sort(dim=-1, stable=True).indices
    theirs = (q == 0).to(torch.int64).sort(dim=-1, stable=True).indices
    left = (p.gather(-1, order) - q.gather(-1, theirs)).clamp(min=0)
    mass = left.sum(-1, keepdim=True)
    return torch.where(mass > 0, torch.zeros_like(p).scatter(-1, order, left / mass), p)


def _if_disjoint(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
    left = (p - q.clamp(max=0.99)).clamp(min=0)
    mass = left.sum(-1, keepdim=True)
    return torch.where(mass + 1e-7 > 1, left / mass, p)


def _zeroed(strength: float) -> Judge:
    def keep(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
        return accept_probability(p, q, draft).masked_fill(at(q, draft) == 1, 0.0)

    return Judge(keep)


def _smoothed(epsilon: float) -> Judge:
    def keep(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
        return (at(p, draft) / (at(q, draft) + epsilon)).clamp(max=1)

    def replace(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
        left = (p - q).clamp(min=0)
        return torch.where(left.sum(-1, keepdim=True) > 0, left + epsilon, p)

    return Judge(keep, replace)


def _same_coin(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
    """A rejecting coin is uniform on [h, 1], h the acceptance probability; inversion turns it into the token."""
    edges = residual(p, q).cumsum(-1)
    edges = (edges / edges[..., -1:]).clamp(min=accept_probability(p, q, draft)[..., None])
    return edges.diff(dim=-1, prepend=accept_probability(p, q, draft)[..., None])


def _partial_sum(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
    """Inversion up to the sum over the first half; where that is 0 it runs off the end."""
    left = residual(p, q)
    left = left * (torch.arange(left.shape[-1], device=left.device) < (left.shape[-1] + 1) // 2)
    last = torch.arange(left.shape[-1], device=left.device) == left.shape[-1] - 1
    return torch.where(left.sum(-1, keepdim=True) > 0, left, last.to(left.dtype))


def _rewarped(t: float, p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
    return temperature(residual(p, q), t)


DEFECTS = (
    Defect(
        id="recovered-from-target",
        category="residual",
        source="junhyukso/SCD cosmos speculative_sampler.py (its SJD baseline)",
        mechanism="A rejected draft is replaced by a plain draw from p, which may be the rejected token again.",
        conditions="p differs from q",
        smallest=Smallest("dense-2x8", 1, initial="repeat-left"),
        assemble=judged(lambda _: _recovering(lambda p, q, draft: p)),
    ),
    Defect(
        id="residual-softmaxed",
        category="residual",
        source="huggingface/transformers PR #28508",
        mechanism="(p - q)+ goes through a softmax instead of being normalised, so that every token gets a share.",
        conditions="p differs from q",
        smallest=Smallest("dense-2x8", 1, draft="perturbed"),
        assemble=judged(lambda _: _recovering(_softmaxed)),
    ),
    Defect(
        id="residual-by-list-position",
        category="residual",
        source="ggml-org/llama.cpp examples/speculative/speculative.cpp",
        mechanism="p and q are lists of different tokens, and are subtracted entry by entry, not token by token.",
        conditions="supports that differ",
        smallest=Smallest("sparse-3x5", 1, draft="perturbed"),
        assemble=judged(lambda _: _recovering(_by_position)),
    ),
    Defect(
        id="residual-rewarped",
        category="residual",
        source="tyshiwo1/Accelerating-T2I-AR-with-SJD scheduler/jacobi_iteration_lumina_mgpt.py; "
        "Alpha-VLLM/Lumina-mGPT-2.0; junhyukso/GSD",
        mechanism="(p - q)+ passes through the logits processors again although p and q are already processed.",
        conditions="a temperature (the strength) other than 1; a residual over at least 2 tokens",
        smallest=Smallest("dense-3x6", 1, initial="repeat-left"),
        assemble=judged(lambda t: _recovering(partial(_rewarped, t))),
        strength=0.5,
        harmless=1.0,
    ),
    Defect(
        id="inplace-target-zeroed",
        category="residual",
        source="vllm-project/vllm-ascend PR #2881",
        mechanism="The residual of a one-hot draft is made in place before the draft is tested: its p then reads as 0.",
        conditions="one-hot drafts with p > 0",
        smallest=Smallest("dense-2x8", 1, initial="repeat-left"),
        assemble=judged(_zeroed),
    ),
    Defect(
        id="residual-smoothing-leak",
        category="residual",
        source="junhyukso/SCD cosmos speculative_sampler.py",
        mechanism="A small constant added to every entry of (p - q)+ and to q, against division by zero, leaks into "
        "the law.",
        conditions="p differs from q; the constant is the strength",
        smallest=Smallest("sparse-3x5", 1, initial="repeat-left"),
        assemble=judged(_smoothed),
        strength=1e-10,
        harmless=0.0,
    ),
    Defect(
        id="q-clamped-0.99-in-residual",
        category="residual",
        source="mutation of the residual; Alpha-VLLM/Lumina-mGPT-2.0 has it, but residual-only-if-disjoint hides it "
        "there",
        mechanism="In the residual, q is clamped to at most the strength, so that a token that was just rejected may "
        "come back.",
        conditions="one-hot drafts, p above the clamp",
        smallest=Smallest("sharp-3x6", 1, initial="repeat-left"),
        assemble=judged(lambda top: _recovering(lambda p, q, draft: residual(p, q.clamp(max=top)))),
        strength=0.99,
        harmless=1.0,
    ),
    Defect(
        id="residual-only-if-disjoint",
        category="residual",
        source="Alpha-VLLM/Lumina-mGPT-2.0 generate_examples/sjds.py at f44a4d7, get_reject_sampling_logits",
        mechanism="A guard against an empty residual d = (p - min(q, 0.99))+ asks for sum d + 1e-7 > 1, which only "
        "disjoint laws fulfil, and else draws from p.",
        conditions="p differs from q, with something in common",
        smallest=Smallest("dense-2x8", 1, initial="repeat-left"),
        assemble=judged(lambda _: _recovering(_if_disjoint)),
    ),
    Defect(
        id="accept-uniform-reused-in-residual",
        category="randomness reuse",
        source="flashinfer-ai/flashinfer PR #424; vllm-project/vllm-ascend PR #16370",
        mechanism="The coin that rejected a draft, which is known to be large, also picks the token from the residual.",
        conditions="a residual over at least 2 tokens",
        smallest=Smallest("dense-3x6", 1, draft="perturbed"),
        assemble=judged(lambda _: _recovering(_same_coin)),
    ),
    Defect(
        id="missing-sync-partial-residual-sum",
        category="residual",
        source="flashinfer-ai/flashinfer PR #424",
        mechanism="The residual is normalised by an incomplete sum, so that inversion never reaches the last tokens.",
        conditions="a residual with mass on the second half of the vocabulary, other than on the last token alone",
        smallest=Smallest("dense-3x6", 1, draft="perturbed"),
        assemble=judged(lambda _: _recovering(_partial_sum)),
    ),
)
