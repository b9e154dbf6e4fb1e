"""What is a caller's own, and what a pass or an advance waits for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from specverify import tree
from specverify.conformance_walk import Differences, Truth
from specverify.waits import Waits

_TURNS = 4
"""Passes one after the other whose laws are all held."""


def own(model: Any, first: Truth, widths: tuple[int, int], found: Differences) -> None:
    """Whether laws are the caller's own, and what the caller gives is left alone, in passes of few drafts and many."""
    for width in sorted({0, *(min(width, first.end - 1) for width in widths)}):
        for rows in (1, len(first.tokens)):
            if said := _taken(model, first, width, rows, found.tolerance):
                found.found["own"] = f"own: {said}"
                return


def _taken(model: Any, first: Truth, width: int, rows: int, tolerance: float) -> str:
    """What is not the caller's own, in words; empty if all is."""
    tokens, each = first.tokens[:rows, : width + 1].clone(), f"of {rows} rows over {width} drafts"
    context = tree.rows(model.start(len(first.tokens)), torch.arange(rows, device=tokens.device))
    given: list[tuple[Tensor, Tensor]] = []
    for turn in (*range(1, _TURNS), 0):
        draft = (tokens[:, :-1] + turn) % model.vocab
        before, laws = draft.clone(), model.laws(context, draft)
        if not torch.equal(draft, before):
            return f"a pass {each} wrote to the drafts that it was given, which are the caller's"
        if _changed(given):
            return (
                f"a pass {each} changed the laws that one before it had given: they are the caller's own; hand out a "
                "copy of a buffer that is used again"
            )
        given.append((laws, laws.clone()))
    twice = model.laws(context, tokens[:, :-1].clone())
    if (apart := _apart(twice, given[-1][1])) > tolerance:
        return f"the same pass {each}, made twice, gave laws that differ by {apart:.3g} in total variation"
    given.append((twice, twice.clone()))
    mine, count = tokens.clone(), torch.full_like(tokens[:, 0], width + 1)
    number = count.clone()
    after = model.advance(context, mine, number)
    if not (torch.equal(mine, tokens) and torch.equal(number, count)):
        return (
            f"advance by {width + 1} tokens wrote to the tokens or the counts that it was given, which are the caller's"
        )
    if _changed(given):
        return f"an advance changed the laws that a pass {each} had given: they are the caller's own"
    ahead = model.laws(after, tokens[:, :0])
    if _changed(given):
        return (
            f"a pass behind an advance changed the laws that one {each} had given: they are the caller's own; hand out "
            "a copy of a buffer that is used again"
        )
    given.append((ahead, ahead.clone()))
    mine.copy_((tokens + 1) % model.vocab)
    number.zero_()
    again = model.laws(after, tokens[:, :0])
    given.append((again, again.clone()))
    if _apart(again, given[-2][1]) > tolerance:
        return (
            f"laws changed with the tokens or counts that advance had been given, {width + 1} of them, and that the "
            "caller wrote to afterwards: keep copies of them"
        )
    model.start(len(first.tokens))
    if _changed(given):
        return f"another start changed the laws that a pass {each} had given: they are the caller's own"
    back = model.laws(context, tokens[:, :-1])
    last = back.clone()
    with torch.inference_mode():  # in which alone laws that were made in it can be written to
        back.zero_()
    if _apart(model.laws(context, tokens[:, :-1]), last) > tolerance:
        return (
            f"laws {each} that the caller wrote to came out changed when they were asked for again: they are the "
            "caller's own; hand out a copy of what is kept"
        )
    return ""


def _changed(given: list[tuple[Tensor, Tensor]]) -> bool:
    return any(not torch.equal(laws, copy) for laws, copy in given)


def _apart(laws: Tensor, others: Tensor) -> float:
    """The largest total variation."""
    return float((laws.double() - others.double()).abs().sum(-1).max()) / 2


def waits(model: Any, tokens: Tensor) -> str:
    """What a pass or an advance waits for, in words; empty if for nothing."""
    first, then = tokens[:, :1], tokens[:, 1:2]
    context = model.start(len(tokens))
    model.laws(context, first[:, :0])
    if tokens.shape[1] > 1:
        context = model.advance(context, first, torch.ones_like(first[:, 0]))
        model.laws(context, then)
        first = then
    draft = first[:, : then.shape[1]]
    with Waits() as watch:
        model.laws(context, draft)
        model.advance(context, first, torch.ones_like(first[:, 0]))
    if not watch.seen:
        return ""
    return (
        f"waiting: a pass or an advance waits for a GPU, if it runs on one ({', '.join(sorted(watch.seen))}), which "
        "costs time with every token, and changes no law; decide nothing by a tensor's value"
    )
