"""What a kind of cell is, and what most kinds need: building decoders, sampling, verdicts of the sampled."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import toymodels
from realmodels.images import ImageModel
from realmodels.models import kept
from specverify import costs, defects
from specverify.cell import Cell
from specverify.claims import Claim
from specverify.declared import Initial
from specverify.decoders import Branch, Decoder, Run, registry, sample
from specverify.evidence.result import Evidence
from specverify.judge import Coverage, judge_evidence
from specverify.model import AnyModel, Model
from specverify.opening import USUAL, Opening, Real
from specverify.report.shape_cells import Cell as Result
from specverify.report.shape_cells import EvidenceRow
from specverify.rules.relaxation import Relaxation
from specverify.seeds import BLOCK, derived_seed
from specverify.verdict import Verdict


@dataclass(frozen=True)
class Setting:
    """What every cell of a campaign shares.

    Attributes:
        tier, seed: as on the command line.
        device: where real models run; toys run on the CPU.
        alphas: the false-alarm rate of each check, by "cell id: check".
        real: the real model, and how it is run; a cell that calls its model otherwise has one that ships.
    """

    tier: str
    seed: int
    device: str
    alphas: Mapping[str, float]
    real: Real = USUAL


@dataclass(frozen=True)
class CellKind:
    """How a kind of cell is carried out. Which cells there are, and what the report says of them, is in `plan.KINDS`.

    Attributes:
        carry_out: writes into a blank result what is found, and gives the verdict.
        checks: the names of a cell's statistical checks, which the campaign's alpha is split over.
        known_wrong: whether a cell's subject must be refuted.
        on_device: whether a cell runs on the campaign's device; toys stay on the CPU.
        speaks_of: how the verdict calls the decoder of its cells; None if they say nothing of one.
        not_covered: what a campaign with such cells says nothing about.
    """

    carry_out: Callable[[Cell, Setting, Result], Verdict]
    checks: Callable[[Cell], tuple[str, ...]] = lambda cell: ()
    known_wrong: Callable[[Cell], bool] = lambda cell: False
    on_device: Callable[[Cell], bool] = lambda cell: False
    speaks_of: str | None = None
    not_covered: Callable[[Real], list[str]] = lambda real: []


def of_real_model(cell: Cell) -> bool:
    """Whether its model is no toy."""
    return cell.model not in toymodels.names()


def real_of(cell: Cell, setting: Setting) -> Real:
    """The real model of a cell, and how it is run."""
    return setting.real if cell.model == setting.real.label else Real(cell.model)


def opened(cell: Cell, setting: Setting, dtype: str | None = None) -> ImageModel:
    """The real model of a cell, guided as that says; with weights of another type, if one is named."""
    real = real_of(cell, setting)
    opening = Opening(real.model, real.conditions, dtype or real.dtype, real.processors, real.compiled)
    return kept(opening, setting.device).like(guidance=cell.guidance)


def build(cell: Cell, model: Model, judging: Relaxation | None = None) -> Decoder:
    """The decoder of ids, or the known-wrong one, of a cell."""
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


def timed_sample(
    cell: Cell,
    setting: Setting,
    decoder: Decoder,
    model: AnyModel,
    result: Result,
    others: Sequence[tuple[Decoder, AnyModel]] = (),
) -> Run:
    """Sample, and write down what it cost.

    Args:
        cell, setting, decoder, model: what is sampled.
        result: in which it is written down.
        others: decoders and models that take turns, a batch each, instead.
    """
    if of_real_model(cell) and real_of(cell, setting).compiled:
        # The same once before: passes are compiled by their shapes, which is not the decoder's.
        in_turn(cell, setting, others or [(decoder, model)])
    start = time.perf_counter()
    run = in_turn(cell, setting, others or [(decoder, model)])
    seconds = time.perf_counter() - start
    result["claim"] = str(decoder.claim)
    result["run"] = costs.of_run(run, model.length, seconds, seed_of(cell, setting, 2))
    values, counts = run.passes.unique(return_counts=True)
    result["figures"]["passes"] = {"values": values.tolist(), "counts": counts.tolist()}
    return run


def turns(cell: Cell, model: ImageModel) -> list[tuple[Decoder, AnyModel]]:
    """A decoder with a model for each condition that images are drawn of one at a time; none where batches are larger.

    A batch begins with the first condition: alone, each has to be that.
    """
    assert cell.n is not None
    if cell.batch != 1:
        return []
    models = [model.like(conditions=[one]) for one in model.conditions[: cell.n]]
    return [(build(cell, one), one) for one in models]


def in_turn(cell: Cell, setting: Setting, others: Sequence[tuple[Decoder, AnyModel]]) -> Run:
    """Sample, batch by batch, with decoders and models that take turns."""
    assert cell.n is not None
    batch, parts = cell.batch or BLOCK, []
    for number, first in enumerate(range(0, cell.n, batch)):
        decoder, model = others[number % len(others)]
        parts.append(sample(decoder, model, min(batch, cell.n - first), seed_of(cell, setting), batch, number))
    return Run.joined(parts)


def coverage(run: Run, cell: Cell) -> Coverage:
    """What of a decoder a run has seen."""
    recovered = int(run.branches[:, Branch.RECOVERED].sum())
    totals = (float(run.verified.sum()), float(run.accepted.sum()), float(recovered))
    return Coverage(cell.window is not None, *totals)


def judged(
    cell: Cell, claim: Claim, evidence: list[Evidence], run: Run, result: Result, delta: Mapping[str, float]
) -> Verdict:
    """The verdict of a run's evidence, which is written down."""
    result["evidence"] = [cast("EvidenceRow", item.to_json()) for item in evidence]
    return judge_evidence(claim, evidence, coverage(run, cell), delta)


def alphas_of(cell: Cell, names: Iterable[str], setting: Setting) -> dict[str, float]:
    """Each check's share of the campaign's alpha."""
    return {check: setting.alphas[f"{cell.id}: {check}"] for check in names}


def seed_of(cell: Cell, setting: Setting, *purpose: int) -> int:
    """A seed of the cell's own, one for each purpose."""
    return derived_seed(setting.seed, zlib.crc32(cell.id.encode()), *purpose)
