"""Rates of the checks of counts: `ChiSquare`, `TotalVariation`, `Conditionals`, `EProcess`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from specverify.batteries import counts as battery
from specverify.calibration.sources import Source, distance, exact, target, tuned
from specverify.calibration.trial import Measured, gather
from specverify.evidence import alternatives
from specverify.evidence.conditional import Conditionals
from specverify.evidence.discrete import ChiSquare
from specverify.evidence.distance import tv
from specverify.evidence.finite import TotalVariation
from specverify.evidence.result import Evidence, Vector
from specverify.evidence.sequential import EProcess

Make = Callable[[Vector, int], Any]
"""(law, vocabulary) -> a check of counts."""


def _of_battery(name: str) -> Make:
    return lambda law, vocab: battery.CHECKS[name].make(law, vocab, 0)


TOOLS: dict[str, Make] = {
    **{name: _of_battery(name) for name in battery.NAMES if name not in ("dispersion", "copies")},
    "joint law (pearson)": lambda law, vocab: ChiSquare(law, "pearson"),
}
"""Those of the battery, and what they are built on."""


@dataclass(frozen=True)
class Target:
    """A law to be tested: a toy's, or one of no toy.

    Attributes:
        name: of a toy; or "flat-K", K equal outcomes; or "half-K", where the first of K has half of the mass.
    """

    name: str

    @property
    def law(self) -> Vector:
        """Float[outcomes]."""
        kind, _, outcomes = self.name.partition("-")
        if kind == "flat":
            return np.full(int(outcomes), 1 / int(outcomes))
        if kind == "half":
            return np.append(0.5, np.full(int(outcomes) - 1, 0.5 / (int(outcomes) - 1)))
        return target(self.name)

    @property
    def vocab(self) -> int:
        """Tokens of the toy; as many as outcomes without one."""
        return len(self.law) if self.name.startswith(("flat-", "half-")) else Source("ar", self.name).model().vocab


def alarms(trials: int, seed: int, *, check: str, law: str, n: int, alpha: float) -> Measured:
    """A check of counts on draws from the law itself."""
    generator = np.random.default_rng(seed)
    p = Target(law)
    tool = make(check, p)
    counts = generator.multinomial(n, p.law, size=trials)
    return gather([examine(tool, row, alpha, 0.1, generator) for row in counts], n=n)


def decoded_alarms(trials: int, seed: int, *, check: str, source: Source, n: int, alpha: float) -> Measured:
    """A check of counts on what a correct decoder emits, run for real."""
    generator = np.random.default_rng(seed)
    tool = make(check, Target(source.toy))
    counts = source.counts(n, trials, seed)
    return gather([examine(tool, row, alpha, 0.1, generator) for row in counts], n=n, tv=distance(source))


def misses(
    trials: int, seed: int, *, check: str, law: str, kind: str, delta: float, alpha: float, beta: float
) -> Measured:
    """A check of counts on draws from a law at distance delta, at the n that it asks for."""
    p = Target(law)
    wrong = alternatives.alternative(p.law, delta, kind)
    return _missed(trials, seed, check, p, wrong, delta, alpha, beta)


def enumerated_misses(
    trials: int, seed: int, *, check: str, source: Source, delta: float, alpha: float, beta: float
) -> Measured:
    """The same on draws from the exact law of a wrong decoder, whose strength is tuned to that distance."""
    return _missed(trials, seed, check, Target(source.toy), exact(tuned(source, delta)), delta, alpha, beta)


def decoded_misses(
    trials: int, seed: int, *, check: str, source: Source, delta: float, alpha: float, beta: float
) -> Measured:
    """The same with the wrong decoder run for real."""
    wrong, generator = tuned(source, delta), np.random.default_rng(seed)
    tool = make(check, Target(source.toy))
    n = tool.sample_size(delta, alpha=alpha, beta=beta)
    counts = wrong.counts(n, trials, seed)
    found = [examine(tool, row, alpha, beta, generator) for row in counts]
    return gather(found, n=n, delta=delta, tv=distance(wrong))


def prefix_misses(
    trials: int, seed: int, *, law: str, prefix: tuple[int, ...], delta: float, alpha: float, beta: float
) -> Measured:
    """`Conditionals` where the next-token law after one prefix is off by delta and all else is right."""
    p, generator = Target(law), np.random.default_rng(seed)
    table = p.law.reshape((p.vocab,) * round(np.log(len(p.law)) / np.log(p.vocab)))
    wrong = table.copy()
    after = table[prefix].reshape(p.vocab, -1)
    right = after.sum(1) / after.sum()
    moved = alternatives.alternative(right, delta, "spread")
    factor = np.divide(moved, right, out=np.zeros_like(right), where=right > 0)
    wrong[prefix] = (after * factor[:, None]).reshape(table[prefix].shape)
    tool = Conditionals(p.law, p.vocab)
    n = tool.sample_size(delta, alpha=alpha, beta=beta)
    counts = generator.multinomial(n, wrong.ravel(), size=trials)
    found = [tool.check(row, alpha=alpha, beta=beta) for row in counts]
    return gather(found, n=n, delta=delta, tv=tv(wrong.ravel(), p.law))


def looks(trials: int, seed: int, *, law: str, alpha: float, n: int, source: Source | None = None) -> Measured:
    """The e-process on perfect samples, looked at after 1, 2, 3, ... and then every twentieth more, up to n samples."""
    generator = np.random.default_rng(seed)
    p = Target(law)
    tool = EProcess(p.law)
    sizes = look_sizes(n)
    if source is None:
        streams = ([generator.multinomial(size, p.law) for size in sizes] for _ in range(trials))
    else:
        cuts = np.cumsum(sizes)[:-1]
        streams = (
            [np.bincount(block, minlength=len(p.law)) for block in np.split(index, cuts)]
            for index in source.indices(n, trials, seed)
        )
    found = [tool.check(stream, alpha=alpha, beta=0.1) for stream in streams]
    return gather(found, n=n, tv=None if source is None else distance(source))


def look_sizes(n: int) -> list[int]:
    """Sizes of blocks that grow by a twentieth of what came before, and add up to n."""
    sizes: list[int] = []
    seen = 0
    while seen < n:
        sizes.append(min(max(1, seen // 20), n - seen))
        seen += sizes[-1]
    return sizes


def make(check: str, p: Target) -> Any:
    """A check by its name in `TOOLS`."""
    return TOOLS[check](p.law, p.vocab)


def examine(
    tool: Any, counts: Int[np.ndarray, " outcomes"], alpha: float, beta: float, generator: np.random.Generator
) -> Evidence:
    """One check of counts, each in its own convention."""
    evidence: Evidence
    if isinstance(tool, EProcess):
        evidence = tool.check([counts], alpha=alpha, beta=beta)
    elif isinstance(tool, ChiSquare | TotalVariation):
        evidence = tool.check(counts, alpha=alpha, beta=beta, generator=generator)
    else:
        evidence = tool.check(counts, alpha=alpha, beta=beta)
    return evidence


def _missed(
    trials: int, seed: int, check: str, p: Target, wrong: Vector, delta: float, alpha: float, beta: float
) -> Measured:
    generator = np.random.default_rng(seed)
    tool = make(check, p)
    n = tool.sample_size(delta, alpha=alpha, beta=beta)
    counts = generator.multinomial(n, wrong, size=trials)
    found = [examine(tool, row, alpha, beta, generator) for row in counts]
    return gather(found, n=n, delta=delta, tv=tv(wrong, p.law))
