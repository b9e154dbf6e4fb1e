"""What is held against the laws of sequences alone, one check after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from specverify import tree
from specverify.conformance_walk import Differences, Truth, Windows, kept, like_of, mixed, read
from specverify.errors import ContractError
from specverify.model import Context, Model, check_laws
from specverify.waits import Waits


def start_alone(model: Any, batch: int, row: int) -> Context:
    """The context of one row that nothing is beside."""
    if like := like_of(model):
        return like(conditions=[model.conditions[row % len(model.conditions)]]).start(1)
    return tree.rows(model.start(batch), torch.tensor([row], device=model.device))


def step(
    model: Any,
    context: Context,
    tokens: Tensor,
    stretch: tuple[int, int],
    generator: torch.Generator,
    fork: int | None = None,
) -> tuple[Context, Tensor]:
    """Go on by single tokens, which are drawn from the laws and written to `tokens`.

    Args:
        fork: the position of the first of them, where another is taken than stands there; before it they are given.
            If None, all of the stretch are drawn.
    """
    laws = []
    for place in range(*stretch):
        law = model.laws(context, tokens[:, :0]).clone()
        if law.dtype != model.dtype:
            raise ContractError(f"the law at position {place} is of {law.dtype}; the model says {model.dtype}")
        check_laws(law, what=f"the law at position {place}", vocab=model.vocab)
        if fork is None or place >= fork:
            weights = law[:, 0].float() + 1e-9
            if model.eos is not None:  # behind an end all laws are one: go on, if anything else can follow
                weights[:, model.eos] *= 1e-9
            if place == fork:
                weights.scatter_(1, tokens[:, place : place + 1], 1e-18)
            tokens[:, place] = torch.multinomial(weights, 1, generator=generator)[:, 0]
        context = model.advance(context, tokens[:, place : place + 1], torch.ones_like(tokens[:, 0]))
        laws.append(law)
    return context, torch.cat(laws, 1)


def compare(model: Any, truths: list[Truth], widths: tuple[int, int], seed: int, found: Differences) -> Iterator[str]:
    """Carry out each check; yields its name."""
    window, widest = widths
    first, batch = truths[0], len(truths[0].tokens)
    random = torch.Generator().manual_seed(seed + 1)
    found.doing = "own"
    _own(model, first, widths, found)
    yield found.doing
    found.doing = "alone"
    one = first.rows(torch.tensor([0], device=first.tokens.device))
    for width in widths:
        kept(model, start_alone(model, batch, 0), one, width, found)
    windows = Windows(window, widest, random)
    while windows.handed < windows.enough:
        mixed(model, start_alone(model, batch, 0), one, windows, found, random, "rejection")
    yield found.doing
    if "alone" in found.found:  # then what is read in windows is no truth
        truths = truths[:1]
    for check, each in (("batch", [0]), ("windows", [window, widest])):
        found.doing = check
        for truth in truths:
            for width in each:
                kept(model, read(model, model.start(batch), truth.tokens, 0, truth.begin, widest), truth, width, found)
        yield check
    for check in ("rejection", "lengths", "selection"):
        found.doing, windows = check, Windows(window, widest, random)
        while windows.handed < windows.enough:
            for truth in truths:
                context = read(model, model.start(batch), truth.tokens, 0, truth.begin, widest)
                mixed(model, context, truth, windows, found, random, check)
        yield check
    if first.end > 3:
        found.doing = "forks"
        _forks(model, first, widths, random, found)
        yield found.doing
    for check, carry_out in (("end", _end), ("starts", _starts)):
        found.doing = check
        carry_out(model, truths[-1] if check == "end" else first, widths, found)
        yield check


def _forks(model: Any, first: Truth, widths: tuple[int, int], random: torch.Generator, found: Differences) -> None:
    """Two sequences, each twice from a place on, where the copies go on with other tokens."""
    at, batch = max(1, 2 * first.end // 5) | 1, len(first.tokens)
    tokens, laws = first.tokens[:2].clone(), []
    generator = torch.Generator(model.device).manual_seed(random.initial_seed())
    for row in range(2):
        mine = tokens[row : row + 1]
        laws.append(step(model, start_alone(model, batch, row), mine, (0, first.end), generator, at)[1])
    truth = Truth(0, first.end, torch.cat([first.tokens[:2], tokens]), torch.cat([first.laws[:2], *laws]))
    windows = Windows(*widths, random)
    while windows.handed < windows.enough:
        two = tree.rows(model.start(batch), torch.arange(2, device=tokens.device))
        context = read(model, two, tokens, 0, at, widths[1])
        context = tree.rows(context, torch.tensor([0, 1, 0, 1], device=tokens.device))
        mixed(model, context, truth, windows, found, random, "lengths", at)


def _end(model: Model, last: Truth, widths: tuple[int, int], found: Differences) -> None:
    """The law of the last position, with drafts behind it that no sequence has."""
    window, widest = widths
    batch = len(last.tokens)
    context = read(model, model.start(batch), last.tokens, 0, last.end - 1, widest)
    beyond = torch.cat([last.tokens[:, -1:], last.tokens[:, : window - 1]], 1)
    laws = model.laws(context, beyond)
    check_laws(laws, what="a law beyond the last position", vocab=model.vocab)
    place = torch.full((batch, 1), last.end - 1, device=laws.device)
    again = model.laws(context, beyond[:, :0])
    words = f"before drafts beyond the end, in a window of {beyond.shape[1]},", "read again after those"
    for some, what in zip((laws[:, :1], again), words, strict=True):
        found.look(some, last.laws[:, -1:], torch.ones_like(place, dtype=torch.bool), place, what, last.begin)


def _starts(model: Model, first: Truth, widths: tuple[int, int], found: Differences) -> None:
    """Batches of sequences, of which others have other tokens, read in turn, as a model and a draft made of it are."""
    window, batch, end = widths[0], len(first.tokens), first.end
    other = (first.tokens + 1) % model.vocab
    texts = [first.tokens, other, torch.cat([other, other[:1]])]
    contexts = [model.start(len(text)) for text in texts]
    for begin in range(0, end, window + 1):
        parts = [text[:, begin : min(begin + window + 1, end)] for text in texts]
        read_ = [model.laws(context, part[:, :-1]) for context, part in zip(contexts, parts, strict=True)]
        place = torch.arange(begin, begin + parts[0].shape[1], device=other.device).expand(batch, -1)
        due = first.laws[:, begin : begin + parts[0].shape[1]]
        found.look(read_[0], due, place >= 0, place, f"in a window of {window}, while other rows are begun,")
        contexts = [
            model.advance(context, part, torch.full_like(part[:, 0], part.shape[1]))
            for context, part in zip(contexts, parts, strict=True)
        ]


def _own(model: Model, first: Truth, widths: tuple[int, int], found: Differences) -> None:
    """Whether laws are the caller's own."""
    for rows in (1, len(first.tokens)):
        tokens = first.tokens[:rows, : min(widths[0] + 1, first.end)]
        context = tree.rows(model.start(len(first.tokens)), torch.arange(rows, device=tokens.device))
        laws = model.laws(context, tokens[:, :-1])
        copy = laws.clone()
        model.laws(context, (tokens[:, :-1] + 1) % model.vocab)
        if not torch.equal(laws, copy):
            found.found["own"] = (
                f"own: a pass of {rows} rows changed the laws that the pass before it had given: they are the caller's "
                "own; hand out a copy of a buffer that is used again"
            )
            return
        laws.zero_()
        again = model.laws(context, tokens[:, :-1])
        if float((again - copy).abs().sum(-1).max()) / 2 > found.tolerance:
            found.found["own"] = (
                f"own: laws of {rows} rows that the caller wrote to came out changed when they were asked for again: "
                "they are the caller's own; hand out a copy of what is kept"
            )
            return


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
