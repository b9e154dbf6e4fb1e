"""Whether a model keeps its word: `conformance` is what to run on a model of one's own, before any decoder.

    from specverify.conformance import conformance

    found = conformance(model)
    print(found)            # one line for each thing that was compared, and one for each that was wrong
    found.demand()          # raises if there is any

The truth that all is held against are the laws of each sequence alone, one token per pass. Against them are held, each
from a fresh start, in the same tokens:

    batch       sequences beside each other, one token per pass
    windows     windows whose drafts are all kept, and wider ones
    rejection   windows of changing widths, down to none, whose last drafts are wrong, each read with others before
    lengths     the same where each row keeps another number, or none, so that rows lie at different lengths
    selection   the same while rows are put into another order, doubled and dropped again
    end         windows that reach beyond the last position
    starts      windows of sequences while others are begun and read
    conditions  rows that have different conditions, whose laws must differ behind the same tokens
    memory      how much laws depend on tokens before the last: if they hardly do, no wrong cache could show
    guidance    the guided law beside those that it is made of, at scales 1 and 0
    waiting     whether a pass or an advance waits for the device

All are compared at every position of the first and the last `positions`, and of as many somewhere between; the rest of
a long sequence is read in windows. What was looked at stands in the result: other places, rows and windows were not.
Differences are total variation distances. Processors are left out: they act on each law alone, and at their thresholds
rounding would decide. Whether single tokens are read as they should be is for a model's own code to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from specverify import tree
from specverify.conformance_laws import conditions, guided, memory
from specverify.conformance_result import Conformance as Conformance
from specverify.conformance_result import raised
from specverify.conformance_walk import CHUNK, WIDE, Differences, Truth, Widths, kept, mixed, read
from specverify.errors import ContractError, InputError, SpecverifyError
from specverify.model import Context, Model, check_laws
from specverify.waits import Waits

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.05}
"""Total variation that rounding may leave between passes of different shapes, by the type of the weights."""
_NEEDS = ("name", "vocab", "length", "dtype", "device", "start", "laws", "advance")


@torch.no_grad()
def conformance(
    model: Model,
    *,
    batch: int = 4,
    window: int = 5,
    positions: int = 24,
    tolerance: float | None = None,
    seed: int = 0,
) -> Conformance:
    """Compare a model's windows, rows and rollbacks with single steps of each sequence alone.

    A model that has `like` (an image model, see `realmodels.images`) is looked at with guidance on and off, and each
    row alone is started alone. Of another, row i alone is row i of a batch, selected before its first pass.

    Main arguments:
        model: anything that answers to `specverify.model.Model`.
        batch: sequences, at least 2.
        window: drafts of a pass, at least 2.
        positions: compared at either end of the sequence, and between.

    Other arguments:
        tolerance: in total variation; by default what rounding leaves, by the type of the model's weights.
        seed: of the sequences, which are drawn from the model, and of what is kept of each window.

    Returns:
        what was found. Takes some `batch * 2 * positions` passes of one row and a third as many of the batch.

    Raises:
        InputError: for a size that is too small, and for what is no model.
    """
    if missing := [name for name in _NEEDS if getattr(model, name, None) is None]:
        raise InputError(f"{type(model).__name__} is no model: it has no {', '.join(missing)}; see specverify/model.py")
    for what, value, least in (("batch", batch, 2), ("window", window, 2), ("positions", positions, 1)):
        if type(value) is not int or value < least:
            raise InputError(f"{what} is {value}; to compare anything it must be a whole number of at least {least}")
    if tolerance is None:
        tolerance = TOLERANCE[getattr(model, "precision", model.dtype)]
    checks: dict[str, None] = {}
    findings: list[str] = []
    largest = 0.0
    sensitive: list[float] = []
    own = list(getattr(model, "conditions", ())) if _like(model) else []
    given = [own[row % len(own)] for row in range(batch)] if len({repr(each) for each in own}) > 1 else []
    for which, variant in _variants(model):
        differences = Differences(tolerance)
        try:
            truths = list(_alone(variant, batch, positions, seed))
            for check in _compare(variant, truths, window, seed, differences):
                checks[check] = None
            begun = truths[0].tokens[:, : min(truths[0].end, CHUNK)]
            if len(given) > 1:
                findings.extend(which + sentence for sentence in conditions(variant, given, begun[:, :-1], tolerance))
                checks["conditions"] = None
            lost, shown = memory(variant, begun, tolerance)
            findings.extend(which + sentence for sentence in lost)
            checks["memory"] = None
            sensitive.extend([] if shown is None else [shown])
            if (scale := _scale(variant)) is not None:
                findings.extend(guided(variant, scale, begun[:, :-1], tolerance))
                checks["guidance"] = None
        except SpecverifyError as error:
            findings.append(f"laws: {error}")
        except Exception as error:
            findings.append(f"error: {raised(error)}")
        findings.extend(which + sentence for sentence in differences.found.values())
        largest = max(largest, differences.largest)
    stretches = ", ".join(f"{begin} to {end - 1}" for begin, end in _stretches(model.length, positions, seed))
    looked = (
        f"{batch} rows{_of(own, batch)}, windows of up to {window} and of {max(window, WIDE)} drafts, positions "
        f"{stretches} of {model.length}"
    )
    return Conformance(
        model.name, tuple(checks), looked, tuple(findings), largest, tolerance, min(sensitive, default=None)
    )


def _of(conditions: list[Any], batch: int) -> str:
    """How many conditions were looked at."""
    if not conditions:
        return ""
    n = min(batch, len(conditions))
    return f" of {n} conditions" if n > 1 else " of one condition, so that none could show in another's place"


def _stretches(length: int, positions: int, seed: int) -> list[tuple[int, int]]:
    """The first and the last positions, and some between."""
    if length <= 2 * positions:
        return [(0, length)]
    room = length - 3 * positions
    if room <= 0:
        return [(0, positions), (positions, length)]
    middle = positions + int(torch.randint(room + 1, (), generator=torch.Generator().manual_seed(seed)))
    return [(0, positions), (middle, middle + positions), (length - positions, length)]


def _scale(model: Any) -> float | None:
    """The scale of a model that is guided and can be had without guidance."""
    scale = getattr(model, "guidance", 1)
    return float(scale) if _like(model) and scale not in (0, 1) else None


def _like(model: Any) -> Callable[..., Any] | None:
    """What gives the model with other settings, as an image model has it."""
    found: Callable[..., Any] | None = getattr(model, "like", None)
    return found


def _variants(model: Any) -> Iterator[tuple[str, Any]]:
    """The model without processors, and its twin without guidance."""
    bare = like(processors=()) if (like := _like(model)) else model
    yield "", bare
    if _scale(model) is not None:
        yield "without guidance, ", bare.like(guidance=1.0)


def _alone(model: Any, batch: int, positions: int, seed: int) -> Iterator[Truth]:
    """Sequences drawn from the model, each alone, and the laws of their first and last positions."""
    length = model.length
    stretches = _stretches(length, positions, seed)
    generator = torch.Generator(model.device).manual_seed(seed)
    tokens = torch.randint(0, model.vocab, (batch, length), generator=generator, device=model.device)
    laws: list[list[Tensor]] = [[] for _ in stretches]
    for row in range(batch):
        context, mine, done = _start_alone(model, batch, row), tokens[row : row + 1], 0
        for (begin, end), mine_at in zip(stretches, laws, strict=True):
            context = read(model, context, mine, done, begin)
            for place in range(begin, end):
                law = model.laws(context, mine[:, :0])
                if law.dtype != model.dtype:
                    raise ContractError(f"the law at position {place} is of {law.dtype}; the model says {model.dtype}")
                check_laws(law, what=f"the law at position {place} of row {row}", vocab=model.vocab)
                weights = law[:, 0].float()
                if model.eos is not None:  # behind an end all laws are one: go on, if anything else can follow
                    weights = weights.index_fill(1, torch.tensor(model.eos, device=weights.device), 0) + weights * 1e-9
                mine[:, place] = torch.multinomial(weights, 1, generator=generator)[:, 0]
                context = model.advance(context, mine[:, place : place + 1], torch.ones_like(mine[:, 0]))
                mine_at.append(law)
            done = end
    for (begin, end), found in zip(stretches, laws, strict=True):
        yield Truth(begin, end, tokens, torch.cat(found, 1).unflatten(1, (batch, end - begin))[0])


def _start_alone(model: Any, batch: int, row: int) -> Context:
    if like := _like(model):
        return like(conditions=[model.conditions[row % len(model.conditions)]]).start(1)
    return tree.rows(model.start(batch), torch.tensor([row], device=model.device))


def _compare(model: Any, truths: list[Truth], window: int, seed: int, found: Differences) -> Iterator[str]:
    """Carry out each check; yields its name."""
    for check, each in (("batch", [0]), ("windows", [window, max(window, WIDE)])):
        for truth in truths:
            for width in each:
                kept(check, model, truth, width, found)
        yield check
    for check in ("rejection", "lengths", "selection"):
        random = torch.Generator().manual_seed(seed + 1)
        widths = Widths(window, random)
        while widths.handed < widths.enough:
            for truth in truths:
                mixed(check, model, truth, widths, found, random)
        yield check
    _end(model, truths[-1], window, found)
    yield "end"
    _starts(model, truths[0], window, found)
    yield "starts"
    context = read(model, model.start(len(truths[0].tokens)), truths[0].tokens, 0, 1)
    draft = truths[0].tokens[:, 1:2]
    model.laws(context, draft)
    with Waits() as watch:
        model.laws(context, draft)
        model.advance(context, draft, torch.ones_like(draft[:, 0]))
    if watch.seen:
        what = f"waiting: a pass or an advance waits for the device ({', '.join(sorted(watch.seen))}), which costs time"
        found.found["waiting"] = f"{what} with every token; decide nothing by a tensor's value"
    yield "waiting"


def _end(model: Model, last: Truth, window: int, found: Differences) -> None:
    """The law of the last position, with drafts behind it that no sequence has."""
    batch = len(last.tokens)
    context = read(model, model.start(batch), last.tokens, 0, last.end - 1)
    beyond = torch.cat([last.tokens[:, -1:], last.tokens[:, :window]], 1)
    laws = model.laws(context, beyond)
    check_laws(laws, what="a law beyond the last position", vocab=model.vocab)
    place = torch.full((batch, 1), last.end - 1, device=laws.device)
    again = model.laws(context, beyond[:, :0])
    for some, what in ((laws[:, :1], "before drafts beyond the end"), (again, "read again after those")):
        found.look("end", some, last.laws[:, -1:], torch.ones_like(place, dtype=torch.bool), place, what)


def _starts(model: Model, first: Truth, window: int, found: Differences) -> None:
    """Two batches of sequences, the one with other tokens, read in turn, as a model and a draft made of it are."""
    batch, place = len(first.tokens), torch.arange(first.end, device=first.tokens.device).expand(len(first.tokens), -1)
    other = (first.tokens + 1) % model.vocab
    one, two, done = model.start(batch), model.start(batch + 1), 0
    while done < first.end:
        end = min(done + window + 1, first.end)
        part, beside = (tokens[:, done:end] for tokens in (first.tokens, torch.cat([other, other[:1]])))
        laws = model.laws(one, part[:, :-1])
        model.laws(two, beside[:, :-1])
        where, due = place[:, done:end], first.laws[:, done:end]
        found.look("starts", laws, due, where >= 0, where, f"in a window of {window}, while other rows are begun")
        one = model.advance(one, part, torch.full_like(part[:, 0], part.shape[1]))
        two, done = model.advance(two, beside, torch.full_like(beside[:, 0], part.shape[1])), end
