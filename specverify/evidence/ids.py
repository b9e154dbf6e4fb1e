"""Does every group of ids come as often as its laws say: ids side by side, ids in step, and tokens that came before?

Transforms go through a law by falling probability, where an id has another place in each. What is wrong with an id
wherever it stands (a tile that is never drawn, one of two lanes that is drawn too often, a penalty for what came
before) cancels there. Here ids are counted by themselves, and in blocks of 2, 4, 8, ... neighbours and classes modulo
2, 4, 8, ...; and so are tokens that came before in their row, that came a few places before, and the token that came
after the one before, the last time. All is known before a token is drawn but whether it is one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from specverify.evidence import design
from specverify.evidence.before import REPEATED, others
from specverify.evidence.result import TOTAL_VARIATION, Evidence, check_delta, check_rates, check_size
from specverify.evidence.sums import Sums, any_of, few_of, one_of, smallest_share

T = TypeVar("T", Sums, "Unlisted")
WIDE = 1_024
"""Groups of a size from which they are summed up one by one where only some ids are listed."""
CACHED = 1 << 17
"""Probabilities that are summed up at once: as many as a processor has at hand."""
ROOM = 1 << 23
"""Tokens times groups, or rows times ids, that are looked at at once where only some ids are listed."""
FACTORS = tuple(1 + 2.0**power for power in range(-4, 11))
"""By how much more often than due an id may come, where only a bound of what is due is known."""
SIZES = 32
"""Powers of 2 that a vocabulary may go up to; each has a share of alpha, since logs may say only which ids came."""
Weighed = tuple[Float[np.ndarray, " groups"], Callable[[int], str], "Sums | Unlisted"]
"""Logarithms of e-values with their weights, how to name one, and what they were made of."""


@dataclass(frozen=True)
class Unlisted:
    """How often each id came where it was not listed, and how often at most it was due there."""

    came: Float[Tensor, " ids"]
    due: Float[Tensor, " ids"]

    def __add__(self, other: Unlisted) -> Unlisted:
        """Of the tokens of both."""
        return Unlisted(self.came + other.came, self.due + other.due)

    def log_e(self) -> Float[np.ndarray, " ids"]:
        """Logarithms of e-values against coming no more often than that.

        For any factor f above 1, f^C exp((1 - f) B) is a supermartingale where C counts coins that have no more than
        B in all; the factors are `FACTORS`, in equal parts.
        """
        each = [self.came * math.log(factor) + (1 - factor) * self.due for factor in FACTORS]
        return (torch.stack(each).logsumexp(0) - math.log(len(FACTORS))).numpy()


class Groups:
    """What came, and what was due, of each group: laws are added some at a time, and dropped.

    Args:
        tokens: all tokens of a trace.
        vocab: ids go from 0 to one less.
        counted: tokens that count, the first ones of a row; None for all.
    """

    def __init__(
        self,
        tokens: Int[Tensor, "sequences length"],
        vocab: int,
        counted: Bool[Tensor, "sequences length"] | None = None,
    ) -> None:
        self.vocab = vocab
        self.tokens = tokens.cpu().clamp(0, vocab - 1)
        self.size = 0
        self.counted = torch.ones_like(self.tokens, dtype=torch.bool) if counted is None else counted
        self.blocks: list[Sums] = []
        self.classes: list[Sums] = []
        self.again: list[Sums] = []
        self.unlisted: list[Unlisted] = []

    def add(self, laws: Float[Tensor, "rows positions vocab"], rows: slice, positions: slice) -> None:
        """Add some tokens, by laws on any device."""
        every = torch.arange(self.tokens.shape[0])[rows], torch.arange(self.tokens.shape[1])[positions]
        chosen = self.counted[rows, positions].flatten().nonzero()[:, 0]
        row, place = (each.flatten()[chosen] for each in torch.meshgrid(*every, indexing="ij"))
        self.add_at(laws.flatten(0, 1), row, place, chosen)

    def add_at(
        self,
        laws: Float[Tensor, "some vocab"],
        rows: Int[Tensor, " counted"],
        places: Int[Tensor, " counted"],
        chosen: Int[Tensor, " counted"] | None = None,
    ) -> None:
        """Add tokens of these rows and places, by the law of each or, of all that are given, those `chosen`."""
        chosen = torch.arange(len(rows)) if chosen is None else chosen
        self.size += len(rows)
        every, own = rows.unique(return_inverse=True)
        tokens = self.tokens[every]
        since, named = self._since(tokens), others(tokens)[own, places]
        half = 1 << max(0, (self.vocab - 1).bit_length() - 1)
        for some in torch.arange(len(rows)).split(max(1, CACHED // self.vocab)):
            mass = laws[chosen[some].to(laws.device)].double()
            token, other = (each.to(laws.device) for each in (self.tokens[rows[some], places[some]], named[some]))
            came = mass.gather(1, token[:, None])[:, 0] > 0
            self.blocks = _added(self.blocks, _blocks(mass, token, came))
            folded = mass[:, :half] + pad(mass[:, half:], (0, 2 * half - self.vocab))
            self.classes = _added(self.classes, _classes(folded, token % half, came))
            seen = (since[own[some]] < places[some, None]).to(laws.device)
            # what stands for none has no mass
            due = [(mass * seen).sum(1, keepdim=True), mass.gather(1, other.clamp(min=0)).where(other >= 0, 0.0)]
            again = torch.cat([seen.gather(1, token[:, None]), other == token[:, None]], 1)
            self.again = _added(self.again, [any_of(torch.cat(due, 1), again & came[:, None])])

    def add_lists(
        self,
        laws: Float[Tensor, "rows positions listed"],
        ids: Int[Tensor, "rows positions listed"],
        rows: slice,
        positions: slice,
    ) -> None:
        """Add some tokens of which only the laws of some ids are known, each named once, or -1 for none.

        Of all others no more is known than that they are no likelier than the least of those.
        """
        step = max(1, ROOM // max(self.vocab, laws.shape[1] * min(self.vocab, WIDE)))
        for first in range(0, len(laws), step):
            some = slice(rows.start + first, min(rows.stop, rows.start + first + step))
            self._add_lists(laws[first : first + step], ids[first : first + step], some, positions)

    def _add_lists(self, laws: Tensor, ids: Tensor, rows: slice, positions: slice) -> None:
        counts = self.counted[rows, positions]
        mass, where, token = laws[counts].double(), ids[counts], self.tokens[rows, positions][counts]
        came = (where == token[:, None]).any(1)
        self.size += len(token)
        self.unlisted = _added(self.unlisted, [_unlisted(mass, where, token, came, self.vocab)])
        mass, where = mass.where(where >= 0, 0.0), where.clamp(min=0)
        blocks: list[Sums] = []
        size = self.vocab
        while size > WIDE:
            blocks.append(few_of(where >> len(blocks), mass, token >> len(blocks), came, size))
            size = (size + 1) // 2
        dense = mass.new_zeros(len(mass), size).scatter_add(1, where >> len(blocks), mass)
        self.blocks = _added(self.blocks, [*blocks, *_blocks(dense, token >> len(blocks), came)])
        classes: list[Sums] = []
        half = 1 << max(0, (self.vocab - 1).bit_length() - 1)
        while half > WIDE:
            classes.append(few_of(where % half, mass, token % half, came, half))
            half //= 2
        dense = mass.new_zeros(len(mass), half).scatter_add(1, where % half, mass)
        self.classes = _added(self.classes, [*classes, *_classes(dense, token % half, came)])
        self._add_again(laws[counts].double(), ids[counts], token, came, rows, positions)

    def _add_again(
        self, mass: Tensor, where: Tensor, token: Tensor, came: Tensor, rows: slice, positions: slice
    ) -> None:
        """Of `REPEATED`, by lists."""
        counts = self.counted[rows, positions]
        own, place = counts.nonzero(as_tuple=True)
        tokens, place = self.tokens[rows], torch.arange(self.tokens.shape[1])[positions][place]
        since, other = self._since(tokens), others(tokens)[own, place]
        seen = since[own[:, None], where.clamp(min=0)] < place[:, None]
        due = [(mass * seen).sum(1, keepdim=True)]
        due += [((where == one[:, None]) * mass).sum(1, keepdim=True) for one in other.unbind(1)]
        named = torch.cat([(since[own, token] < place)[:, None], other == token[:, None]], 1)
        # what stands for none has no mass
        known = torch.cat(due, 1).where(pad(other >= 0, (1, 0), value=True), 0.0)
        self.again = _added(self.again, [any_of(known, named & came[:, None])])

    def join(self, other: Groups) -> None:
        """Add what another one, of other rows, has found."""
        self.blocks, self.classes = _added(self.blocks, other.blocks), _added(self.classes, other.classes)
        self.again, self.size = _added(self.again, other.again), self.size + other.size
        self.unlisted = _added(self.unlisted, other.unlisted)

    def _since(self, tokens: Int[Tensor, "rows length"]) -> Int[Tensor, "rows vocab"]:
        """The first place of each id in each row; the length where there is none."""
        never = tokens.shape[1]
        places = torch.arange(never).expand_as(tokens)
        return torch.full((len(tokens), self.vocab), never).scatter_reduce(1, tokens, places, "amin")


def _added(sums: list[T], more: list[T]) -> list[T]:
    return [one + other for one, other in zip(sums, more, strict=True)] if sums else more


def _unlisted(mass: Tensor, where: Tensor, token: Tensor, came: Tensor, vocab: int) -> Unlisted:
    most = torch.minimum(torch.where(mass > 0, mass, torch.inf).amin(1), (1 - mass.sum(1)).clamp(min=0))
    listed = mass.new_zeros(vocab).index_add(0, where[where >= 0], most[:, None].expand_as(where)[where >= 0])
    return Unlisted(torch.bincount(token[~came], minlength=vocab).double(), (most.sum() - listed).clamp(min=0))


def _blocks(mass: Tensor, token: Tensor, came: Tensor) -> list[Sums]:
    """Of 1, 2, 4, ... ids side by side, while there are two blocks."""
    found = []
    while mass.shape[1] > 1:
        found.append(one_of(mass, token, came))
        mass = pad(mass, (0, mass.shape[1] % 2)) if mass.shape[1] % 2 else mass
        mass = mass[:, 0::2] + mass[:, 1::2]
        token = token // 2
    return found


def _classes(mass: Tensor, token: Tensor, came: Tensor) -> list[Sums]:
    """Of ids modulo as many as there are, which is a power of 2, and modulo every smaller one but 1."""
    found = []
    while mass.shape[1] > 1:
        found.append(one_of(mass, token, came))
        half = mass.shape[1] // 2
        mass, token = mass[:, :half] + mass[:, half:], token % half
    return found


@dataclass(frozen=True)
class Ids:
    """Test of the counts of each group of ids against its mass.

    Each is a sum of differences of mean 0 and known variance (`martingale.mixed_log_e`); the weighted mean of the
    e-values is one, so that the false-alarm rate holds at every n. The weight is shared by the sizes of groups, and
    then by those of a size. `delta` is the total variation that the mass of any one group is off by, averaged over the
    tokens that had a choice, which n counts: groups of few ids are seen from less.

    Attributes:
        vocab: number of ids, for planning alone; `check` uses the trace's own.
        before: look at what came before in the row instead: all in one, and a token at each of some places.
    """

    vocab: int = 2
    before: bool = False

    def __post_init__(self) -> None:
        check_size(self.vocab, "vocab")

    def check(self, found: Groups, choice: Bool[Tensor, "sequences length"], *, alpha: float, beta: float) -> Evidence:
        """Test a trace.

        Args:
            found: all its tokens.
            choice: those that had one.
            alpha: false-alarm rate.
            beta: miss rate that delta is stated for.
        """
        check_rates(alpha, beta)
        n, size = int(choice.sum()), found.size
        log_es, names, sums = zip(*(_again if self.before else _groups)(found), strict=True)
        total = float(np.logaddexp.reduce(np.concatenate(log_es)))
        worst = max(range(len(log_es)), key=lambda i: float(log_es[i].max()))
        place = int(log_es[worst].argmax())
        came, due = int(sums[worst].came[place]), float(sums[worst].due[place])
        p_value = min(1.0, math.exp(-max(total, 0.0)))
        seen = Ids(found.vocab, self.before).smallest_detectable(max(size, 1), alpha=alpha, beta=beta)
        return Evidence(
            check="repetition" if self.before else "ids",
            statistic=total,
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=min(1.0, seen * size / max(n, 1)),
            metric=TOTAL_VARIATION,
            n=n,
            rejected=p_value <= alpha,
            basis="finite-sample bound",
            power="asymptotic",
            estimate=abs(came - due) / max(n, 1),
            vacuous="" if n else "every law is as good as certain",
            blind="differences that cancel within every group of ids, or over the tokens of a trace",
            detail=f"{names[worst](place)}: {came:,} came, {due:,.1f} are due"
            + (" at most" if isinstance(sums[worst], Unlisted) else ""),
            coverage={"tokens": size, "choice": n},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The mass of one group that n tokens miss being off by with probability at most beta, at most 1."""
        events = len(REPEATED) if self.before else _scales(self.vocab) * SIZES * 2 ** (self.vocab - 1).bit_length()
        return smallest_share(n, events, alpha=alpha, beta=beta)

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of tokens that misses a group that is off by delta with probability at most beta."""
        check_delta(delta)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)


def _scales(vocab: int) -> int:
    """Sizes of blocks, numbers of classes, and what is not listed."""
    return 2 * max(1, (vocab - 1).bit_length())


def _again(found: Groups) -> Iterator[Weighed]:
    for again in found.again:
        yield again.log_e() - math.log(len(REPEATED)), REPEATED.__getitem__, again


def _groups(found: Groups) -> Iterator[Weighed]:
    """For each size of groups."""
    share = math.log(SIZES * _scales(found.vocab))
    for power, sums in enumerate(found.blocks):
        yield sums.log_e() - share - _bits(sums), partial(_block, 1 << power), sums
    for rare in found.unlisted:
        yield rare.log_e() - share - _bits(rare), "id {} where it is in no list".format, rare
    for sums in found.classes:
        yield sums.log_e() - share - _bits(sums), partial(_class, len(sums.due)), sums


def _bits(sums: Sums | Unlisted) -> float:
    """The logarithm of how many groups there are, up to the next power of 2."""
    return (len(sums.due) - 1).bit_length() * math.log(2)


def _block(size: int, place: int) -> str:
    return f"id {place}" if size == 1 else f"ids {place * size:,} to {(place + 1) * size - 1:,}"


def _class(modulus: int, place: int) -> str:
    return f"ids {place:,}, {place + modulus:,}, {place + 2 * modulus:,}, ..."
