"""What it costs to see a discrepancy: samples, toys, time on this machine, and what no number of samples shows.

The numbers are the checks' own (`sample_size`), on the toys that the campaign samples. How long they take is measured
now: speculative Jacobi decoding draws a small sample of each toy, and its time is scaled.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

import toymodels
import toymodels.catalogue
from specverify import planner_calls
from specverify.batteries import counts, traces
from specverify.cell import DELTA, Cell
from specverify.decoders import registry, sample
from specverify.errors import InputError
from specverify.evidence.copies import halves
from specverify.evidence.design import AlphaBudget
from specverify.evidence.ids import Groups
from specverify.evidence.result import Evidence, check_delta, check_rates
from specverify.evidence.sequences import target_law
from specverify.evidence.sequential import EProcess
from specverify.evidence.tokens import reduce
from specverify.model import Model
from specverify.plan import plan
from specverify.seeds import BLOCK, derived_seed

DECODER = "sjd"
"""Whose time is measured."""
LEAST = 5e-4
"""The smallest discrepancy that is planned for: of one of 1e-4 some checks take 10^9 samples, which scipy refuses."""
TIMED = 0.5
"""Seconds that a sample must take to be a measure of speed, unless it is a whole block of rows."""


@runtime_checkable
class Check(Protocol):
    """What planning needs of a check; see `evidence/result.py`."""

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The n that misses delta with probability at most beta."""


@dataclass(frozen=True)
class Need:
    """What one check on one toy needs.

    Attributes:
        toy, check, metric: which; `metric` says what delta measures.
        asked: whether a pass of the campaign rests on it; other checks only watch.
        alpha: its share of the false-alarm rate.
        n: what the check asks for, in its own unit; None if no n suffices, and `why` not.
        unit: what n counts.
        sequences: what n comes to in sequences of the toy.
        expected: for a test that stops early, its mean number of samples at a discrepancy of delta.
        seconds: of drawing the sequences, on this machine.
        basis, power: how its rates are known.
        blind: what no n makes it see.
        why: why there is no n.
    """

    toy: str
    check: str
    metric: str
    asked: bool
    alpha: float
    n: int | None
    unit: str
    sequences: int | None
    expected: float | None
    seconds: float | None
    basis: str
    power: str
    blind: str
    why: str


@dataclass(frozen=True)
class Speed:
    """A measurement: `sequences` of a toy, drawn by `decoder` with a window, took `seconds`."""

    toy: str
    decoder: str
    window: int
    sequences: int
    seconds: float

    @property
    def rate(self) -> float:
        """Sequences per second."""
        return self.sequences / self.seconds


@dataclass(frozen=True)
class Planned:
    """The whole plan.

    Attributes:
        tier: whose toys.
        delta: the discrepancy to be seen, in each check's metric.
        alpha: probability that any check of the plan raises a false alarm.
        beta: probability that one check misses a discrepancy of delta.
        speeds: measured, one for each toy.
        needs: one for each toy and check.
        unseen: what none of this shows.
        kernels: what a judgement of a verification kernel plays, with the same rates.
    """

    tier: str
    delta: float
    alpha: float
    beta: float
    speeds: tuple[Speed, ...]
    needs: tuple[Need, ...]
    unseen: tuple[str, ...]
    kernels: tuple[planner_calls.Called, ...] = ()

    def draws(self, toy: str) -> int | None:
        """The sequences of a toy that all asked checks need, or None if one of them has no n."""
        sizes = [need.sequences for need in self.needs if need.toy == toy and need.asked]
        return None if None in sizes else max(size for size in sizes if size is not None)

    @property
    def seconds(self) -> float | None:
        """Time to draw what the asked checks need, for one decoder in one process; None where one has no n."""
        parts = [(self.draws(speed.toy), speed.rate) for speed in self.speeds]
        return None if any(n is None for n, _ in parts) else sum(n / rate for n, rate in parts if n is not None)

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        toys = [{**asdict(speed), "rate": speed.rate, "draws": self.draws(speed.toy)} for speed in self.speeds]
        return {**asdict(self), "speeds": toys, "seconds": self.seconds}


