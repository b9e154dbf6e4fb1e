"""Carrying out one cell of a plan: from names to evidence to a verdict, as a plain record.

Everything that a report says about a cell comes out of the dict that `carry_out` returns.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

import toymodels
from realmodels import images
from realmodels.images import ImageModel
from realmodels.models import open_model
from specverify import continuous_cells, costs, defects, proof_cells, relaxed, sensitivity
from specverify.batteries import counts, traces
from specverify.claims import Claim, Lossless, Relaxed
from specverify.decoders import Autoregressive, Branch, Decoder, Run, registry, sample
from specverify.decoders.jacobi import Initial
from specverify.decoders.judging import TokenRule
from specverify.errors import SpecverifyError
from specverify.evidence.copies import halves
from specverify.evidence.discrete import sequence_counts
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.result import Evidence
from specverify.evidence.sequences import target_law
from specverify.evidence.tokens import traced
from specverify.model import AnyModel, Model
from specverify.plan import BETA, DELTA, DELTA_CONTINUOUS, DELTA_REAL, REAL, Cell
from specverify.report.shape_cells import Cell as Result
from specverify.report.shape_cells import EvidenceRow, Images, Settings, exact_of
from specverify.rules import registry as rules
from specverify.rules.relaxation import NOTHING, Relaxation
from specverify.seeds import BLOCK, derived_seed
from specverify.verdict import Coverage, Kind, Verdict, judge_evidence, judge_exact

Alphas = Mapping[str, float]
IMAGES = 30
"""Images that a record keeps of each run on a real model."""


@dataclass(frozen=True)
class Setting:
    """What every cell of a campaign shares.

    Attributes:
        tier, seed: as on the command line.
        device: where real models run; toys run on the CPU.
        alphas: the false-alarm rate of each check, by "cell id: check".
    """

    tier: str
    seed: int
    device: str
    alphas: Alphas


def carry_out(cell: Cell, setting: Setting) -> Result:
    """Carry out a cell. An exception becomes an ERROR verdict: one broken cell loses nothing of the others."""
    start = time.perf_counter()
    result = _blank(cell, setting)
    try:
        verdict = _KINDS[cell.kind](cell, setting, result)
    except SpecverifyError as error:
        verdict = Verdict(Kind.ERROR, str(error))
    except Exception as error:  # a campaign goes on; the reason is in the record
        verdict = Verdict(Kind.ERROR, f"{type(error).__name__}: {error}")
    return _ended(result, verdict, time.perf_counter() - start)


def stopped(cell: Cell, reason: str, setting: Setting, seconds: float) -> Result:
    """What a record says of a cell that did not come to an end."""
    return _ended(_blank(cell, setting), Verdict(Kind.ERROR, reason), seconds)


def _ended(result: Result, verdict: Verdict, seconds: float) -> Result:
    return {**result, "verdict": {"kind": verdict.kind.value, "reason": verdict.reason}, "seconds": seconds}


def _blank(cell: Cell, setting: Setting) -> Result:
    """A result, before anything is known but what was asked for."""
    wrong = cell.kind == "defect" or continuous_cells.known_wrong(cell) or proof_cells.known_wrong(cell)
    settings: Settings = {
        "window": cell.window,
        "initial": cell.initial,
        "draft": cell.draft,
        "guidance": cell.guidance,
        "batch": cell.batch,
    }
    if cell.kind == "relaxed" or cell.rule is not None:
        settings |= {"rule": cell.rule or "token", "value": cell.value}
    return {
        "id": cell.id,
        "kind": cell.kind,
        "decoder": cell.decoder,
        "claim": str(Lossless()),
        "model": cell.model,
        "settings": settings,
        "expected": Kind.REFUTED.value if wrong else None,
        "reproduce": f"specverify verify --tier {setting.tier} --seed {setting.seed} --only '{cell.id}'"
        + ("" if cell.guidance is None or cell.model == REAL else f" --real {cell.model}")
        + ("" if setting.device == "cpu" else f" --device {setting.device}"),
        "exact": None,
        "evidence": [],
        "run": None,
        "figures": {},
        "verdict": {"kind": Kind.ERROR.value, "reason": "not carried out"},
        "seconds": 0.0,
    }


def on_device(cell: Cell) -> bool:
    """Whether a cell runs a real model, on the campaign's device; toys stay on the CPU."""
    return cell.kind not in ("density", "continuous", "proof") and cell.model not in toymodels.names()


def checks(cell: Cell) -> tuple[str, ...]:
    """The names of a cell's statistical checks, which the campaign's alpha is split over."""
    if cell.n is None or cell.kind == "paired" or cell.timed_alone:
        return ()
    if cell.kind == "continuous":
        return continuous_cells.checks(cell)
    if cell.model in toymodels.names():
        return counts.NAMES
    return traces.SAMPLED


def _build(cell: Cell, model: Model, judging: Relaxation | None = None) -> Decoder:
    draft_model = toymodels.draft(cell.draft, model) if cell.draft else None
    settings = registry.Settings(
        window=cell.window or 1,
        initial=cast("Initial | None", cell.initial),
        draft_model=draft_model,
        judging=judging,
    )
    if cell.kind == "defect":
        return defects.get(cell.decoder).build(settings)
    return registry.build(cell.decoder, settings)


