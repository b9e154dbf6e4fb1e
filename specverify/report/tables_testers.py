"""Tables of what tests the testers: the kill matrix and the calibration."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from specverify.report.shape import Record
from specverify.report.shape_testers import Calibration, KillMatrix, Trial
from specverify.report.tables import Row, Table, interval, number, row
from specverify.report.testers import failing_rates, sound, unnamed

ABREAST = 4
"""Most checkers that stand side by side."""


def tables(record: Record) -> list[Table]:
    """All of them, as far as the record has the parts."""
    found = []
    if "kill_matrix" in record:
        matrix = record["kill_matrix"]
        found.append(overview(matrix))
        for level in dict.fromkeys(trial["level"] for trial in matrix["rows"]):
            for lossy in (True, False):
                found.append(trials(matrix, level, lossy))
    if "calibration" in record:
        found.append(rates(record["calibration"]))
    return found


def overview(matrix: KillMatrix) -> Table:
    """The kill matrix in sums: a row for each checker."""
    rows = []
    for level, checker in dict.fromkeys((t["level"], t["checker"]) for t in matrix["rows"]):
        here = [t for t in matrix["rows"] if (t["level"], t["checker"]) == (level, checker)]
        tried = [t for t in here if t["outcome"] != "not applicable"]
        counts = []
        for some, word in (
            ([t for t in here if t["lossy"] and t["named"]], "caught"),
            ([t for t in tried if t["lossy"] and not t["named"]], "caught"),
            ([t for t in tried if not t["lossy"]], "flagged"),
        ):
            counts.append(f"{sum(t['outcome'] == word for t in some)} of {len(some)}")
        absent = number(len(here) - len(tried))
        bad = () if all(map(sound, here)) else (3 if any(not sound(t) and t["lossy"] for t in here) else 5,)
        rows.append(row([level, checker, number(len(here)), *counts, absent, _seconds(here)], bad=bad))
    intro = (
        "Every subject that is known to be wrong, and every control that only looks wrong, before every checker of its "
        f"level, with seed {matrix['seed']} and a visible discrepancy of {number(matrix['delta'])}. A defect must be "
        "caught by the checkers that it names; what others catch is extra. A control must not be flagged."
    )
    columns = ("level", "checker", "subjects#", "caught, as it must#", "caught besides#", "controls flagged#")
    return Table("kill-matrix", "Kill matrix", intro, (*columns, "not applicable#", "seconds#"), tuple(rows))


def trials(matrix: KillMatrix, level: str, lossy: bool) -> Table:
    """The kill matrix of a level: a row for each defect, or for each control, and a column for each checker.

    Checkers that are too many to stand side by side get a row each.
    """
    here = [t for t in matrix["rows"] if t["level"] == level]
    checkers = list(dict.fromkeys(t["checker"] for t in here))
    found: dict[tuple[str, str], dict[str, Trial]] = {}
    for trial in here:
        if trial["lossy"] == lossy:
            found.setdefault((trial["category"], trial["defect"]), {})[trial["checker"]] = trial
    what = "defects" if lossy else "controls"
    title = f"Kill matrix: {what} of level {level}"
    intro = (
        "TV: exact total variation from the target law; n: samples of the check that rejected most strongly, else of "
        'the largest. "as may be": no checker of that name has to catch it.'
        if lossy
        else "Subjects that look wrong and are not: a checker that flags one raises false alarms."
    )
    rows = []
    if len(checkers) > ABREAST:
        for (_, name), by in found.items():
            for checker, trial in by.items():
                figures = [number(trial["tv"], 3), number(trial["n"]), number(trial["seconds"], 2)]
                cells = [name, checker, _word(trial), *figures, trial["reason"]]
                rows.append(row(cells, reproduce=_again(matrix, level, name), bad=() if sound(trial) else (2,)))
        columns: tuple[str, ...] = (what[:-1], "checker", "outcome", "exact TV#", "n#", "seconds#", "what it said")
        return Table(f"kill-{level}-{what}", title, intro, columns, tuple(rows))
    for (category, name), by in sorted(found.items(), key=lambda item: item[0][0]):
        cells = [outcome(by[checker]) if checker in by else "not tried" for checker in checkers]
        bad = tuple(2 + place for place, checker in enumerate(checkers) if checker in by and not sound(by[checker]))
        note = " ".join(f"{checker}: {t['reason']}." for checker, t in by.items() if t["reason"])
        named = [name, category] if lossy else [name, "control"]
        rows.append(row([*named, *cells], note=note, reproduce=_again(matrix, level, name), bad=bad))
    columns = (what[:-1], "category", *checkers)
    return Table(f"kill-{level}-{what}", title, intro, columns, tuple(rows))


def outcome(trial: Trial) -> str:
    """An outcome with its figures, in capitals where it should be another."""
    figures = [] if trial["tv"] is None else [f"TV {number(trial['tv'], 3)}"]
    figures += [] if trial["n"] is None else [f"n {number(trial['n'])}"]
    figures += [f"{trial['seconds']:.2f} s"] if trial["outcome"] != "not applicable" else []
    return _word(trial) + (f" ({', '.join(figures)})" if figures else "")


def _word(trial: Trial) -> str:
    word = str(trial["outcome"] if sound(trial) else trial["outcome"].upper())
    return word + (", as may be" if trial["outcome"] == "missed" and sound(trial) else "")


def rates(calibration: Calibration) -> Table:
    """The calibration: stated rates, and counted ones."""
    rows = []
    for one in calibration["rows"]:
        counted = number(one["events"] / one["trials"], 3) + interval(one["interval"], 3)
        sizes = [number(one["delta"], 3), number(one["tv"], 3), number(one["n"])]
        holds = [number(one["p_value"], 3), "yes" if one["holds"] else "NO", number(one["seconds"], 3)]
        counts = [f"{number(one['events'])} of {number(one['trials'])}", counted]
        cells = [one["check"], one["what"], one["on"], *sizes, number(one["stated"], 3), *counts, *holds]
        rows.append(row(cells, bad=() if one["holds"] else (10,)))
    intro = (
        "How often checks reject perfect samplers (false alarms, also when looked at after every sample: optional "
        "stopping), and how often they miss a sampler that is off by a known amount. The counted rate, with its 99% "
        "interval, may not exceed the stated one beyond chance. delta is what the check says it sees, TV how far the "
        f"sampler is off, n the samples of a trial. Seed {calibration['seed']}."
    )
    columns = ("check", "what", "on", "delta#", "TV#", "n#", "stated rate#", "events#", "counted rate#", "p#")
    return Table("calibration", "Calibration of the checks", intro, (*columns, "holds", "seconds#"), tuple(rows))


def attention(record: Record) -> Iterator[Row]:
    """What of it is not as it must be, as rows of `tables.attention`."""
    if (matrix := record.get("kill_matrix")) is not None:
        yield from _wrong(matrix)
    for one in failing_rates(record["calibration"]["rows"] if "calibration" in record else []):
        name = "/".join(["calibration", one["check"], one["what"], one["on"]])
        counts = f"{number(one['events'])} of {number(one['trials'])}"
        yield row([name, "ERROR", f"{one['what']}: {counts}, where {number(one['stated'], 3)} is stated"], "ERROR")


def _wrong(matrix: KillMatrix) -> Iterator[Row]:
    for trial in matrix["rows"]:
        if not sound(trial):
            name = f"kill matrix/{trial['level']}/{trial['defect']}/{trial['checker']}"
            what = "known to be wrong" if trial["lossy"] else "a control, which is not wrong"
            why = f"{what}, but {trial['outcome']}: {trial['reason']}"
            yield row([name, "ERROR", why], "ERROR", reproduce=_again(matrix, trial["level"], trial["defect"]))
    for level, name in unnamed(matrix["rows"]):
        yield row([f"kill matrix/{level}/{name}", "ERROR", "no checker has to catch it"], "ERROR")


def _again(matrix: KillMatrix, level: str, name: str) -> str:
    words = ["specverify", "defects", "--run", "--level", level, "--only", name]
    return shlex.join([*words, "--seed", str(matrix["seed"]), "--delta", f"{matrix['delta']:g}"])


def _seconds(trials: Sequence[Trial]) -> str:
    return number(float(sum(t["seconds"] for t in trials)), 3)
