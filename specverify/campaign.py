"""A campaign: a plan's cells carried out side by side, written down as they finish, and judged as a whole.

Every cell has a seed of its own, derived from the campaign's seed and the cell's name, so that the record does not
depend on how many processes share the work. Each finished cell lies as a file in the output folder at once: a campaign
that is interrupted leaves a readable partial record, and the same command continues it.
"""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from rich.console import Console

from realmodels.models import kept
from specverify import deadline, digests, environment, fetched, pool, room, sensitivity, study
from specverify.cell import ALPHA, BETA, DELTA, DELTA_CONTINUOUS, DELTA_REAL, Cell
from specverify.cells import carry_out, checks, on_device, stopped
from specverify.decoders import registry
from specverify.defects import continuous as defects
from specverify.errors import InputError, number_of
from specverify.evidence.design import AlphaBudget
from specverify.kinds import KINDS, proof
from specverify.kinds.kind import Setting
from specverify.opening import USUAL, Real, named
from specverify.plan import plan
from specverify.report import page, parts, render, tables_proofs
from specverify.report import record as records
from specverify.report.shape import DecoderVerdict, ExitCode, Header, Record, Software, Tier
from specverify.report.shape_cells import Cell as Result
from specverify.rules.relaxation import NOTHING
from specverify.verdict import Kind, combine, lifted

_PASSING = (Kind.PROVED_FOR_ALL, Kind.PROVED, Kind.CONSISTENT)
_OF_VECTORS = ("density", "continuous")


def verify(
    tier: str,
    seed: int,
    out: Path,
    only: str | None = None,
    jobs: int | pool.Executor | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    console: Console | None = None,
    shard: str | None = None,
    limit: float = deadline.LIMIT,
    real: Real | str | None = None,
) -> Record:
    """Carry out a tier's plan and write the record and the report.

    Args:
        tier, only, real: see `plan.plan`.
        seed: all randomness derives from it.
        out: folder of the record (record.json), the report and the finished cells. If it holds a campaign of the same
            plan by the same code, that is continued; a finished one is handed back as it is.
        jobs, overwrite, console, shard: see `study.run`.
        device: where real models run.
        limit: see `study.Study`; a cell that is stopped is in ERROR, and tried again by the same command.

    Returns:
        the record, complete.

    Raises:
        InputError: for a folder that holds something else, a seed below 0, fewer than one job, an unknown device.
        Unfinished, KeyboardInterrupt: see `study.run`.
    """
    jobs = pool.checked(jobs)
    if seed < 0:
        raise InputError(f"seed {seed} is negative; use an integer of at least 0")
    environment.check_device(device)
    chosen = named(real)
    cells = plan(tier, only, chosen)
    _check_memory(cells, chosen, device, pool.width(jobs))
    budget, weights = AlphaBudget(ALPHA), fetched.digest(chosen.model)
    names = [f"{cell.id}: {check}" for cell in cells for check in checks(cell)]
    if names:
        budget.allocate(names)
    setting = Setting(tier, seed, device, {name: budget.spend(name) for name in names}, chosen)
    asked = study.Study(
        "campaign",
        records.NAME,
        cells,
        functools.partial(carry_out, setting=setting),
        digests.digest(asdict(setting), [asdict(cell) for cell in cells], weights),
        "other settings or weights, or by other code",
        limit=limit,
        stopped=functools.partial(stopped, setting=setting, seconds=limit),
        devices=environment.devices(device),
        on_device=on_device,
    )
    if shard is not None:
        study.numbers(shard, overwrite)
    if not overwrite and (complete := _complete(asked, out)) is not None:
        return complete
    header = _header(setting, only, pool.width(jobs), budget, weights)

    def finish(kept: study.Kept[Cell, Result]) -> Record:
        found = _finish(header, cells, kept.results(), chosen)
        if found["status"] == "partial":
            found["command"] += f" --out {shlex.quote(str(out))}"  # where that which continues finds it
        _write(found, out)
        return found

    return study.run(asked, out, finish, jobs=jobs, overwrite=overwrite, shard=shard, console=console)


def _check_memory(cells: Sequence[Cell], real: Real, device: str, jobs: int) -> None:
    """Raise InputError if a batch of images of a model that does not ship takes more memory than a CPU has."""
    own = [cell for cell in cells if cell.model == real.label]
    if real.ships or device != "cpu" or not own:
        return
    model, window = kept(real, "cpu"), max(cell.window or 1 for cell in own)
    each = max(model.like(guidance=scale).row_bytes(window) for scale in real.guidance)
    each = max(each, 16 * model.length * model.vocab)  # the laws of an image, from logits to probabilities
    rows = max(min(cell.n or 1, cell.batch or 1) * (2 if cell.kind == "paired" else 1) for cell in own)  # in float64
    room.check("batch", real.batch, rows * each, "a smaller --batch", min(jobs, len(own)))


