"""Carrying out a calibration: rows as they come, kept in one file, taken over where the work goes on."""

from __future__ import annotations

import fnmatch
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from specverify import pool
from specverify.calibration.rows import all_trials
from specverify.calibration.trial import CERTAIN, Row, Trial, carry_out
from specverify.catalogue import near_pattern
from specverify.errors import InputError
from specverify.report.record import write_atomically

NAME = "calibration.json"
"""What the file is called in its folder."""


@dataclass(frozen=True)
class Setting:
    """What all trials share.

    Attributes:
        seed: all randomness derives from it.
        quick: a tenth of the repetitions, and only the trials that are short.
    """

    seed: int = 0
    quick: bool = False

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"seed {self.seed} is negative; use an integer of at least 0")

    def trials(self, only: str | None = None) -> tuple[Trial, ...]:
        """The trials, or those whose id matches a shell pattern.

        Raises:
            InputError: for a pattern that matches nothing.
        """
        found = all_trials(self.quick)
        if only is None:
            return found
        kept = tuple(trial for trial in found if fnmatch.fnmatchcase(trial.id, only))
        if not kept:
            checks = ", ".join(dict.fromkeys(trial.check for trial in found))
            hint = near_pattern(only, (trial.id for trial in found), f"a trial is CHECK/WHAT/ON/RATE, of {checks}")
            raise InputError(f"no trial matches {only!r}; {hint}")
        return kept

    @property
    def level(self) -> float:
        """The share of `CERTAIN` of each trial: the same whichever of them are carried out."""
        return CERTAIN / len(all_trials(self.quick))


def work(
    trials: Sequence[Trial],
    setting: Setting,
    jobs: int,
    console: Console | None = None,
    done: int = 0,
    where: Path | None = None,
) -> Iterator[Row]:
    """Rows as they come, from worker processes; see `pool.share_out`."""
    one = functools.partial(carry_out, seed=setting.seed, level=setting.level)
    return pool.share_out(one, trials, jobs, console, name=_called, done=done, what="trials", where=where)


def _called(row: Row) -> str:
    return f"{row['check']}: {row['what']}"


def run(
    setting: Setting,
    out: Path,
    *,
    only: str | None = None,
    jobs: int = 1,
    overwrite: bool = False,
    console: Console | None = None,
) -> list[Row]:
    """Carry out a calibration, and keep its rows in a folder.

    Args:
        setting: which.
        out: folder of `calibration.json`. Rows of the same setting that it holds are taken over.

    Other args:
        only: trials whose id matches this shell pattern.
        jobs: processes.
        overwrite: begin anew where the folder holds another calibration, or rows.
        console: where progress is shown; see `pool.share_out`.

    Returns:
        the rows of the trials that were asked for, in the order of the plan.

    Raises:
        InputError: for a folder that holds another calibration or cannot be written, or too few jobs.
        KeyboardInterrupt: what was finished is kept.
    """
    pool.check_jobs(jobs)
    trials = setting.trials(only)
    kept = Kept(out / NAME, setting, overwrite)
    kept.write()  # a place that cannot be written to is said before the work
    todo = [trial for trial in trials if trial.id not in kept.rows]
    for row in work(todo, setting, jobs, console, done=len(trials) - len(todo), where=kept.path):
        kept.rows[row_id(row)] = row
        kept.write()
    return [kept.rows[trial.id] for trial in trials]


class Kept:
    """The rows of a calibration in a file, by trial."""

    def __init__(self, path: Path, setting: Setting, overwrite: bool = False) -> None:
        self.path = path
        self.plan = [trial.id for trial in all_trials(setting.quick)]
        self.head: dict[str, Any] = {
            "schema": "specverify-calibration",
            "specverify": version("specverify"),
            "seed": setting.seed,
            "quick": setting.quick,
            "level": setting.level,
        }
        self.rows: dict[str, Row] = {}
        if path.exists() and not overwrite:
            found = load(path)
            if {name: found[name] for name in self.head if name in found} != self.head:
                raise InputError(
                    f"{path} holds a calibration of another seed, version or extent; choose another folder with --out, "
                    "or begin anew with --overwrite"
                )
            self.rows = {row_id(row): row for row in found["rows"]}

    def write(self) -> None:
        """Write the file, whole or not at all."""
        rows = [self.rows[name] for name in self.plan if name in self.rows]
        lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in self.head.items()]
        body = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
        text = "{\n" + ",\n".join([*lines, f'"rows": [\n{body}\n]']) + "\n}\n"
        write_atomically(self.path, text.encode())


def load(path: Path) -> dict[str, Any]:
    """Read a calibration.

    Raises:
        InputError: if the file is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); begin anew with --overwrite") from None
    if not isinstance(found, dict) or found.get("schema") != "specverify-calibration" or "rows" not in found:
        raise InputError(f"{path} is no calibration; choose another folder with --out, or begin anew with --overwrite")
    return found


def row_id(row: Row) -> str:
    """The id of a row's trial."""
    return f"{row['check']}/{row['what']}/{row['on']}/{row['stated']:g}"


def default_out(seed: int, quick: bool = False) -> Path:
    """Where a calibration goes unless told otherwise."""
    return Path("out") / f"calibrate-{'quick-' if quick else ''}seed{seed}"
