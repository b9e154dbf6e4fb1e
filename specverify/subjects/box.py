"""The box that a proof holds in: what the decoder was enumerated on, in words; and what lies outside of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from specverify.evidence.cases import Weights
from specverify.evidence.found import Outcome
from specverify.processors import Guided
from toymodels import toy
from toymodels.tables import tabulate


def box(outcomes: Sequence[Outcome]) -> str:
    """Vocabularies with their lengths and windows, precisions, the least probability, ends, guidance, processors, first
    drafts.
    """
    single = [o for o in outcomes if o.case.precision != "float64"]
    parts = ["; ".join(_sizes([o for o in outcomes if o.case.precision == "float64"]))]
    if single:
        vocabularies = _runs(_target(o)[0] for o in single)
        rounded = f" to {max(o.tv for o in single):.1g}" if all(o.rounding == o.bound for o in single) else ""
        parts.append(f"laws in float64, and in float32 of {vocabularies} tokens{rounded}")
    parts.append(f"probabilities from {min(_least(o) for o in outcomes):.1g}")
    with_end = any(_target(o)[2] for o in outcomes)
    parts.append("with and without an end" if with_end else "without an end")
    if any(_target(o)[3] for o in outcomes):
        parts.append("guided by a second law")
    if used := dict.fromkeys(name for o in outcomes for name in _processors(o.case.model)):
        parts.append(f"some laws processed by {', '.join(used)}")
    if initials := sorted({o.case.initial for o in outcomes if o.case.initial is not None}):
        parts.append(f"initial drafts {', '.join(initials)}")
    return "; ".join(parts)


def outside(outcomes: Sequence[Outcome]) -> list[str]:
    """What no enumeration of this box sees, in a few lines."""
    vocab, length = (max(_target(o)[part] for o in outcomes) for part in (0, 1))
    windows = [o.case.window for o in outcomes if o.case.window is not None]
    larger = f"vocabularies above {vocab}, sequences above {length} tokens"
    larger += f", windows above {max(windows)}" if windows else ""
    return [
        f"larger models: {larger}, and sizes together that the box does not name",
        "other machines: half precision, GPUs, compiled kernels",
        "long runs: state that is kept over thousands of steps",
        "code that recognises where it is: by a model's name, its type or its size",
    ]


def _sizes(outcomes: Sequence[Outcome]) -> list[str]:
    """One entry for each vocabulary."""
    entries = []
    for vocab in sorted({_target(o)[0] for o in outcomes}):
        here = [o for o in outcomes if _target(o)[0] == vocab]
        lengths = _runs(_target(o)[1] for o in here)
        # Windows that lie within some sequence: those beyond its end are cut to it.
        inside = _runs(o.case.window for o in here if o.case.window is not None and o.case.window <= _target(o)[1])
        entries.append(f"{vocab} tokens by {lengths}" + (f", windows {inside}" if inside else ""))
    return entries


def _runs(numbers: Iterable[int]) -> str:
    """Numbers with their runs drawn together, such as 1-4, 6."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in found)


def _target(outcome: Outcome) -> tuple[int, int, bool, bool]:
    """Vocabulary, length, whether there is an end, and whether it is guided."""
    model = outcome.case.model
    if isinstance(model, str):
        return _toy(model)[0]
    return model.vocab, model.length, model.eos is not None, model.guide is not None


def _processors(model: object) -> list[str]:
    """The names of what a model's laws are processed by; a toy's name says its own."""
    text = model.processors if isinstance(model, Weights) else ""
    return [setting.partition("=")[0] for setting in text.split(",") if setting]


def _least(outcome: Outcome) -> float:
    """The least probability above 0 of a next token."""
    model = outcome.case.model
    if isinstance(model, str):
        return _toy(model)[1]
    return min(min(weight for weight in row if weight) / sum(row) for row in model.weights)


@lru_cache(maxsize=64)
def _toy(name: str) -> tuple[tuple[int, int, bool, bool], float]:
    model = toy(name)
    table = tabulate(model).table
    size = (model.vocab, model.length, model.eos is not None, isinstance(model, Guided))
    return size, float(table[table > 0].min())
