"""Whether a model keeps its word: `conformance` is what to run on a model of one's own, before any decoder.

    from specverify.conformance import conformance

    found = conformance(model)
    print(found)            # one line for each thing that was compared, and one for each that was wrong
    found.demand()          # raises if there is any

The truth that all is held against are the laws of each sequence alone, one token per pass. Against them are held, each
from a fresh start, in the same tokens:

    like        settings of the model itself, which a model that it gives with others must leave as they are
    own         laws that the caller writes to, and that later calls leave alone; what the caller gives is left alone
    alone       one sequence in windows, of which drafts are kept and rejected
    batch       sequences beside each other, one token per pass
    windows     windows whose drafts are all kept, and wider ones
    rejection   windows of changing widths, down to none, whose last drafts are wrong, each after a way was taken back
    lengths     the same where each row keeps another number, or none, so that rows lie at different lengths
    selection   the same while rows are dropped, come twice and change places, in batches of all sizes
    forks       rows that come twice, and go on with other tokens each
    twins       sequences that differ at one early place alone, as a cache of prefixes may overlook
    ended       rows beside one that has ended, of a model that has an end
    end         windows that reach beyond the last position
    starts      windows of sequences while others are begun and read, and the first of 1 to 2 `batch` that are begun
    conditions  rows that have different conditions, whose laws must differ somewhere behind the same tokens
    memory      how much laws depend on tokens before the last: if they hardly do, no wrong cache could show
    guidance    the guided law beside those that it is made of, at scales 1 and 0, and whether 0 leaves conditions out
    waiting     whether a pass or an advance waits for a device, which is no fault, and is said apart

What fails `alone` is wrong in windows; what fails `batch` mixes rows; what fails `lengths` and not `rejection` takes
all rows for equally long; what fails `selection` or `forks` alone does not take a row's cache along.

All are compared at every position of the first and the last `positions`, and of as many somewhere between, across the
end of an image row where the grid is known and the first ones cross none; the rest of a long sequence is read in
windows. Own, forks, twins, ended, starts and memory are looked at in the first `positions` alone, conditions as far as
laws stay the same, and not of a model at scale 0. What was looked at stands in the result: other places, rows and
windows were not. Differences are total variation distances. In half precision, where single laws may differ by a tenth,
a check's laws must not differ by a fifth of that on average. Processors are left out: they act on each law alone, and
at their thresholds rounding would decide. Whether single tokens are read as they should be is for a model's own code
to say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from specverify.conformance_checks import compare, start_alone, step
from specverify.conformance_laws import conditions, different, guided, memory, unconditional
from specverify.conformance_like import demand_model, like_of, scale_of, unlike
from specverify.conformance_own import waits
from specverify.conformance_result import Conformance as Conformance
from specverify.conformance_result import looked_at, raised, remedy
from specverify.conformance_walk import Differences, Truth, allowed, on_average, read
from specverify.errors import InputError, SpecverifyError
from specverify.model import Model

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.05}
"""Total variation that rounding may leave between passes of different shapes, by the type of the weights."""
_BEGUN = 32
"""Tokens of the window that shows what laws depend on."""
_BESIDE = 8
"""Tokens around an image, at most, where each row has an end, as Emu3's have; more of them are a preview."""


def tolerance_of(model: Any) -> float:
    """What rounding may leave by the types of a model's weights and laws; InputError where none is known of one."""
    types = {what: getattr(model, what, None) for what in ("precision", "dtype")}
    for what, kind in types.items():
        if kind is not None and not (type(kind) is torch.dtype and kind in TOLERANCE):
            raise InputError(
                f"{what} {kind!r}: what rounding leaves is known of {', '.join(map(str, TOLERANCE))}; let the model "
                "say one of these, such as the type that it computes in, or give what to allow as tolerance=..."
            )
    return max(TOLERANCE[kind] for kind in types.values() if kind is not None)


