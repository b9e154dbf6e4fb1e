"""Carrying out a calibration, and its record: all rows of its folder in one file."""

from __future__ import annotations

import fnmatch
import functools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict, cast

from rich.console import Console

from specverify import __version__, deadline, digests, files, pool, study
from specverify.calibration.rows import all_trials
from specverify.calibration.trial import CERTAIN, Trial, carry_out
from specverify.catalogue import near_pattern
from specverify.errors import InputError
from specverify.report import record as records
from specverify.report.shape_testers import Rates as Row

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


class Book(TypedDict):
    """What the file of a calibration holds."""

    schema: str
    specverify: str
    seed: int
    quick: bool
    level: float
    rows: list[Row]


def run(
    setting: Setting,
    out: Path,
    *,
    only: str | None = None,
    jobs: int | pool.Executor | None = 1,
    overwrite: bool = False,
    shard: str | None = None,
    console: Console | None = None,
    limit: float = deadline.LIMIT,
) -> list[Row]:
    """Carry out a calibration, and keep its rows in a folder.

    Args:
        setting: which.
        out: folder of the rows and `calibration.json`. Rows of the same setting that it holds are taken over.
        only: trials whose id matches this shell pattern.
        jobs, overwrite, shard, console: see `study.run`.
        limit: see `study.Study`.

    Returns:
        the rows of the trials that were asked for, in the order of the plan.

    Raises:
        InputError: for a folder that holds another calibration or cannot be written, or too few jobs.
        Unfinished, KeyboardInterrupt: see `study.run`.
    """
    trials = setting.trials(only)
    planned = study.Study(
        "calibration",
        NAME,
        trials,
        functools.partial(carry_out, seed=setting.seed, level=setting.level),
        digests.digest(asdict(setting)),
        "another seed, version or extent",
        limit=limit,
    )
    if (out / NAME).is_file() and not (overwrite or (out / study.MARK).exists()):
        load(out / NAME)  # a file of something else is left alone

    def finish(kept: study.Kept[Trial, Row]) -> list[Row]:
        _write(out / NAME, setting, list(kept.results(setting.trials()).values()))
        return list(kept.results().values())

    return study.run(planned, out, finish, jobs=jobs, overwrite=overwrite, shard=shard, console=console)


def _write(path: Path, setting: Setting, rows: list[Row]) -> None:
    book: Book = {
        "schema": "specverify-calibration",
        "specverify": __version__,
        "seed": setting.seed,
        "quick": setting.quick,
        "level": setting.level,
        "rows": rows,
    }
    files.write_atomically(path, (records.by_line(book) + "\n").encode())


def load(path: Path) -> Book:
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
    return cast("Book", found)
