"""Known-wrong samplers, and controls that only look wrong: what goes wrong around a decoder rather than in its step.

Seeds that repeat, streams that rows share, histories that survive a rejection, numbers that are too coarse. Each is
`sample(target, draft, n, seed) -> Run`, a correct speculative decoder but for one mutation. Where a mutation needs
something that a target lacks (a state, an end of sequence, processors), the sampler is right on that target.
"""

from __future__ import annotations

from dataclasses import dataclass

from specverify.catalogue import Catalogue
from specverify.defects import registry
from specverify.defects import sampler_parts as parts
from specverify.defects import sampler_slips as slips
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law
from specverify.model import Model


@dataclass(frozen=True)
class SamplerDefect:
    """A sampler that claims to be lossless and is not, or a control that is although it looks wrong.

    Attributes:
        id: its name.
        category: which part is wrong; "control" if none is.
        source: where it was shipped, proposed or suspected.
        mechanism: what happens.
        conditions: without these it does not show.
        caught_by: the check that it is for.
        sample: the sampler.
        build: the decoder whose law its sequences have one by one, where there is one that can be enumerated.
        level: always "sampler".
    """

    id: str
    category: str
    source: str
    mechanism: str
    conditions: str
    caught_by: str
    sample: parts.Sample
    build: parts.Build | None = None
    level: str = "sampler"

    @property
    def lossy(self) -> bool:
        """Whether its sequences are not independent draws from the target law."""
        return self.category != "control"

    def tv(self, target: Model, draft: Model) -> float | None:
        """The exact total variation of one sequence's law from the target law, or None where it is not known.

        It says nothing of how sequences depend on each other: where only that is wrong, it is 0.
        """
        if self.build is None:
            return None
        decoder, shown = self.build(target, draft)
        return enumerate_decoder(decoder, shown).tv(target_law(target))


def names() -> tuple[str, ...]:
    """All of them, the controls last."""
    return _ALL.names()


def get(name: str) -> SamplerDefect:
    """What is known of one.

    Raises:
        InputError: for an unknown name, with the nearest known ones.
    """
    return _ALL[name]


def _of_defect(name: str, caught_by: str = "e-process") -> SamplerDefect:
    """A known-wrong decoder's flaw, end to end."""
    defect, build = registry.get(name), parts.decoder_defect(name)
    return SamplerDefect(
        name, defect.category, defect.source, defect.mechanism, defect.conditions, caught_by, parts.over(build), build
    )


