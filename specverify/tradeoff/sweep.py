"""A sweep: its settings measured side by side, written down as they finish, and put together in a record.

Everything that a setting draws derives from the seed and its own name: no figure but the times depends on how the work
is shared out. A folder belongs to one `Setting`; the rows that it holds are taken over by any later sweep into it, so
that an interrupted sweep goes on, and a wider one measures only what is new.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from realmodels import digits, quality
from realmodels.classifier import Classifier
from realmodels.data import CLASSES
from specverify import pool
from specverify.errors import InputError
from specverify.tradeoff import record as records
from specverify.tradeoff import report
from specverify.tradeoff.measure import Row, Setting, carry_out
from specverify.tradeoff.plan import Cell, plan
from specverify.tradeoff.store import Store


def measure(
    setting: Setting,
    out: Path,
    rules: Sequence[str] | None = None,
    drafting: Sequence[str] | None = None,
    guidance: Sequence[float] = (1.5,),
    only: str | None = None,
    jobs: int | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Measure what is not measured yet, and write record and report.

    Args:
        setting: what all settings share.
        out: folder of the record (tradeoff.json), the report and the finished rows.
        rules, drafting, guidance, only: see `plan.plan`.

    Other args:
        jobs: processes; one per core if None.
        overwrite: forget what the folder holds.
        console: where progress is shown, if it is a terminal.

    Returns:
        the record.

    Raises:
        InputError: for a setting that cannot be measured, or a folder that holds something else.
        KeyboardInterrupt: after writing a partial record.
    """
    jobs = os.cpu_count() or 1 if jobs is None else jobs
    pool.check_jobs(jobs)
    _check(setting)
    cells = plan(rules, drafting, guidance, only)
    store = Store(out, _digest(setting), overwrite)
    rows = store.finished(cell.id for cell in cells)
    todo = [cell for cell in cells if cell.id not in rows]
    head = _head(setting, rules, drafting, guidance, only, jobs)
    try:
        work = functools.partial(carry_out, setting=setting)
        for row in pool.share_out(work, todo, jobs, console, name=lambda row: str(row["id"]), done=len(rows)):
            if row["error"] is None:  # what failed is tried again by the next sweep
                store.keep(row)
            rows[row["id"]] = row
    except KeyboardInterrupt:
        _write(head, cells, rows, out)
        raise
    return _write(head, cells, rows, out)


def default_out(model: str, seed: int) -> Path:
    """Where a sweep goes unless told otherwise."""
    return Path("out") / f"tradeoff-{model}-seed{seed}"


def _check(setting: Setting) -> None:
    if setting.seed < 0:
        raise InputError(f"seed {setting.seed} is negative; use an integer of at least 0")
    if setting.n <= Classifier.num_features:
        raise InputError(
            f"n = {setting.n} images give no covariance of {Classifier.num_features} features; "
            f"use at least {Classifier.num_features + 1} (1,000 for figures worth comparing)"
        )
    if setting.window < 1 or setting.batch < 1 or setting.resamples < 2:
        raise InputError(
            f"window {setting.window}, batch {setting.batch}, resamples {setting.resamples}: "
            "at least 1, at least 1 and at least 2"
        )
    if setting.batch % CLASSES:
        raise InputError(
            f"batch {setting.batch} is no multiple of {CLASSES}: classes are dealt in turn within a batch, and each "
            "must come equally often"
        )
    try:
        torch.zeros(1, device=setting.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {setting.device!r} cannot be used ({reason}); choose cpu or cuda") from None
    digits.load(setting.model)
    quality.check_installed()


def _digest(setting: Setting) -> str:
    """What must be equal for finished rows to be taken over."""
    content = json.dumps([version("specverify"), asdict(setting)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _head(
    setting: Setting,
    rules: Sequence[str] | None,
    drafting: Sequence[str] | None,
    guidance: Sequence[float],
    only: str | None,
    jobs: int,
) -> dict[str, Any]:
    model = digits.load(setting.model)
    words = [f"specverify tradeoff --model {setting.model} --n {setting.n} --window {setting.window}"]
    words += [f"--rules {','.join(rules or ())}"] * bool(rules) + [f"--drafting {','.join(drafting or ())}"] * bool(
        drafting
    )
    words += [f"--guidance {','.join(f'{scale:g}' for scale in guidance)} --seed {setting.seed}"]
    words += [f"--only {shlex.quote(only or '')}"] * bool(only)
    words += [f"--batch {setting.batch}"] * (setting.batch != Setting.batch)
    words += [f"--device {setting.device}"] * (setting.device != "cpu")
    on_gpu = torch.device(setting.device).type == "cuda"
    return {
        "schema": "specverify-tradeoff",
        "version": records.VERSION,
        "status": "partial",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(words),
        "setting": asdict(setting),
        "length": model.length,
        "levels": model.vocab,
        "software": {"python": platform.python_version()}
        | {name: version(name) for name in ("specverify", "torch", "numpy", "scipy", "torchmetrics", "prdc")},
        "hardware": {
            "cpus": os.cpu_count() or 1,
            "jobs": jobs,
            "accelerator": torch.cuda.get_device_name() if on_gpu else None,
        },
    }


def _write(head: dict[str, Any], cells: Sequence[Cell], rows: dict[str, Row], out: Path) -> dict[str, Any]:
    present = [rows[cell.id] for cell in cells if cell.id in rows]
    complete = len(present) == len(cells) and all(row["error"] is None for row in present)
    record = head | {"status": "complete" if complete else "partial", "planned": len(cells), "rows": present}
    records.save(record, out / records.NAME)
    report.write(record, out)
    return record
