"""Ways through a stretch of sequences, as decoders go: in windows of changing widths, with rows that change places."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify import tree
from specverify.errors import ContractError
from specverify.model import Context, Model, check_laws

CHUNK = 32
"""Tokens of a window in which what lies before a stretch is read."""
WIDE = 16
"""Drafts of the widest windows, unless `window` is more: what decoders have by default."""
LEAST = 3
"""How often each width comes, at least."""


@dataclass(frozen=True)
class Truth:
    """The laws of sequences alone, at the positions of a stretch.

    Attributes:
        begin, end: of the stretch.
        tokens: the sequences, whole.
        laws: of the stretch.
    """

    begin: int
    end: int
    tokens: Int[Tensor, "batch length"]
    laws: Float[Tensor, "batch positions vocab"]

    def rows(self, index: Tensor) -> Truth:
        """Some sequences."""
        return Truth(self.begin, self.end, self.tokens[index], self.laws[index])


class Differences:
    """Where laws differ from the truth: the first place of each check, and the largest of all."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance, self.largest = tolerance, 0.0
        self.found: dict[str, str] = {}

    def look(self, check: str, laws: Tensor, due: Tensor, counts: Tensor, position: Tensor, what: str) -> None:
        """Compare laws where they count.

        Args:
            laws, due: Float[batch, n, vocab].
            counts: Bool[batch, n].
            position: Int[batch, n], of each law.
            what: the sentence's end.
        """
        error = ((laws.double() - due.double()).abs().sum(-1) / 2).nan_to_num(nan=1.0).where(counts, 0)
        self.largest = max(self.largest, float(error.max()))
        wrong = error > self.tolerance
        if check in self.found or not bool(wrong.any()):
            return
        earliest = int(position[wrong].min())
        row, slot = ((position == earliest) & wrong).nonzero()[0].tolist()
        self.found[check] = (
            f"{check}: at position {earliest} of row {row} the law {what} differs from the one of that sequence alone, "
            f"one token per pass, by {float(error[row, slot]):.3g} in total variation ({slot} drafts before it in its "
            f"window; {int(wrong.sum())} such laws in that pass)"
        )


class Widths:
    """Widths of windows, each of 0 to `window` and the widest, in an order that is shuffled again and again.

    Attributes:
        handed: how many were handed out.
        enough: how many are to be.
    """

    def __init__(self, window: int, random: torch.Generator) -> None:
        self._all, self._random = [*range(window + 1), max(window, WIDE)], random
        self._left: list[int] = []
        self.handed, self.enough = 0, LEAST * len(self._all)

    def __next__(self) -> int:
        if not self._left:
            self._left = [self._all[i] for i in torch.randperm(len(self._all), generator=self._random).tolist()]
        self.handed += 1
        return self._left.pop()


def read(model: Model, context: Context, tokens: Tensor, begin: int, end: int) -> Context:
    """The context after all tokens up to `end`, from one of those up to `begin`."""
    while begin < end:
        part = tokens[:, begin : min(begin + CHUNK, end)]
        model.laws(context, part[:, :-1])
        context = model.advance(context, part, torch.full_like(part[:, 0], part.shape[1]))
        begin += part.shape[1]
    return context


def kept(check: str, model: Model, truth: Truth, width: int, found: Differences) -> None:
    """Go through a stretch in windows of one width whose drafts are all right."""
    context = read(model, model.start(len(truth.tokens)), truth.tokens, 0, truth.begin)
    what = "beside other rows" if width == 0 else f"in a window of {width} that were all kept"
    done = torch.full_like(truth.tokens[:, 0], truth.begin)
    while bool((done < truth.end).any()):
        place = done[:, None] + torch.arange(width + 1, device=done.device)
        right = truth.tokens.gather(1, place.clamp(max=truth.tokens.shape[1] - 1))
        _look(check, model, context, right[:, :width], truth, place, place < truth.end, what, found)
        count = torch.minimum(torch.full_like(done, width + 1), truth.end - done)
        context, done = model.advance(context, right, count), done + count


