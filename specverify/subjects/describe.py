"""A counterexample in words and fractions, for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace

from specverify.claims import ClusterLossless, Relaxed
from specverify.errors import number_of
from specverify.evidence.cases import SCALE, Case, Weights
from specverify.evidence.flow import Share
from specverify.evidence.found import Counterexample, Outcome
from specverify.evidence.localise import Location
from specverify.evidence.rational import numbers
from specverify.model import Model

WIDTH = 80
ROWS = 8
"""Most sequences that are listed."""
LISTED = 8
"""Settings that a line of what is not covered names."""
_LEFT = 11


def listed(names: Sequence[str]) -> str:
    """Names once each, the first of them if there are many."""
    names = list(dict.fromkeys(names))
    hidden = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {hidden} more" if hidden > 0 else "")


def describe(counterexample: Counterexample) -> str:
    """The setting, the model, the law that came out beside the law that was due, and the branch that went wrong."""
    case, claim = counterexample.case, counterexample.claim
    lines: list[str] = []
    if counterexample.outcome is None:
        lines += [f"not {claim}, but broken", *_entry("error", counterexample.error)]
        return "\n".join(lines + _setting(case))
    outcome, location = counterexample.outcome, counterexample.location
    (tv,) = numbers(outcome.tv)
    decimal = f" = {outcome.tv:.4g}" if "/" in tv else ""
    lines.append(f"not {claim}: total variation {tv}{decimal} from the target law")
    if (farther := _farther(counterexample)) is not None:
        lines += _entry("largest", f"{farther.tv:.3g} seen, with {_where(farther.case)}; this is the smallest model")
    lines += _setting(case)
    if isinstance(claim, ClusterLossless):
        named = (f"{n} is {', '.join(map(str, tokens))}" for n, tokens in enumerate(claim.partition))
        lines += _entry("clusters", "; ".join(named))
    if location is None:
        return "\n".join(lines)
    symbol = "token" if len(location.due) == case.target().vocab else "cluster"
    lines += _place(location, symbol)
    lines += _entry("branch", f"{location.branch}: {location.finding}")
    lines += _sequences(counterexample, symbol)
    return "\n".join(lines)


def headline(counterexample: Counterexample) -> str:
    """The same in one sentence."""
    case = counterexample.case
    setting = _where(case)
    if counterexample.outcome is None:
        return f"with {setting}: {counterexample.error}"
    location = counterexample.location
    (tv,) = numbers(counterexample.outcome.tv)
    limit = f", where {counterexample.claim} is claimed" if isinstance(counterexample.claim, Relaxed) else ""
    text = f"exact TV {tv} from the target with {setting}{limit}"
    if (farther := _farther(counterexample)) is not None:
        text += f"; the largest seen is {farther.tv:.3g}, with {_where(farther.case)}"
    if location is None:
        return text
    return (
        f"{text}; wrong from position {location.position} on, {_after(location.prefix)}: {location.branch}: "
        f"{location.finding}"
    )


def _farther(counterexample: Counterexample) -> Outcome | None:
    """The outcome that is farther off than the smallest counterexample, where one was seen."""
    largest, outcome = counterexample.largest, counterexample.outcome
    return largest if largest is not None and outcome is not None and largest.tv > outcome.tv * (1 + 1e-9) else None


def _where(case: Case) -> str:
    """A setting within a sentence."""
    parts = [_size(case.target())]
    parts += [f"window {case.window}"] if case.window else []
    parts += [case.precision] if case.precision != "float64" else []
    return ", ".join(parts)


def _setting(case: Case) -> list[str]:
    target = case.target()
    parts = [_size(target)]
    parts += [f"eos {target.eos}"] if target.eos is not None else []
    parts += [f"window {case.window}"] if case.window is not None else []
    parts += [f"initial drafts {case.initial}"] if case.initial is not None else []
    parts += [f"rows {case.arrangement}"] if case.arrangement != "together" else []
    parts += [f"laws in {case.precision}"] if case.precision != "float64" else []
    lines = _entry("setting", "; ".join(parts))
    for name, model in (("p", case.model), ("draft q", case.draft)):
        if isinstance(model, str):
            lines += _entry(name, f"of the toy {model}" if name == "p" else f"the draft model {model}")
        elif model is not None:
            lines += _laws(name, model)
    if isinstance(case.model, Weights) and case.model.guide is not None:
        unconditional = replace(case.model, weights=case.model.guide, guide=None)
        lines += [*_laws("guided by", unconditional), *_entry("", f"p is guided, with scale {SCALE:g}")]
    return lines


def _size(target: Model) -> str:
    return f"{number_of(target.vocab, 'token')}, {number_of(target.length, 'position')}"


def _laws(name: str, model: Weights) -> list[str]:
    """Each different law once, with the contexts that it follows; the commonest last, as all others."""
    groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for context, row in zip(model.contexts(), model.weights, strict=True):
        if model.eos is None or model.eos not in context:
            groups.setdefault(row, []).append(context)
    ordered = sorted(groups.items(), key=lambda item: len(item[1]))
    lines = []
    for number, (row, contexts) in enumerate(ordered):
        law = "  ".join(f"{x:>5}" for x in numbers(*(weight / sum(row) for weight in row)))
        if number + 1 < len(ordered):
            where = ", ".join(_after(context) for context in contexts)
        else:
            where = "always" if len(ordered) == 1 else "otherwise"
        lines += _entry(name if number == 0 else "", f"{law}   {where}")
    if model.span is not None:
        lines += _entry("", f"(by the last {model.span} token{'s' * (model.span > 1)}, kept in the model's state)")
    return lines + (_entry("", f"then {model.processors}") if model.processors else [])


def _place(location: Location, symbol: str) -> list[str]:
    (reached,) = numbers(location.probability)
    after = f"{_after(location.prefix)} (probability {reached})" if location.prefix else "at the start"
    lines = _entry(
        "wrong at", f"position {location.position}, {after}; too often: {', '.join(map(str, location.too_often))}"
    )
    size = len(location.due)
    table = [["", *(f"{symbol} {n}" for n in range(size))]]
    table += [["due", *numbers(*location.due)], ["came", *numbers(*location.came)]]
    for share in _shown(location.shares):
        cells = numbers(*share.came, *share.due)
        table.append([share.name, *(_pair(a, b) for a, b in zip(cells[:size], cells[size:], strict=True))])
    off = [abs(came - due) for came, due in zip(location.came, location.due, strict=True)]
    shown = _fitting(table, sorted(range(size), key=lambda n: -off[n]))
    hidden = size - len(shown)
    rest = [f"{'':{_LEFT}}and {hidden} more {symbol}{'s' * (hidden > 1)}, less far off"] if hidden else []
    return lines + _aligned([[row[0], *(row[1 + n] for n in shown)] for row in table]) + rest


def _fitting(table: list[list[str]], first: Sequence[int]) -> list[int]:
    """The columns that there is room for, behind that of names, if they are taken in this order; ascending."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    room, shown = WIDTH - _LEFT - widths[0], []
    for number in first:
        room -= 2 + widths[1 + number]
        if room < 0:
            break
        shown.append(number)
    return sorted(shown)


