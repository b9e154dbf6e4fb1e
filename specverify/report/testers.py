"""Whether the testers are to be trusted: what a record's kill matrix and calibration say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specverify.errors import number_of
from specverify.report.shape import Record
from specverify.report.shape_testers import KillMatrix, Rates, Trial

HOLD, PARTLY, FAIL, UNKNOWN = "hold", "hold as far as measured", "do not hold", "not measured"
HOW = {"kill_matrix": "specverify defects --run --report DIR", "calibration": "specverify calibrate --report DIR"}
"""The command lines that measure."""
TITLES = {"kill_matrix": "kill matrix", "calibration": "calibration"}


@dataclass(frozen=True)
class Testers:
    """What can be said of the testers.

    Attributes:
        status: "hold" (both parts are there, whole, and as they must be), "hold as far as measured", "do not hold" or
            "not measured".
        lines: a sentence on each part.
        missing: what was not measured, and how it can be.
    """

    status: str
    lines: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def fail(self) -> bool:
        """Whether no verdict can rest on them."""
        return self.status == FAIL


def testers(record: Record) -> Testers:
    """The testers' status, from the record's optional parts."""
    matrix, calibration = record.get("kill_matrix"), record.get("calibration")
    missing = [f"{TITLES[name]}: not measured; run `{how}`" for name, how in HOW.items() if name not in record]
    lines = []
    if matrix is not None:
        lines.append(f"Kill matrix: {_of_defects(matrix['rows'])}")
        if limits := subset(matrix):
            missing.append(f"kill matrix: only {limits}; run `{HOW['kill_matrix']}`")
    if calibration is not None:
        lines.append(f"Calibration: {_of_rates(calibration['rows'])}")
    if not lines:
        status = UNKNOWN
    elif (matrix and not passed(matrix["rows"])) or (calibration and failing_rates(calibration["rows"])):
        status = FAIL
    else:
        status = PARTLY if missing else HOLD
    return Testers(status, tuple(lines), tuple(missing))


def sound(row: Trial) -> bool:
    """Whether a defect or control fared with a checker as it must."""
    if row["outcome"] == "not applicable":
        return not row["named"]
    if not row["lossy"]:
        return bool(row["outcome"] == "not flagged")
    return bool(row["outcome"] == "caught" or (row["outcome"] == "missed" and not row["named"]))


def passed(rows: Sequence[Trial]) -> bool:
    """Whether every row is sound, and every defect has a checker that must catch it."""
    return all(map(sound, rows)) and not unnamed(rows)


def unnamed(rows: Sequence[Trial]) -> list[tuple[str, str]]:
    """Defects (level, name) that no checker of the matrix had to catch: the matrix shows nothing of them."""
    named = {(row["level"], row["defect"]) for row in rows if row["named"]}
    return list(
        dict.fromkeys(key for row in rows if row["lossy"] and (key := (row["level"], row["defect"])) not in named)
    )


def failing_rates(rows: Sequence[Rates]) -> list[Rates]:
    """Rows of a calibration that do not hold."""
    return [row for row in rows if not row["holds"]]


def subset(matrix: KillMatrix) -> str:
    """What a kill matrix was limited to; empty for the whole corpus."""
    level, only = matrix.get("level"), matrix.get("only")
    return ", ".join([f"level {level}"] * bool(level) + [f"those that match {only}"] * bool(only))


def _of_defects(rows: Sequence[Trial]) -> str:
    asked = [row for row in rows if row["lossy"] and row["named"]]
    controls = [row for row in rows if not row["lossy"] and row["outcome"] != "not applicable"]
    caught, flagged = (
        sum(row["outcome"] == word for row in some) for some, word in ((asked, "caught"), (controls, "flagged"))
    )
    defects = len({(row["level"], row["defect"]) for row in rows if row["lossy"]})
    text = f"{caught} of {len(asked)} times a checker caught what it must, over {number_of(defects, 'defect')}; "
    text += f"{flagged} of {number_of(len(controls), 'trial')} of controls flagged"
    broken = sum(row["outcome"] in ("out of time", "error") for row in rows)
    text += f"; {broken} came to no end" if broken else ""
    return text + (f"; {number_of(len(lost), 'defect')} that no checker must catch" if (lost := unnamed(rows)) else "")


def _of_rates(rows: Sequence[Rates]) -> str:
    trials = sum(row["trials"] for row in rows)
    return f"{len(rows) - len(failing_rates(rows))} of {len(rows)} stated rates hold, over {trials:,} trials"
