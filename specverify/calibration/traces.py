"""Rates of the checks of traces: transforms (PIT), surprisal and tempering.

What a wrong decoder's flaw comes to in each check's own metric is computed, not estimated: from the exact law of its
sequences and the target's laws along all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import optimize

from specverify import tree
from specverify.batteries import traces as battery
from specverify.calibration.sources import Source, distance, every_sequence, exact, laws, target, tuned
from specverify.calibration.trial import Measured, gather
from specverify.evidence.distance import tv
from specverify.evidence.leaks import Leaks
from specverify.evidence.pit import PitPairs, PitUniformity
from specverify.evidence.surprisal import ENTROPIES, Surprisal, SurprisalGroups
from specverify.evidence.tokens import TokenStatistics, reduce
from specverify.seeds import derived_seed
from specverify.subjects.trace import MAIN, judge_trace
from specverify.verdict import Kind

GRID = 4
"""Of the pairs."""
ALONG, ACROSS = "PIT pairs, positions 1 apart", "PIT pairs, rows 1 apart"

BESIDE = ("copies", "ids", "repetition", *battery.LOGGED)
"""Those of the battery that look at something else than the statistics of tokens."""
TOOLS = tuple(name for name in battery.CHECKS if name not in BESIDE)
"""The checks of the battery that a trace of statistics can be tried by."""


def made(check: str, length: int) -> Any:
    """A check of the battery, as it is made for sequences of a length."""
    nothing = torch.zeros(2, length, dtype=torch.int64)
    even = torch.full((2, length, 2), 0.5, dtype=torch.float64)
    return battery.CHECKS[check].make(battery.Traced(reduce(even, nothing, np.random.default_rng(0))))


def alarms(trials: int, seed: int, *, check: str, source: Source, rows: int, alpha: float) -> Measured:
    """A check of traces on what a correct decoder emits, run for real."""
    tool = made(check, source.model().length)
    found = [tool.check(trace, alpha=alpha, beta=0.1) for trace in traces(source, rows, trials, seed)]
    return gather(found, n=found[0].n)


def misses(
    trials: int, seed: int, *, check: str, source: Source, side: float, delta: float, alpha: float, beta: float
) -> Measured:
    """A check of traces on a wrong decoder, run for real, whose flaw is tuned to delta in the check's metric."""
    wrong = tuned(source, delta, partial(_size, check), side)
    length = source.model().length
    n, rows = _needs(check, wrong, length, delta, alpha, beta)
    tool = made(check, length)
    found = [tool.check(trace, alpha=alpha, beta=beta) for trace in traces(wrong, rows, trials, seed)]
    return gather(found, n=n, delta=delta, tv=distance(wrong))


