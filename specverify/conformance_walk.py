"""Ways through a stretch of sequences, as decoders go: in windows of changing widths, with rows that change places."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify import tree
from specverify.errors import ContractError
from specverify.model import Context, Model, check_laws

LEAST = 2
"""How often each width comes with each number of drafts that are kept, at least."""
_KEEPS = ("none", "some", "all")
COARSE = 0.01
"""A tolerance from which on the largest difference says little, as in half precision, and the average counts, too."""
SHARE = 5
"""The part of such a tolerance that is allowed on average, without guidance; with it, twice as much.

Right models leave less: of digits-s, janus-digits, mnist-vq and cifar-fsq, on a CPU, the largest average of a check was
0.0002 in bfloat16 and 0.0007 in float16, and at guidance of 2 to 10 it was 0.01 and 0.0007.
"""
LARGE = 5
"""A scale of guidance from which on, in half precision, single laws may differ by more: mnist-vq's by 0.11 at 10."""
MOST = 0.5
"""What a single law may differ by at most, however large the scale."""
MANY = 30
"""Laws of which an average is one."""


@dataclass(frozen=True)
class Truth:
    """The laws of sequences alone, at the positions of a stretch.

    Attributes:
        begin, end: of the stretch.
        tokens: the sequences, whole.
        laws: of the stretch.
        looked: whose laws are compared; all, if None.
    """

    begin: int
    end: int
    tokens: Int[Tensor, "batch length"]
    laws: Float[Tensor, "batch positions vocab"]
    looked: Bool[Tensor, " batch"] | None = None

    def rows(self, index: Tensor) -> Truth:
        """Some sequences."""
        looked = None if self.looked is None else self.looked[index]
        return Truth(self.begin, self.end, self.tokens[index], self.laws[index], looked)


def on_average(tolerance: float, scale: float | None) -> float:
    """What is allowed on average where single laws may differ by so much; infinite where that is little.

    Args:
        tolerance: of single laws.
        scale: of guidance; None where there is none.
    """
    if tolerance < COARSE:
        return math.inf
    return tolerance / SHARE * (1 if scale is None else 2)


def allowed(tolerance: float, scale: float | None) -> float:
    """What single laws may differ by at a scale of guidance: at a large one logits come apart by as much more."""
    return tolerance if tolerance < COARSE or scale is None else min(tolerance * max(1.0, scale / LARGE), MOST)


class Differences:
    """Where laws differ from the truth: the first place of each check, the largest of all, and how much on average.

    Args:
        tolerance: of single laws, in total variation.
        average: of all that a check compares.

    Attributes:
        largest: in total variation.
        found: a sentence of each check that found one.
        doing: the check that is under way.
        all: of each check, the sum of the differences, and how many laws were compared.
    """

    def __init__(self, tolerance: float, average: float) -> None:
        self.tolerance, self.average, self.largest, self.doing = tolerance, average, 0.0, ""
        self.found: dict[str, str] = {}
        self.all: dict[str, tuple[float, int]] = {}

    def note(self, check: str, sentence: str) -> None:
        """Keep the first sentence of a check."""
        self.found.setdefault(check, f"{check}: {sentence}")

    def look(self, laws: Tensor, due: Tensor, counts: Tensor, position: Tensor, what: str, begin: int = 0) -> None:
        """Compare laws where they count.

        Args:
            laws, due: Float[batch, n, vocab].
            counts: Bool[batch, n].
            position: Int[batch, n], of each law.
            what: where the laws are from, in words.
            begin: position before which all tokens were read in windows.
        """
        error = ((laws.double() - due.double()).abs().sum(-1) / 2).nan_to_num(nan=1.0).where(counts, 0)
        self.largest = max(self.largest, float(error.max()))
        total, number = self.all.get(self.doing, (0.0, 0))
        self.all[self.doing] = total + float(error.sum()), number + int(counts.sum())
        wrong = error > self.tolerance
        if self.doing in self.found or not bool(wrong.any()):
            return
        earliest = int(position[wrong].min())
        row, slot = ((position == earliest) & wrong).nonzero()[0].tolist()
        ahead = f" (what is before position {begin} in windows)" if begin else ""
        self.found[self.doing] = (
            f"{self.doing}: at position {earliest} of row {row} the law {what} differs from the one of that sequence "
            f"alone, one token per pass{ahead}, by {float(error[row, slot]):.3g} in total variation ({slot} drafts "
            f"before it in its window; {int(wrong.sum())} such laws in that pass)"
        )

    def weigh(self, check: str) -> None:
        """Note a check whose laws differ too much on average, if no single one did."""
        total, number = self.all.get(check, (0.0, 0))
        if number >= MANY and total / number > self.average:
            self.note(
                check,
                f"on average over {number} laws they differ from those of each sequence alone, one token per pass, by "
                f"{total / number:.3g} in total variation; rounding may leave {self.average:g} on average (and "
                f"{self.tolerance:g} at single places)",
            )