def _shown(shares: Sequence[Share]) -> list[Share]:
    order = ("sampled", "accepted", "recovered", "verified", "bonus", "ended", "earlier tokens")
    return sorted(shares, key=lambda share: (share.draft or "", order.index(share.branch)))


def _pair(came: str, due: str) -> str:
    return came if came == due else f"{came} not {due}"


def _sequences(counterexample: Counterexample, symbol: str) -> list[str]:
    """The sequences whose probability is furthest off, in order."""
    assert counterexample.outcome is not None
    assert counterexample.location is not None
    came, due = counterexample.outcome.came, counterexample.outcome.due
    size, length = len(counterexample.location.due), counterexample.case.target().length
    off = ((came - due).abs() > counterexample.outcome.rounding).nonzero().squeeze(1)
    worst = off[(came - due)[off].abs().argsort(descending=True, stable=True)[:ROWS]].sort().values
    table = [["sequence", "due", "came"]]
    for index in worst.tolist():
        digits = [index // size ** (length - 1 - n) % size for n in range(length)]
        table.append([" ".join(map(str, digits)), *numbers(float(due[index]), float(came[index]))])
    hidden = len(off) - len(worst)
    return _aligned(table) + ([f"{'':{_LEFT}}and {hidden} more"] if hidden else [])


def _aligned(table: list[list[str]]) -> list[str]:
    """Columns, the first to the left and the others to the right, under the entries."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        " " * _LEFT
        + row[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in table
    ]


def _after(prefix: Sequence[int]) -> str:
    return f"after {' '.join(map(str, prefix))}" if prefix else "at the start"


def _entry(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=f"{name:<{_LEFT}}", subsequent_indent=" " * _LEFT, drop_whitespace=True
    )