def _complete(asked: study.Study[Cell, Result], out: Path) -> Record | None:
    """The record of a campaign that is finished, with its report."""
    asked.check(out)
    found = records.load(out) if (out / records.NAME).exists() else None
    if found is None or found["status"] != "complete":
        return None
    wrong = {row["id"] for row in found["cells"] if row["verdict"]["kind"] == Kind.ERROR.value}
    if study.Kept(asked, out).missing([cell for cell in asked.cells if cell.id in wrong]):
        return None  # they were stopped
    if not (out / page.HTML).exists():
        _report(found, out)
    return found


def _header(setting: Setting, only: str | None, jobs: int, budget: AlphaBudget, weights: str) -> Header:
    tier, seed, device = setting.tier, setting.seed, setting.device
    words = [f"specverify verify --tier {tier} --seed {seed}"]
    words += [f"--only {shlex.quote(only)}"] if only else []
    words += [*setting.real.words, *[f"--device {device}"] * (device != "cpu")]
    header: Header = {
        "schema": "specverify-record",
        "version": 1,
        "created": environment.now(),
        "command": " ".join(words),
        "tier": cast("Tier", tier),
        "seed": seed,
        "software": cast("Software", environment.software()),
        "hardware": {
            "cpus": os.cpu_count() or 1,
            "threads": jobs,
            "device": device,
            "accelerator": environment.accelerator(device),
        },
        "errors": {
            "delta": DELTA | DELTA_REAL[tier] | DELTA_CONTINUOUS,
            "beta": BETA,
            "alpha": {
                "total": budget.total,
                "parts": [{"check": row["check"], "alpha": row["alpha"]} for row in budget.table()],
            },
        },
    }
    if weights:
        header["checkpoint"] = weights
    return header


def _finish(header: Header, cells: Sequence[Cell], results: dict[str, Result], real: Real = USUAL) -> Record:
    """The record with its results and verdicts, partial if cells are missing."""
    present = [results[cell.id] for cell in cells if cell.id in results]
    complete = len(present) == len(cells)
    verdicts = [
        _verdict(decoder, rows)
        for decoder in registry.names("ids", relaxed=False)
        if (rows := [r for r in present if r["decoder"] == decoder and _speaks(r)])
    ]
    for subject, rows in _of_rules(present).items():
        verdicts.append(_verdict(subject, rows))
    controls = [r for r in present if r["kind"] == "continuous" and r["decoder"] in defects.names()]
    controls = [r for r in controls if r["expected"] is None]
    vectors = [r for r in present if r["kind"] in _OF_VECTORS and r["expected"] is None and r["claim"] != str(NOTHING)]
    vectors = [r for r in vectors if r not in controls]
    for kind, name in dict.fromkeys((r["kind"], r["decoder"]) for r in vectors):
        rows = [r for r in vectors if (r["kind"], r["decoder"]) == (kind, name)]
        verdicts.append(_verdict(str(KINDS[kind].speaks_of).format(name), rows))
    missed = [r["id"] for r in present if r["expected"] is not None and r["verdict"]["kind"] != r["expected"]]
    kinds = [Kind(verdict["kind"]) for verdict in verdicts]
    flagged = [r["id"] for r in controls if Kind(r["verdict"]["kind"]) not in _PASSING]
    if missed:
        overall, reason = Kind.ERROR, f"the checks missed known-wrong decoders: {', '.join(missed)}"
    elif flagged:
        overall, reason = Kind.ERROR, f"the checks flagged decoders that only look wrong: {', '.join(flagged)}"
    elif not kinds:
        wrong = sum(r["expected"] is not None for r in present)
        overall = Kind.INCONCLUSIVE
        found = [f"{wrong} known-wrong decoders, all refuted"] if wrong else []
        found += [f"{number_of(len(controls), 'control')}, none flagged"] if controls else []
        found += ["nothing was proved: no decoder that claims anything was judged"]
        reason = "; ".join(found)
    else:
        overall = combine(kinds)
        reason = "; ".join(
            f"{len(named)} {kind.value}" if kind in _PASSING else f"{kind.value}: {', '.join(named)}"
            for kind in Kind
            if (named := [v["decoder"] for v in verdicts if v["kind"] == kind.value])
        )
    if not complete:
        overall = combine([overall, Kind.INCONCLUSIVE])
        reason = f"interrupted after {len(present)} of {number_of(len(cells), 'cell')}. {reason}"
    seen = sensitivity.beside(present)
    without_gpu = ["nothing was run on a GPU"] if header["hardware"]["accelerator"] is None else []
    record = {
        **header,
        "status": "complete" if complete else "partial",
        "finished": environment.now() if complete else None,
        "cells": present,
        "not_covered": [*_not_covered(cells, results, real), *without_gpu, *sensitivity.missed(seen)],
        "verdicts": verdicts,
        "verdict": {"kind": overall.value, "reason": reason, "exit_code": cast("ExitCode", overall.exit_code)},
    }
    return cast("Record", record if seen is None else {**record, "sensitivity": seen})


def _speaks(row: Result) -> bool:
    """Whether a cell says something of its decoder's claim: those that are timed alone do not."""
    return KINDS[row["kind"]].speaks_of == "{}" and row["claim"] != str(NOTHING) and "rule" not in row["settings"]