class Windows:
    """How wide windows are, and how many of their drafts are kept, in an order that is shuffled again and again.

    Each width of 0 to `window`, one between, and the widest come with no draft kept, with some, and with all.

    Attributes:
        handed: how many were handed out.
        enough: how many are to be.
    """

    def __init__(self, window: int, widest: int, random: torch.Generator) -> None:
        self._random, self._between = random, (min(window + 1, widest), widest)
        widths = (*range(window + 1), None, widest)
        self._all = [(width, keep) for width in widths for keep in _KEEPS]
        self._left: list[tuple[int | None, str]] = []
        self.handed, self.enough = 0, LEAST * len(self._all)

    def __next__(self) -> tuple[int, str]:
        if not self._left:
            self._left = [self._all[i] for i in torch.randperm(len(self._all), generator=self._random).tolist()]
        self.handed += 1
        width, keep = self._left.pop()
        if width is None:
            low, high = self._between
            width = int(torch.randint(low, high + 1, (), generator=self._random))
        return width, keep


def read(model: Model, context: Context, tokens: Tensor, begin: int, end: int, chunk: int) -> Context:
    """The context after all tokens up to `end`, from one of those up to `begin`, in windows of `chunk` drafts."""
    while begin < end:
        part = tokens[:, begin : min(begin + chunk + 1, end)].clone()
        model.laws(context, part[:, :-1])
        context = model.advance(context, part, torch.full_like(part[:, 0], part.shape[1]))
        begin += part.shape[1]
    return context


def kept(model: Model, context: Context, truth: Truth, width: int, found: Differences, where: str = "") -> None:
    """Go through a stretch in windows of one width whose drafts are all right; `where` says more of them in words."""
    what = f"{f'in a window of {width} that were all kept' if width else 'beside other rows'}{where}"
    done = torch.full_like(truth.tokens[:, 0], truth.begin)
    while bool((done < truth.end).any()):
        place = done[:, None] + torch.arange(width + 1, device=done.device)
        right = truth.tokens.gather(1, place.clamp(max=truth.tokens.shape[1] - 1))
        _look(model, context, right[:, :width], truth, place, place < truth.end, what, found)
        count = torch.minimum(torch.full_like(done, width + 1), truth.end - done)
        context, done = model.advance(context, right, count), done + count


