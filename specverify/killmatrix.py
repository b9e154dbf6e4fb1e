"""The kill matrix: every known-wrong subject against every checker of its level, and the controls, which must pass.

    decoder   exact          its smallest setting, enumerated
              judge_decoder  proofs on the toys and a search, without a hint
    round     standard       `judge_round`: contract, independence, laws by sampling
              forced-coins   coins at the edges and integrated over, where they are an argument
              nan-rows       draft laws of NaN; asked only of kernels that name it
    sampler   judge_sampler  black-box statistics
    continuous, with the eleven checkers of `killmatrix_continuous`: decoders of continuous tokens

A cell's outcome is one of

    caught, missed            a defect was refuted, or was not
    flagged, not flagged      a control was refuted (or said to be in error), or was not
    not applicable            the checker cannot take the subject
    out of time, error        it did not come to an end
"""

from __future__ import annotations

import fnmatch
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from rich.console import Console

import toymodels
from specverify import defects, digests, files, killmatrix_continuous, pool, study
from specverify.batteries import calls
from specverify.catalogue import near, near_pattern
from specverify.declared import Initial
from specverify.decoders.registry import Settings
from specverify.defects import continuous, rounds, samplers
from specverify.errors import InputError
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.result import check_delta
from specverify.evidence.sequences import target_law
from specverify.judge import EXACT_TOLERANCE
from specverify.killmatrix_continuous import Found
from specverify.report import record as records
from specverify.report.shape_testers import Level, Outcome
from specverify.report.shape_testers import Trial as Row
from specverify.subjects.decoder import judge_decoder
from specverify.subjects.judgement import Judgement
from specverify.subjects.round import judge_round
from specverify.subjects.sampler import judge_sampler
from specverify.verdict import Kind

LEVELS = ("decoder", "round", "sampler", "continuous")
NAME = "defects.json"
"""What the file of the rows is called in its folder."""


@dataclass(frozen=True)
class Known:
    """What the corpus says of a subject.

    Attributes:
        id, level, category, source, mechanism, conditions: as in its registry.
        named: the checkers that must catch it.
        check: the evidence that a sampler's defect is for, else empty.
        lossy: False for a control.
    """

    id: str
    level: str
    category: str
    source: str
    mechanism: str
    conditions: str
    named: tuple[str, ...]
    check: str
    lossy: bool


@dataclass(frozen=True)
class Cell:
    """One defect and one checker; `absent` says why the checker cannot take it."""

    known: Known
    checker: str
    absent: str = ""

    @property
    def id(self) -> str:
        """What its file is called."""
        return f"{self.known.level}/{self.known.id}/{self.checker}"


@dataclass(frozen=True)
class Setting:
    """What all cells share.

    Attributes:
        seed: of every judgement.
        delta: discrepancy that the statistics must be able to see.
        seconds: what a judgement may take by its own clock.
        limit: after how many seconds of the processor it is stopped.
    """

    seed: int = 0
    delta: float = 0.02
    seconds: float = 60.0
    limit: float = 130.0

    def __post_init__(self) -> None:
        check_delta(self.delta)
        if self.seed < 0:
            raise InputError(f"seed {self.seed} is negative; use an integer of at least 0")
        for name, value in (("seconds", self.seconds), ("limit", self.limit)):
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} is {value}; use a positive number")


def corpus(level: str | None = None, only: str | None = None) -> tuple[Known, ...]:
    """Everything known, defects and controls.

    Args:
        level: of `LEVELS`; all of them if None.
        only: keep ids that match this shell pattern.

    Raises:
        InputError: for an unknown level, or a pattern that matches nothing.
    """
    if level not in (None, *LEVELS):
        raise InputError(f"unknown level {level!r}; {near(level, LEVELS)}")
    found = [known for known in _everything() if level in (None, known.level)]
    if only is not None:
        kept = [known for known in found if fnmatch.fnmatchcase(known.id, only)]
        if not kept:
            where = f" at level {level}" if level else ""
            hint = near_pattern(only, (known.id for known in found), "`specverify defects` lists them")
            raise InputError(f"no defect{where} matches {only!r}; {hint}")
        found = kept
    return tuple(found)


def _everything() -> Iterator[Known]:
    for name in defects.names():
        one = defects.get(name)
        able = ("exact",) if one.within_rounding else CHECKERS["decoder"]
        named = able if one.lossy else ()
        yield Known(name, "decoder", one.category, one.source, one.mechanism, one.conditions, named, "", one.lossy)
    for name in rounds.names():
        kernel = rounds.get(name)
        named = (kernel.caught_by,) if kernel.lossy else ()
        yield Known(
            name, "round", kernel.category, kernel.source, kernel.mechanism, kernel.conditions, named, "", kernel.lossy
        )
    for name in samplers.names():
        box = samplers.get(name)
        named = tuple(CHECKERS["sampler"]) if box.lossy else ()
        yield Known(
            name, "sampler", box.category, box.source, box.mechanism, box.conditions, named, box.caught_by, box.lossy
        )
    for name in continuous.names():
        of = continuous.get(name)
        toy, window, draft = of.smallest
        where = f"{of.conditions}; tried on {toy}, window {window}, draft law {draft}"
        yield Known(name, "continuous", of.category, of.source, of.mechanism, where, of.caught_by, "", of.lossy)


def matrix(known: Sequence[Known]) -> tuple[Cell, ...]:
    """Every subject with every checker of its level."""
    return tuple(Cell(one, checker, _absent(one, checker)) for one in known for checker in CHECKERS[one.level])


def _absent(known: Known, checker: str) -> str:
    if known.level == "continuous":
        return killmatrix_continuous.absent(known.id, checker)
    if checker == "forced-coins" and rounds.get(known.id).kernel.with_coins is None:
        return "the kernel draws its own coins"
    if checker == "nan-rows" and checker not in known.named:
        return "few kernels claim to take draft laws of NaN"
    return ""


