"""What decoders cost on a model: forward passes, and seconds beside plain decoding in the same run.

Rounds of one batch each, plain decoding and every decoder in turn, so that a machine that slows down slows all of them.
What passes cost is measured apart, window by window. Two numbers then say what bounds a decoder:

    limit    tokens * ms(0) / (passes * ms(window)), the speed-up if a row that is done is replaced at once and nothing
             but forward passes takes time: step compression over what a window costs. A speed-up may lie beyond it:
             what a step takes beside its pass weighs more on plain decoding, whose passes are the shortest
    outside  the share of a decoder's time that its model does not take
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from realmodels import images
from specverify import costs, environment
from specverify.bench_shape import Bench, Pass, Row
from specverify.decoders.judging import Judging
from specverify.decoders.protocol import Decoder
from specverify.decoders.registry import Settings
from specverify.decoders.run import Run, sample
from specverify.errors import InputError
from specverify.model import Model
from specverify.subjects.named import named, running
from specverify.waits import Waits

PLAIN = "ar"
USUAL = ("sjd", "scd-mc", "scd-gs")
WINDOWS = (4, 8, 16, 32)
REPEATS = 7
"""Passes of each window that a median is of."""


@dataclass(frozen=True)
class Asked:
    """What is measured.

    Attributes:
        decoders: names of the registry, or references to others; plain decoding is always there.
        windows: drafts per forward pass, for decoders that have any.
        batch: images decoded together.
        rounds: batches of every decoder.
        seed: of all randomness.
        judging: a rule instead of the token rule, for decoders that take one.
        compiled: whether passes are compiled by their shapes, so that each batch is decoded once before it counts.
    """

    decoders: Sequence[str] = USUAL
    windows: Sequence[int] = WINDOWS
    batch: int = 8
    rounds: int = 3
    seed: int = 0
    judging: Judging | None = None
    compiled: bool = False


class Clock:
    """Seconds: the device's own on a GPU; of the processor where torch has one thread; else of the wall."""

    def __init__(self, device: torch.device) -> None:
        self.kind: Literal["processor", "wall", "device"] = "wall"
        if device.type == "cuda":
            self.kind = "device"
        elif torch.get_num_threads() == 1:
            self.kind = "processor"

    def stamp(self) -> Any:
        """A point in time; on a GPU nothing waits."""
        if self.kind == "device":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            return event
        return time.process_time() if self.kind == "processor" else time.perf_counter()

    def total(self, spans: Sequence[tuple[Any, Any]]) -> float:
        """Seconds of all spans together."""
        if self.kind == "device":
            torch.cuda.synchronize()
            return float(sum(begin.elapsed_time(end) for begin, end in spans) / 1000)
        return float(sum(end - begin for begin, end in spans))