@torch.no_grad()
def conformance(
    model: Model,
    *,
    batch: int = 4,
    window: int = 5,
    positions: int = 24,
    widest: int = 16,
    tolerance: float | None = None,
    seed: int = 0,
) -> Conformance:
    """Compare a model's windows, rows and rollbacks with single steps of each sequence alone.

    A model that has `like` (an image model, see `realmodels.images`) is looked at with guidance on and off, and each
    row alone is started alone. Of another, row i alone is row i of a batch, selected before its first pass.

    Main arguments:
        model: anything that answers to `specverify.model.Model`. What computes in less than the type of its laws says
            so by an attribute `precision`, such as torch.bfloat16.
        batch: sequences, at least 2; rows are selected up to twice as many.
        window: drafts of a pass, at least 2. All widths up to it are read, and one or two wider ones.
        positions: compared at either end of the sequence, and between.

    Other arguments:
        widest: drafts of the widest window, at least `window`.
        tolerance: in total variation; by default what rounding leaves, by the model's `precision`, and the type of
            its laws.
        seed: of the sequences, which are drawn from the model, and of what is kept of each window.

    Returns:
        what was found. By default, of 576 positions, it takes 638 passes of one row and 770 of several.

    Raises:
        InputError: for a size that is too small, and for what is no model.
    """
    demand_model(model)
    _demand_sizes(batch, window, positions, widest)
    precision = getattr(model, "precision", None)
    tolerance = tolerance_of(model) if tolerance is None else _demand_tolerance(tolerance)
    if broken := unlike(model):
        return Conformance(model.name, ("like",), "what `like` does", (broken,), 0.0, tolerance, None, "")
    checks: dict[str, None] = dict.fromkeys(["like"] if like_of(model) else [])
    found: list[dict[str, str]] = []
    largest, costs = 0.0, ""
    sensitive: list[float] = []
    for variant in _variants(model):
        differences = Differences(allowed(tolerance, scale_of(variant)), on_average(tolerance, scale_of(variant)))
        sentences = differences.found
        found.append(sentences)
        try:
            truths = list(_alone(variant, batch, positions, widest, seed))
            for check in compare(variant, truths, (window, widest), seed, differences):
                differences.weigh(check)
                checks[check] = None
            differences.doing = "memory"
            begun = truths[0].tokens[:, : min(truths[0].end, _BEGUN, widest + 1)]
            given = _given(variant, batch)
            if different(given) and _heeds(variant):
                sentences |= conditions(variant, given, truths[0].tokens, begun.shape[1] - 1, tolerance)
                checks["conditions"] = None
            lost, shown = memory(variant, begun, tolerance)
            sentences |= lost
            checks["memory"] = None
            sensitive.extend([] if shown is None else [shown])
            if (scale := scale_of(variant)) is not None:
                sentences |= guided(variant, scale, truths, widest, tolerance)
                sentences |= {} if "guidance" in sentences else unconditional(variant, given, begun, tolerance)
                checks["guidance"] = None
            costs = costs or waits(variant, truths[0].tokens)
            checks["waiting"] = None
        except SpecverifyError as error:
            sentences["laws"] = f"laws: {error}"
        except Exception as error:
            sentences["error"] = f"error: {raised(error, differences.doing)}"
        largest = max(largest, differences.largest)
    findings = _sentences(found)
    everywhere = {"alone", "batch", "windows"} & {check for each in found for check in each}  # as rounding is
    if everywhere and precision is None and tolerance < largest <= max(TOLERANCE.values()):
        said = (remedy(largest, tolerance, TOLERANCE),)
        findings = said + findings if largest <= TOLERANCE[torch.float32] else findings + said
    stretches = ", ".join(f"{begin} to {end - 1}" for begin, end in _stretches(model, positions, seed))
    looked = looked_at(model, _given(model, batch), batch, widest, stretches)
    most, average = allowed(tolerance, scale_of(model)), on_average(tolerance, scale_of(model))
    seen = min(sensitive, default=None)
    return Conformance(model.name, tuple(checks), looked, findings, largest, most, seen, costs, average)


def _sentences(found: list[dict[str, str]]) -> tuple[str, ...]:
    """What was found, with guidance and without; what is found in both is said of the one without."""
    first, *rest = found
    twin = rest[0] if rest else {}
    both = [f"with guidance and without, {twin[check]}" for check in first if check in twin]
    mine = [sentence for check, sentence in first.items() if check not in twin]
    return (*both, *mine, *(f"without guidance, {sentence}" for check, sentence in twin.items() if check not in first))


