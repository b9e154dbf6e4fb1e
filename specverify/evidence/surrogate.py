"""The output density of CSpD's surrogate criterion (arXiv 2411.11925) on one token in one dimension, by quadrature.

Given the noise of every step but the last, the draft x_0 is Gaussian about mean_q, the target's last transition, from
the trajectory that shares that noise, Gaussian about mean_p, and Sigma = prod_{t>=2} sigma_q / sigma_p is a number. The
draft is kept with min(1, Sigma p / q) and redrawn from (Sigma p - q)+ otherwise. Where Sigma is 1 that is the token
rule of the two last transitions, and x_0 has the target's law, whatever the trajectories: only Sigma biases it.
Summing over Gauss-Hermite nodes of the shared noise gives the law of x_0.

"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from scipy import special

from specverify.errors import InputError
from specverify.evidence.quadrature import Line, LogDensity, Output
from specverify.laws import Chain, select
from specverify.rules.cspd import PUBLISHED, RELEASED, Criterion

ROWS = 256  # trajectories at a time
Weights = Float[np.ndarray, " trajectories"]


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Quadrature nodes over the noise that target and draft share, and the last transitions that each leads to.

    Attributes:
        weight: of each node; they sum to 1.
        mean_p, scale_p: of the target's last transition.
        mean_q, scale_q: of the draft's.
        log_sigma: log Sigma.
    """

    weight: Weights
    mean_p: Weights
    scale_p: Weights
    mean_q: Weights
    scale_q: Weights
    log_sigma: Weights


def trajectories(p: Chain, q: Chain, nodes: int = 48) -> Trajectories:
    """Nodes over x_T and the noise of steps T .. 2, `nodes` for each, of two chains of batch shape (1,) over R.

    Raises:
        InputError: for chains of other shapes or of different lengths, or so long that nodes ** T exceeds 200,000.
    """
    if (p.dim, q.dim, p.shape, q.shape) != (1, 1, (1,), (1,)) or p.steps != q.steps:
        raise InputError(
            f"the chains have dimensions {p.dim} and {q.dim}, shapes {p.shape} and {q.shape}, {p.steps} and {q.steps} "
            "steps; quadrature takes two single chains over R of one length, of shape (1,)"
        )
    if nodes < 2 or nodes**p.steps > 200_000:
        raise InputError(f"{nodes} nodes for each of {p.steps} noises are too few or too many; use histograms instead")
    points, weights = special.roots_hermitenorm(nodes)
    noise = torch.tensor(list(product(points, repeat=p.steps)), dtype=torch.float64)[..., None]
    weight = np.prod(list(product(weights / weights.sum(), repeat=p.steps)), axis=1)
    every = torch.zeros(len(noise), dtype=torch.int64)
    log_sigma = torch.zeros(len(noise), dtype=torch.float64)
    target, draft = select((p, q), every)
    mine, theirs = target.first().colour(noise[:, 0]), draft.first().colour(noise[:, 0])
    for k, t in enumerate(range(p.steps, 1, -1), start=1):
        after, other = target.transition(t, mine), draft.transition(t, theirs)
        log_sigma = log_sigma + other.log_volume() - after.log_volume()
        mine, theirs = after.colour(noise[:, k]), other.colour(noise[:, k])
    last, of_draft = target.transition(1, mine), draft.transition(1, theirs)
    parts = (last.mean, last.scale, of_draft.mean, of_draft.scale)
    mean_p, scale_p, mean_q, scale_q = (part.double().numpy().ravel() for part in parts)
    return Trajectories(weight, mean_p, scale_p, mean_q, scale_q, log_sigma.numpy())


CRITERIA: Mapping[str, Criterion] = {
    "published": PUBLISHED,
    "inverted factor": Criterion(power=RELEASED.power),
    "acceptance temperature": Criterion(temperature=RELEASED.temperature),
    "zero after 100": Criterion(limit=RELEASED.limit, zero=RELEASED.zero),
    "released": RELEASED,
}
"""As published; with each departure of the released code; and with all of them, but for the noise of its last step."""


def surrogate(on: Line, log_p: LogDensity, over: Trajectories, criterion: Criterion = PUBLISHED) -> Output:
    """The law of a token judged by the surrogate.

    Args:
        on: nodes for x_0.
        log_p: the target's density of x_0, which the distance is from.
        over: the trajectories.
        criterion: how it is applied; see `CRITERIA`.
    """
    log_sigma = criterion.power * over.log_sigma
    out, kept, atom = np.zeros(len(on.x)), 0.0, 0.0
    for start in range(0, len(over.weight), ROWS):
        rows = slice(start, start + ROWS)
        z_p = (on.x - over.mean_p[rows, None]) / over.scale_p[rows, None]
        z_q = (on.x - over.mean_q[rows, None]) / over.scale_q[rows, None]
        volumes = np.log(over.scale_q[rows] / over.scale_p[rows])[:, None] + log_sigma[rows, None]
        p = np.exp(-0.5 * z_p**2) / (over.scale_p[rows, None] * np.sqrt(2 * np.pi))
        q = np.exp(-0.5 * z_q**2) / (over.scale_q[rows, None] * np.sqrt(2 * np.pi))
        squares = 0.5 * (z_q**2 - z_p**2)
        accepted = q * np.exp(np.minimum(volumes + squares / criterion.temperature**2, 0))
        residual = -np.expm1(-np.maximum(volumes + squares, 0)) * p
        rejected = 1 - accepted @ on.weight
        found = residual @ on.weight  # probability that a proposal is kept
        failed = (found <= 0) * 1.0 if criterion.limit is None else (1 - np.clip(found, 0, 1)) ** criterion.limit
        redrawn = (1 - failed)[:, None] * residual / np.where(found > 0, found, 1.0)[:, None]
        lost = over.weight[rows] * rejected * failed
        out += over.weight[rows] @ accepted + (over.weight[rows] * rejected) @ redrawn
        out += 0.0 if criterion.zero else lost @ p
        kept += float(over.weight[rows] @ (1 - rejected))
        atom += float(lost.sum()) if criterion.zero else 0.0
    return Output(on, np.exp(log_p(on.x)), out, kept, atom)


def distances(on: Line, p: Chain, q: Chain, log_p: LogDensity, nodes: int = 48) -> dict[str, Output]:
    """The law of a token by each of `CRITERIA`; `Output.error` is how far `tv` moves when nodes are halved."""
    fine, coarse = trajectories(p, q, nodes), trajectories(p, q, nodes // 2)
    found = {name: surrogate(on, log_p, fine, criterion) for name, criterion in CRITERIA.items()}
    return {
        name: replace(output, error=abs(output.tv - surrogate(on, log_p, coarse, CRITERIA[name]).tv))
        for name, output in found.items()
    }