_SAMPLERS = (
    SamplerDefect(
        id="shared-stream-across-requests",
        category="randomness reuse",
        source="vllm-project/vllm issue #50440; NVIDIA/TensorRT-LLM issue #19487 and PR #19505",
        mechanism="All rows of a call consume one stream: each is exact, and all are the same.",
        conditions="at least 2 rows in a call",
        caught_by="copies of neighbours",
        sample=parts.drawing(lambda seed: parts.Flawed(seed, parts.same_in_all_rows)),
        build=parts.right,
    ),
    SamplerDefect(
        id="shared-coins-across-rows",
        category="randomness reuse",
        source="variant of vllm-project/vllm issue #50440",
        mechanism="The coins that accept drafts are drawn once for all rows, the tokens row by row.",
        conditions="at least 2 rows in a call",
        caught_by="dispersion of the first calls",
        sample=parts.drawing(parts.SharedCoins),
        build=parts.right,
    ),
    SamplerDefect(
        id="row-streams-of-consecutive-seeds",
        category="randomness reuse",
        source="variant of NVIDIA/TensorRT-LLM PR #17599",
        mechanism="Row r uses the stream of seed + r, so that calls with consecutive seeds share all but one row.",
        conditions="calls with consecutive seeds",
        caught_by="repeated rows",
        sample=parts.row_streams,
        build=parts.right,
    ),
    SamplerDefect(
        id="reseed-per-call",
        category="randomness reuse",
        source="tyshiwo1/Accelerating-T2I-AR-with-SJD, `_sample` (set_seed(42) in every call)",
        mechanism="Every call restarts the generator with one and the same seed.",
        conditions="at least 2 calls",
        caught_by="copies between calls",
        sample=parts.same_seed,
        build=parts.right,
    ),
    SamplerDefect(
        id="reseed-per-batch",
        category="randomness reuse",
        source="variant of tyshiwo1/Accelerating-T2I-AR-with-SJD, `_sample`",
        mechanism="The requests of a call are served in batches of 64, each with a generator of the call's seed.",
        conditions="a call of more rows than a batch",
        caught_by="repeated rows",
        sample=parts.same_blocks,
        build=parts.right,
    ),
    SamplerDefect(
        id="twin-generators-same-seed",
        category="randomness reuse",
        source="junhyukso/SCD cosmos/.../model.py",
        mechanism="Drafts and coins come from two generators of one seed, so that where their offsets agree a "
        "coin is the number that drew its draft.",
        conditions="aligned offsets, as at the first draft of a call with a window of 1",
        caught_by="e-process",
        sample=parts.twins,
    ),
    SamplerDefect(
        id="rank-divergent-coins",
        category="randomness reuse",
        source="local-inference-lab/vllm PR #98; vllm-project/vllm issue #17498",
        mechanism="Each of two tensor-parallel ranks draws the last token of a step for itself, and keeps its own "
        "in its cache.",
        conditions="at least 2 ranks; a law that depends on the tokens before",
        caught_by="e-process",
        sample=parts.diverging,
    ),
    SamplerDefect(
        id="params-dropped-on-spec-path",
        category="processor mismatch",
        source="NVIDIA/TensorRT-LLM PR #17701; sgl-project/sglang issue #10617; junhyukso/SCD cosmos model.py",
        mechanism="The speculative path never reads the sampling parameters that the autoregressive path honours.",
        conditions="a target with processors",
        caught_by="e-process",
        sample=parts.over(parts.without_processors),
        build=parts.without_processors,
    ),
    _of_defect("processor-state-shared-by-copy"),
    _of_defect("penalty-counts-last-token-only"),
    _of_defect("window-start-processor-state"),
    _of_defect("cache-not-trimmed"),
    _of_defect("rotating-cache-stale-keys"),
    SamplerDefect(
        id="stale-drafts-when-drafter-skipped",
        category="cache-rollback",
        source="vllm-project/vllm PR #38711",
        mechanism="Where less than a window is left the drafter is skipped, and the last step's drafts are "
        "verified again.",
        conditions="a step that begins with less than a window left",
        caught_by="e-process",
        sample=parts.over(parts.stale),
        build=parts.stale,
    ),
    _of_defect("eos-inside-block-ignored"),
    SamplerDefect(
        id="verify-kernel-argmax-flip",
        category="greedy",
        source="ggml-org/llama.cpp issue #25618; kekzl/imp PR #1471; ml-explore/mlx-lm PR #1109",
        mechanism="A pass over several rows rounds otherwise than one over a single row (here by 1e-3), and flips "
        "the argmax where two tokens are nearly tied.",
        conditions="a greedy target with near ties; else of the size of the rounding",
        caught_by="e-process",
        sample=parts.over(parts.perturbed(1e-3)),
        build=parts.perturbed(1e-3),
    ),
    SamplerDefect(
        id="uniform-24bit-tail-truncation",
        category="numerical",
        source="vllm-project/vllm PR #51367 and PR #37798",
        mechanism="Uniform numbers have too few bits (here 6, not 24), so that what is rarer never comes.",
        conditions="tokens of probability below 2^-bits",
        caught_by="e-process",
        sample=parts.drawing(lambda seed: parts.Flawed(seed, parts.coarse(6))),
    ),
    SamplerDefect(
        id="unseeded-rows-uninitialised-noise",
        category="batching",
        source="vllm-project/vllm PR #10863",
        mechanism="Noise is filled in on a copy of every other row, which keeps the zeros that it was made of.",
        conditions="at least 2 rows in a call",
        caught_by="copies between calls",
        sample=parts.drawing(lambda seed: parts.Flawed(seed, parts.unfilled_rows)),
    ),
    SamplerDefect(
        id="noise-ring-across-positions",
        category="randomness reuse",
        source="a noise buffer of fixed size, as engines allocate once and index modulo its length",
        mechanism="The uniform numbers of 8 positions are drawn once and read again from position 8 on.",
        conditions="more positions than the buffer holds",
        caught_by="pairs of positions",
        sample=slips.plainly(lambda seed: slips.Ring(seed, 8)),
    ),
    SamplerDefect(
        id="noise-from-rows-before",
        category="randomness reuse",
        source="variant of vllm-project/vllm issue #50440: an offset into one stream that ignores its stride",
        mechanism="Each row gets the numbers that the row two before it had at the position before.",
        conditions="more than 2 rows in a call",
        caught_by="pairs of rows",
        sample=slips.plainly(lambda seed: slips.FromRowsBefore(seed, 2)),
    ),
    SamplerDefect(
        id="small-batches-take-another-path",
        category="batching",
        source="fast paths for batches of few rows, as servers have for captured graphs",
        mechanism="Batches of fewer than 32 rows skip verification, and emit the draft model's tokens.",
        conditions="calls of fewer than 32 rows",
        caught_by="calls of 1 row",
        sample=slips.wrong_when_few,
    ),
    SamplerDefect(
        id="last-row-unmasked",
        category="batching",
        source="the tail of a block of rows that a kernel's mask leaves out",
        mechanism="The last row of every batch of several keeps its drafts.",
        conditions="at least 2 rows in a call",
        caught_by="last rows",
        sample=slips.wrong_last_row,
    ),
    SamplerDefect(
        id="guidance-unconditional-last-token",
        category="cache-rollback",
        source="huggingface/transformers PR #24654; turboderp-org/exllama issue #129",
        mechanism="Each step feeds the unconditional branch the last token alone, so that its cache lacks accepted "
        "ones.",
        conditions="a guided target whose unconditional law depends on the tokens before",
        caught_by="e-process",
        sample=parts.over(slips.guided(slips.fed_the_last_token)),
        build=slips.guided(slips.fed_the_last_token),
    ),
    SamplerDefect(
        id="guidance-unconditional-other-row",
        category="batching",
        source="conditional and unconditional halves of a batch that are put together in another order",
        mechanism="The unconditional branch of a row is fed the tokens of its neighbour.",
        conditions="a guided target, and at least 2 rows in a call",
        caught_by="e-process",
        sample=parts.over(slips.guided(slips.fed_by_the_next_row)),
    ),
    SamplerDefect(
        id="guidance-scale-off-by-one",
        category="processor mismatch",
        source="the two ways to count the scale: Ho and Salimans, arXiv 2207.12598, and the code of others",
        mechanism="A scale that counts from the unconditional law is applied from the conditional one.",
        conditions="a guided target",
        caught_by="e-process",
        sample=parts.over(slips.guided(slips.one_scale_more)),
        build=slips.guided(slips.one_scale_more),
    ),
    SamplerDefect(
        id="cut-law-not-renormalised",
        category="processor mismatch",
        source="ml-explore/mlx-examples PR #1291; Project-MONAI/GenerativeModels issue #320",
        mechanism="The law that top-k cut is not renormalised before ratios and residuals are taken.",
        conditions="a target with processors",
        caught_by="e-process",
        sample=parts.over(slips.not_renormalised),
        build=slips.not_renormalised,
    ),
    SamplerDefect(
        id="speculative",
        category="control",
        source="Leviathan et al., arXiv 2211.17192",
        mechanism="The right sampler, with a draft model.",
        conditions="never",
        caught_by="",
        sample=parts.over(parts.right),
        build=parts.right,
    ),
    SamplerDefect(
        id="coupled-jacobi",
        category="control",
        source="SCD, arXiv 2510.24211",
        mechanism="The right sampler, with maximally coupled Jacobi drafts; it ignores the draft model.",
        conditions="never",
        caught_by="",
        sample=parts.over(parts.jacobi),
        build=parts.jacobi,
    ),
    SamplerDefect(
        id="autoregressive",
        category="control",
        source="plain decoding",
        mechanism="One token per forward pass; it ignores the draft model.",
        conditions="never",
        caught_by="",
        sample=parts.over(parts.plain),
        build=parts.plain,
    ),
    SamplerDefect(
        id="advance-rng-when-no-draft",
        category="control",
        source="vllm-project/vllm-ascend issue #13608",
        mechanism="Numbers are drawn and thrown away, which moves the stream and no law.",
        conditions="never",
        caught_by="",
        sample=parts.drawing(parts.Burning),
        build=parts.right,
    ),
)
_ALL = Catalogue("sampler defect", {defect.id: defect for defect in _SAMPLERS})