def copied_misses(trials: int, seed: int, *, share: float, alpha: float, beta: float) -> Measured:
    """Pairs of rows where tokens, uniform over 16, repeat the one above them in every second row with chance `share`.

    The cells of such a pair are uniform but for the share, which lies on the diagonal: total variation share (1 - 1/4).
    """
    generator = np.random.default_rng(seed)
    delta, length, vocab = share * (1 - 1 / GRID), 16, GRID**2
    tool = PitPairs(grid=GRID, across=True)
    n = tool.sample_size(delta, alpha=alpha, beta=beta)
    rows = 2 * -(-n // length) + 2
    flat = torch.full((rows, length, vocab), 1 / vocab, dtype=torch.float64)
    found = []
    for _ in range(trials):
        tokens = generator.integers(vocab, size=(rows, length))
        copied = generator.random((rows // 2, length)) < share
        tokens[1::2] = np.where(copied, tokens[0::2][: rows // 2], tokens[1::2])
        found.append(tool.check(reduce(flat, tokens, generator), alpha=alpha, beta=beta))
    return gather(found, n=n, delta=delta)


def uneven_alarms(trials: int, seed: int, *, check: str, alpha: float) -> Measured:
    """A check of traces on 1,000 tokens of a law that is nearly certain, where no normal limit is near."""
    generator = np.random.default_rng(seed)
    law = torch.tensor([0.999, 0.001], dtype=torch.float64).expand(500, 2, 2)
    tool = made(check, 2)
    found = []
    for _ in range(trials):
        tokens = (generator.random((500, 2)) < 0.001).astype(np.int64)
        found.append(tool.check(reduce(law, tokens, generator), alpha=alpha, beta=0.1))
    return gather(found, n=1000)


def leaked_misses(trials: int, seed: int, *, tail: float, delta: float, alpha: float, beta: float) -> Measured:
    """A token of probability `tail` that comes in a share delta of tokens."""
    generator = np.random.default_rng(seed)
    tool = Leaks()
    n = tool.sample_size(delta, alpha=alpha, beta=beta)
    law = torch.tensor([0.7, 0.3 - tail, tail], dtype=torch.float64).expand(n, 1, 3)
    found = []
    for _ in range(trials):
        tokens = np.where(generator.random((n, 1)) < delta, 2, (generator.random((n, 1)) > 0.7).astype(np.int64))
        found.append(tool.check(reduce(law, tokens, generator), alpha=alpha, beta=beta))
    return gather(found, n=n, delta=delta)


def placed_misses(trials: int, seed: int, *, delta: float, alpha: float, beta: float) -> Measured:
    """Tokens too flat at the first of four positions: their mean surprisal is off by delta nats there alone."""
    generator = np.random.default_rng(seed)
    length, p = 4, np.array([0.5, 0.25, 0.15, 0.1])
    surprise = -np.log(p)
    spread = float(np.sqrt(p @ surprise**2 - (p @ surprise) ** 2))

    def tilted(tilt: float) -> Float[np.ndarray, " vocab"]:
        weight = p ** (1 - tilt)
        return np.asarray(weight / weight.sum())

    flat = tilted(float(optimize.brentq(lambda tilt: tilted(tilt) @ surprise - p @ surprise - delta, 0, 1)))
    rows = Surprisal(spread).sample_size(delta, alpha=alpha / (length + len(ENTROPIES) + 1), beta=beta)
    law = torch.from_numpy(p).expand(rows, length, len(p))
    found = []
    for _ in range(trials):
        tokens = generator.choice(len(p), size=(rows, length), p=p)
        tokens[:, 0] = generator.choice(len(p), size=rows, p=flat)
        found.append(SurprisalGroups().check(reduce(law, tokens, generator), alpha=alpha, beta=beta))
    return gather(found, n=rows, delta=delta)


def coin_misses(trials: int, seed: int, *, delta: float, alpha: float, beta: float) -> Measured:
    """Rows of which a coin makes some wrong altogether: Kolmogorov distance delta in the mean over traces.

    Tokens are uniform over 16, listed with equal probabilities; in a wrong row each falls into the first eight.
    """
    generator = np.random.default_rng(seed)
    length, vocab = 64, 16
    tool = PitUniformity(together=length)
    rows = -(-tool.sample_size(delta, alpha=alpha, beta=beta) // length)
    flat = torch.full((rows, length, vocab), 1 / vocab, dtype=torch.float64)
    found = []
    for _ in range(trials):
        tokens = generator.integers(vocab, size=(rows, length))
        wrong = generator.random((rows, 1)) < 2 * delta
        found.append(tool.check(reduce(flat, np.where(wrong, tokens % 8, tokens), generator), alpha=alpha, beta=beta))
    return gather(found, n=rows * length, delta=delta)


def whole_alarms(trials: int, seed: int, *, source: Source, rows: int, alpha: float) -> Measured:
    """Whole judgements of an engine's log, of what a correct decoder emits."""
    return _whole(trials, seed, source, rows, 1.0, alpha, 0.1)


def whole_misses(
    trials: int, seed: int, *, source: Source, side: float, delta: float, alpha: float, beta: float
) -> Measured:
    """Whole judgements of the log of a wrong decoder, tuned to delta in the metric of the main check."""
    wrong = tuned(source, delta, partial(_size, MAIN), side)
    share = alpha / 20  # of the main check at least
    _, rows = _needs(MAIN, wrong, source.model().length, delta, share, beta)
    found = _whole(trials, seed, wrong, rows, delta, alpha, beta)
    return Measured(found.n, found.rejected, delta=delta, tv=distance(wrong))


def _whole(trials: int, seed: int, source: Source, rows: int, delta: float, alpha: float, beta: float) -> Measured:
    rejected = []
    for number, part in enumerate(source.parts(rows, trials, seed)):
        for log in part:
            arrays = {"tokens": log.numpy(), "logprobs": laws(source.toy, log).double().log().numpy()}
            found = judge_trace(
                arrays, seed=derived_seed(seed, number), delta=delta, alpha=alpha, beta=beta, name=source.name
            )
            if delta < 1 and found.verdict.kind not in (Kind.REFUTED, Kind.CONSISTENT):
                raise RuntimeError(f"{found.verdict.kind.value}: {found.verdict.reason}")
            rejected.append(found.verdict.kind is Kind.REFUTED)
    return Measured(rows, np.array(rejected))


def traces(source: Source, rows: int, trials: int, seed: int) -> Iterator[TokenStatistics]:
    """A trace for each repetition, of so many sequences each."""
    generator = np.random.default_rng(seed)
    for part in source.parts(rows, trials, seed):
        flat = part.flatten(0, 1)
        together = reduce(laws(source.toy, flat), flat, generator)
        for first in range(0, len(flat), rows):
            yield tree.rows(together, torch.arange(first, first + rows))


@dataclass(frozen=True)
class Along:
    """A toy's laws along all of its sequences.

    Attributes:
        low, high: ends of the interval that a token's transform is uniform on, by falling probability.
        excess: surprisal less entropy.
        variance: of the surprisal.
    """

    low: Float[np.ndarray, "sequences length"]
    high: Float[np.ndarray, "sequences length"]
    excess: Float[np.ndarray, "sequences length"]
    variance: Float[np.ndarray, "sequences length"]
    overlap: Float[np.ndarray, "sequences length cells"] = field(repr=False)


@lru_cache(maxsize=8)
def along(toy: str) -> Along:
    """See Along. The transforms are worked out here anew, not by `reduce`, which is on trial."""
    tokens = every_sequence(toy)
    p = laws(toy, tokens).double()
    possible = torch.from_numpy(target(toy) > 0)
    own = p.gather(2, tokens[..., None])
    order = torch.arange(p.shape[2])
    ahead = (p > own) | ((p == own) & (order < tokens[..., None]))
    low = (p * ahead).sum(2)
    high = low + own[..., 0]
    surprise = torch.where(p > 0, -p.log(), 0.0)
    entropy = (p * surprise).sum(2)
    variance = (p * (surprise - entropy[..., None]) ** 2).sum(2)
    excess = torch.where(possible[:, None], surprise.gather(2, tokens[..., None])[..., 0] - entropy, 0.0)
    edges = torch.linspace(0, 1, GRID + 1, dtype=torch.float64)
    inside = (high[..., None].minimum(edges[1:]) - low[..., None].maximum(edges[:-1])).clamp(min=0)
    overlap = inside / own.clamp(min=1e-300)
    return Along(low.numpy(), high.numpy(), excess.numpy(), variance.numpy(), overlap.numpy())


def kolmogorov(toy: str, law: Float[np.ndarray, " sequences"], positions: slice = slice(None)) -> float:
    """Exact Kolmogorov distance from uniform of the transforms at some positions together."""
    here = along(toy)
    low, high = here.low[:, positions], here.high[:, positions]
    mass = np.repeat(law[:, None], low.shape[1], 1) / low.shape[1]
    seen = (mass > 0) & (high > low)
    low, high, mass = low[seen], high[seen], mass[seen]
    levels = np.unique(np.concatenate([low, high]))
    # the distribution function is linear between levels: its slope changes where an interval begins or ends
    slope = np.zeros(len(levels))
    np.add.at(slope, np.searchsorted(levels, low), mass / (high - low))
    np.add.at(slope, np.searchsorted(levels, high), -mass / (high - low))
    function = np.concatenate([[0.0], np.cumsum(np.cumsum(slope)[:-1] * np.diff(levels))])
    return float(np.abs(function - levels).max())


def _size(check: str, source: Source) -> float:
    """The exact size of a decoder's flaw in a check's own metric."""
    law, here = exact(source), along(source.toy)
    length = here.low.shape[1]
    if check == "PIT uniformity":
        return kolmogorov(source.toy, law)
    if check == "PIT by position":
        return max(kolmogorov(source.toy, law, slice(t, t + 1)) for t in range(length))
    if check == ALONG:
        uniform = np.full(GRID**2, GRID**-2)
        cells = [
            np.einsum("s,sa,sb->ab", law, here.overlap[:, t], here.overlap[:, t + 1]).ravel() for t in range(length - 1)
        ]
        return max(tv(np.mean(phase, axis=0), uniform) for phase in (cells[0::2], cells[1::2]) if phase)
    return abs(float(law @ here.excess.mean(1)))


def _needs(check: str, wrong: Source, length: int, delta: float, alpha: float, beta: float) -> tuple[int, int]:
    """What the check asks for, in its own unit, and in sequences."""
    tool = made(check, length)
    if check in ("surprisal", "tempering"):
        spread = float(np.sqrt(exact(wrong) @ along(wrong.toy).variance.mean(1)))
        tool = type(tool)(spread)
    n = int(tool.sample_size(delta, alpha=alpha, beta=beta))
    if check == "PIT by position":
        return n, n
    if check == ALONG:
        return n, -(-n // ((length - 1) // 2))
    return n, -(-n // length)
