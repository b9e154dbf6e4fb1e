"""From a case that is wrong to a small one: whatever can be left out while it stays wrong is left out.

Greedily, one thing at a time, what saves most first: fewer positions and tokens, a narrower window, one law after every
prefix, smaller weights. Nothing is drawn, so that it takes few enumerations and comes to the same case every time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import toymodels
from specverify.evidence.cases import Case, Space, Weights
from toymodels import strategies
from toymodels.tables import tabulate

CONTEXTS = 4_000
"""Most laws of a toy that is made one of weights."""
MERGED = 6
"""Most different laws of a model that are tried in each other's place."""
Row = tuple[int, ...]


def smaller(case: Case, space: Space, fails: Callable[[Case], bool]) -> Case | None:
    """The case without all that can be left out while it fails.

    Args:
        case: that fails; a toy by name is made one of weights.
        space: what it is brought towards: its smallest sizes, its first arrangement, precision, initial and window.
        fails: whether a case is still wrong; asked once for each.

    Returns:
        the smallest; None if it is no case of weights and cannot be made one, does not fail as one, or has clusters.
    """
    case = _lifted(case)
    if not isinstance(case.model, Weights) or isinstance(case.draft, str) or space.partition is not None:
        return None
    seen = {case}
    if not fails(case):
        return None
    while True:
        for simpler in _simpler(case, space):
            if simpler not in seen:
                seen.add(simpler)
                if fails(simpler):
                    case = simpler
                    break
        else:
            return case


def _lifted(case: Case) -> Case:
    """The case with a model of weights in place of a toy, and of the draft model that goes with it."""
    if not isinstance(case.model, str):
        return case
    target = case.target()
    if target.vocab**target.length > CONTEXTS:
        return case
    model = _weighed(tabulate(target).table, target.vocab, target.length, target.eos)
    draft = case.draft
    if isinstance(draft, str):
        draft = _weighed(tabulate(toymodels.draft(draft, target)).table, target.vocab, target.length, target.eos)
    return replace(case, model=model, draft=draft)


def _weighed(table: Float[Tensor, "contexts vocab"], vocab: int, length: int, eos: int | None) -> Weights:
    rows = []
    for law in table.to(torch.float64).tolist():
        parts = [Fraction(x).limit_denominator(1000) for x in law]
        common = math.lcm(*(part.denominator for part in parts))
        rows.append(tuple(int(part * common) for part in parts) if any(parts) else (1,) * vocab)
    return Weights(vocab, length, tuple(rows), eos)


def _simpler(case: Case, space: Space) -> Iterator[Case]:
    """The case with one thing less, what saves most first."""
    model, draft = case.model, case.draft
    assert isinstance(model, Weights)
    yield replace(case, arrangement=space.arrangements[0])
    yield replace(case, precision=space.precisions[0])
    yield from (replace(case, initial=other) for other in _before(space.initials, case.initial))
    for length in range(max(1, space.length[0]), model.length):
        yield _both(case, length=length)
    if model.vocab > space.vocab[0]:
        yield from (_both(case, without=token) for token in reversed(range(model.vocab)) if token != model.eos)
    yield from (replace(case, window=other) for other in _before(space.windows, case.window))
    if model.processors:
        yield replace(case, model=replace(model, processors=""))
    if model.guide is not None and False in space.guided:
        yield replace(case, model=replace(model, guide=None))
    if model.eos is not None and False in space.eos:
        yield _both(case, eos=None)
    if model.span is not None and None in space.spans:
        yield replace(case, model=_rebuilt(model, span=None))
    yield from (replace(case, model=other) for other in _plainer(model))
    if isinstance(draft, Weights):
        yield from (replace(case, draft=other) for other in _plainer(draft))


def _before(options: tuple[Any, ...], chosen: Any) -> tuple[Any, ...]:
    return options[: options.index(chosen)] if chosen in options else options


def _both(case: Case, **change: Any) -> Case:
    """The case with the sizes of both its models changed."""
    assert isinstance(case.model, Weights)
    draft = _rebuilt(case.draft, **change) if isinstance(case.draft, Weights) else case.draft
    return replace(case, model=_rebuilt(case.model, **change), draft=draft)


def _rebuilt(model: Weights, *, without: int | None = None, **change: Any) -> Weights:
    """The model with another length, span or end, or without a token: each context keeps its law."""
    kept = [token for token in range(model.vocab) if token != without]
    if without is not None:
        change |= {"vocab": len(kept), "eos": None if model.eos is None else kept.index(model.eos)}
    size = {"vocab": model.vocab, "length": model.length, "span": model.span, "eos": model.eos} | change
    empty = Weights(**size, weights=((1,) * size["vocab"],) * Weights.laws(size["vocab"], size["length"], size["span"]))
    old = [tuple(kept[token] for token in context) for context in empty.contexts()]
    depth = model.length if model.span is None else model.span

    def rows(given: tuple[Row, ...]) -> tuple[Row, ...]:
        laws = dict(zip(model.contexts(), given, strict=True))
        return tuple(_possible(laws[context[-depth:] if depth else ()], kept) for context in old)

    guide = None if model.guide is None else rows(model.guide)
    return replace(empty, weights=rows(model.weights), guide=guide, processors=model.processors)


def _possible(row: Row, kept: list[int]) -> Row:
    left = tuple(row[token] for token in kept)
    return left if any(left) else (1,) * len(left)


def _plainer(model: Weights) -> Iterator[Weights]:
    """The model with fewer different laws, or with simpler ones."""
    yield from (replace(model, weights=rows) for rows in _fewer(model.contexts(), model.weights))
    if model.guide is not None:
        yield from (replace(model, guide=rows) for rows in _fewer(model.contexts(), model.guide))


def _fewer(contexts: list[tuple[int, ...]], rows: tuple[Row, ...]) -> Iterator[tuple[Row, ...]]:
    different = sorted(set(rows), key=lambda row: (-rows.count(row), row))
    for row in different[:MERGED] * (len(different) > 1):
        yield (row,) * len(rows)
    if len(different) > 2:
        last = {context[-1:]: row for context, row in zip(contexts, rows, strict=True) if len(context) < 2}
        yield tuple(last[context[-1:]] for context in contexts)
        for row in different[:MERGED]:
            yield from (_exchanged(rows, row, other) for other in different[:MERGED])
    for row in different:
        yield from (_exchanged(rows, row, other) for other in _lighter(row))


def _exchanged(rows: tuple[Row, ...], row: Row, other: Row) -> tuple[Row, ...]:
    return tuple(other if each == row else each for each in rows)


def _lighter(row: Row) -> Iterator[Row]:
    """Rows with smaller weights: all alike, in lowest terms, one weight simpler."""
    if len(set(row)) > 1:
        yield (1,) * len(row)
    factor = math.gcd(*row)
    if factor > 1:
        yield tuple(weight // factor for weight in row)
    for place, weight in enumerate(row):
        for less in _before(strategies.WEIGHTS, weight):
            lighter = (*row[:place], less, *row[place + 1 :])
            if any(lighter):
                yield lighter
