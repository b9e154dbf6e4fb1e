"""A sweep: its settings measured side by side, written down as they finish, and put together in a record.

Everything that a setting draws derives from the seed and its own name: no figure but the times depends on how the work
is shared out. A folder belongs to one `Setting`; the rows that it holds are taken over by any later sweep into it, so
that an interrupted sweep goes on, and a wider one measures only what is new.
"""

from __future__ import annotations

import functools
import json
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

from rich.console import Console

from realmodels import continuous, judges, quality
from realmodels.continuous import ContinuousDigits
from realmodels.data import LEVELS
from realmodels.images import ImageModel
from specverify import deadline, digests, environment, fetched, pool, study
from specverify.errors import InputError
from specverify.tradeoff import decoders, report, sizes
from specverify.tradeoff import record as records
from specverify.tradeoff.measure import carry_out, stopped
from specverify.tradeoff.plan import REAL, Asked, Cell, plan
from specverify.tradeoff.setting import Setting, opened, opening
from specverify.tradeoff.shape import Features, Header, Row, Shared, Sweep, Tokens
from specverify.tradeoff.shown import without_others
from specverify.tradeoff.watch import share


def measure(
    setting: Setting,
    out: Path,
    asked: Asked | None = None,
    jobs: int | pool.Executor | None = None,
    overwrite: bool = False,
    console: Console | None = None,
    shard: str | None = None,
    limit: float = deadline.LIMIT,
) -> Sweep:
    """Measure what is not measured yet, and write record and report.

    Args:
        setting: what all settings share.
        out: folder of the record (tradeoff.json), the report and the finished rows.
        asked: which settings; all that are usual if None.
        jobs, overwrite, console, shard: see `study.run`.
        limit: see `study.Study`.

    Returns:
        the record.

    Raises:
        InputError: for a setting that cannot be measured, or a folder that holds something else.
        Unfinished, KeyboardInterrupt: see `study.run`.
    """
    jobs = pool.checked(jobs)
    asked = asked or Asked()
    cells, omitted = (
        decoders.plan(setting.model, asked) if is_of_patches(setting.model) else (plan(asked), dict[str, str]())
    )
    if not judges.known(setting.model):
        cells = tuple(cell for cell in cells if cell.rule != REAL)
    _check(setting, cells, min(pool.width(jobs), len(cells)))
    head, weights = _head(setting, asked, omitted, pool.width(jobs)), fetched.digest(setting.model)
    if weights:
        head["checkpoint"] = weights
    planned = study.Study(
        "sweep",
        records.NAME,
        cells,
        functools.partial(carry_out, setting=setting),
        digests.digest(asdict(setting), weights),
        "another model, weights, size, window, seed, batch, device or version",
        failed=lambda row: row["error"] is not None,
        limit=limit,
        stopped=functools.partial(stopped, setting=setting),
        devices=environment.devices(setting.device),
    )
    return study.run(
        planned,
        out,
        lambda kept: _write(head, cells, kept.results(), out),
        jobs=jobs,
        overwrite=overwrite,
        shard=shard,
        console=console,
    )


def is_of_patches(model: str) -> bool:
    """Whether a model's tokens are continuous."""
    return model in continuous.names()


def _check(setting: Setting, cells: Sequence[Cell], jobs: int) -> None:
    if (setting.window is not None and setting.window < 1) or setting.batch < 1 or setting.resamples < 2:
        raise InputError(
            f"window {setting.window}, batch {setting.batch}, resamples {setting.resamples}: "
            "at least 1, at least 1 and at least 2"
        )
    environment.check_device(setting.device)
    patches, model = is_of_patches(setting.model), _opened(setting)
    if patches and setting.window is not None:
        raise InputError(f"window {setting.window} of {setting.model}: of a model of patches each setting has its own")
    drafted = [cell for cell in cells if not cell.is_baseline]
    if any((cell.window is None) == (setting.window is None) for cell in drafted):
        raise InputError(
            f"window {setting.window} of {setting.model}: give one for all settings, or the windows to sweep over"
        )
    windows = [setting.window, *(cell.window for cell in cells)]
    most = max((window for window in windows if window is not None), default=1)
    judge = judges.judge(setting.model)
    reference = None if judge is None else judge.reference
    per_row = model.row_bytes(min(most, model.length))
    sizes.check(setting, model.length, len(model.conditions), reference, windows, per_row, jobs)
    if judge is not None:
        quality.check_installed()


def _opened(setting: Setting) -> ImageModel | ContinuousDigits:
    if not is_of_patches(setting.model):
        return opened(setting)
    plain = Setting()
    if replace(opening(setting), model=plain.model) != opening(plain):
        raise InputError(
            f"{' '.join(opening(setting).options)}: these are for models of ids, and {setting.model} has patches"
        )
    return continuous.load(setting.model)


def _head(setting: Setting, asked: Asked, omitted: Mapping[str, str], jobs: int) -> Header:
    model = _opened(setting)
    levels, tokens, priced = LEVELS, "patches", 1.0
    if not isinstance(model, ContinuousDigits):
        levels = model.description.levels
        priced = share(model.vocab)
        tokens = "grey levels" if model.length == math.prod(model.size) else "codes"
    options = {
        "window": (setting.window,) if asked.windows is None else asked.windows,
        "rules": asked.rules,
        "drafting": asked.drafting,
        "decoders": asked.decoders,
        "guidance": asked.guidance,
    }
    words = [f"specverify tradeoff --model {shlex.quote(setting.model)} --n {setting.n}"]
    words += opening(setting).options
    words += [
        f"--{name} {','.join(f'{one:g}' if isinstance(one, float) else str(one) for one in values)}"
        for name, values in options.items()
        if values is not None and None not in values
    ]
    words += [f"--seed {setting.seed}"]
    words += [f"--only {shlex.quote(asked.only)}"] if asked.only is not None else []
    words += [f"--batch {setting.batch}"] * (setting.batch != Setting.batch)
    words += [f"--device {setting.device}"] * (setting.device != "cpu")
    return {
        "schema": "specverify-tradeoff",
        "version": 1,
        "status": "partial",
        "created": environment.now(),
        "command": " ".join(words),
        "tokens": cast("Tokens", tokens),
        "setting": cast("Shared", json.loads(json.dumps(asdict(setting)))),
        "length": model.length,
        "levels": levels,
        "priced": priced,
        "features": _features(setting.model),
        "omitted": dict(omitted),
        "software": environment.software("torchmetrics", "prdc"),
        "hardware": {
            "cpus": os.cpu_count() or 1,
            "jobs": jobs,
            "accelerator": environment.accelerator(setting.device),
        },
    }


def _features(model: str) -> Features | None:
    """What images of a model are judged in."""
    judge = judges.judge(model)
    return None if judge is None else {"network": judge.reference.space.network, "axes": judge.reference.space.axes}


def _write(head: Header, cells: Sequence[Cell], rows: dict[str, Row], out: Path) -> Sweep:
    present = [rows[cell.id] for cell in cells if cell.id in rows]
    complete = len(present) == len(cells) and all(row["error"] is None for row in present)
    record: Sweep = {**head, "status": "complete" if complete else "partial", "planned": len(cells), "rows": present}
    if not complete:
        record["command"] += f" --out {shlex.quote(str(out))}"  # where that which continues finds it
    record = without_others(record)
    records.save(record, out / records.NAME)
    report.write(record, out)
    return record