def _demand_sizes(batch: int, window: int, positions: int, widest: int) -> None:
    """Raise InputError for sizes at which nothing could be compared."""
    for what, value, least in (("batch", batch, 2), ("window", window, 2), ("positions", positions, 1)):
        if type(value) is not int or value < least:
            raise InputError(f"{what} is {value}; to compare anything it must be a whole number of at least {least}")
    if type(widest) is not int or widest < window:
        raise InputError(f"widest is {widest}; it must be a whole number of at least {window}, the window")


def _demand_tolerance(tolerance: float) -> float:
    if not 0 <= tolerance < 1:
        raise InputError(f"tolerance is {tolerance}; it is a total variation from 0 to less than 1")
    return tolerance


def _stretches(model: Any, positions: int, seed: int) -> list[tuple[int, int]]:
    """The first and the last positions, and some between, across the end of an image row."""
    length = model.length
    if length <= 2 * positions:
        return [(0, length)]
    room = length - 3 * positions
    if room <= 0:
        return [(0, positions), (positions, length)]
    middle = positions + int(torch.randint(room + 1, (), generator=torch.Generator().manual_seed(seed)))
    columns = _columns(model)
    ends = range(columns, length, columns) if positions > 1 else ()
    if ends and ends[0] >= positions:
        half = positions // 2 | 1  # odd, so that windows of 5 drafts do not all begin at the end
        end = min(ends, key=lambda each: (abs(each - middle - half), each))
        near = min(max(end - half, positions), length - 2 * positions)
        middle = near if near < end < near + positions else middle
    return [(0, positions), (middle, middle + positions), (length - positions, length)]


def _columns(model: Any) -> int:
    """Tokens of an image row, with what ends it: by the model's grid, or as of a square; its length if unknown."""
    length = int(model.length)
    rows, columns = map(int, getattr(getattr(model, "description", None), "grid", None) or (0, 0))
    if length <= 2 * rows * columns <= 2 * length:  # else it is the grid of something else
        beside = length - rows * columns
        return columns + (rows - 1 <= beside <= rows + _BESIDE)
    side = math.isqrt(length)
    return side if side * side == length else length


def _heeds(model: Any) -> bool:
    """Whether laws are to heed conditions: not at scale 0."""
    return getattr(model, "guidance", 1) != 0


def _variants(model: Any) -> Iterator[Any]:
    """The model without processors, and its twin without guidance."""
    bare = like(processors=()) if (like := like_of(model)) else model
    yield bare
    if scale_of(model) is not None:
        yield bare.like(guidance=1.0)


def _given(model: Any, batch: int) -> list[Any]:
    """Each row's condition; none of a model that has no conditions."""
    own = list(getattr(model, "conditions", ())) if like_of(model) else []
    return [own[row % len(own)] for row in range(batch)] if own else []


def _alone(model: Any, batch: int, positions: int, widest: int, seed: int) -> Iterator[Truth]:
    """Sequences drawn from the model, each alone, and the laws of their first and last positions."""
    stretches = _stretches(model, positions, seed)
    generator = torch.Generator(model.device).manual_seed(seed)
    tokens = torch.randint(0, model.vocab, (batch, model.length), generator=generator, device=model.device)
    if model.eos is not None:  # between the stretches, too, no sequence ends
        tokens = torch.where(tokens == model.eos, (tokens + 1) % model.vocab, tokens)
    laws: list[list[Tensor]] = [[] for _ in stretches]
    for row in range(batch):
        context, mine, done = start_alone(model, batch, row), tokens[row : row + 1], 0
        for (begin, end), some in zip(stretches, laws, strict=True):
            context = read(model, context, mine, done, begin, widest)
            context, law = step(model, context, mine, (begin, end), generator)
            some.append(law)
            done = end
    for (begin, end), some in zip(stretches, laws, strict=True):
        yield Truth(begin, end, tokens, torch.cat(some))
