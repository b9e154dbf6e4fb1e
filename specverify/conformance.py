"""Whether a model keeps its word: `conformance` is what to run on a model of one's own, before any decoder.

    from specverify.conformance import conformance

    found = conformance(model)
    print(found)            # one line for each thing that was compared, and one for each that was wrong
    found.demand()          # raises if there is any

The truth that all is held against are the laws of each sequence alone, one token per pass. Against them are held, each
from a fresh start, in the same tokens:

    batch      sequences beside each other, one token per pass
    windows    windows whose drafts are all kept, and wider ones
    rejection  windows whose last drafts are wrong, each read again with others before it is taken
    lengths    the same where each row keeps another number, so that rows lie at different lengths, and some stand still
    selection  the same after rows were dropped, doubled and put into another order in the middle
    end        windows that reach beyond the last position
    memory     whether laws depend on tokens before the last: if they hardly do, no wrong cache could show
    guidance   the guided law beside those that it is made of, at scales 1 and 0
    waiting    whether a pass or an advance waits for the device

All are compared at every position of the first and the last `positions`, and of as many somewhere between; the rest of
a long sequence is read in windows. What was looked at stands in the result: other places, rows and windows were not.
Differences are total variation distances. Processors are left out: they act on each law alone, and at their thresholds
rounding would decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from specverify import tree
from specverify.conformance_laws import guided, memory
from specverify.conformance_result import Conformance as Conformance
from specverify.conformance_result import raised
from specverify.errors import ContractError, InputError, SpecverifyError
from specverify.model import Context, Model, check_laws

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.05}
"""Total variation that rounding may leave between passes of different shapes, by the type of the weights."""
_WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"}
_CHUNK = 32
WIDE = 16
"""Drafts of the wider windows, unless `window` is more: what decoders have by default."""
_NEEDS = ("name", "vocab", "length", "dtype", "device", "start", "laws", "advance")


@dataclass(frozen=True)
class _Truth:
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

    def rows(self, index: Tensor) -> _Truth:
        """Some sequences."""
        return _Truth(self.begin, self.end, self.tokens[index], self.laws[index])


class _Differences:
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
    for which, variant in _variants(model):
        differences = _Differences(tolerance)
        try:
            truths = list(_alone(variant, batch, positions, seed))
            for check in _compare(variant, truths, window, seed, differences):
                checks[check] = None
            begun = truths[0].tokens[:, : min(truths[0].end, _CHUNK)]
            findings.extend(which + sentence for sentence in memory(variant, begun, tolerance))
            checks["memory"] = None
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
        f"{batch} rows, windows of {window} and {max(window, WIDE)} drafts, positions {stretches} of {model.length}"
    )
    return Conformance(model.name, tuple(checks), looked, tuple(findings), largest, tolerance)


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


def _alone(model: Any, batch: int, positions: int, seed: int) -> Iterator[_Truth]:
    """Sequences drawn from the model, each alone, and the laws of their first and last positions."""
    length = model.length
    stretches = _stretches(length, positions, seed)
    generator = torch.Generator(model.device).manual_seed(seed)
    tokens = torch.randint(0, model.vocab, (batch, length), generator=generator, device=model.device)
    laws: list[list[Tensor]] = [[] for _ in stretches]
    for row in range(batch):
        context, mine, done = _start_alone(model, batch, row), tokens[row : row + 1], 0
        for (begin, end), kept in zip(stretches, laws, strict=True):
            context = _read(model, context, mine, done, begin)
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
                kept.append(law)
            done = end
    for (begin, end), kept in zip(stretches, laws, strict=True):
        yield _Truth(begin, end, tokens, torch.cat(kept, 1).unflatten(1, (batch, end - begin))[0])


def _start_alone(model: Any, batch: int, row: int) -> Context:
    if like := _like(model):
        return like(conditions=[model.conditions[row % len(model.conditions)]]).start(1)
    return tree.rows(model.start(batch), torch.tensor([row], device=model.device))


def _read(model: Any, context: Context, tokens: Tensor, begin: int, end: int) -> Context:
    """The context after all tokens up to `end`, from one of those up to `begin`."""
    while begin < end:
        part = tokens[:, begin : min(begin + _CHUNK, end)]
        model.laws(context, part[:, :-1])
        context = model.advance(context, part, torch.full_like(part[:, 0], part.shape[1]))
        begin += part.shape[1]
    return context


def _compare(model: Any, truths: list[_Truth], window: int, seed: int, found: _Differences) -> Iterator[str]:
    """Carry out each check; yields its name."""
    batch = len(truths[0].tokens)
    sizes = {"batch": [0], "windows": [window, max(window, WIDE)]}
    for check in ("batch", "windows", "rejection", "lengths", "selection"):
        generator = torch.Generator().manual_seed(seed + 1)
        for truth in truths:
            for size in sizes.get(check, [window]):
                context = _read(model, model.start(batch), truth.tokens, 0, truth.begin)
                _walk(check, model, context, truth, size, generator, found)
        yield check
    last = truths[-1]
    context = _read(model, model.start(batch), last.tokens, 0, last.end - 1)
    beyond = torch.cat([last.tokens[:, -1:], last.tokens[:, :window]], 1)
    laws = model.laws(context, beyond)
    check_laws(laws, what="a law beyond the last position", vocab=model.vocab)
    place = torch.full((batch, 1), last.end - 1, device=laws.device)
    again = model.laws(context, beyond[:, :0])
    for some, what in ((laws[:, :1], "before drafts beyond the end"), (again, "read again after those")):
        found.look("end", some, last.laws[:, -1:], torch.ones_like(place, dtype=torch.bool), place, what)
    yield "end"
    context = _read(model, model.start(batch), last.tokens, 0, 1)
    model.laws(context, last.tokens[:, 1:2])
    with Waits() as watch:
        model.laws(context, last.tokens[:, 1:2])
        model.advance(context, last.tokens[:, 1:2], torch.ones_like(last.tokens[:, 0]))
    if watch.seen:
        what = f"waiting: a pass or an advance waits for the device ({', '.join(sorted(watch.seen))}), which costs time"
        found.found["waiting"] = f"{what} with every token; decide nothing by a tensor's value"
    yield "waiting"


def _walk(check: str, model: Any, context: Context, truth: _Truth, window: int, random: Any, found: Any) -> None:
    """Go through a stretch in windows, of which some drafts are right and the rest wrong."""
    tokens, device = truth.tokens, truth.tokens.device
    slots, length = torch.arange(window + 1, device=device), tokens.shape[1]
    done = torch.full_like(tokens[:, 0], truth.begin)
    selected = check != "selection"
    while bool((done < truth.end).any()):
        batch, position = len(tokens), done[:, None] + slots
        right = tokens.gather(1, position.clamp(max=length - 1))
        each = torch.randint(0, window + 1, (batch,), generator=random).to(device)
        still = torch.zeros_like(done, dtype=torch.bool)
        if check in ("batch", "windows"):
            each = torch.full_like(each, window)
        elif check == "rejection":
            each = each[:1].expand(batch)
        else:
            still = (torch.rand(batch, generator=random) < 0.15).to(device)
        shift = torch.randint(1, max(model.vocab, 2), right.shape, generator=random).to(device)
        draft = torch.where(slots < each[:, None], right, (right + shift) % model.vocab)[:, :window]
        if check == "rejection":
            model.laws(context, (draft + 1) % model.vocab)
        laws = model.laws(context, draft)
        if laws.shape[1] != window + 1:
            raise ContractError(f"for {window} drafts there came {laws.shape[1]} laws; w drafts have w + 1")
        check_laws(laws, what=f"{check}: a law from position {int(position.min())} on", vocab=model.vocab)
        place = (position - truth.begin).clamp(max=truth.end - truth.begin - 1)
        due = truth.laws.gather(1, place[..., None].expand(-1, -1, model.vocab))
        counts = (slots <= each[:, None]) & (position < truth.end)
        ahead = f", behind {truth.begin} tokens that were read in windows of up to {_CHUNK}," if truth.begin else ""
        found.look(check, laws, due, counts, position, _WORDS[check].format(window) + ahead)
        count = torch.minimum(each + 1, truth.end - done).where(~still, 0)
        context, done = model.advance(context, right, count), done + count
        if not selected and bool((done - truth.begin > (truth.end - truth.begin) // 3).any()):
            order = torch.arange(batch, device=device).flip(0)[: max(batch - 1, 1)]
            order, selected = torch.cat([order, order[:1]]), True
            context, done, truth, tokens = tree.rows(context, order), done[order], truth.rows(order), tokens[order]


_WORDS = {
    "batch": "beside other rows",
    "windows": "in a window of {} drafts that were all kept",
    "rejection": "in a window of {}, after rejected drafts",
    "lengths": "in a window of {}, with rows at different lengths",
    "selection": "in a window of {}, after rows were selected",
}


class Waits(TorchDispatchMode):
    """Notes what reads a tensor's values on the host, or makes a shape of them, for which a device is waited for.

    Attributes:
        seen: operations, and how often.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.name() in _WAITS:
            self.seen[function.name()] += 1
        return function(*args, **(kwargs or {}))