class Counted:
    """A model whose passes are counted; in all else it is the model.

    Attributes:
        calls: its passes.
        rows, drafts: of any one of them, at most.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.calls = self.rows = self.drafts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def laws(self, context: Any, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """See Model."""
        self.calls += 1
        self.rows, self.drafts = max(self.rows, draft.shape[0]), max(self.drafts, draft.shape[1])
        return self._model.laws(context, draft)


class Clocked(Counted):
    """One whose own work is timed.

    Attributes:
        spans: of its starts, passes and advances.
    """

    def __init__(self, model: Model, clock: Clock) -> None:
        super().__init__(model)
        self._whole, self._clock = model, clock
        self.spans: list[tuple[Any, Any]] = []

    def turn(self, first: int) -> None:
        """Batches begin with this condition from now on, of a model that has any: all take turns, round by round."""
        self._model = images.turned(self._whole, first)

    def start(self, batch: int) -> Any:
        """See Model."""
        return self._timed(self._model.start, batch)

    def laws(self, context: Any, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """See Model."""
        found: Tensor = self._timed(super().laws, context, draft)
        return found

    def advance(self, context: Any, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Any:
        """See Model."""
        return self._timed(self._model.advance, context, tokens, count)

    def _timed(self, work: Callable[..., Any], *arguments: Any) -> Any:
        begin = self._clock.stamp()
        found = work(*arguments)
        self.spans.append((begin, self._clock.stamp()))
        return found


def measure(model: Any, asked: Asked, draft: Model | None = None, command: str = "specverify bench") -> Bench:
    """Time plain decoding and decoders on a model.

    Args:
        model: that `realmodels.models.open_model` opened, or any `specverify.model.Model`.
        asked: what is measured.
        draft: for decoders that draft with a model.
        command: what the record says it was made by.

    Returns:
        the record.

    Raises:
        InputError: an unknown decoder, one that lacks a draft model, a size that makes no sense, or no room for it.
    """
    _check(model, asked, draft)
    environment.check_device(str(model.device))
    clock = Clock(model.device)
    with _room(asked):
        passes = pass_costs(model, asked.windows, asked.batch, clock)
        rows = list(_rows(model, asked, draft, clock, {one["window"]: one["milliseconds"] for one in passes}))
    return {
        "schema": "specverify-bench",
        "version": 1,
        "created": environment.now(),
        "command": command,
        "model": model.name,
        "draft": None if draft is None else draft.name,
        "vocab": model.vocab,
        "length": model.length,
        "dtype": str(getattr(model, "precision", model.dtype)).removeprefix("torch."),
        "device": str(model.device),
        "accelerator": environment.accelerator(str(model.device)),
        "threads": torch.get_num_threads(),
        "clock": clock.kind,
        "batch": asked.batch,
        "rounds": asked.rounds,
        "seed": asked.seed,
        "software": environment.software(),
        "passes": passes,
        "rows": rows,
    }


@torch.no_grad()
def pass_costs(model: Model, windows: Sequence[int], batch: int, clock: Clock) -> list[Pass]:
    """What one forward pass of a batch takes, half way through an image, by the number of drafts in it.

    No pass has more drafts than the largest window: the most memory that was allocated is then of such passes.
    """
    begun = torch.zeros(batch, model.length // 2, dtype=torch.int64, device=model.device)
    context = model.start(batch)
    for part in begun.split(max(windows), 1):
        model.laws(context, part)
        context = model.advance(context, part, torch.full((batch,), part.shape[1], device=model.device))
    drafts = {size: torch.zeros(batch, size, dtype=torch.int64, device=model.device) for size in (0, *sorted(windows))}
    times: dict[int, list[float]] = {size: [] for size in drafts}
    for number in range(1 + REPEATS):
        for size, draft in drafts.items():
            begin = clock.stamp()
            model.laws(context, draft)
            seconds = clock.total([(begin, clock.stamp())])
            if number:  # the first pass of a shape costs more than the others
                times[size].append(seconds)
    return [{"window": size, "milliseconds": 1000 * max(median(found), 1e-9)} for size, found in times.items()]


def _rows(
    model: Model, asked: Asked, draft: Model | None, clock: Clock, milliseconds: dict[int, float]
) -> Iterator[Row]:
    chosen: list[tuple[str, int | None]] = [(PLAIN, None)]
    for name in dict.fromkeys(asked.decoders):
        if name != PLAIN:
            chosen += [(name, window) for window in asked.windows] if named(name).drafts else [(name, None)]
    work: list[_Work] = []
    for name, window in chosen:
        lent = None if draft is None or not named(name).needs_draft_model else Clocked(draft, clock)
        judging = asked.judging if named(name).takes_judging else None
        decoder = named(name).build(Settings(window or 1, draft_model=lent, judging=judging))
        work.append(_Work(name, window, decoder, Clocked(model, clock), lent, []))
    counted = [(number, True) for number in range(1, 1 + asked.rounds)]
    # Passes are compiled by their shapes, which are those of the same batches alone.
    for number, counts in [*([(n, False) for n, _ in counted] if asked.compiled else [(0, False)]), *counted]:
        for one in work:
            one.round(asked, clock, number, counts)
    plain = sum(work[0].seconds)
    for one in work:
        yield one.row(asked, clock, plain, milliseconds)


@dataclass
class _Work:
    """A decoder, and what its rounds gave."""

    name: str
    window: int | None
    decoder: Decoder
    model: Clocked
    draft: Clocked | None
    runs: list[Run]

    def __post_init__(self) -> None:
        self.seconds: list[float] = []
        self.waits: float | None = None

    def round(self, asked: Asked, clock: Clock, number: int, counts: bool) -> None:
        """One batch; of those that do not count, which warm up, only how often the device was waited for is kept."""
        watch = contextlib.nullcontext() if counts or asked.compiled else Waits()
        for lent in filter(None, (self.model, self.draft)):
            lent.turn((number - 1) * asked.batch if number else 0)
        begin = clock.stamp()
        with watch, running(self.name):
            run = sample(self.decoder, self.model, asked.batch, asked.seed, asked.batch, number)
        seconds = clock.total([(begin, clock.stamp())])
        if counts:
            self.runs.append(run)
            self.seconds.append(max(seconds, 1e-9))
            return
        if isinstance(watch, Waits):
            self.waits = watch.seen.total() / self.model.calls
        self.model.spans.clear()
        self.model.calls = 0
        if self.draft is not None:
            self.draft.spans.clear()

    def row(self, asked: Asked, clock: Clock, plain: float, milliseconds: dict[int, float]) -> Row:
        """What the record says."""
        passes, drafts, verified, accepted = (
            torch.cat([getattr(run, field) for run in self.runs]).double()
            for field in ("passes", "draft_passes", "verified", "accepted")
        )
        mean, total = float(passes.mean()), sum(self.seconds)
        inside = clock.total(self.model.spans) / total
        drafting = 0.0 if self.draft is None else clock.total(self.draft.spans) / total
        length = self.runs[0].tokens.shape[1]
        # Of wider passes, and of more rows, as of a tree, it is not known what they cost.
        as_measured = self.model.drafts <= (self.window or 0) and self.model.rows <= asked.batch
        limit = length * milliseconds[0] / (mean * milliseconds[self.window or 0])
        return {
            "decoder": self.name,
            "window": self.window,
            "claim": str(getattr(self.decoder, "claim", "none is stated")),
            "passes": mean,
            "step_compression": length / mean,
            "draft_passes": float(drafts.mean()),
            "acceptance": costs.finite(float(accepted.sum() / verified.sum())),
            "calls": self.model.calls / asked.rounds,
            "slowest": sum(int(run.passes.max()) for run in self.runs) / asked.rounds,
            "seconds": self.seconds,
            "seconds_per_image": total / len(passes),
            "speedup": plain / total,
            "limit": limit if self.draft is None and as_measured else None,
            "inside": inside,
            "drafting": drafting,
            "outside": max(0.0, 1 - inside - drafting),
            "waits": self.waits,
        }


def _check(model: Model, asked: Asked, draft: Model | None) -> None:
    for what, value in (("batch", asked.batch), ("rounds", asked.rounds)):
        if value < 1:
            raise InputError(f"{what} is {value}; it must be at least 1")
    if not asked.windows or not asked.decoders:
        raise InputError("a bench needs a decoder and a window at least; leave the option out for the usual ones")
    for window in asked.windows:
        if not 1 <= window <= model.length:
            raise InputError(
                f"window {window} of {model.name}: choose 1 to {model.length}, the tokens of an image; drafts beyond "
                "its end are never used"
            )
    for name in asked.decoders:
        if not named(name).ids:
            raise InputError(f"decoder {name!r} is one of vectors, and {model.name} has ids; leave it out")
        if named(name).needs_draft_model and draft is None:
            raise InputError(f"decoder {name!r} drafts with a second model; name one with --draft")


@contextlib.contextmanager
def _room(asked: Asked) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"batch {asked.batch} with windows up to {max(asked.windows)} does not fit on the device; choose a smaller "
            "--batch or --window, or --dtype bfloat16"
        ) from error
