"""Wrong tests of a draft token: what is kept, and how often."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from specverify.declared import Smallest
from specverify.decoders.protocol import Decoder
from specverify.decoders.registry import Settings
from specverify.decoders.speculative import Speculative
from specverify.defects.defect import Defect, Judge, drafting, judged
from specverify.model import Model
from specverify.processors import temperature
from specverify.rules.token import accept_probability, at, residual


def _always(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
    return torch.ones_like(at(p, draft))


def _first_always(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
    first = torch.arange(draft.shape[-1], device=draft.device) == 0
    return accept_probability(p, q, draft).masked_fill(first, 1.0)


def _second_never(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
    behind = torch.arange(draft.shape[-1], device=draft.device) > 0
    return accept_probability(p, q, draft).masked_fill(behind, 0.0)


def _certain_always(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
    return accept_probability(p, q, draft).masked_fill(at(q, draft) == 1, 1.0)


def _inverted(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
    return accept_probability(q, p, draft)


def _coarse_coin(bits: float) -> Judge:
    """A coin is one of 2^bits equally likely values k / 2^bits, and passes if it is at most the ratio."""
    values = float(2**bits)

    def keep(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
        passing: Tensor = (accept_probability(p, q, draft) * values).floor() + 1
        return (passing / values).clamp(max=1)

    return Judge(keep)


def _at_a_rate(rate: float) -> Judge:
    return Judge(lambda p, q, draft: torch.full_like(at(p, draft), rate), lambda p, q, draft: p)


def _is_favourite(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
    return (draft == p.argmax(-1)).to(p.dtype)


def _favourite(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
    return one_hot(p.argmax(-1), p.shape[-1]).to(p.dtype)


def _unless_zero(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
    return accept_probability(p, q, draft).masked_fill(draft == 0, 0.0)


def _target_after_zero(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
    return torch.where((draft == 0)[..., None], p, residual(p, q))


def _keyed(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
    """Given the draft x, the number that chose it by inversion is uniform on x's interval of q; it is also the coin."""
    width = at(q, draft)
    low = at(q.cumsum(-1), draft) - width
    return ((accept_probability(p, q, draft) - low) / width).clamp(0, 1)