def _exact(cell: Cell, setting: Setting, result: Result) -> Verdict:
    model = toymodels.toy(cell.model)
    decoder = _build(cell, model)
    return _enumerated(decoder, decoder.claim, model, cell, result)


def _enumerated(decoder: Decoder, claim: Claim, model: Model, cell: Cell, result: Result) -> Verdict:
    target = target_law(model)
    exact = enumerate_decoder(decoder, model)
    result["claim"] = str(claim)
    result["exact"] = {
        "tv": exact.tv(target),
        "passes": exact.passes,
        "acceptance_rate": costs.finite(exact.acceptance_rate),
        "verified": exact.verified,
        "accepted": exact.accepted,
        "branches": exact.branches,
        "states": exact.states,
        "worlds": exact.worlds,
        "sequences": len(exact.law),
    }
    coverage = Coverage(cell.window is not None, exact.verified, exact.accepted, exact.branches["recovered"])
    return judge_exact(claim, exact, target, model.vocab, coverage)


def _relaxed(cell: Cell, setting: Setting, result: Result) -> Verdict:
    """A rule that may be lossy: how far it is from the target and how fast, and whether it keeps what it claims."""
    model = toymodels.toy(cell.model)
    judging = None if cell.rule is None else rules.build(cell.rule, cell.value, relaxed.context(model))
    claim: Claim = Lossless() if judging is None else relaxed.claim_on(judging, model)
    decoder = _build(cell, model, judging)
    verdict = _enumerated(decoder, claim, model, cell, result)
    if cell.draft is not None:
        drafts = toymodels.draft(cell.draft, model)
        result["figures"]["price"] = relaxed.exact_price(judging or TokenRule(), model, drafts)
    if isinstance(claim, Relaxed) and verdict.kind is Kind.VACUOUS:
        declared, tv = relaxed.declared(judging, model), exact_of(result)["tv"]
        says = (
            "the rule claims nothing"
            if declared is None
            else f"declares nothing that binds: a bound of {declared:.9g} leaves a slack of {declared - tv:.3g}"
        )
        return Verdict(Kind.VACUOUS, f"{says}; exact TV {tv:.2g}")
    return verdict


def _sampled(cell: Cell, setting: Setting, result: Result) -> Verdict:
    model = toymodels.toy(cell.model)
    decoder = _build(cell, model)
    target = target_law(model).numpy()
    run = _timed_sample(cell, setting, decoder, model, result)
    blocks = [sequence_counts(part, model.vocab) for part in run.tokens.split(BLOCK)]
    sampled = counts.Counted(
        total=np.sum(blocks, axis=0),
        looks=list(_looks(run.tokens, model.vocab)),
        calls=np.stack([block for block in blocks if block.sum() == BLOCK]),
        runs=halves(run.tokens),
    )
    generator = np.random.default_rng(_seed(cell, setting, 1))
    evidence = counts.carry_out(target, model.vocab, sampled, _alphas(cell, setting), BETA, generator)
    bets = next(item for item in evidence if item.check == "e-process")
    result["figures"]["e_process"] = {
        "n": bets.data["n"],
        "log10_e": [value / math.log(10) for value in bets.data["log_e"]],
        "threshold": -math.log10(bets.alpha),
    }
    return _judged(cell, decoder.claim, evidence, run, result, _asked("joint law (g)", "total variation", "e-process"))


def _alphas(cell: Cell, setting: Setting) -> dict[str, float]:
    """Each check's share of the campaign's alpha."""
    return {check: setting.alphas[f"{cell.id}: {check}"] for check in checks(cell)}