def run(
    cells: Sequence[Cell],
    setting: Setting,
    out: Path,
    *,
    jobs: int | pool.Executor | None = None,
    overwrite: bool = False,
    shard: str | None = None,
    console: Console | None = None,
) -> list[Row]:
    """Rows of cells, kept in a folder one by one and written to `NAME`: of those that are there, after an interruption.

    Raises:
        InputError, Unfinished, KeyboardInterrupt: see `study.run`.
    """
    planned = study.Study(
        "kill matrix",
        NAME,
        cells,
        functools.partial(carry_out, setting=setting),
        digests.digest(asdict(setting)),
        "another seed, delta, limit or version",
        limit=setting.limit,
        stopped=lambda cell, reason: _row(cell, "out of time", reason=reason, seconds=setting.limit),
    )

    def finish(kept: study.Kept[Cell, Row]) -> list[Row]:
        rows = list(kept.results().values())
        found = {"seed": setting.seed, "delta": setting.delta, "rows": rows}
        files.write_atomically(out / NAME, (records.by_line(found) + "\n").encode())
        return rows

    return study.run(planned, out, finish, jobs=jobs, overwrite=overwrite, shard=shard, console=console)


def carry_out(cell: Cell, setting: Setting) -> Row:
    """One cell of the matrix. An exception is an outcome: the others go on."""
    if cell.absent:
        return _row(cell, "not applicable", reason=cell.absent)
    start = time.perf_counter()
    try:
        found = _CHECKS[cell.known.level, cell.checker](cell.known.id, setting)
    except Exception as error:
        seconds = time.perf_counter() - start
        return _row(cell, "error", reason=f"{type(error).__name__}: {error}", seconds=seconds)
    kind = found["verdict"]
    outcome: Outcome
    if cell.known.lossy:
        outcome = "caught" if kind is Kind.REFUTED else "missed"
    else:
        outcome = "flagged" if kind in (Kind.REFUTED, Kind.ERROR) else "not flagged"
    return _row(cell, outcome, found, time.perf_counter() - start)


def _row(cell: Cell, outcome: Outcome, found: Found | None = None, seconds: float = 0.0, reason: str = "") -> Row:
    return {
        "defect": cell.known.id,
        "level": cast("Level", cell.known.level),
        "category": cell.known.category,
        "lossy": cell.known.lossy,
        "checker": cell.checker,
        "named": cell.checker in cell.known.named,
        "outcome": outcome,
        "verdict": found["verdict"].value if found else None,
        "reason": found["reason"] if found else reason,
        "tv": found.get("tv") if found else None,
        "n": found.get("n") if found else None,
        "by": list(found.get("by", ())) if found else [],
        "seconds": seconds,
    }


def _exact(name: str, setting: Setting) -> Found:
    defect = defects.get(name)
    toy, window, initial, kind = defect.smallest
    model = toymodels.toy(toy)
    draft = toymodels.draft(kind, model) if kind else None
    decoder = defect.build(Settings(window, cast("Initial", initial or "repeat-left"), draft))
    tv = enumerate_decoder(decoder, model).tv(target_law(model))
    where = "/".join(str(part) for part in (toy, f"w{window}", initial, kind) if part)
    return {
        "verdict": Kind.REFUTED if tv > EXACT_TOLERANCE else Kind.PROVED,
        "tv": tv,
        "reason": f"exact TV {tv:.6g} from the target in {where}",
    }


def _decoder(name: str, setting: Setting) -> Found:
    found = judge_decoder(defects.get(name).build, name=name, seed=setting.seed, seconds=setting.seconds)
    return _found(found) | {"tv": max((float(row["tv"]) for row in found.exact), default=None)}


def _round(check: str) -> Callable[[str, Setting], Found]:
    def judge(name: str, setting: Setting) -> Found:
        found = judge_round(
            rounds.get(name).kernel,
            seed=setting.seed,
            delta=setting.delta,
            seconds=setting.seconds,
            checks=(check,),
            name=name,
        )
        return _found(found) | {"tv": max((float(row["tv"]) for row in found.exact), default=None)}

    return judge


def _sampler(name: str, setting: Setting) -> Found:
    return _found(
        judge_sampler(
            samplers.get(name).sample, seed=setting.seed, delta=setting.delta, seconds=setting.seconds, name=name
        )
    )


def _found(judgement: Judgement) -> Found:
    rejected = [item for item in judgement.evidence if item.rejected]
    rejected.sort(key=lambda item: 1.0 if item.p_value is None else item.p_value)
    refuted = judgement.verdict.kind is Kind.REFUTED
    deciding = rejected if refuted else judgement.evidence
    return {
        "verdict": judgement.verdict.kind,
        "reason": judgement.verdict.reason,
        "n": deciding[0].n if refuted and deciding else max((item.n for item in deciding), default=None),
        "by": [item.check for item in rejected],
    }


def _continuous(check: str) -> Callable[[str, Setting], Found]:
    return lambda name, setting: killmatrix_continuous.CHECKS[check](name, setting.seed, setting.delta)


_CHECKS: dict[tuple[str, str], Callable[[str, Setting], Found]] = {
    ("decoder", "exact"): _exact,
    ("decoder", "judge_decoder"): _decoder,
    **{("round", check): _round(check) for check in calls.CHECKERS},
    ("sampler", "judge_sampler"): _sampler,
    **{("continuous", check): _continuous(check) for check in killmatrix_continuous.CHECKS},
}
CHECKERS = {level: tuple(name for of, name in _CHECKS if of == level) for level in LEVELS}
"""The checkers of each level."""