def _raw_ratio(t: float) -> Judge:
    """The laws at hand are those at temperature t; before it they were at temperature 1 / t of these."""

    def keep(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
        return accept_probability(temperature(p, 1 / t), temperature(q, 1 / t), draft)

    return Judge(keep)


def _special(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
    special = model.vocab - 1 if model.eos is None else model.eos

    def keep(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
        return accept_probability(p, q, draft).masked_fill(draft == special, 1.0)

    return Speculative(drafting(settings), settings.window, Judge(keep)), model


DEFECTS = (
    Defect(
        id="accept-all-prefix-count",
        category="acceptance rule",
        source="huggingface/transformers PR #28508",
        mechanism="The count of leading matches always comes out as the whole window, so that every draft is kept.",
        conditions="p differs from q",
        smallest=Smallest("dense-2x8", 1, draft="perturbed"),
        assemble=judged(lambda _: Judge(_always)),
    ),
    Defect(
        id="first-draft-unverified",
        category="acceptance rule",
        source="ohdearquant/lattice issue #243",
        mechanism="Row i of the logits is compared with draft i + 1: the first draft of a window is never tested.",
        conditions="p differs from q",
        smallest=Smallest("dense-2x8", 1, draft="perturbed"),
        assemble=judged(lambda _: Judge(_first_always)),
    ),
    Defect(
        id="shape-bug-accept-count",
        category="acceptance rule",
        source="lucidrains/speculative-decoding commit a536030",
        mechanism="How many drafts are accepted is read off the first alone: when it passes, the second token comes "
        "from the residual as if its draft had been rejected.",
        conditions="a window of at least 2",
        smallest=Smallest("dense-2x8", 2, draft="perturbed"),
        assemble=judged(lambda _: Judge(_second_never)),
    ),
    Defect(
        id="synthetic-prob-always-accept",
        category="acceptance rule",
        source="openvinotoolkit/openvino.genai PR #2331",
        mechanism="A deterministic draft carries a made-up probability where the test reads a ratio, and passes.",
        conditions="one-hot drafts that p is not certain of",
        smallest=Smallest("dense-2x8", 1, initial="repeat-left"),
        assemble=judged(lambda _: Judge(_certain_always)),
    ),
    Defect(
        id="synthetic-acceptance",
        category="acceptance rule",
        source="vllm-project/vllm issue #39359; ggml-org/llama.cpp issue #27711: engines' mode for benchmarks",
        mechanism="Drafts are kept at a set rate (the strength), whatever p and q are; others are drawn from p.",
        conditions="p differs from q",
        smallest=Smallest("dense-2x8", 1, draft="perturbed"),
        assemble=judged(_at_a_rate),
        strength=0.8,
        harmless=0.0,
    ),
    Defect(
        id="inverted-ratio",
        category="acceptance rule",
        source="mutation of Leviathan et al., arXiv 2211.17192, algorithm 1",
        mechanism="A draft is kept with probability min(1, q/p), the ratio upside down.",
        conditions="p differs from q",
        smallest=Smallest("dense-2x8", 1, draft="perturbed"),
        assemble=judged(lambda _: Judge(_inverted)),
    ),
    Defect(
        id="zero-coin-inclusive",
        category="acceptance rule",
        source="sgl-project/sglang issue #35771 and PR #35798; SafeAILab/EAGLE; ggml-org/llama.cpp "
        "examples/speculative",
        mechanism="A coin of finite precision on [0, 1) passes if it equals the ratio: 0 accepts what p forbids.",
        conditions="p differs from q; plainest where p has zeros. Of size 2^-bits, strength being the coin's bits",
        smallest=Smallest("sparse-3x5", 1, initial="repeat-left"),
        assemble=judged(_coarse_coin),
        strength=24.0,
        harmless=64.0,
    ),
    Defect(
        id="argmax-verify-at-temperature",
        category="acceptance rule",
        source="lablup/mlxcel issue #902; hao-ai-lab/LookaheadDecoding PR #6; EricLBuehler/mistral.rs PR #2424",
        mechanism="Drafts are verified against the argmax of p, which replaces a mismatch; only bonuses are drawn.",
        conditions="p is not one-hot",
        smallest=Smallest("dense-2x8", 1, draft="perturbed"),
        assemble=judged(lambda _: Judge(_is_favourite, _favourite)),
    ),
    Defect(
        id="match-else-redraw",
        category="acceptance rule",
        source="variant of the matching rule of ml-explore/mlx-swift-lm PR #459 and lablup/mlxcel PR #992",
        mechanism="A draft is kept if a token drawn from p equals it; if not, that one is discarded, another drawn.",
        conditions="p is not one-hot",
        smallest=Smallest("dense-2x8", 1, draft="perturbed"),
        assemble=judged(lambda _: Judge(lambda p, q, draft: at(p, draft), lambda p, q, draft: p)),
    ),
    Defect(
        id="pad-id-collides-with-token-0",
        category="acceptance rule",
        source="SafeAILab/EAGLE before commit 476cac0",
        mechanism="Id 0 pads missing candidates: a true draft 0 is neither tested nor subtracted, but replaced from p.",
        conditions="q(0) > 0",
        smallest=Smallest("zero-3x5", 1, draft="perturbed"),
        assemble=judged(lambda _: Judge(_unless_zero, _target_after_zero)),
    ),
    Defect(
        id="greedy-with-raw-ratio",
        category="acceptance rule",
        source="jaymody/speculative-sampling issues #3 and #9, at temperature 0",
        mechanism="Drafts and recovered tokens are drawn at a temperature, but accepted by the ratio of the raw laws.",
        conditions="a temperature (the strength) other than 1",
        smallest=Smallest("dense-2x8", 1, draft="perturbed"),
        assemble=judged(_raw_ratio),
        strength=0.5,
        harmless=1.0,
    ),
    Defect(
        id="forced-accept-special-tokens",
        category="acceptance rule",
        source="jadohu/LANTERN models/ea_model_lumina_mgpt.py",
        mechanism="A drafted token of the image's syntax (here the last id, or the end of sequence) is accepted "
        "whatever p says.",
        conditions="a drafted syntax token with p < q",
        smallest=Smallest("raster-4x6", 1, initial="repeat-left"),
        assemble=_special,
    ),
    Defect(
        id="accept-uniform-keyed-like-draft",
        category="randomness reuse",
        source="vllm-project/vllm PR #47386; twin generators with one seed in junhyukso/SCD cosmos",
        mechanism="The uniform number that drew the draft is also the coin that accepts it.",
        conditions="p differs from q",
        smallest=Smallest("dense-2x8", 1, draft="perturbed"),
        assemble=judged(lambda _: Judge(_keyed)),
    ),
)
