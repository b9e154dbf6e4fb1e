"""Known-wrong verification kernels, rebuilt from the defects of public code, and controls that only look wrong.

They test the checks of `specverify.subjects.round`, each of which names the defects that it is for: `standard` (the
contract, independence, laws by sampling), `forced-coins` (coins at the edges, and laws by integrating over coins) and
`nan-rows`. Each is the kernel of `subjects/rounds/reference.py` with one part replaced. Where a flaw lies between the
kernel and its drafts, the kernel is given what it would then see: another q than the drafts' own.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from specverify.errors import InputError
from specverify.rules.token import accept_probability, at, residual
from specverify.subjects.rounds.conventions import tossing
from specverify.subjects.rounds.kernel import Kernel, Outcome, Round, block, process
from specverify.subjects.rounds.reference import (
    BLOCK,
    Parts,
    Scene,
    block_keep,
    block_recover,
    inverse,
    kernel,
    sample_and_match,
    verify,
    without_bonus,
)

Category = Literal[
    "acceptance rule",
    "residual",
    "draft-distribution mismatch",
    "randomness reuse",
    "bonus token",
    "processor mismatch",
    "greedy",
    "numerical",
    "batching",
    "declared lossy",
    "control",
]
Check = Literal["standard", "forced-coins", "nan-rows", "none"]


@dataclass(frozen=True)
class RoundDefect:
    """A kernel that claims to be lossless and is not, or a control that is although it looks wrong.

    Attributes:
        id: its name.
        category: which part is wrong; "control" if none is.
        source: where it was shipped, proposed or suspected.
        mechanism: what happens.
        conditions: without these it does not show.
        caught_by: the check that refutes it; "none" for controls.
        kernel: the kernel.
        level: where it lives.
    """

    id: str
    category: Category
    source: str
    mechanism: str
    conditions: str
    caught_by: Check
    kernel: Kernel
    level: str = "round"

    @property
    def lossy(self) -> bool:
        """Whether the law of its output is wrong."""
        return self.category != "control"


def names() -> tuple[str, ...]:
    """All of them: the defects, then the controls, which are not `lossy`."""
    return tuple(_DEFECTS)


def get(name: str) -> RoundDefect:
    """What is known of one.

    Raises:
        InputError: for an unknown name, with the nearest known ones.
    """
    if name not in _DEFECTS:
        near = difflib.get_close_matches(name, _DEFECTS, n=3, cutoff=0.3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(_DEFECTS)}"
        raise InputError(f"unknown round defect {name!r}; {hint}")
    return _DEFECTS[name]


# Which drafts pass


def _ratio(scene: Scene) -> Tensor:
    return accept_probability(scene.p, scene.q, scene.draft)


def _first_always(scene: Scene) -> Tensor:
    return _ratio(scene).index_fill(1, torch.tensor([0]), 1.0)


def _second_never(scene: Scene) -> Tensor:
    return _ratio(scene) * (torch.arange(scene.draft.shape[1]) == 0)


def _favourite(scene: Scene) -> Tensor:
    return one_hot(scene.p.argmax(-1), scene.p.shape[-1]).to(scene.p.dtype)


def _clustered(scene: Scene, fallback: bool) -> Tensor:
    """Ratio of the masses of the draft and its neighbours by rank; at the first rank an empty slice, if `fallback`."""
    order = scene.p.argsort(dim=-1, descending=True, stable=True)
    place = (order == scene.draft[..., None]).int().argmax(-1, keepdim=True)
    near = (torch.arange(order.shape[-1]) - place).abs() <= 1
    p, q = ((law.gather(-1, order) * near).sum(-1) for law in (scene.p, scene.q))
    exact = (place[..., 0] == 0) & fallback
    return torch.where(exact, _ratio(scene), (p / q).clamp(max=1))


def _stale_target(scene: Scene) -> Tensor:
    """p of the draft, or of the last draft before it that the target's list holds."""
    p = at(scene.p, scene.draft).unbind(1)
    kept = [p[0]]
    for each in p[1:]:
        kept.append(torch.where(each > 0, each, kept[-1]))
    return (torch.stack(kept, 1) / at(scene.q, scene.draft)).clamp(max=1)


