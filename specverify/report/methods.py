"""The report's first screen: each method that people know, what was shown of it, and what it costs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from specverify.errors import number_of
from specverify.report import tables_proofs
from specverify.report.contradictions import TOLERANCE
from specverify.report.published import METHODS, Method
from specverify.report.shape import DecoderVerdict, Record
from specverify.report.shape_cells import Cell, exact_of, run_of
from specverify.report.tables import UNKNOWN, Row, Table, number, row
from specverify.report.tables_cost import one_at_a_time
from specverify.report.tables_proofs import ONE_TOKEN
from specverify.report.tables_runs import lock_step
from specverify.verdict import Kind, combine, lifted

RELAXED, BOUND = "RELAXED", "BOUND HOLDS"
"""Of a rule that changes the law: it declares no bound; it declares one, and keeps it."""
COLUMNS = (
    "method",
    "published",
    "verdict",
    "what was shown",
    "fewer passes#",
    "draft passes#",
    "faster, one#",
    "batch#",
)
_TOY, _RULE = "toy", " rule"
_NAMED = 3
"""Most decoders of a method that are told apart."""
_HELD = ("PROVED-FOR-ALL", "PROVED", "CONSISTENT")


@dataclass(frozen=True)
class Found:
    """A method in a record.

    Attributes:
        method: which.
        row: of the first screen.
        cells: all that were carried out for it.
    """

    method: Method
    row: Row
    cells: list[Cell]


def found(record: Record) -> list[Found]:
    """Each method that the record holds, then each decoder that is none of them."""
    known = {name for method in METHODS for name in method.decoders}
    known |= {f"{rule} rule{more}" for method in METHODS for rule in method.rules for more in ("", ONE_TOKEN)}
    others = [Method(v["decoder"], "", (v["decoder"],)) for v in record["verdicts"] if v["decoder"] not in known]
    return [made for method in (*METHODS, *others) if (made := _found(record, method)) is not None]


def anchor(method: Method) -> str:
    """Where a page speaks of it."""
    return "method-" + re.sub(r"[^a-z0-9]+", "-", method.name.lower().replace("+", "p")).strip("-")


def methods(record: Record) -> Table:
    """A row for each of them."""
    rows = [replace(one.row, link=anchor(one.method)) for one in found(record)]
    intro = (
        "PROVED: the exact law is the target's on every toy named. CONSISTENT: the same, and where a law cannot be "
        "enumerated no check saw a difference. PROVED-FOR-ALL: one of these, and proved for every law there is of the "
        "sizes shown. RELAXED: changes the law, by the total variation shown, and declares no "
        "bound; BOUND HOLDS: declares one. REFUTED: claims to be lossless, and is not. Fewer passes: how many times "
        "fewer forward passes than plain decoding on the real image model, and in brackets in a batch of 64 that waits "
        "for its slowest image. Faster, one image and in a batch: how many times faster than plain decoding by the "
        "clock, in the same run, on the hardware named below and with other cells at work beside it; below 1 is "
        f"slower. {_settings(record)}"
        f"{UNKNOWN}: not run on a real model here; specverify tradeoff measures relaxed rules there, with quality."
    )
    return Table("methods", "At a glance", intro, COLUMNS, tuple(rows))


def sentence(record: Record) -> str:
    """What the rows say together."""
    those = found(record)
    rows = [one.row for one in those]
    of = {kind: [r.cells[0] for r in rows if r.cells[2] == kind] for kind in {r.cells[2] for r in rows}}
    known = {one.row.cells[0] for one in those if one.method.wrong}
    held = [name for kind in _HELD for name in of.get(kind, [])]
    priced = [name for kind in (RELAXED, BOUND) for name in of.get(kind, [])]
    parts = [f"lossless as far as could be shown: {number_of(len(held), 'method')}"] if held else []
    for words, wanted in (("not lossless", False), ("not lossless as published or released", True)):
        refuted = [name for name in of.get("REFUTED", []) if (name in known) is wanted]
        parts += [f"{words}: {', '.join(refuted)}"] if refuted else []
    parts += [f"relaxed, with their exact price: {number_of(len(priced), 'rule')}"] if priced else []
    for kind in ("ERROR", "INCONCLUSIVE", "VACUOUS"):
        parts += [f"{kind}: {', '.join(of[kind])}"] if kind in of else []
    lost = [c["id"] for c in record["cells"] if c["kind"] == "proof" and c["verdict"]["kind"] == "VACUOUS"]
    parts += [f"tried and not proved for every law: {', '.join(lost)}"] if lost else []
    return "; ".join(parts)


def cost(record: Record) -> str:
    """What the lossless ones cost on a real model, over all of them; empty if none was run there."""
    rows = [one.row.cells for one in found(record) if "ar" not in one.method.decoders]
    shown = [cells for cells in rows if cells[4] != UNKNOWN and cells[2] in _HELD]
    if not shown:
        return ""
    passes, alone, batch = (
        sorted(float(cells[at].partition(" ")[0].replace(",", "")) for cells in shown if cells[at] != UNKNOWN)
        for at in (4, 6, 7)
    )
    times = [
        f"{_ends(ends)} times as fast {where}{', which is slower' if ends[-1] < 1 else ''}"
        for ends, where in ((alone, "one image at a time"), (batch, "in a batch"))
        if ends
    ]
    clock = f"; by the clock they are {' and '.join(times)}" if times else ""
    return f"on the real model these take {_ends(passes)} times fewer forward passes than plain decoding{clock}"


def _ends(values: list[float]) -> str:
    return " to ".join(dict.fromkeys(f"{value:g}" for value in (values[0], values[-1])))


def _settings(record: Record) -> str:
    """Of which settings the costs are; empty if there are none."""
    said = []
    for one in found(record):
        mine, _, alone, _ = _timed(record, set(one.method.decoders) if not one.method.rules else set())
        if mine is not None:
            guided = mine["settings"]["guidance"]
            words = f"{mine['model']}" + ("" if guided is None else f", guidance {guided:g}")
            words += f", {number_of(run_of(mine)['n'], 'image')} in batches of {mine['settings']['batch']}"
            said += [words + ("" if alone is None else f" and {run_of(alone)['n']:,} one at a time")]
    return f"Costs are of {'; '.join(dict.fromkeys(said))}. " if said else ""


def _found(record: Record, method: Method) -> Found | None:
    if method.wrong:
        cells = [c for c in record["cells"] if c["decoder"] in method.wrong and c["expected"] == "REFUTED"]
        return Found(method, _of_wrong(method, cells), cells) if cells else None
    if method.rules:
        cells = [c for c in record["cells"] if c["settings"].get("rule") in method.rules]
        priced, proved = ([c for c in cells if c["kind"] == kind] for kind in ("relaxed", "proof"))
        return Found(method, _of_rules(method, priced, proved), [*proved, *priced]) if priced else None
    verdicts = [v for v in record["verdicts"] if v["decoder"] in method.decoders]
    named = {name for v in verdicts for name in v["cells"]}
    cells = [c for c in record["cells"] if c["id"] in named]
    return Found(method, _of_decoders(record, method, verdicts, cells), cells) if verdicts else None


def _of_decoders(record: Record, method: Method, verdicts: list[DecoderVerdict], cells: list[Cell]) -> Row:
    kind = _combined(verdicts).value
    worst = [v["reason"] for v in verdicts if v["kind"] == kind]
    shown = ("; ".join(_shown(cells)) if kind in _HELD else "") or worst[0]
    names = {v["decoder"] for v in verdicts}
    return row([method.name, method.source, kind, shown, *_costs(record, names)], kind, bad=_bad(kind))


def _combined(verdicts: list[DecoderVerdict]) -> Kind:
    """Of the decoders of a method; a rule by itself has no proof for every law, as its decoder has."""
    rules, decoders = (
        [Kind(v["kind"]) for v in verdicts if (_RULE in v["decoder"]) is wanted] for wanted in (True, False)
    )
    return lifted(rules, decoders)


def _shown(cells: list[Cell]) -> Iterator[str]:
    """What a lossless method rests on."""
    if proved := tables_proofs.shown(cells):
        yield proved
    law = "exact" if any(c["kind"] == "exact" for c in cells) else "relaxed"
    for kind, words in ((law, "exact on"), ("density", "exact densities on")):
        toys: dict[str, set[str]] = {}
        for c in cells:
            if c["kind"] == kind and c["verdict"]["kind"] == "PROVED":
                toys.setdefault(c["decoder"], set()).add(c["model"])
        counts = {name: len(each) for name, each in toys.items()}
        if len(set(counts.values())) == 1:
            yield f"{words} {number_of(len(set().union(*toys.values())), _TOY)}"
        elif counts and len(counts) <= _NAMED:
            yield f"{words} {', '.join(f'{number_of(len(each), _TOY)} ({name})' for name, each in toys.items())}"
        elif counts:
            yield f"{words} {min(counts.values())} to {max(counts.values())} toys each"
    for kinds, words in (
        ({"sampled", "continuous"}, "toy sequences tested"),
        ({"real"}, "real images tested"),
        ({"paired"}, "sequences equal plain decoding's, token for token"),
    ):
        tested = [c for c in cells if c["kind"] in kinds and c["verdict"]["kind"] == "CONSISTENT"]
        if images := sum(run_of(c)["n"] for c in tested if c["run"] is not None):
            yield f"{images:,} {words}"


def _of_rules(method: Method, cells: list[Cell], laws: list[Cell]) -> Row:
    worst = combine(Kind(c["verdict"]["kind"]) for c in cells)
    far = [exact_of(c)["tv"] for c in cells if c["exact"] is not None]
    if worst not in (Kind.PROVED, Kind.VACUOUS) or not far:
        kind: str = worst.value
        shown = next(c["verdict"]["reason"] for c in cells if c["verdict"]["kind"] == kind)
        return row([method.name, method.source, kind, shown, *[UNKNOWN] * 4], kind, bad=_bad(kind))
    proved = sum(c["verdict"]["kind"] == "PROVED" for c in cells)
    kind = BOUND if proved else RELAXED
    toys = number_of(len({c["model"] for c in cells}), "toy")
    shown = f"exact TV {_short(min(far))} to {_short(max(far))} on {toys}"
    if proved and all(c["claim"].startswith("cluster-lossless") for c in cells):
        kind, shown = "PROVED", f"lossless by cluster, exactly; {shown} by token"
        kind = lifted([Kind.PROVED], [Kind(c["verdict"]["kind"]) for c in laws]).value
    elif 0 < proved < len(cells):
        shown += f"; its bound says nothing in {len(cells) - proved} of {len(cells)} settings"
    if said := tables_proofs.shown(laws):
        what = "the same" if kind == "PROVED-FOR-ALL" else "one token's law, and that no rule pays less,"
        shown += f"; {what} for {said}"
    return row([method.name, method.source, kind, shown, *[UNKNOWN] * 4], kind)


def _of_wrong(method: Method, cells: list[Cell]) -> Row:
    refuted = [c for c in cells if c["verdict"]["kind"] == "REFUTED"]
    kind = "REFUTED" if refuted else "ERROR"
    if not refuted:
        shown = f"known to be wrong, but not refuted: {cells[0]['verdict']['reason']}"
    else:
        far = max(refuted, key=_distance)
        shown = f"exact TV {_short(_distance(far))} from the target on {far['model']}"
        if not _distance(far):
            shown = f"{far['verdict']['reason']} ({far['model']})"
    return row([method.name, method.source, kind, shown, *[UNKNOWN] * 4], kind, bad=_bad(kind))


def _short(tv: float) -> str:
    return "0" if tv <= TOLERANCE else number(tv, 2)


def _distance(cell: Cell) -> float:
    density = cell["figures"].get("density")
    return float(exact_of(cell)["tv"] if cell["exact"] is not None else density["tv"] if density is not None else 0.0)


def _bad(kind: str) -> tuple[int, ...]:
    return (0,) if kind in ("REFUTED", "ERROR") else ()


def _costs(record: Record, names: Iterable[str]) -> list[str]:
    """Passes, draft passes, and speed-up in seconds alone and in a batch; unknown where nothing was run."""
    mine, plain, alone, other = _timed(record, set(names))
    if mine is None:
        return [UNKNOWN] * 4
    run = run_of(mine)
    beside = None if plain is None else _each(plain) / _each(mine)
    single = None if alone is None or other is None else _each(other) / _each(alone)
    waits = lock_step(run, 64).partition(" [")[0]
    passes = number(run["step_compression"], 3) + (f" ({waits})" if waits not in (UNKNOWN, "1") else "")
    return [passes, number(run.get("draft_passes_mean") or 0, 3), number(single, 2), number(beside, 2)]


def _timed(record: Record, names: set[str]) -> tuple[Cell | None, Cell | None, Cell | None, Cell | None]:
    """Cells in a batch and one at a time, each with plain decoding's: of one model and guidance, if there are such."""
    alone, other = next(
        ((c, plain) for c, plain in one_at_a_time(record["cells"]) if c["decoder"] in names and plain), (None, None)
    )
    batches = [
        c for c in record["cells"] if c["kind"] == "real" and c["run"] is not None and (c["settings"]["batch"] or 0) > 1
    ]
    of_names = [c for c in batches if c["decoder"] in names]
    mine = next((c for c in of_names if alone is not None and _setting(c) == _setting(alone)), None)
    mine = mine or next(iter(of_names), None)
    if mine is None:
        return None, None, alone, other
    same = (*_setting(mine), mine["settings"]["batch"])
    plain = next((c for c in batches if c["decoder"] == "ar" and (*_setting(c), c["settings"]["batch"]) == same), None)
    return mine, plain, alone, other


def _setting(cell: Cell) -> tuple[str, float | None]:
    return cell["model"], cell["settings"]["guidance"]


def _each(cell: Cell) -> float:
    run = run_of(cell)
    return float(run["seconds"] / run["n"])