def mixed(
    model: Model,
    context: Context,
    truth: Truth,
    windows: Windows,
    found: Differences,
    random: torch.Generator,
    how: str,
    begin: int | None = None,
) -> None:
    """Go through a stretch in windows of all widths, of which some drafts are right and the rest wrong.

    Args:
        how: `rejection`, where all rows keep as many, and a way that is taken back is gone before each pass; or
            `lengths`, where each row keeps another number, and some stand still; or `selection`, where rows change
            places, come twice and are dropped besides.
        begin: where in the stretch the context is; at its beginning, if None.
    """
    length = truth.tokens.shape[1]
    done = torch.full_like(truth.tokens[:, 0], truth.begin if begin is None else begin)
    sizes, moved = itertools.cycle(_sizes(len(done))), ""
    while bool((done < truth.end).any()):
        (width, keep), batch, device = next(windows), len(done), done.device
        slots = torch.arange(width + 1, device=device)
        place = done[:, None] + slots
        right = truth.tokens.gather(1, place.clamp(max=length - 1))
        each = torch.randint(0, width + 1, (batch,), generator=random).to(device)
        still = (torch.rand(batch, generator=random) < 0.15).to(device)
        if keep != "some":
            each = torch.full_like(each, width if keep == "all" else 0)
        if how == "rejection":
            each, still = each[:1].expand(batch), torch.zeros_like(still)
            _astray(model, context, length - done, next(windows)[0], random)
        draft = _wrong(model, right, random).where(slots >= each[:, None], right)[:, :width]
        what = f"in a window of {width}, {_WORDS[how]}{moved}"
        _look(model, context, draft, truth, place, (slots <= each[:, None]) & (place < truth.end), what, found)
        count = torch.minimum(each + 1, truth.end - done).where(~still, 0)
        size = next(sizes) if how == "selection" else 0
        orders = _order(batch, size, random, device) if size else []
        early = bool(torch.rand((), generator=random) < 0.5)  # rows may be selected between a pass and its advance
        for index in orders if early else ():
            context, done, truth = tree.rows(context, index), done[index], truth.rows(index)
            right, count = right[index], count[index]
        if how != "rejection" and bool(torch.rand((), generator=random) < 0.5):
            right = right[:, : max(1, int(count.max()))]
        tokens, number = right.clone(), count.clone()
        context, done = model.advance(context, tokens, number), done + count
        if not (torch.equal(tokens, right) and torch.equal(number, count)):
            found.note("own", f"in the check `{how}` advance wrote to the tokens or the counts that it was given")
        for index in () if early else orders:
            context, done, truth = tree.rows(context, index), done[index], truth.rows(index)
        moved = f", after {batch} rows became {size}" if size else moved


def _wrong(model: Model, right: Tensor, random: torch.Generator) -> Tensor:
    """Other tokens than the right ones, of which some end a sequence."""
    shift = torch.randint(1, max(model.vocab, 2), right.shape, generator=random).to(right.device)
    other = (right + shift) % model.vocab
    if model.eos is None:
        return other
    end = (torch.rand(right.shape, generator=random) < 0.3).to(right.device) & (right != model.eos)
    return other.masked_fill(end, model.eos)


def _astray(model: Model, context: Context, left: Tensor, width: int, random: torch.Generator) -> None:
    """Go some tokens on that are none of a sequence's, at once or one by one, and read on, as drafts are made."""
    other = torch.randint(0, model.vocab, (len(left), width), generator=random).to(left.device)
    part = int(torch.randint(0, width + 1, (), generator=random))
    each = 1 if bool(torch.rand((), generator=random) < 0.5) else max(part, 1)
    for begin in range(0, part, each):
        some = other[:, begin : begin + each]
        model.laws(context, some[:, :-1])
        context = model.advance(context, some, (left - begin).clamp(min=0, max=each))
    model.laws(context, other[:, part:])


def _look(
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
    given, width = draft.clone(), draft.shape[1]
    laws = model.laws(context, given)
    if not torch.equal(given, draft):
        found.note("own", f"a pass {what} wrote to the drafts that it was given, which are the caller's")
    if laws.shape[1] != width + 1:
        raise ContractError(f"for {width} drafts there came {laws.shape[1]} laws; w drafts have w + 1")
    check_laws(laws, what=f"{found.doing}: a law from position {int(place.min())} on", vocab=model.vocab)
    slot = (place - truth.begin).clamp(min=0, max=truth.end - truth.begin - 1)
    due = truth.laws.gather(1, slot[..., None].expand(-1, -1, model.vocab))
    if truth.looked is not None:
        counts = counts & truth.looked[:, None]
    found.look(laws, due, counts, place, what, truth.begin)


def _sizes(batch: int) -> list[int]:
    """How many rows there are next, again and again; 0 where they stay: all numbers up to twice as many, nearly."""
    moves = (batch - 1, 2 * batch, batch + 1, 1, batch + 2, 2, batch, 2 * batch - 1)
    return [size for move in moves for size in (move, 0)]


def _order(rows: int, size: int, random: torch.Generator, device: torch.device) -> list[Tensor]:
    """Which rows stay, in two steps: those that are dropped or doubled, and another order."""
    some = torch.randperm(rows, generator=random)[:size]
    more = torch.randint(0, rows, (size - len(some),), generator=random)
    return [torch.cat([some, more]).sort().values.to(device), torch.randperm(size, generator=random).to(device)]


_WORDS = {
    "rejection": "after others that were rejected",
    "lengths": "with rows at different lengths",
    "selection": "with rows at different lengths",
}