def _of_rules(cells: Sequence[Result]) -> dict[str, list[Result]]:
    """Cells by what they say something of: a rule's claim, on models and for every law; or one token of it."""
    found: dict[str, list[Result]] = {}
    for row in cells:
        if row["kind"] in ("relaxed", "proof") and "rule" in row["settings"] and row["claim"] != str(NOTHING):
            one = row["kind"] == "proof" and not row["claim"].startswith("cluster-lossless")
            name = f"{row['settings']['rule']} rule{tables_proofs.ONE_TOKEN if one else ''}"
            found.setdefault(name, []).append(row)
    return found


def _verdict(subject: str, rows: Sequence[Result]) -> DecoderVerdict:
    laws = [row for row in rows if row["kind"] == "proof"]
    models = [row for row in rows if row["kind"] != "proof"]
    kind = lifted(*([Kind(row["verdict"]["kind"]) for row in part] for part in (models, laws)))
    claims = list(dict.fromkeys(row["claim"] for row in rows))
    return {
        "decoder": subject,
        "claim": claims[0] if len(claims) == 1 else number_of(len(claims), "claim"),
        "kind": kind.value,
        "reason": _reason(rows, kind),
        "cells": [row["id"] for row in rows],
    }


def _reason(rows: Sequence[Result], kind: Kind) -> str:
    deciding = [row for row in rows if row["verdict"]["kind"] == kind.value]
    if kind in _PASSING:
        counts = {k: sum(row["verdict"]["kind"] == k.value for row in rows) for k in Kind}
        counted = ", ".join(f"{count} {k.value.lower()}" for k, count in counts.items() if count)
        proved = tables_proofs.said(rows)
        return f"{proved}; {counted}" if proved else counted
    return f"{deciding[0]['id']}: {deciding[0]['verdict']['reason']}"


def _not_covered(cells: Sequence[Cell], results: dict[str, Result], real: Real) -> list[str]:
    """What this campaign says nothing about."""
    missing = [cell for cell in cells if cell.id not in results]
    notes = [
        f"{sum(cell.kind == kind for cell in missing)} of {sum(cell.kind == kind for cell in cells)} {kind} cells: "
        "not carried out"
        for kind in dict.fromkeys(cell.kind for cell in missing)
    ]
    vacuous = [r for r in results.values() if r["verdict"]["kind"] == Kind.VACUOUS.value]
    silent = [r for r in vacuous if r["claim"] == str(NOTHING) and r["kind"] != "real"]
    empty = [r for r in vacuous if r["kind"] == "relaxed" and r not in silent]
    for cell in cells:
        result = results.get(cell.id)
        if result is None or result["claim"] == str(NOTHING) or result in empty:
            continue
        if result["verdict"]["kind"] in ("VACUOUS", "INCONCLUSIVE", "ERROR"):
            notes.append(f"{cell.id}: {result['verdict']['kind'].lower()}, {result['verdict']['reason']}")
    timed = sum(cell.timed_alone for cell in cells if cell.id in results)
    notes += [f"timed and not tested: {number_of(timed, 'cell')} of one image at a time"] if timed else []
    drawn = [r for r in results.values() if r["kind"] == "real" and "pit" in r["figures"]]
    if bare := sum("images" not in r["figures"] for r in drawn):
        notes.append(f"pictures of {bare} real cells: nothing here makes pixels of their codes")
    if apart := [r["figures"]["apart"] for r in drawn if "apart" in r["figures"]]:
        mean, largest = (max(one[name] for one in apart) for name in ("mean", "largest"))
        notes.append(
            f"plain decoding on {real.label} in {real.dtype}, more finely than the laws of windows are from those of "
            f"single tokens: {mean:.2g} in total variation on average, {largest:.2g} at most"
        )
    if silent:
        names = ", ".join(dict.fromkeys(r["settings"].get("rule", r["decoder"]) for r in silent))
        notes.append(
            f"relaxed rules whose claim says nothing in {number_of(len(silent), 'cell')}: {names}; only their price "
            "was measured"
        )
    if empty:
        names = ", ".join(dict.fromkeys(r["settings"]["rule"] for r in empty))
        notes.append(
            "relaxed claims that allow nearly every law, so that they say nothing, in "
            f"{number_of(len(empty), 'cell')}: {names}"
        )
    there = {cell.kind for cell in cells}
    notes += dict.fromkeys(note for name, kind in KINDS.items() if name in there for note in kind.not_covered(real))
    return notes


def _write(record: Record, out: Path) -> None:
    record = cast("Record", {**record, **parts.carried(out)})
    records.save(record, out / "record.json")
    proof.write(record["cells"], out)
    _report(record, out)


def _report(record: Record, out: Path) -> None:
    try:
        render.write(record, out)
    except InputError as error:
        raise InputError(
            f"{error}; the record {out / 'record.json'} is written, and `specverify show {shlex.quote(str(out))}` "
            "writes its report"
        ) from None