def mixed(check: str, model: Model, truth: Truth, widths: Widths, found: Differences, random: torch.Generator) -> None:
    """Go through a stretch in windows of all widths, of which some drafts are right and the rest wrong.

    Args:
        check: `rejection`, where all rows keep as many, and each context is read once with other drafts before; or
            `lengths`, where each row keeps another number, and some stand still; or `selection`, where rows are put
            into another order, doubled and dropped besides, as decoders do that draft in chains.
    """
    context = read(model, model.start(len(truth.tokens)), truth.tokens, 0, truth.begin)
    done = torch.full_like(truth.tokens[:, 0], truth.begin)
    moves, moved = itertools.cycle(_MOVES), ""
    while bool((done < truth.end).any()):
        width, batch, device = next(widths), len(done), done.device
        slots = torch.arange(width + 1, device=device)
        place = done[:, None] + slots
        right = truth.tokens.gather(1, place.clamp(max=truth.tokens.shape[1] - 1))
        each = torch.randint(0, width + 1, (batch,), generator=random).to(device)
        still = (torch.rand(batch, generator=random) < 0.15).to(device)
        if check == "rejection":
            each, still = each[:1].expand(batch), still.new_zeros(batch)
            other = torch.randint(0, model.vocab, (batch, next(widths)), generator=random).to(device)
            model.laws(context, other)
        shift = torch.randint(1, max(model.vocab, 2), right.shape, generator=random).to(device)
        draft = torch.where(slots < each[:, None], right, (right + shift) % model.vocab)[:, :width]
        what = f"in a window of {width}, {_WORDS[check]}{moved}"
        _look(check, model, context, draft, truth, place, (slots <= each[:, None]) & (place < truth.end), what, found)
        count = torch.minimum(each + 1, truth.end - done).where(~still, 0)
        context, done = model.advance(context, right, count), done + count
        if check == "selection":
            moved, orders = next(moves)
            for index in orders(len(done), device):
                context, done, truth = tree.rows(context, index), done[index], truth.rows(index)


def _look(
    check: str,
    model: Model,
    context: Context,
    draft: Tensor,
    truth: Truth,
    place: Tensor,
    counts: Tensor,
    what: str,
    found: Differences,
) -> None:
    """Read a window, and compare its laws where they count."""
    laws, width = model.laws(context, draft), draft.shape[1]
    if laws.shape[1] != width + 1:
        raise ContractError(f"for {width} drafts there came {laws.shape[1]} laws; w drafts have w + 1")
    check_laws(laws, what=f"{check}: a law from position {int(place.min())} on", vocab=model.vocab)
    slot = (place - truth.begin).clamp(max=truth.end - truth.begin - 1)
    due = truth.laws.gather(1, slot[..., None].expand(-1, -1, model.vocab))
    ahead = f", behind {truth.begin} tokens that were read in windows of up to {CHUNK}," if truth.begin else ""
    found.look(check, laws, due, counts, place, what + ahead)


def _exchanged(rows: int, device: torch.device) -> Iterator[Tensor]:
    """The other way round, the first one in the place of the last but one as well."""
    order = torch.arange(rows, device=device).flip(0)[: max(rows - 1, 1)]
    yield torch.cat([order, order[:1]])


def _doubled(rows: int, device: torch.device) -> Iterator[Tensor]:
    yield torch.arange(rows, device=device).repeat_interleave(2)


def _dropped(rows: int, device: torch.device) -> Iterator[Tensor]:
    """Every second one, and these in turn by one place."""
    yield torch.arange(rows, device=device)[1::2]
    yield torch.arange(rows // 2, device=device).roll(1)


def _stayed(rows: int, device: torch.device) -> Iterator[Tensor]:
    yield from ()


_MOVES = (
    (", behind rows that changed places", _exchanged),
    (", behind rows that changed places", _stayed),
    (", behind rows that were doubled", _doubled),
    (", behind rows that were dropped", _dropped),
    (", behind rows that were dropped", _stayed),
)
_WORDS = {
    "rejection": "behind rejected drafts",
    "lengths": "with rows at different lengths",
    "selection": "with rows at different lengths",
}
