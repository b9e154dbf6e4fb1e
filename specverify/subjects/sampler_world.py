"""One run of a program that draws, with the outcomes that are chosen for it.

A draw with few outcomes (`multinomial`) takes one of them; a uniform number is an interval, [0, 1) at first, and every
comparison cuts it in two (`sampler_coins`). Of numbers that race, the index of the first is drawn.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from specverify.errors import ContractError
from specverify.subjects import sampler_coins as coins_
from specverify.subjects.sampler_coins import ONLY, Coin, Unfollowed, arranged
from specverify.subjects.sampler_forms import Form, Unclear, pull, race, span, value
from specverify.subjects.sampler_noise import Streams
from specverify.subjects.sampler_torch import MOST, TOO_MANY, handle

SAME = 1e-9
"""How far apart the chances of a draw may be when a path is taken again: rounding, no more."""
RARE = 1e-17
"""A world of a smaller chance is not followed to its end."""
STATE = "it keeps state between calls: the same draws led to others when they were taken again"
SPENT = "the program uses a random number again that a race was run with: the winner tells something of it"
_OURS = tuple(str(Path(str(module.__file__)).parent) for module in (coins_, torch, np, contextlib))
"""Folders in which no subject lies: ours, torch's, numpy's and Python's own."""


class Rare(BaseException):
    """A run that has come to chances that do not matter: a loop, most likely, that may go on for ever."""