@dataclass(frozen=True)
class _Part:
    """A check, ready to be planned and to be tried on perfect samples, so that it can say what it is blind to."""

    name: str
    check: Check
    unit: str
    sequences: Callable[[int], int]
    tried: Callable[[int, float, float], Evidence]


def make_plan(
    delta: float, alpha: float, beta: float, *, tier: str = "quick", toys: Sequence[str] | None = None, seed: int = 0
) -> Planned:
    """Plan for a discrepancy.

    Args:
        delta: total variation that has to be seen; for other metrics (see `Need`) the same number.
        alpha: false-alarm rate of all checks together, split evenly over toys and checks.
        beta: miss rate of each check.

    Other arguments:
        tier: whose toys; see `plan.plan`.
        toys: other ones than the tier samples, and no kernels.
        seed: of the samples that are timed.

    Raises:
        InputError: for rates, a delta, a tier or toys that cannot be.
    """
    check_delta(delta)
    if delta < LEAST:
        raise InputError(
            f"delta is {delta:g}; a plan is for {LEAST:g} and more, below which samples are too many to count"
        )
    check_rates(alpha, beta)
    everything = toys is None
    cells = [cell for cell in plan(tier) if cell.kind in ("sampled", "paired") and cell.model in toymodels.names()]
    toys = list(dict.fromkeys((cell.model for cell in cells) if toys is None else toys))
    if not toys:
        raise InputError("no toys to plan for; name at least one, or leave them to the tier")
    timed = [_time(toy, cells, seed) for toy in toys]
    generator = np.random.default_rng(derived_seed(seed, 1))
    parts = [
        (speed, part)
        for speed, tokens in timed
        for part in (_counted if toymodels.catalogue.enumerable(speed.toy) else _traced)(speed.toy, tokens, generator)
    ]
    budget = AlphaBudget(alpha)
    names = [f"{speed.toy}: {part.name}" for speed, part in parts]
    budget.allocate(names)
    needs = [
        _need(speed, part, delta, budget.spend(name), beta) for (speed, part), name in zip(parts, names, strict=True)
    ]
    speeds = tuple(speed for speed, _ in timed)
    kernels = planner_calls.planned(delta, alpha, beta) if everything else ()
    return Planned(tier, delta, alpha, beta, speeds, tuple(needs), _unseen(toys), kernels)


def _need(speed: Speed, part: _Part, delta: float, alpha: float, beta: float) -> Need:
    n: int | None = None
    why = ""
    try:
        n = part.check.sample_size(delta, alpha=alpha, beta=beta)
    except InputError as error:
        why = str(error)
    found = part.tried(n or BLOCK, alpha, beta)
    sequences = None if n is None else part.sequences(n)
    return Need(
        toy=speed.toy,
        check=found.check,
        metric=found.metric,
        asked=found.check in DELTA,
        alpha=alpha,
        n=n,
        unit=part.unit,
        sequences=sequences,
        expected=part.check.expected_sample_size(delta, alpha=alpha) if isinstance(part.check, EProcess) else None,
        seconds=None if sequences is None else sequences / speed.rate,
        basis=found.basis,
        power=found.power,
        blind=found.blind,
        why=why,
    )


def _counted(toy: str, tokens: Tensor, generator: np.random.Generator) -> list[_Part]:
    """The checks of a toy whose sequences can be counted, tried on as many perfect samples as are planned."""
    model = toymodels.toy(toy)
    law = target_law(model).numpy()

    def perfect(n: int, calls: int) -> counts.Counted:
        total = np.asarray(generator.multinomial(n, law))
        return counts.Counted(total, [total], generator.multinomial(BLOCK, law, size=calls), halves(tokens))

    def part(name: str) -> _Part:
        known = counts.CHECKS[name]
        check = known.make(law, model.vocab, BLOCK)

        def tried(n: int, alpha: float, beta: float) -> Evidence:
            sample = perfect(BLOCK, min(max(n, 2), 16)) if known.of_calls else perfect(n, 2)
            return known.run(check, sample, generator, {"alpha": alpha, "beta": beta})

        unit = f"calls of {BLOCK:,}" if known.of_calls else known.unit
        rows = BLOCK if known.of_calls else 2 if name == "copies" else 1
        return _Part(name, check, unit, lambda n: rows * n, tried)

    return [part(name) for name in counts.NAMES]


