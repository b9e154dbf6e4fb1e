"""What is held against the laws of sequences alone, one check after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from specverify import tree
from specverify.conformance_like import like_of
from specverify.conformance_own import own
from specverify.conformance_walk import Differences, Truth, Windows, kept, mixed, read
from specverify.errors import ContractError
from specverify.model import Context, Model, check_laws

NEAR = 64
"""Where stretches may begin that are gone through again and again: what is before them is read each time."""


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
        context = model.advance(context, tokens[:, place : place + 1].clone(), torch.ones_like(tokens[:, 0]))
        laws.append(law)
    return context, torch.cat(laws, 1)


def compare(model: Any, truths: list[Truth], widths: tuple[int, int], seed: int, found: Differences) -> Iterator[str]:
    """Carry out each check; yields its name."""
    window, widest = widths
    first, batch = truths[0], len(truths[0].tokens)
    random = torch.Generator().manual_seed(seed + 1)
    found.doing = "own"
    own(model, first, widths, found)
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
        found.doing, windows, going = check, Windows(window, widest, random), truths
        while going is truths or windows.handed < windows.enough:
            for truth in going:
                context = read(model, model.start(batch), truth.tokens, 0, truth.begin, widest)
                mixed(model, context, truth, windows, found, random, check)
            going = [truth for truth in truths if truth.begin <= NEAR]
        yield check
    if first.end > 3:
        found.doing = "forks"
        _forks(model, first, widths, random, found)
        yield found.doing
        if (twins := _twins(model, first)) is not None:
            found.doing = "twins"
            _beside(model, first, twins, widths, random, found)
            yield found.doing
        if model.eos is not None:
            found.doing = "ended"
            _ended(model, first, widths, random, found)
            yield found.doing
    for check, carry_out in (("end", _end), ("starts", _starts)):
        found.doing = check
        carry_out(model, truths[-1] if check == "end" else first, widths, found)
        if check == "starts":
            _numbers(model, first, window, found)
        yield check


def _forks(model: Any, first: Truth, widths: tuple[int, int], random: torch.Generator, found: Differences) -> None:
    """Two sequences, each twice from a place on, where the copies go on with other tokens."""
    at, batch = max(1, 2 * first.end // 5) | 1, len(first.tokens)
    tokens, laws = first.tokens[:2].clone(), []
    generator = torch.Generator(model.device).manual_seed(random.initial_seed())
    for row in range(2):
        mine = tokens[row : row + 1]
        laws.append(step(model, start_alone(model, batch, row), mine, (0, first.end), generator, at)[1])
    others = Truth(0, first.end, tokens, torch.cat(laws))
    _beside(model, first, others, widths, random, found, at)


def _twins(model: Any, first: Truth) -> Truth | None:
    """Two sequences that differ from those at one early place alone, or None where there is no other token."""
    tokens = first.tokens[:2].clone()
    other = (tokens[:, 1] + 1) % model.vocab
    if model.eos is not None:
        other = torch.where(other == model.eos, (other + 1) % model.vocab, other)
    if bool((other == tokens[:, 1]).any()):
        return None
    tokens[:, 1] = other
    batch, end = len(first.tokens), first.end
    laws = [_given(model, batch, row, tokens[row : row + 1], end) for row in range(2)]
    return Truth(0, end, tokens, torch.cat(laws))


def _beside(
    model: Any,
    first: Truth,
    others: Truth,
    widths: tuple[int, int],
    random: torch.Generator,
    found: Differences,
    at: int = 0,
) -> None:
    """Two sequences and two others of the same rows, which are one up to a position, beside each other."""
    truth = Truth(0, first.end, *(torch.cat([one[:2], two]) for one, two in _pairs(first, others)))
    windows = Windows(*widths, random)
    while windows.handed < windows.enough:
        two = tree.rows(model.start(len(first.tokens)), torch.arange(2, device=truth.tokens.device))
        context = read(model, two, others.tokens, 0, at, widths[1])
        context = tree.rows(context, torch.tensor([0, 1, 0, 1], device=truth.tokens.device))
        mixed(model, context, truth, windows, found, random, "lengths", at)


def _pairs(first: Truth, others: Truth) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return (first.tokens, others.tokens), (first.laws, others.laws)


def _ended(model: Any, first: Truth, widths: tuple[int, int], random: torch.Generator, found: Differences) -> None:
    """Rows beside one that has ended, which are compared alone."""
    tokens, looked = first.tokens.clone(), torch.ones_like(first.tokens[:, 0], dtype=torch.bool)
    tokens[0, 2:], looked[0] = model.eos, False
    truth, windows = Truth(0, first.end, tokens, first.laws, looked), Windows(*widths, random)
    while windows.handed < windows.enough:
        mixed(model, model.start(len(tokens)), truth, windows, found, random, "lengths")


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
    """Batches of sequences read in turn, others with other tokens, some begun when the first is on its way."""
    window, batch, end = widths[0], len(first.tokens), first.end
    other = (first.tokens + 1) % model.vocab
    texts = [first.tokens, other, torch.cat([other, other[:1]]), other]
    going: list[tuple[Context, int]] = []
    for begin in range(0, end, window + 1):
        for text in texts[len(going) : len(going) + (1 if going else 2)]:
            going.append((model.start(len(text)), 0))
        for number, (context, at) in enumerate(going):
            part = texts[number][:, at : min(at + window + 1, end)]
            laws = model.laws(context, part[:, :-1])
            if number == 0:
                place = torch.arange(begin, begin + part.shape[1], device=other.device).expand(batch, -1)
                due = first.laws[:, begin : begin + part.shape[1]]
                found.look(laws, due, place >= 0, place, f"in a window of {window}, while other rows are begun,")
            after = model.advance(context, part, torch.full_like(part[:, 0], part.shape[1]))
            going[number] = after, at + part.shape[1]


def _numbers(model: Any, first: Truth, window: int, found: Differences) -> None:
    """The first window of every number of sequences that are begun at once, up to twice as many as elsewhere.

    Where rows are known by their conditions, all are compared; of another model those that are compared elsewhere.
    """
    batch, end, device = len(first.tokens), min(first.end, window + 1), first.tokens.device
    tokens, laws = first.tokens[:, :end], first.laws[:, :end]
    for more in range(batch, 2 * batch) if like_of(model) else ():
        same = more % len(model.conditions)
        mine = tokens[same : same + 1] if same < batch else tokens[more - batch : more - batch + 1].clone()
        law = laws[same : same + 1] if same < batch else _given(model, batch, more, mine, end)
        tokens, laws = torch.cat([tokens, mine]), torch.cat([laws, law])
    for rows in range(1, 2 * batch + 1):
        row = torch.arange(rows, device=device)
        each = row % len(tokens)
        truth = Truth(0, end, tokens[each], laws[each], row < len(tokens))
        kept(model, model.start(rows), truth, min(window, end - 1), found, f", of {rows} begun at once,")


def _given(model: Any, batch: int, row: int, tokens: Tensor, end: int) -> Tensor:
    """The laws of one row alone, of so many that are begun, at tokens that are given."""
    generator = torch.Generator(model.device)
    return step(model, start_alone(model, batch, row), tokens, (0, end), generator, end)[1]