def _looks(tokens: torch.Tensor, vocab: int) -> Iterator[np.ndarray]:
    """Counts of 64 sequences, then of a fifth more than so far at each look: a wrong sampler is soon seen to be."""
    seen, size = 0, 64
    while seen < len(tokens):
        yield sequence_counts(tokens[seen : seen + size], vocab)
        seen, size = seen + size, max(64, (seen + size) // 5)


def _real(cell: Cell, setting: Setting, result: Result) -> Verdict:
    model = open_model(cell.model, guidance=cell.guidance or 1.0, device=setting.device)
    decoder = _build(cell, model)
    if cell.timed_alone:
        sample(decoder, model, 1, _seed(cell, setting, 1))  # what the first image costs more is not the decoder's
        _timed_sample(cell, setting, decoder, model, result)
        result["claim"] = str(NOTHING)
        return Verdict(Kind.VACUOUS, "timed alone, one image at a time; tested in larger batches")
    run = _timed_sample(cell, setting, decoder, model, result)
    generator = np.random.default_rng(_seed(cell, setting, 1))
    trace = traces.Traced(traced(model, run.tokens, cell.batch or BLOCK, generator), runs=halves(run.tokens))
    evidence = traces.carry_out(trace, _alphas(cell, setting), BETA)
    result["figures"]["pit"] = {"counts": evidence[0].data["histogram"]}
    result["figures"]["images"] = _images(model, run.tokens[:IMAGES])
    verdict = _judged(cell, decoder.claim, evidence, run, result, DELTA_REAL[setting.tier])
    if verdict.kind is Kind.CONSISTENT and cell.window is not None and cell.model == sensitivity.MODEL:
        blind = sensitivity.unseen(len(run.tokens), max(e.alpha for e in evidence), BETA)
        return Verdict(verdict.kind, f"{verdict.reason}; {blind}" if blind else verdict.reason)
    return verdict


def _images(model: ImageModel, tokens: torch.Tensor) -> Images:
    labels, pixels = images.labels(model.conditions, len(tokens)).tolist(), images.grey(model, tokens).tolist()
    (height, width), levels = model.size, model.description.levels
    return {"height": height, "width": width, "levels": levels, "labels": labels, "tokens": pixels}


def _paired(cell: Cell, setting: Setting, result: Result) -> Verdict:
    """The same noise, decoded by races one token at a time and by this decoder: the tokens must be the same.

    In float64, so that the rounding of two window shapes does not decide a race.
    """
    if cell.model in toymodels.names():
        model: Model = toymodels.toy(cell.model)
    else:
        model = open_model(cell.model, guidance=cell.guidance or 1.0, device=setting.device, dtype=torch.float64)
    run = _timed_sample(cell, setting, _build(cell, model), model, result)
    seed = _seed(cell, setting)
    plain = sample(Autoregressive(shared_noise=True), model, len(run.tokens), seed, cell.batch or BLOCK)
    differing = (plain.tokens != run.tokens).any(1)
    if bool(differing.any()):
        row = int(differing.nonzero()[0])
        place = int((plain.tokens[row] != run.tokens[row]).nonzero()[0])
        return Verdict(
            Kind.REFUTED,
            f"{int(differing.sum())} of {len(differing)} sequences differ from plain decoding with the same noise; the "
            f"first at sequence {row}, position {place}: "
            f"{int(run.tokens[row, place])}, not {int(plain.tokens[row, place])}",
        )
    if gap := _coverage(run, cell).gap():
        return Verdict(Kind.VACUOUS, gap)
    return Verdict(
        Kind.CONSISTENT, f"{len(differing):,} sequences, {run.tokens.numel():,} tokens: each equals plain decoding's"
    )


def _continuous(cell: Cell, setting: Setting, result: Result) -> Verdict:
    """Sequences of vectors, tested; what claims nothing is held to be lossless all the same."""
    model, decoder = continuous_cells.build(cell)
    run = _timed_sample(cell, setting, decoder, model, result)
    seed = _seed(cell, setting, 1)
    evidence = continuous_cells.evidence(cell, model, decoder, run.tokens, _alphas(cell, setting), seed, result)
    result["claim"] = str(Lossless())
    return _judged(cell, Lossless(), evidence, run, result, DELTA_CONTINUOUS)


def _timed_sample(cell: Cell, setting: Setting, decoder: Decoder, model: AnyModel, result: Result) -> Run:
    """Sample, and write down what it cost."""
    assert cell.n is not None
    start = time.perf_counter()
    run = sample(decoder, model, cell.n, _seed(cell, setting), cell.batch or BLOCK)
    seconds = time.perf_counter() - start
    result["claim"] = str(decoder.claim)
    result["run"] = costs.of_run(run, model.length, seconds, _seed(cell, setting, 2))
    values, counts = run.passes.unique(return_counts=True)
    result["figures"]["passes"] = {"values": values.tolist(), "counts": counts.tolist()}
    return run


def _coverage(run: Run, cell: Cell) -> Coverage:
    recovered = int(run.branches[:, Branch.RECOVERED].sum())
    totals = (float(run.verified.sum()), float(run.accepted.sum()), float(recovered))
    return Coverage(cell.window is not None, *totals)


def _judged(
    cell: Cell, claim: Claim, evidence: list[Evidence], run: Run, result: Result, delta: Mapping[str, float]
) -> Verdict:
    result["evidence"] = [cast("EvidenceRow", item.to_json()) for item in evidence]
    return judge_evidence(claim, evidence, _coverage(run, cell), delta)


def _asked(*names: str) -> dict[str, float]:
    return {check: DELTA[check] for check in names}


def _defect(cell: Cell, setting: Setting, result: Result) -> Verdict:
    if cell.n is None:
        return _exact(cell, setting, result)
    return (_sampled if cell.model in toymodels.names() else _real)(cell, setting, result)


_KINDS: dict[str, Callable[[Cell, Setting, Result], Verdict]] = {
    "exact": _exact,
    "proof": lambda cell, setting, result: proof_cells.proof(cell, setting.seed, result),
    "relaxed": _relaxed,
    "defect": _defect,
    "sampled": _sampled,
    "paired": _paired,
    "real": _real,
    "density": lambda cell, setting, result: continuous_cells.density(cell, result),
    "continuous": _continuous,
}


def _seed(cell: Cell, setting: Setting, *purpose: int) -> int:
    return derived_seed(setting.seed, zlib.crc32(cell.id.encode()), *purpose)
