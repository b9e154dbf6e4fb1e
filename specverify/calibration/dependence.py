"""Rates of the checks of independence: `Dispersion`, `Copies` and the rows that repeat earlier ones."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import torch

from specverify.calibration.counts import Target
from specverify.calibration.sources import Source, laws, target
from specverify.calibration.trial import Measured, gather
from specverify.errors import InputError
from specverify.evidence.copies import Copies, collision_probability
from specverify.evidence.independence import Dispersion
from specverify.subjects.sampler_checks import repeats

Copied = Literal["within", "between"]


def dispersion_alarms(
    trials: int, seed: int, *, law: str, size: int, batches: int, alpha: float, source: Source | None = None
) -> Measured:
    """`Dispersion` on batches of perfect samples, drawn from the law or decoded for real."""
    p, generator = Target(law), np.random.default_rng(seed)
    tool = Dispersion(p.law, size)
    if source is None:
        counts = (generator.multinomial(size, p.law, size=batches) for _ in range(trials))
    else:
        every = source.counts(size, trials * batches, seed)
        counts = (np.stack(list(itertools.islice(every, batches))) for _ in range(trials))
    return gather([tool.check(rows, alpha=alpha, beta=0.1) for rows in counts], n=batches)


def dispersion_misses(
    trials: int, seed: int, *, law: str, size: int, copied: Copied, delta: float, alpha: float, beta: float
) -> Measured:
    """`Dispersion` where a share delta of each batch is one draw, new in each batch, or the same samples in all."""
    p, generator = Target(law), np.random.default_rng(seed)
    tool = Dispersion(p.law, size)
    n = max(2, tool.sample_size(delta, alpha=alpha, beta=beta))
    shared = round(delta * size)
    if shared != delta * size:
        shared += shared < delta * size
    found = []
    for _ in range(trials):
        counts = generator.multinomial(size - shared, p.law, size=n)
        if copied == "within":
            counts[np.arange(n), generator.choice(len(p.law), size=n, p=p.law)] += shared
        else:
            counts = counts + generator.multinomial(shared, p.law)
        found.append(tool.check(counts, alpha=alpha, beta=beta))
    return gather(found, n=n, delta=delta)


def copies_alarms(trials: int, seed: int, *, source: Source, rows: int, alpha: float) -> Measured:
    """`Copies` on two runs of a correct decoder."""
    tokens = source.tokens(2 * rows, trials, seed)
    tool = _tool(source.toy)
    found = [tool.check(both[:rows].numpy(), both[rows:].numpy(), alpha=alpha, beta=0.1) for both in tokens]
    return gather(found, n=rows)


def copies_misses(trials: int, seed: int, *, source: Source, delta: float, alpha: float, beta: float) -> Measured:
    """`Copies` where each row is, with probability delta, a copy of the row beside it."""
    generator = np.random.default_rng(seed)
    tool = _tool(source.toy)
    n = tool.sample_size(delta, alpha=alpha, beta=beta)
    tokens = source.tokens(2 * n, trials, seed).numpy()
    found = []
    for both in tokens:
        first, second = both[:n], both[n:]
        copied = generator.random(n) < delta
        second = np.where(copied[:, None], first, second)
        found.append(tool.check(first, second, alpha=alpha, beta=beta))
    return gather(found, n=n, delta=delta)


def repeated_alarms(trials: int, seed: int, *, source: Source, rows: int, alpha: float) -> Measured:
    """Whether rows of a correct decoder repeat earlier ones more often than chance."""
    found = []
    for tokens in source.tokens(rows, trials, seed):
        own = laws(source.toy, tokens).double().gather(2, tokens[..., None])[..., 0]
        found.append(repeats(tokens, own.log().sum(1), alpha=alpha, beta=0.1))
    return gather(found, n=rows)


def repeated_misses(trials: int, seed: int, *, source: Source, rows: int, alpha: float, beta: float) -> Measured:
    """The same where each row is a copy of an earlier one with the probability that the check says it sees."""
    generator = np.random.default_rng(seed)
    tokens = source.tokens(rows, trials, seed)
    found = []
    delta = 0.0
    for part in tokens:
        right = laws(source.toy, part).double().gather(2, part[..., None])[..., 0].log().sum(1)
        delta = max(delta, repeats(part, right, alpha=alpha, beta=beta).delta)
    for part in tokens:
        copied = np.flatnonzero(generator.random(rows) < delta)
        rows_of = torch.arange(rows)
        for row in copied[copied > 0]:
            rows_of[row] = rows_of[generator.integers(row)]
        both = part[rows_of]
        own = laws(source.toy, both).double().gather(2, both[..., None])[..., 0].log().sum(1)
        found.append(repeats(both, own, alpha=alpha, beta=beta))
    return gather(found, n=rows, delta=delta)


def _tool(toy: str) -> Copies:
    """Equal rows by chance are known from the law, or along a chain: sum of p^2 over all ways to go on."""
    model = Source("ar", toy).model()
    if model.vocab**model.length <= 10**5:
        chance = collision_probability(target(toy))
    elif toy.startswith("markov-"):
        every = torch.arange(model.vocab)[:, None]
        first, after = (laws(toy, part)[:, -1].double() ** 2 for part in (every[:1, :1], every.repeat(1, 2)))
        chance = float(first[0] @ torch.linalg.matrix_power(after, model.length - 1).sum(1))
    else:
        raise InputError(f"the chance that two sequences of {toy} are equal is not known; choose another toy")
    return Copies(chance)