def _typical(scene: Scene) -> Tensor:
    entropy = -torch.special.xlogy(scene.p, scene.p).sum(-1)
    return (at(scene.p, scene.draft) > torch.minimum(torch.tensor(0.09), 0.3 * (-entropy).exp())).float()


# What replaces a rejected draft


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


def _partial_sum(law: Tensor, pick: Tensor) -> Tensor:
    """Inversion against the sum over the first half of the vocabulary; it runs off the end where that is 0."""
    size = law.shape[-1]
    total = law[:, : (size + 1) // 2].sum(-1)
    token = (law.cumsum(-1)[:, :-1] <= (pick * total)[:, None]).sum(-1)
    return torch.where(total > 0, token, size - 1)


# Which law the drafts are taken to come from


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


# Which coins are tossed


def _keyed(scene: Scene) -> Tensor:
    """Given the draft x, the number that chose it by inversion is uniform on x's part of q; it is the coin as well."""
    width = at(scene.q, scene.draft)
    return at(scene.q.cumsum(-1), scene.draft) - width + scene.coins * width


def _rescaled(scene: Scene, slot: Tensor) -> Tensor:
    """What a rejecting coin says beyond that it rejects: uniform on [0, 1) again."""
    keep = at(_ratio(scene), slot)
    return ((at(scene.coins, slot) - keep) / (1 - keep)).clamp(0, 1 - 2.0**-24)


def _tossed(name: str, toss: Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]) -> Kernel:
    """The reference with other coins: toss(rows, gamma, generator) -> coins, pick."""

    def verify_round(given: Round, generator: torch.Generator) -> Outcome:
        rows, gamma = given.draft.shape
        return verify(Parts(), given, *toss(rows, gamma, generator))

    return Kernel(name, verify_round)


