"""How far known-wrong decoders of continuous tokens are from the target, in total variation, by quadrature.

All are taken on a toy of one dimension, diffusion heads with two steps, and judge the first token; the one that is
right there judges the first two.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from specverify.continuous_density import NODES, Pair, pair
from specverify.decoders.registry import Settings
from specverify.defects import continuous
from specverify.defects.continuous_parts import Blind, Judged, Judging, Near, OnLastSteps, WithoutNoise
from specverify.evidence.surrogate import surrogate, trajectories
from specverify.laws import Chain, Gaussian, at, repeated, select
from specverify.rules.rejection import accept_probability, thin_probability
from toymodels.continuous import toy
from toymodels.continuous_drafts import draft

Nodes = Float[np.ndarray, "..."]
_ROOT_TAU = math.sqrt(2 * math.pi)


def judging(name: str) -> Judging:
    """What a defect judges drafts by."""
    model, window, kind = continuous.get(name).smallest
    decoder: Any = continuous.get(name).build(Settings(window, draft_model=draft(kind, toy(model))))
    if isinstance(decoder, Blind):
        decoder = decoder.decoder
    assert isinstance(decoder.judging, Judged)
    return decoder.judging.by


def distance(name: str) -> tuple[float, str]:
    """The total variation from the target of a defect's first token, in its smallest setting, and what was summed."""
    model, window, kind = continuous.get(name).smallest
    on, by = pair(model, kind), judging(name)
    if window > 1:  # what is wrong behind the first draft alone
        return _second_token(on, model), "of the first two tokens"
    heads = "of the first token, diffusion heads with two steps"
    if isinstance(by, WithoutNoise):
        return _means(on), heads
    if isinstance(by, Near):
        return _near(on, by.radius), "of the first token"
    if isinstance(by, OnLastSteps):
        over = trajectories(cast("Chain", on.p), cast("Chain", on.q), NODES)
        return surrogate(on.on, on.log_p, over, by.criterion).tv, heads
    return _token_rule(on, by), "of the first token"


def _token_rule(on: Pair, by: Judging) -> float:
    """Rules on tokens: what they accept by, thinning, and the zero vector if a cap ends it."""
    line = on.on
    x = torch.from_numpy(line.x)[:, None]
    p, q = (select(by.view(law), torch.zeros(len(x), dtype=torch.int64)) for law in (on.p, on.q))
    kept = (q.log_prob(x) + by.log_ratio(p, q, x).clamp(max=0)).exp().numpy()
    residual = (p.log_prob(x).exp() * thin_probability(p, q, x)).numpy()
    rejected, found = 1 - line.integral(kept), line.integral(residual)
    failed = 0.0 if by.limit is None else (1 - found) ** by.limit
    out = kept + rejected * (1 - failed) * residual / found
    return 0.5 * (line.integral(np.abs(out - np.exp(on.log_p(line.x)))) + rejected * failed)


def _near(on: Pair, radius: float) -> float:
    """Drafts x within a radius of a value y of the target's are kept, y else: in one dimension, of two Gaussians."""
    line, p, q = on.on, cast("Gaussian", on.p), cast("Gaussian", on.q)

    def around(law: Gaussian) -> Nodes:
        mean, scale = float(law.mean), float(law.scale)
        return special.ndtr((line.x + radius - mean) / scale) - special.ndtr((line.x - radius - mean) / scale)

    due = np.exp(on.log_p(line.x))
    out = np.exp(on.log_q(line.x)) * around(p) + due * (1 - around(q))
    return 0.5 * line.integral(np.abs(out - due))


