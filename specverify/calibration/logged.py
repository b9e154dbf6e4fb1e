"""Rates of the checks that look at more of a log than the statistics of its tokens: ranks, ids, order, noise."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import optimize
from torch import Tensor

from specverify.batteries import traces as battery
from specverify.calibration.traces import BESIDE
from specverify.calibration.trial import Measured, gather
from specverify.decoders.protocol import Branch
from specverify.evidence.borrowed import NEAR
from specverify.evidence.branches import kinds
from specverify.evidence.ids import Groups
from specverify.evidence.ranks import masses
from specverify.evidence.result import Evidence
from specverify.evidence.tokens import by_id, reduce

VOCAB, LENGTH = 16, 24
_NEAR = float(optimize.brentq(lambda width: np.sinc(width) - NEAR, 0.01, 0.9))
"""How far noise that is used again is off, either way twice so much, for the mean cosine to be `NEAR`."""
APART = "copies", "repeated rows"
"""Those that have rows of their own: see `dependence`."""
TOOLS = tuple(name for name in battery.CHECKS if name in BESIDE and name not in APART)
SEEN = {name: 200 if name == "rows with another's noise" else 1000 for name in TOOLS}
"""How many rows are made that are off by what each states."""


@lru_cache(maxsize=1)
def law() -> Float[Tensor, "length vocab"]:
    """At each position one of its own."""
    return torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(VOCAB), size=LENGTH))


def alarms(trials: int, seed: int, *, check: str, rows: int, alpha: float) -> Measured:
    """A check of logs on tokens that have their laws."""
    generator = np.random.default_rng(seed)
    found = [
        _found(check, _drawn(law(), generator.random((rows, LENGTH))), generator, alpha, 0.1) for _ in range(trials)
    ]
    return gather(found, n=found[0].n)


def misses(trials: int, seed: int, *, check: str, rows: int, alpha: float, beta: float) -> Measured:
    """The same where they are wrong by as much as the check says that it sees, in so many rows."""
    generator = np.random.default_rng(seed)
    fair = torch.full_like(law(), 1 / VOCAB)
    delta = _found(check, _drawn(fair, generator.random((rows, LENGTH))), generator, alpha, beta, fair).delta
    found = []
    for _ in range(trials):
        noise = generator.random((rows, LENGTH))
        branch = _branches(noise.shape, generator)
        tokens = _wrong(check, noise, delta, branch, generator)
        found.append(_found(check, tokens, generator, alpha, beta, fair, noise, branch))
    return gather(found, n=found[0].n, delta=delta)


def _wrong(
    check: str,
    noise: Float[np.ndarray, "rows length"],
    delta: float,
    branch: Int[np.ndarray, "rows length"],
    generator: np.random.Generator,
) -> Int[Tensor, "rows length"]:
    """Tokens of equal probabilities but for so much; noise that is used again is changed in place."""
    rows, length = noise.shape
    fair = torch.full_like(law(), 1 / VOCAB)
    here = generator.random(noise.shape) < delta
    if check == "neighbouring rows":
        noise[1::2] = np.where(here[1::2], noise[0 : rows // 2 * 2 : 2], noise[1::2])
    elif check == "pairs of positions":
        noise[:, -1] = np.where(here[:, -1], noise[:, 0], noise[:, -1])
    elif check == "rows with another's noise":
        for row in np.flatnonzero(here[1:, 0]) + 1:
            noise[row] = (noise[generator.integers(row)] + _NEAR * (generator.random(length) - 0.5)) % 1
        generator.shuffle(noise)
    elif check == "ids":
        fair *= 1 - 2 * delta * (-1.0) ** torch.arange(VOCAB)
    elif check in ("ranks", "PIT by id"):
        fair *= 1 + 2 * delta * torch.arange(VOCAB).lt(VOCAB // 2).mul(2).sub(1)
    tokens = _drawn(fair, noise)
    if check == "branches":  # the bonus tokens alone, of which more are wrong than of all
        bonus = branch == Branch.BONUS
        low = torch.from_numpy(bonus & (generator.random(noise.shape) < 2 * delta / bonus.mean()))
        tokens = torch.where(low, tokens % (VOCAB // 2), tokens)
    if check == "repetition":  # the first one has none before it
        again = generator.random(noise.shape) < delta / (1 - 1 / VOCAB) / (1 - 1 / length)
        for t in range(1, length):
            tokens[:, t] = torch.where(torch.from_numpy(again[:, t]), tokens[:, t - 1], tokens[:, t])
    return tokens


def _branches(shape: tuple[int, ...], generator: np.random.Generator) -> Int[np.ndarray, "rows length"]:
    return generator.choice([int(each) for each in Branch if each != Branch.NONE], shape)


def _drawn(laws: Float[Tensor, "length vocab"], noise: Float[np.ndarray, "rows length"]) -> Int[Tensor, "rows length"]:
    edges = laws.cumsum(1)[None, :, :-1].contiguous().expand(len(noise), -1, -1).contiguous()
    return torch.searchsorted(edges, torch.from_numpy(noise)[..., None], right=True).squeeze(-1)


def _found(
    check: str,
    tokens: Int[Tensor, "rows length"],
    generator: np.random.Generator,
    alpha: float,
    beta: float,
    given: Float[Tensor, "length vocab"] | None = None,
    noise: Float[np.ndarray, "rows length"] | None = None,
    branch: Int[np.ndarray, "rows length"] | None = None,
) -> Evidence:
    """What a check says of tokens whose laws are said to be these; given noise is `battery.AGAIN`'s transforms."""
    laws = (law() if given is None else given).expand(len(tokens), -1, -1)
    statistics = reduce(laws, tokens, generator)
    below = (laws.cumsum(2) - laws).gather(2, tokens[..., None])[..., 0]
    transforms = [statistics.pit.numpy(), by_id(statistics, below, generator)]
    if noise is not None and check in battery.AGAIN:
        transforms = [noise, noise]
    statistics = replace(statistics, pit=torch.from_numpy(transforms[0]))
    groups = Groups(tokens, VOCAB)
    groups.add(laws, slice(None), slice(None))
    branch = _branches(tuple(tokens.shape), generator) if branch is None else branch
    trace = battery.Traced(
        statistics,
        masses=masses(laws.flatten(0, 1), tokens.flatten()),
        groups=None if check == "PIT by id" else groups,
        kinds=kinds(torch.from_numpy(branch), statistics.choice),
        logged=statistics,
        order=np.arange(len(tokens)),
        transforms=tuple(transforms),
    )
    one = battery.CHECKS[check]
    return one.run(one.make(trace), trace, {"alpha": alpha, "beta": beta})