class World(TorchFunctionMode):
    """One run: the choices of a path are taken again, and where it ends the first possible one each time.

    Args:
        path: choices to take again; None to choose as the random numbers say that are drawn for real.
        due: the options that these choices had; where there are others now the program is none that can be followed.

    Attributes:
        options: for each choice, the probability of every outcome.
        taken: the outcome that was chosen.
        lines: where in the program it was, as file:line.
        probability: of all of them together.
        coins: comparisons that could have gone either way.
        streams: the random numbers that the run would have got.
        stopped: why it cannot be followed, if it cannot, whatever the program made of it.
        rare: whether it was left where its chance had become too small to matter.
        filled: tensors that were filled with numbers in place, by id, and the numbers; `storages` are theirs.
        spent: numbers that were used up by a race.
    """

    current: ClassVar[World | None] = None

    def __init__(self, path: Sequence[int] | None, due: Sequence[list[float]] = ()) -> None:
        super().__init__()
        self.path, self.due = path, due
        self.options: list[list[float]] = []
        self.taken: list[int] = []
        self.lines: list[str] = []
        self.probability = 1.0
        self.coins = 0
        self.streams = Streams()
        self.stopped: Unfollowed | None = None
        self.drawing = self.rare = False
        self.filled: dict[int, tuple[Tensor, Coin]] = {}
        self.storages: set[int] = set()
        self.spent: set[int] = set()
        self._low: list[float] = []
        self._high: list[float] = []
        self._real: list[float] = []

    def __enter__(self) -> World:
        self._outer, World.current = World.current, self
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        World.current = self._outer
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def stop(self, why: str) -> Unfollowed:
        """Why the run that goes on cannot be followed, to be raised; also where this one is over."""
        current = World.current
        why = why if current is self else coins_.STALE
        error = Unfollowed(why if why == STATE or not (line := _line()) else f"{why} ({line})")
        if current is not None:
            current.stopped = current.stopped or error
        return error

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """What torch calls for each of its functions."""
        if self.stopped is not None:
            raise self.stopped
        if self.rare:
            raise Rare
        return handle(self, func, args, kwargs or {})

    @contextlib.contextmanager
    def drawing_from(self, source: Any) -> Iterator[None]:
        """Around a draw that is made for its numbers' sake: from a generator, or torch's global one if it is None."""
        self.drawing = True
        try:
            with self.streams.draw(source):
                yield
        except ContractError as error:
            raise self.stop(str(error)) from None
        finally:
            self.drawing = False

    def uniform(self, real: Tensor, form: Form = ()) -> Coin:
        """Fresh numbers between 0 and 1, and what they are at once made into; `real` ones were drawn."""
        first, count = len(self._low), real.numel()
        self._low += [0.0] * count
        self._high += [1.0] * count
        self._real += real.double().flatten().tolist()
        places = torch.arange(first, first + count, device=real.device).reshape(real.shape)
        return Coin(self, places, real.dtype, form)

    def bounds(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Between what numbers lie."""
        at = places.flatten().tolist()
        low, high = ([ends[place] for place in at] for ends in (self._low, self._high))
        return (
            torch.tensor(low, dtype=torch.float64).reshape(places.shape),
            torch.tensor(high, dtype=torch.float64).reshape(places.shape),
        )

    def compare(self, coin: Coin, bound: Any, below: bool, strict: bool) -> Tensor:
        """Whether each number lies below its bound; or above it."""
        places = self._usable(coin)
        try:
            bounds = torch.as_tensor(bound, dtype=torch.float64, device=places.device)
        except (TypeError, ValueError, RuntimeError):
            raise self.stop(f"the program compares a uniform number with a {type(bound).__name__}") from None
        bounds, places = torch.broadcast_tensors(bounds, places)
        known = ~bounds.isnan()  # nothing is below NaN, nor above it
        form = tuple(step.map(lambda a: a.expand(places.shape)) for step in coin.form)
        try:  # above is not at most there
            asked = torch.full_like(known, strict == below)
            cuts, flips = pull(form, torch.where(known, bounds, 0.0), asked)
        except Unclear as error:
            raise self.stop(f"the program makes {error} of a uniform number; {ONLY}") from None
        outcomes = [
            self._cut(place, at) != flip if sure else not below
            for place, at, flip, sure in zip(
                *(one.flatten().tolist() for one in (places, cuts, flips, known)), strict=True
            )
        ]
        return (torch.tensor(outcomes, dtype=torch.bool) == below).reshape(places.shape)

    def whole(self, coin: Coin, towards_zero: bool) -> Tensor:
        """Numbers rounded down."""
        low, high = span(coin.form, *self.bounds(self._usable(coin)))
        if towards_zero and bool((low < 0).any()):
            raise self.stop("the program makes a whole number of a uniform one that may be negative; use floor")
        first, last = low.floor(), high.ceil()
        most = int((last - first).amax()) if coin.places.numel() and bool((last - first).isfinite().all()) else MOST + 1
        if coin.places.numel() and most > MOST:
            raise self.stop(f"the program makes a whole number of a uniform one, {TOO_MANY}")
        steps = torch.arange(1, max(most, 1), dtype=torch.float64)
        wide = arranged(coin, Tensor.unsqueeze, (-1,), {})
        return first.long() + self.compare(wide, first[..., None] + steps, False, False).sum(-1)

    def first(self, coin: Coin, dim: int, largest: bool, keepdim: bool) -> Tensor:
        """Where along `dim` the largest number is, or the smallest."""
        places = self._usable(coin)
        weights = race(coin.form, dim, largest, torch.ones(places.shape, dtype=torch.float64))
        if weights is None or not places.numel():
            raise self.stop(f"the program asks which uniform number is the {'largest' if largest else 'smallest'}, "
                            "of numbers that are no exponential or Gumbel race; " + ONLY)  # fmt: skip
        real = value(coin.form, torch.tensor(self._real, dtype=torch.float64)[places]).movedim(dim, -1)
        won = (real.argmax(-1) if largest else real.argmin(-1)).flatten().tolist()
        rows, laws = places.movedim(dim, -1), weights.movedim(dim, -1).flatten(0, -2) if places.ndim > 1 else weights
        count, width = max(len(won), 1), places.shape[dim]
        found = []
        for row, law, at in zip(rows.reshape(count, width).tolist(), laws.reshape(count, width), won, strict=True):
            if len(set(row)) < width or any(self._low[place] > 0 or self._high[place] < 1 for place in row):
                raise self.stop("a race of random numbers needs fresh ones, each used once; some were used before")
            if self.spent.intersection(row):
                raise self.stop(SPENT)
            total = float(law.sum())
            if not 0 < total < float("inf"):
                raise self.stop("a race of random numbers has no winner: all weights are 0, or one is not finite")
            self.spent.update(row)
            found.append(self.choose((law / total).tolist(), at))
        came = torch.tensor(found).reshape(rows.shape[:-1])
        return came.unsqueeze(dim) if keepdim else came

    def several(self, chances: Sequence[float], real: Sequence[int], replacement: bool) -> list[int]:
        """Indices that are drawn one after the other; `real` ones were drawn."""
        left, found = list(chances), []
        for came in real:
            total = sum(left)
            if not total > 0:
                raise self.stop("the program draws more without replacement than have a chance")
            found.append(self.choose([chance / total for chance in left], came))
            if not replacement:
                left[found[-1]] = 0.0
        return found

    def integers(self, low: int, high: int, real: Sequence[int]) -> list[int]:
        """Whole numbers from `low` to below `high`, all alike."""
        if high - low > MOST:
            raise self.stop(f"the program draws a whole number, {TOO_MANY}")
        return [low + self.choose([1 / (high - low)] * (high - low), came - low) for came in real]

    def _usable(self, coin: Coin) -> Tensor:
        """Places of numbers that belong to this run and were not used up by a race."""
        if World.current is not self or coin.world is not self:
            raise self.stop(coins_.STALE)
        if self.spent and self.spent.intersection(coin.places.flatten().tolist()):
            raise self.stop(SPENT)
        return coin.places

    def _cut(self, place: int, at: float) -> bool:
        """Whether a number lies below a bound."""
        low, high = self._low[place], self._high[place]
        cut = min(max(at, low), high)
        within = (cut - low) / (high - low)
        inside = self.choose([1 - within, within], int(self._real[place] < at)) == 1
        self.coins += low < cut < high
        self._low[place], self._high[place] = (low, cut) if inside else (cut, high)
        return inside

    def choose(self, options: list[float], real: int) -> int:
        """One of some outcomes, by their chances."""
        depth = len(self.taken)
        if self.path is None:
            chosen = real
        elif depth < len(self.path):
            chosen = self.path[depth]
            if chosen >= len(options) or (depth < len(self.due) and not close(options, self.due[depth])):
                raise self.stop(STATE)
        else:
            if self.probability < RARE:
                self.rare = True
                raise Rare
            chosen = max(range(len(options)), key=options.__getitem__)
        self.options.append(options)
        self.taken.append(chosen)
        self.lines.append(_line())
        self.probability *= options[chosen]
        return chosen


def _line() -> str:
    """Where the program stands, in its own code."""
    frame: Any = sys._getframe(1)
    while frame is not None and _elsewhere(frame.f_code.co_filename):
        frame = frame.f_back
    return "" if frame is None else f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _elsewhere(file: str) -> bool:
    return file.startswith(("<", *_OURS)) and not (file.startswith(_OURS[-1]) and "site-packages" in file)


def close(one: list[float], other: list[float]) -> bool:
    """Whether two draws have the same chances, up to rounding."""
    return len(one) == len(other) and all(abs(a - b) < SAME for a, b in zip(one, other, strict=True))