def _second_token(on: Pair, model: str) -> float:
    """Drafts of two tokens judged by laws that do not see the first.

    Only where the first draft is kept is the second judged so, and then it has the law after a mask.
    """
    line, target = on.on, toy(model)
    x = torch.from_numpy(line.x)[:, None, None]

    def after(tokens: Tensor) -> Gaussian:
        laws = target.laws(target.start(len(tokens)), tokens)
        return cast("Gaussian", at(laws, torch.ones(len(tokens), dtype=torch.int64)))

    apart = 1 - overlaps(after(x), after(torch.zeros_like(x))).numpy()
    p, q = (repeated(law, len(x)) for law in (on.p, on.q))
    kept = q.log_prob(x[None, :, 0]).exp() * accept_probability(p, q, x[None, :, 0])
    return line.integral(kept[0].numpy() * apart)


def overlaps(p: Gaussian, q: Gaussian) -> Float[Tensor, "*shape"]:
    """1 - TV(p, q) of Gaussians in one dimension, whose densities cross once, or twice where scales differ."""
    (m, s), (n, r) = ((law.mean[..., 0].double(), law.scale[..., 0].double()) for law in (p, q))
    # log q - log p = a x^2 / 2 + b x + c / 2, about the middle of the two means
    middle = (m + n) / 2
    m, n = m - middle, n - middle
    a, b = s**-2 - r**-2, n / r**2 - m / s**2
    c = (m / s) ** 2 - (n / r) ** 2 + 2 * (s / r).log()
    root = -(b + torch.where(b < 0, -1.0, 1.0) * (b.square() - a * c).clamp(min=0).sqrt())
    ends = torch.stack([root / a, c / root]).nan_to_num(nan=torch.inf).sort(0).values
    inside = [torch.special.ndtr((ends - mean) / scale).diff(dim=0)[0] for mean, scale in ((m, s), (n, r))]
    common: Tensor = 1 - (inside[0] - inside[1]).abs()
    return common


def _means(on: Pair) -> float:
    """Drafts that are means of last transitions, judged as if drawn; what replaces them is drawn.

    Given x_2 the draft is linear in the noise of x_1, so that it has a density; over x_2 it is summed.
    """
    p, q, line = cast("Chain", on.p), cast("Chain", on.q), on.on
    over, x = trajectories(p, q, NODES), line.x[None, :]
    scale_p, scale_q = float(over.scale_p[0]), float(over.scale_q[0])

    def accept(mean_q: Nodes, mean_p: Nodes) -> Nodes:
        """With a draft at its own mean."""
        return np.minimum(_normal(mean_q, mean_p, scale_p) * scale_q * _ROOT_TAU, 1.0)

    # What is kept: means at the noises 0 and 1 of x_1 give the line that they lie on, for each x_2.
    noise, weight = special.roots_hermitenorm(NODES)
    x2, every = torch.from_numpy(noise)[:, None], torch.zeros(NODES, dtype=torch.int64)
    lines = []
    for chain in (select(p, every), select(q, every)):
        after = chain.transition(2, x2)
        ends = [chain.transition(1, after.colour(torch.full_like(x2, e))).mean.numpy() for e in (0.0, 1.0)]
        lines.append((ends[0], ends[1] - ends[0]))
    (start_p, slope_p), (start_q, slope_q) = lines
    e = (x - start_q) / slope_q
    density = _normal(e, np.zeros_like(e), 1.0) / np.abs(slope_q)
    kept = (weight / weight.sum()) @ (density * accept(x, start_p + slope_p * e))

    # What is replaced, given both noises.
    residual = _normal(x, over.mean_p[:, None], scale_p) - _normal(x, over.mean_q[:, None], scale_q)
    residual = np.maximum(residual, 0.0)
    share = over.weight * (1 - accept(over.mean_q, over.mean_p)) / (residual @ line.weight)
    return 0.5 * line.integral(np.abs(kept + share @ residual - np.exp(on.log_p(line.x))))


def _normal(x: Nodes, mean: Nodes, scale: float) -> Nodes:
    return np.asarray(np.exp(-0.5 * ((x - mean) / scale) ** 2) / (scale * _ROOT_TAU))