def _traced(toy: str, tokens: Tensor, generator: np.random.Generator) -> list[_Part]:
    """The checks of traces, tried on the sample that was timed; the spread of a token's surprisal is taken from it."""
    model = toymodels.toy(toy)
    length = model.length
    with torch.no_grad():
        laws = model.laws(model.start(len(tokens)), tokens[:, :-1])
    groups = Groups(tokens, model.vocab)
    groups.add(laws, slice(None), slice(None))
    trace = traces.Traced(reduce(laws, tokens, generator), runs=halves(tokens), groups=groups)
    found = trace.statistics
    deviation = math.sqrt(float(found.variance[found.open].mean()))
    widest = math.sqrt(float(found.variance.where(found.open, 0).mean(0).max()))
    is_open = float(found.open.double().mean())
    # A phase takes every other pair; the smaller one of a row has (length - 1) // 2 of them.
    sequences: dict[str, Callable[[int], float]] = {
        "tokens": lambda n: n / length,
        "open tokens": lambda n: n / (length * is_open),
        "sequences": lambda n: n,
        "pairs": lambda n: n / ((length - 1) // 2),
        "pairs of rows": lambda n: 2 * n / length + 2,
        "rows of 2 runs": lambda n: 2 * n,
    }

    def part(name: str) -> _Part:
        known = traces.CHECKS[name]
        check = known.make(trace)
        if hasattr(check, "deviation"):
            check = replace(check, deviation=widest if known.unit == "sequences" else deviation)
        return _Part(
            name,
            check,
            known.unit,
            lambda n: math.ceil(sequences[known.unit](n)),
            lambda n, alpha, beta: known.run(check, trace, {"alpha": alpha, "beta": beta}),
        )

    return [part(name) for name in traces.SAMPLED]


def _time(toy: str, cells: Sequence[Cell], seed: int) -> tuple[Speed, Tensor]:
    """Draw ever larger samples until one took long enough, or fills a block; that one is the measure."""
    model: Model = toymodels.toy(toy)
    windows = [cell.window for cell in cells if cell.model == toy and cell.window is not None]
    settings = registry.Settings(window=windows[0]) if windows else registry.Settings()
    decoder = registry.build(DECODER, settings)
    sample(decoder, model, 16, seed)  # what is done once
    rows = 256
    while True:
        start = time.perf_counter()
        tokens = sample(decoder, model, rows, seed).tokens
        speed = Speed(toy, DECODER, settings.window, rows, time.perf_counter() - start)
        if speed.seconds >= TIMED or rows >= BLOCK:
            return speed, tokens
        rows = min(BLOCK, 2 * rows)


def _unseen(toys: Sequence[str]) -> tuple[str, ...]:
    every = toymodels.names()
    large = [name for name in every if not toymodels.catalogue.enumerable(name)]
    others = [name for name in every if name not in (*toys, *large)]
    return (
        f"toys too large for their sequences to be counted, {', '.join(large)}: seen as traces at best, so that only "
        "what shows in single tokens and pairs of tokens is",
        f"toys that this plan does not sample, {', '.join(others)}: `specverify verify` enumerates them",
        "models of other sizes and laws than these: covered as far as the code that runs is the same",
        "continuous tokens: every check here counts discrete tokens, or looks their probability up",
        "a discrepancy below delta, and one that a decoder shows in other settings (windows, batches) than were run",
    )