def _one_row(rows: int, gamma: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.rand(1, gamma, generator=generator).expand(rows, -1), torch.rand(1, generator=generator).expand(rows)


def _restarted(rows: int, gamma: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    generator.manual_seed(42)
    return torch.rand(rows, gamma, generator=generator), torch.rand(rows, generator=generator)


def _unseeded(rows: int, gamma: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    seeded = torch.arange(rows) % 2 == 0
    coins, pick = torch.rand(rows, gamma, generator=generator), torch.rand(rows, generator=generator)
    return coins * seeded[:, None], pick * seeded


def _only_with_drafts(given: Round, generator: torch.Generator) -> Outcome:
    """Coins are drawn for the rows that have drafts; a second set, so that the stream moves on in any case."""
    coins, pick = torch.zeros(given.draft.shape), torch.rand(len(given.lengths), generator=generator)
    some = given.lengths > 0
    coins[some] = torch.rand(int(some.sum()), given.draft.shape[1], generator=generator)
    torch.rand(int((~some).sum()), generator=generator)
    return verify(Parts(), given, coins, pick)


def _two_ranks(given: Round, generator: torch.Generator) -> Outcome:
    """One rank counts the accepted drafts, another draws the token that follows, at its own count."""
    draw = tossing(lambda given, coins, pick: verify(Parts(), given, coins, pick))
    here, there = draw(given, generator), draw(given, generator)
    return block(here.accepted, at(there.tokens, there.accepted), given)


def _coarse_race(bits: int) -> Kernel:
    """Gumbel noise from uniforms of so many bits, for the token that follows."""

    def verify_round(given: Round, generator: torch.Generator) -> Outcome:
        coins = torch.rand(given.draft.shape, generator=generator)
        uniform = torch.rand(len(coins), given.p.shape[-1], generator=generator)
        steps = 2.0**bits
        race = -(((uniform * steps).floor() + 0.5) / steps).log()
        parts = Parts(choose=lambda law, pick: torch.where(law > 0, race / law, torch.inf).argmin(-1))
        return verify(parts, given, coins, coins[:, 0])

    return Kernel("uniform-24bit-tail-truncation", verify_round)


def _two_candidates(renormalised: bool) -> Callable[[Round, torch.Generator], Outcome]:
    """A rejected draft has a second candidate, drawn from q without it, that is tested against the residual."""

    def verify_round(given: Round, generator: torch.Generator) -> Outcome:
        second, coin, coins = (torch.rand(given.draft.shape, generator=generator) for _ in range(3))

        def recover(scene: Scene) -> Tensor:
            left = residual(scene.p, scene.q)
            without = scene.q.scatter(-1, scene.draft[..., None], 0.0)
            mass = without.sum(-1, keepdim=True)
            other = torch.where(mass > 0, without / mass, scene.p)
            size = scene.p.shape[-1]
            token = inverse(other.reshape(-1, size), second.flatten()).view_as(scene.draft)
            tested = other if renormalised else torch.where(mass > 0, scene.q, other)
            passes = coin < accept_probability(left, tested, token)
            chosen = torch.where(passes[..., None], one_hot(token, size).to(left.dtype), residual(left, tested))
            return torch.where(mass > 0, chosen, left)

        return verify(Parts(recover=recover), given, coins, torch.rand(len(coins), generator=generator))

    return verify_round


# Which target laws are used


def _sampled_raw(given: Round) -> Tensor:
    return torch.where((given.temperature == 0)[:, None, None], given.p, given.raw)


def _without_top_k(given: Round) -> Tensor:
    return process(given.raw, given.temperature, torch.full_like(given.top_k, given.raw.shape[-1]))


def _mask_until_padding(given: Round) -> Tensor:
    short = given.lengths < given.draft.shape[1]
    return torch.where(short[:, None, None], _without_top_k(given), given.p)


def _greedy_ratio(scene: Scene) -> Tensor:
    raw = accept_probability(scene.given.raw[:, :-1], scene.q, scene.draft)
    return torch.where((scene.given.temperature == 0)[:, None], raw, _ratio(scene))


def _divided_by_zero(given: Round) -> Tensor:
    greedy = (given.temperature == 0)[:, None, None]
    return torch.where(greedy, (given.raw.log() / given.temperature[:, None, None]).softmax(-1), given.p)


def _other_kernel(given: Round) -> Tensor:
    """Laws off by a factor of 1 -+ 0.001 per draft of the window, as of another order of summation."""
    sign = torch.where(torch.arange(given.raw.shape[-1]) % 2 == 0, 1.0, -1.0)
    bent = given.raw * (1 + 0.001 * given.lengths[:, None, None] * sign)
    return process(bent / bent.sum(-1, keepdim=True), given.temperature, given.top_k)


def _last_row(given: Round) -> Tensor:
    """The bonus law of a full row, at every slot."""
    return given.p[:, -1:].expand_as(given.p)


def _next_request(given: Round) -> Tensor:
    """The laws of the next row of the batch."""
    return given.p.roll(-1, 0)


def _made(
    id: str, category: Category, caught_by: Check, source: str, mechanism: str, conditions: str, parts: Parts | Kernel
) -> RoundDefect:
    made = kernel(id, parts) if isinstance(parts, Parts) else parts
    return RoundDefect(id, category, source, mechanism, conditions, caught_by, made)


_KNOWN = (
    _made(
        "accept-all-prefix-count",
        "acceptance rule",
        "standard",
        "huggingface/transformers PR #28508",
        "The count of leading matches always comes out as all drafts, so that every one is kept.",
        "p differs from q",
        Parts(count=lambda passed, scene: scene.given.lengths),
    ),
    _made(
        "first-draft-unverified",
        "acceptance rule",
        "standard",
        "ohdearquant/lattice issue #243",
        "Row i of the laws is compared with draft i + 1: the first draft is never tested.",
        "p differs from q",
        Parts(keep=_first_always),
    ),
    _made(
        "synthetic-prob-always-accept",
        "acceptance rule",
        "standard",
        "openvinotoolkit/openvino.genai PR #2331",
        "A certain draft carries a made-up probability where the test reads a ratio, and passes.",
        "one-hot drafts, or none with a law, that p is not certain of",
        Parts(keep=lambda scene: _ratio(scene).masked_fill(at(scene.q, scene.draft) == 1, 1.0)),
    ),
    _made(
        "zero-coin-inclusive",
        "acceptance rule",
        "forced-coins",
        "sgl-project/sglang issue #35771 and PR #35798; SafeAILab/EAGLE; ggml-org/llama.cpp examples/speculative",
        "A coin that equals the ratio passes: 0 accepts what p forbids, once in 2^24 draws of a float32 coin.",
        "p with zeros, and a coin of 0",
        Parts(passes=lambda coin, keep: coin <= keep),
    ),
    _made(
        "argmax-verify-at-temperature",
        "acceptance rule",
        "standard",
        "lablup/mlxcel issue #902; hao-ai-lab/LookaheadDecoding PR #6; EricLBuehler/mistral.rs PR #2424",
        "Drafts are verified against the argmax of p, which replaces a mismatch; only bonuses are drawn.",
        "p is not one-hot",
        Parts(keep=lambda scene: at(_favourite(scene), scene.draft), recover=_favourite),
    ),
    _made(
        "match-else-redraw",
        "acceptance rule",
        "standard",
        "variant of the matching rule of ml-explore/mlx-swift-lm PR #459 and lablup/mlxcel PR #992",
        "A draft is kept if a token drawn from p equals it; if not, that one is discarded and another drawn.",
        "p is not one-hot",
        Parts(keep=lambda scene: at(scene.p, scene.draft), recover=lambda scene: scene.p),
    ),
    _made(
        "block-verify-tokenwise-accept",
        "acceptance rule",
        "standard",
        "vllm-project/vllm-ascend issue #7807 and PR #7808",
        "As many drafts are kept as end with the last that passes, but each is tested and replaced by the token rule.",
        "gamma of at least 2",
        Parts(count=BLOCK.count),
    ),
    _made(
        "block-verify-break-at-first",
        "acceptance rule",
        "standard",
        "review suggestion on vllm-project/vllm-ascend PR #11985",
        "Block verification stops at the first draft that fails instead of going on to the last that passes.",
        "gamma of at least 2",
        Parts(keep=block_keep, recover=block_recover),
    ),
    _made(
        "shape-bug-accept-count",
        "acceptance rule",
        "standard",
        "lucidrains/speculative-decoding commit a536030",
        "How many drafts are accepted is read off the first alone: when it passes, the second token comes from the "
        "residual as if its draft had been rejected.",
        "gamma of at least 2",
        Parts(keep=_second_never),
    ),
    _made(
        "cluster-ratio-token-residual",
        "acceptance rule",
        "standard",
        "junhyukso/GSD scheduler/jacobi_iteration_lumina_mgpt.py; jadohu/LANTERN; here with one neighbour to each side",
        "A draft passes with the ratio of its neighbourhood's masses, and is replaced from the residual of tokens.",
        "at least 3 tokens",
        Parts(keep=lambda scene: _clustered(scene, fallback=False)),
    ),
    _made(
        "exception-fallback-to-other-rule",
        "acceptance rule",
        "standard",
        "junhyukso/GSD scheduler/jacobi_iteration_lumina_mgpt.py; here with one neighbour to each side",
        "For the first ranks the neighbourhood is an empty slice, whose exception is caught by the exact rule.",
        "tokens of both kinds of rank",
        Parts(keep=lambda scene: _clustered(scene, fallback=True)),
    ),
    _made(
        "duplicate-node-reverified",
        "acceptance rule",
        "standard",
        "SafeAILab/EAGLE before commit 476cac0; ggml-org/llama.cpp examples/speculative; here a chain listed twice",
        "A rejected draft is tested once more against the residual, fails, and q is subtracted a second time.",
        "q that is not one-hot, a residual over at least 2 tokens",
        Parts(recover=lambda scene: residual(residual(scene.p, scene.q), scene.q)),
    ),
    _made(
        "pad-id-collides-with-token-0",
        "acceptance rule",
        "standard",
        "SafeAILab/EAGLE before commit 476cac0",
        "Id 0 pads missing candidates: a true draft 0 is neither tested nor subtracted, but replaced from p.",
        "q(0) > 0",
        Parts(
            keep=lambda scene: _ratio(scene).masked_fill(scene.draft == 0, 0.0),
            recover=lambda scene: torch.where((scene.draft == 0)[..., None], scene.p, residual(scene.p, scene.q)),
        ),
    ),
    _made(
        "stale-target-prob-when-absent",
        "acceptance rule",
        "standard",
        "ggml-org/llama.cpp examples/speculative/speculative.cpp; there over sequences, here over slots",
        "Where the target's list lacks the draft, its probability keeps the value of the one tested before.",
        "p with zeros, gamma of at least 2",
        Parts(keep=_stale_target),
    ),
    _made(
        "forced-accept-special-tokens",
        "acceptance rule",
        "standard",
        "jadohu/LANTERN models/ea_model_lumina_mgpt.py",
        "A drafted token of the image's syntax (here the last id) is accepted whatever p says.",
        "a drafted syntax token with p < q",
        Parts(keep=lambda scene: _ratio(scene).masked_fill(scene.draft == scene.p.shape[-1] - 1, 1.0)),
    ),
    _made(
        "recovered-from-target",
        "residual",
        "standard",
        "junhyukso/SCD cosmos speculative_sampler.py (its SJD baseline)",
        "A rejected draft is replaced by a plain draw from p, which may be the rejected token again.",
        "p differs from q",
        Parts(recover=lambda scene: scene.p),
    ),
    _made(
        "residual-softmaxed",
        "residual",
        "standard",
        "huggingface/transformers PR #28508",
        "(p - q)+ goes through a softmax instead of being normalised, so that every token gets a share.",
        "p differs from q",
        Parts(recover=lambda scene: (scene.p - scene.q).clamp(min=0).softmax(-1)),
    ),
    _made(
        "residual-by-list-position",
        "residual",
        "standard",
        "ggml-org/llama.cpp examples/speculative/speculative.cpp",
        "p and q are lists of different tokens, and are subtracted entry by entry, not token by token.",
        "supports that differ",
        Parts(recover=_by_position),
    ),
    _made(
        "residual-rewarped",
        "residual",
        "standard",
        "tyshiwo1/Accelerating-T2I-AR-with-SJD; Alpha-VLLM/Lumina-mGPT-2.0; junhyukso/GSD",
        "(p - q)+ passes through temperature and top-k again although p is already processed.",
        "a temperature other than 1, a residual over at least 2 tokens",
        Parts(recover=_rewarped),
    ),
    _made(
        "inplace-target-zeroed",
        "residual",
        "standard",
        "vllm-project/vllm-ascend PR #2881",
        "The residual of a certain draft is made in place before the draft is tested: its p then reads as 0.",
        "drafts without a law, or one-hot, with p > 0",
        Parts(keep=lambda scene: _ratio(scene).masked_fill(at(scene.q, scene.draft) == 1, 0.0)),
    ),
    _made(
        "nan-draft-row-re-emits-rejected",
        "residual",
        "nan-rows",
        "vllm-project/vllm PR #41834",
        "A draft law of NaN leaves no residual at all, and the first token is emitted: the one just rejected.",
        "a draft law of NaN, token 0 with p = 0",
        Parts(recover=_nan_as_zero),
    ),
    _made(
        "residual-smoothing-leak",
        "residual",
        "forced-coins",
        "junhyukso/SCD cosmos speculative_sampler.py",
        "1e-10 is added to every entry of (p - q)+ before it is normalised, and leaks into what p forbids.",
        "p with zeros, and a pick at the edge of a token's part",
        Parts(recover=_smoothed),
    ),
    _made(
        "q-clamped-0.99-in-residual",
        "residual",
        "forced-coins",
        "Alpha-VLLM/Lumina-mGPT-2.0 sjds.py",
        "In the residual q is clamped to 0.99, so that a token that was just rejected may come back.",
        "one-hot drafts with p > 0.99",
        Parts(recover=lambda scene: residual(scene.p, scene.q.clamp(max=0.99))),
    ),
    _made(
        "block-verify-tokenwise-residual",
        "residual",
        "forced-coins",
        "vllm-project/vllm-ascend issue #7807 and PR #7808",
        "Block verification replaces a draft from (p - q)+ instead of (w p - q)+.",
        "gamma of at least 2, w < 1 at the cut, a residual over at least 2 tokens",
        Parts(keep=block_keep, count=BLOCK.count),
    ),
    _made(
        "raw-q-for-processed-draw",
        "draft-distribution mismatch",
        "standard",
        "huggingface/transformers issue #47932 and PR #47961; mlx-node/mlx-node PR #11",
        "Drafts are drawn from a truncated law, and verified with the law before truncation as q.",
        "q with zeros",
        Parts(draft_law=_unprocessed),
    ),
    _made(
        "argmax-draw-softmax-q",
        "draft-distribution mismatch",
        "standard",
        "jaymody/speculative-sampling issue #3; huggingface/transformers issue #32867; ggml-org/llama.cpp",
        "The draft is certain, an argmax, and is verified with the softmax behind it as q.",
        "one-hot drafts, or none with a law",
        Parts(draft_law=_softened),
    ),
    _made(
        "bf16-draw-fp32-ratio",
        "draft-distribution mismatch",
        "forced-coins",
        "deepseek-ai/DeepSpec issue #31 and PR #30",
        "Drafts are drawn in one precision, and verified with the softmax of bfloat16 logits as q.",
        "logits that bfloat16 rounds, p that differs from q",
        Parts(draft_law=_half_precision),
    ),
    _made(
        "without-replacement-q-not-renormalised",
        "draft-distribution mismatch",
        "standard",
        "mutation of SafeAILab/EAGLE commits e614946 and 2d2d039",
        "A rejected draft has a second candidate, drawn without replacement but tested with the full q.",
        "q that is not one-hot",
        Kernel("without-replacement-q-not-renormalised", _two_candidates(renormalised=False)),
    ),
    _made(
        "accept-uniform-keyed-like-draft",
        "randomness reuse",
        "standard",
        "vllm-project/vllm PR #47386",
        "The uniform number that drew the draft is also the coin that accepts it.",
        "p differs from q",
        Parts(coins=_keyed),
    ),
    _made(
        "accept-uniform-reused-in-residual",
        "randomness reuse",
        "standard",
        "flashinfer-ai/flashinfer PR #424; vllm-project/vllm-ascend PR #16370",
        "The coin that rejected a draft, which is known to be large, also picks the token from the residual.",
        "a residual over at least 2 tokens",
        Parts(pick=lambda scene, slot: at(scene.coins, slot)),
    ),
    _made(
        "shared-stream-across-requests",
        "randomness reuse",
        "standard",
        "vllm-project/vllm issue #50440; NVIDIA/TensorRT-LLM issue #19487, PR #19505 and PR #17599",
        "All rows of a batch use the same coins: each row has the right law, and is a copy of the others.",
        "a batch of at least 2",
        _tossed("shared-stream-across-requests", _one_row),
    ),
    _made(
        "reseed-per-call",
        "randomness reuse",
        "standard",
        "tyshiwo1/Accelerating-T2I-AR-with-SJD `_sample`",
        "Every call starts the generator again with the same seed.",
        "at least 2 calls",
        _tossed("reseed-per-call", _restarted),
    ),
    _made(
        "twin-generators-same-seed",
        "randomness reuse",
        "standard",
        "junhyukso/SCD cosmos model.py",
        "The stream that drew the drafts is drawn once more for coins and recovered tokens.",
        "p differs from q",
        Parts(coins=_keyed, pick=lambda scene, slot: at(_keyed(scene), slot)),
    ),
    _made(
        "rank-divergent-coins",
        "randomness reuse",
        "standard",
        "local-inference-lab/vllm PR #98; vllm-project/vllm issue #17498",
        "Ranks toss their own coins: the drafts that one accepts are followed by the token of another.",
        "at least 2 ranks",
        Kernel("rank-divergent-coins", _two_ranks),
    ),
    _made(
        "bonus-unwarped",
        "bonus token",
        "standard",
        "SafeAILab/EAGLE utils.py from 2f982e2 to bf10ac5",
        "Bonus tokens are drawn from the law before temperature and top-k.",
        "a temperature other than 1, or a top-k",
        Parts(bonus=_sampled_raw),
    ),
    _made(
        "processor-only-on-bonus",
        "bonus token",
        "standard",
        "sgl-project/sglang PR #28242; vllm-project/vllm issue #42744; RightNow-AI/picolm PR #30",
        "Drafts are verified against the law before temperature and top-k; only bonus tokens have them.",
        "a temperature other than 1, or a top-k",
        Parts(target=_sampled_raw),
    ),
    _made(
        "bonus-mask-dropped-after-padding",
        "bonus token",
        "standard",
        "vllm-project/vllm PR #44292",
        "The first padded slot switches the mask (here top-k) off, and the bonus token is drawn without it.",
        "a mask, rows with fewer drafts than slots",
        Parts(bonus=_mask_until_padding),
    ),
    _made(
        "target-unwarped-draft-warped",
        "processor mismatch",
        "standard",
        "vllm-project/vllm issue #9834 and PR #10198; mlc-ai/mlc-llm PR #2940",
        "The target's laws are scored without temperature and top-k, for drafts and bonus alike.",
        "a temperature other than 1, or a top-k",
        Parts(target=_sampled_raw, bonus=_sampled_raw),
    ),
    _made(
        "params-dropped-on-spec-path",
        "processor mismatch",
        "standard",
        "NVIDIA/TensorRT-LLM PR #17701 and #17955; sgl-project/sglang issue #10617; junhyukso/SCD cosmos model.py",
        "The speculative path never reads one parameter, here top-k.",
        "a top-k",
        Parts(target=_without_top_k, bonus=_without_top_k),
    ),
    _made(
        "greedy-with-raw-ratio",
        "greedy",
        "standard",
        "jaymody/speculative-sampling issues #3 and #9",
        "In greedy rows drafts are still accepted by the ratio of p and q at temperature 1.",
        "greedy rows, a draft that is not the argmax",
        Parts(keep=_greedy_ratio),
    ),
    _made(
        "greedy-sentinel-mismatch",
        "greedy",
        "standard",
        "vllm-project/vllm PR #27077",
        "A temperature of 0 is not recognised as greedy, and logits are divided by it.",
        "greedy rows in a mixed batch",
        Parts(target=_divided_by_zero, bonus=_divided_by_zero),
    ),
    _made(
        "verify-kernel-argmax-flip",
        "greedy",
        "standard",
        "ggml-org/llama.cpp issue #25618; kekzl/imp PR #1471; ml-explore/mlx-lm PR #1109",
        "The laws of a window differ from those of single steps in the third decimal, which flips near ties.",
        "greedy rows, near ties",
        Parts(target=_other_kernel, bonus=_other_kernel),
    ),
    _made(
        "uniform-24bit-tail-truncation",
        "numerical",
        "standard",
        "vllm-project/vllm PR #51367 and #37798; here with 6 bits",
        "Gumbel noise from a uniform of few bits is bounded, so that improbable tokens hardly ever win.",
        "few bits, or extreme laws",
        _coarse_race(6),
    ),
    _made(
        "missing-sync-partial-residual-sum",
        "numerical",
        "standard",
        "flashinfer-ai/flashinfer PR #424",
        "Recovered and bonus laws are normalised by an incomplete sum: inversion never reaches the last tokens.",
        "mass on the second half of the vocabulary",
        Parts(choose=_partial_sum),
    ),
    _made(
        "unseeded-rows-uninitialised-noise",
        "batching",
        "standard",
        "vllm-project/vllm PR #10863",
        "In a batch of seeded and unseeded rows the noise of the unseeded is never drawn, and stays 0.",
        "a batch of both kinds",
        _tossed("unseeded-rows-uninitialised-noise", _unseeded),
    ),
    _made(
        "bonus-from-last-slot",
        "batching",
        "standard",
        "mutation: as if every row had all its drafts",
        "The bonus token of a row with fewer drafts is drawn from the law of the last slot, which is padding.",
        "ragged rows",
        Parts(bonus=_last_row),
    ),
    _made(
        "laws-of-next-row",
        "batching",
        "standard",
        "mutation: an index that is off by one",
        "A row is verified against the target laws of the next row.",
        "rows in different contexts",
        Parts(target=_next_request),
    ),
    _made(
        "typical-acceptance",
        "declared lossy",
        "standard",
        "Medusa; vllm-project/vllm PR #5131",
        "A draft is kept if p gives it more than a threshold that falls with the entropy; else the argmax replaces it.",
        "p is not one-hot",
        Parts(keep=_typical, recover=_favourite),
    ),
    _made(
        "lenience",
        "declared lossy",
        "standard",
        "lucidrains/speculative-decoding",
        "A draft is kept with probability min(1, 1.5 p / q).",
        "p differs from q",
        Parts(keep=lambda scene: (1.5 * at(scene.p, scene.draft) / at(scene.q, scene.draft)).clamp(max=1)),
    ),
    _made(
        "token-rule",
        "control",
        "none",
        "Leviathan et al., arXiv 2211.17192",
        "The reference kernel itself.",
        "none",
        Parts(),
    ),
    _made(
        "block-verification",
        "control",
        "none",
        "Sun et al., arXiv 2403.10444",
        "More drafts are kept than by the token rule, with another law of how many; what is emitted is the same.",
        "suspected wherever gamma is at least 2",
        BLOCK,
    ),
    _made(
        "sample-and-match",
        "control",
        "none",
        "ml-explore/mlx-swift-lm PR #459; lablup/mlxcel issue #902 and PR #992; z-lab/dflash issue #74",
        "A token drawn from p is emitted whether or not the draft equals it: every token is a fresh draw from p.",
        "suspected wherever p is not one-hot; it only accepts less",
        Kernel("sample-and-match", tossing(sample_and_match), with_coins=sample_and_match),
    ),
    _made(
        "one-hot-rule-with-any-draft",
        "control",
        "none",
        "SafeAILab/EAGLE issues #183 and #329; sgl-project/sglang issue #9877; vllm-project/vllm issue #40149",
        "A draft from any q is kept with probability p(x), else p without x is drawn from: for every x, p.",
        "suspected wherever q is not one-hot; it only accepts less",
        Parts(draft_law=lambda q, draft: one_hot(draft, q.shape[-1]).to(q.dtype)),
    ),
    _made(
        "bonus-dropped-on-full-accept",
        "control",
        "none",
        "ohdearquant/lattice PR #509; hao-ai-lab/LookaheadDecoding lade/decoding.py",
        "No bonus token is drawn: the next round's first token has the law that it would have had.",
        "suspected wherever all drafts can be accepted; it only emits less",
        Kernel("bonus-dropped-on-full-accept", tossing(without_bonus), with_coins=without_bonus),
    ),
    _made(
        "advance-rng-when-no-draft",
        "control",
        "none",
        "vllm-project/vllm-ascend issue #13608",
        "The generator moves on for rows without drafts as well: other tokens come of a seed, with the same law.",
        "suspected wherever rows have no drafts",
        Kernel("advance-rng-when-no-draft", _only_with_drafts),
    ),
    _made(
        "rescaled-coin-picks",
        "control",
        "none",
        "counterpart of flashinfer-ai/flashinfer PR #424",
        "The coin that rejected a draft, scaled back to [0, 1), picks the token from the residual.",
        "suspected wherever a coin is used twice",
        Parts(pick=_rescaled),
    ),
    _made(
        "second-candidate-without-replacement",
        "control",
        "none",
        "SafeAILab/EAGLE commits e614946 and 2d2d039",
        "A rejected draft has a second candidate, drawn from q without it and tested with that law.",
        "suspected wherever q is not one-hot",
        Kernel("second-candidate-without-replacement", _two_candidates(renormalised=True)),
    ),
)
_DEFECTS = {defect.id: defect for defect in _KNOWN}
