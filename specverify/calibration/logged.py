"""Rates of the checks that look at more of a log than the statistics of its tokens: ranks, ids, order, noise."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.batteries import traces as battery
from specverify.calibration.traces import BESIDE
from specverify.calibration.trial import Measured, gather
from specverify.decoders.protocol import Branch
from specverify.evidence.branches import kinds
from specverify.evidence.ids import Groups
from specverify.evidence.ranks import masses
from specverify.evidence.result import Evidence
from specverify.evidence.tokens import by_id, reduce

VOCAB, LENGTH = 16, 24
APART = "copies", "repeated rows"
"""Those that have rows of their own: see `dependence`."""
TOOLS = tuple(name for name in battery.CHECKS if name in BESIDE and name not in APART)
SEEN = ("ids", "neighbouring rows", "pairs of positions")
"""Of these, those for which something wrong is made that is off by what they state."""


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
    """The same where they are wrong by as much as the check says that it sees, in so many rows.

    Of ids, the even ones come too seldom; of neighbouring rows and pairs of positions, as many tokens as are stated are
    made of a number that another one is made of.
    """
    generator = np.random.default_rng(seed)
    fair = torch.full_like(law(), 1 / VOCAB)
    delta = _found(check, _drawn(fair, generator.random((rows, LENGTH))), generator, alpha, beta, fair).delta
    found = []
    for _ in range(trials):
        drawn, off = fair, generator.random((rows, LENGTH))
        if check == "ids":
            drawn = fair * (1 - 2 * delta * (-1.0) ** torch.arange(VOCAB))
        elif check == "neighbouring rows":
            off[1::2] = np.where(generator.random((rows // 2, LENGTH)) < delta, off[0 : rows // 2 * 2 : 2], off[1::2])
        else:
            off[:, -1] = np.where(generator.random(rows) < delta, off[:, 0], off[:, -1])
        found.append(_found(check, _drawn(drawn, off), generator, alpha, beta, fair, off))
    return gather(found, n=found[0].n, delta=delta)


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
) -> Evidence:
    """What a check says of tokens whose laws are said to be these; of noise that is given, transforms are that."""
    laws = (law() if given is None else given).expand(len(tokens), -1, -1)
    statistics = reduce(laws, tokens, generator)
    below = (laws.cumsum(2) - laws).gather(2, tokens[..., None])[..., 0]
    transforms = [statistics.pit.numpy(), by_id(statistics, below, generator)] if noise is None else [noise, noise]
    statistics = replace(statistics, pit=torch.from_numpy(transforms[0]))
    groups = Groups(tokens, VOCAB)
    groups.add(laws, slice(None), slice(None))
    branch = torch.from_numpy(generator.choice([int(each) for each in Branch if each != Branch.NONE], tokens.shape))
    trace = battery.Traced(
        statistics,
        masses=masses(laws.flatten(0, 1), tokens.flatten()),
        groups=None if check == "PIT by id" else groups,
        kinds=kinds(branch, statistics.choice),
        logged=statistics,
        order=np.arange(len(tokens)),
        transforms=tuple(transforms),
    )
    one = battery.CHECKS[check]
    return one.run(one.make(trace), trace, {"alpha": alpha, "beta": beta})
