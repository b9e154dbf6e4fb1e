"""A judgement for a terminal of 80 columns, and as text for those who have none."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from specverify.errors import printable
from specverify.evidence.result import Evidence
from specverify.report.listing import listing
from specverify.subjects.judgement import Judgement
from specverify.verdict import Kind

SHOWN, LONG = 12, 16
"""Most rows of a table that are shown, and most numbers of a list; the file has all."""
_COLUMNS = (
    "model",
    "setting",
    "window",
    "initial",
    "draft",
    "precision",
    "tv",
    "passes",
    "acceptance rate",
    "evaluations",
)
_LESS = ("evaluations", "acceptance rate", "passes", "alpha")
"""Columns that go first where a terminal is narrow."""


def summary(judgement: Judgement) -> Group:
    """The verdict, what it rests on, and where a refuted subject goes wrong."""
    kind = judgement.verdict.kind
    colour = {0: "green", 2: "yellow"}.get(kind.exit_code, "bold red")
    subject = printable(f"{judgement.subject}, {judgement.level}, {judgement.claim}")
    parts: list[RenderableType] = [
        Text.assemble((kind.value, colour), f": {subject}"),
        _indented(judgement.verdict.reason),
    ]
    # Where a claim is refuted, what counts is the rows that say so.
    exact = list(judgement.exact)
    if kind is Kind.REFUTED:
        exact.sort(key=lambda row: -float(row.get("tv") or 0))
    parts += _section("exact", _exact(exact))
    evidence = sorted(
        judgement.evidence, key=lambda item: (not item.rejected, 1 if item.p_value is None else item.p_value)
    )
    parts += _section("checks", [_check(item) for item in evidence])  # what speaks most against it comes first
    texts = [note for note in judgement.notes if "\n" in note]  # set for 80 columns already: a counterexample
    if texts:
        parts += [Text(), Text("counterexample", style="bold"), *(Text(printable(text)) for text in texts)]
    elif judgement.location:
        parts += _where(judgement.location)
    notes = [note for note in judgement.notes if "\n" not in note]
    for heading, lines in (("not covered", judgement.not_covered), ("notes", notes)):
        if lines:
            parts += [Text(), Text(heading, style="bold"), *(_indented(line) for line in lines[:SHOWN])]
            if len(lines) > SHOWN:
                parts.append(_indented(f"... and {len(lines) - SHOWN} more in its JSON"))
    return Group(*parts)


def show(judgement: Judgement, console: Console) -> None:
    """Print the summary, and the command that leads here again: on one line, since it is there to be copied."""
    console.print(summary(judgement))
    if judgement.reproduce:
        console.print(Group(Text(), Text("reproduce", style="bold")))
        console.print(Text(f"    {printable(judgement.reproduce)}"), soft_wrap=True)


def text(judgement: Judgement, width: int = 80) -> str:
    """What `show` prints, without colours."""
    stream = io.StringIO()
    show(judgement, Console(file=stream, width=width, highlight=False, color_system=None))
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())


def _section(heading: str, rows: Sequence[Mapping[str, str]]) -> list[RenderableType]:
    if not rows:
        return []
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    table = listing([tuple(row.get(name, "") for name in columns) for row in rows[:SHOWN]], columns, _LESS)
    parts: list[RenderableType] = [Text(), Text(heading, style="bold"), _indented(table)]
    if len(rows) > SHOWN:
        parts.append(_indented(f"... and {len(rows) - SHOWN} more in its JSON"))
    return parts


def _exact(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The columns that are shown; the precision of the laws only where it is not float64 throughout."""
    known = [{name: x for name, x in _scalars(row).items() if name in _COLUMNS} for row in rows]
    if all(row.get("precision", "float64") == "float64" for row in known):
        known = [{name: x for name, x in row.items() if name != "precision"} for row in known]
    return known


def _check(item: Evidence) -> dict[str, str]:
    found = "rejected" if item.rejected else "vacuous" if item.vacuous else "not rejected"
    p_value = "" if item.p_value is None else f"{item.p_value:.2g}"
    return {"check": item.check, "n": f"{item.n:,}", "p": p_value, "alpha": f"{item.alpha:.1g}", "found": found}


def _where(location: Mapping[str, Any]) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(), Text("where", style="bold")]
    tables: list[RenderableType] = []
    for name, value in location.items():
        label = str(name).replace("_", " ")
        if isinstance(value, Sequence) and value and all(isinstance(item, Mapping) for item in value):
            tables += _section(label, [_scalars(item) for item in value])
        elif value is not None:
            parts.append(_indented(f"{label}: {_shown(value)}"))
    return parts + tables


def _scalars(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(name).replace("_", " "): _shown(value)
        for name, value in row.items()
        if value is not None and not isinstance(value, Mapping)
    }


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        more = f", ... and {len(value) - LONG:,} more in its JSON" if len(value) > LONG else ""
        return "(" + ", ".join(_shown(item) for item in value[:LONG]) + more + ")"
    return str(value)


def _indented(what: str | RenderableType) -> Padding:
    return Padding(Text(printable(what)) if isinstance(what, str) else what, (0, 0, 0, 4), expand=False)
