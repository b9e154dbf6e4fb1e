"""Cells over continuous tokens: the density of one step by quadrature, and whole sequences by tests of the sampled.

The cells of kind "density" judge the first token of a toy in one dimension, drafted by one of its draft laws. Exact
rules are integrated as they are: what is summed over the nodes are the acceptance, thinning and reflection of `rules`.
Heads are those of the toy with two steps, so that the noise that target and draft share can be summed over too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float

from specverify.claims import Claim, Lossless
from specverify.decoders.continuous import registry
from specverify.decoders.continuous.jacobi import Initial
from specverify.decoders.protocol import ContinuousDecoder
from specverify.defects import continuous as continuous_defects
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.evidence import bounds, quadrature
from specverify.evidence.quadrature import Line, LogDensity, Output
from specverify.evidence.result import Evidence
from specverify.evidence.rosenblatt import RosenblattPairs, RosenblattUniformity, transforms
from specverify.evidence.surrogate import CRITERIA, Criterion, Trajectories, surrogate, trajectories
from specverify.laws import Chain, ContinuousModel, Denoiser, Gaussian, Law, Mixture, at, repeated, select
from specverify.plan import BETA, Cell
from specverify.rules import reflection
from specverify.rules.rejection import accept_probability, thin_probability
from specverify.rules.relaxation import NOTHING
from specverify.verdict import Coverage, Kind, Verdict
from toymodels import continuous, continuous_drafts

TOLERANCE = 1e-6
"""Total variation from p that quadrature may leave to an exact rule."""
NODES = 48
"""Nodes for each noise that target and draft share."""
SHARED_COVARIANCE = ("shifted", "disjoint", "identical")
"""Draft laws whose transitions share the target's covariances, so that CSpD's Sigma is 1."""
_POINTS = 121
_ROWS = 256
_MANY = 16
_WIDTH = 0.25
Values = Float[np.ndarray, " nodes"]


@dataclass(frozen=True, eq=False)
class Pair:
    """A target's law of one token, a draft's, and nodes for both.

    Attributes:
        p, q: of shape [1], in one dimension.
        on: nodes.
        log_p, log_q: log densities of a token.
    """

    p: Law
    q: Law
    on: Line
    log_p: LogDensity
    log_q: LogDensity


def pair(model: str, draft: str, order: int = quadrature.ORDER) -> Pair:
    """The first token of a toy beside its draft's.

    Raises:
        InputError: for toys of more than one dimension.
    """
    target = continuous.toy(model)
    if target.dim != 1:
        raise InputError(f"toy {model!r} has {target.dim} dimensions; quadrature takes toys of one, such as gauss-1x6")
    p, q = (_two_steps(law) for law in _first_laws(target, draft))
    on, log_p, log_q = _line(_marginal(p), _marginal(q), order)
    return Pair(p, q, on, log_p, log_q)


def _two_steps(law: Law) -> Law:
    return Chain(law.condition, Denoiser(1, 2)) if isinstance(law, Chain) else law


def _first_laws(target: ContinuousModel, draft: str) -> tuple[Law, Law]:
    """The laws of the first token, of shape [1]."""
    laws = target.laws(target.start(1), torch.zeros(1, 0, target.dim, dtype=target.dtype))
    p = at(laws, torch.zeros(1, dtype=torch.int64))
    return p, continuous_drafts.alter(draft, p)


def _marginal(law: Law) -> Any:
    return law.marginal() if isinstance(law, Chain) else law


def _line(
    p: Gaussian | Mixture, q: Gaussian | Mixture, order: int = quadrature.ORDER
) -> tuple[Line, LogDensity, LogDensity]:
    """Nodes for two laws of shape [1] over R, and their log densities."""
    log_p, log_q = quadrature.density(p), quadrature.density(q)
    bumps = [_bumps(law) for law in (p, q)]
    centres, scales = ([value for each in bumps for value in each[k]] for k in (0, 1))
    return quadrature.line(centres, scales, (log_p, log_q), order=order, width=_WIDTH), log_p, log_q


def _bumps(law: Gaussian | Mixture) -> tuple[list[float], list[float]]:
    """Centres and scales. A mixture of very many is a quadrature's, and smooth: its moments tell where it lies."""
    mean, scale = law.mean.ravel(), law.scale.ravel()
    if isinstance(law, Mixture) and len(mean) > _MANY:
        weight = law.log_weight.ravel().exp()
        centre = weight @ mean
        mean, scale = centre[None], (weight @ (scale.square() + (mean - centre).square())).sqrt()[None]
    return mean.tolist(), scale.tolist()


Rule = Callable[[Pair, int], Output]


def _coupled(p: Any, q: Any, on: Line, mirror: bool) -> tuple[np.ndarray, np.ndarray]:
    """The density of drafts that are kept and of what replaces the others, [laws, nodes], of laws of shape [laws]."""
    mine, theirs = repeated(p, len(on.x)), repeated(q, len(on.x))
    x = torch.from_numpy(on.x)[:, None].expand(*mine.shape, 1)
    weight = torch.from_numpy(on.weight)
    kept = theirs.log_prob(x).exp() * accept_probability(mine, theirs, x)
    if mirror:
        draft = reflection.reflect(theirs, mine, x)  # a mirror image's mirror image is the draft, at the same density
        replaced = theirs.log_prob(draft).exp() * (1 - accept_probability(mine, theirs, draft))
    else:
        residual = mine.log_prob(x).exp() * thin_probability(mine, theirs, x)
        replaced = residual * ((1 - kept @ weight) / (residual @ weight))[:, None]
    return kept.numpy(), replaced.numpy()


def _one_step(pair: Pair, nodes: int, mirror: bool = False) -> Output:
    """The token rule, or the coupling by reflection."""
    if mirror:
        mirror = bool(reflection.equal_covariance(cast("Any", pair.p), cast("Any", pair.q)).all())
    kept, replaced = _coupled(pair.p, pair.q, pair.on, mirror)
    return Output(pair.on, np.exp(pair.log_p(pair.on.x)), (kept + replaced)[0], pair.on.integral(kept[0]))


def _shared(pair: Pair, nodes: int) -> Trajectories:
    return trajectories(cast("Chain", pair.p), cast("Chain", pair.q), nodes)


def _last_step(pair: Pair, nodes: int) -> Output:
    """Trajectories of one noise, coupled at their last step."""
    over, out, accepted = _shared(pair, nodes), np.zeros(len(pair.on.x)), 0.0
    parts = ((over.mean_p, over.scale_p), (over.mean_q, over.scale_q))
    mine, theirs = (Gaussian(*(torch.from_numpy(part)[:, None] for part in law)) for law in parts)
    for start in range(0, len(over.weight), _ROWS):
        rows = torch.arange(start, min(start + _ROWS, len(over.weight)))
        p, q = select((mine, theirs), rows)
        mirror = bool(reflection.equal_covariance(p, q).all())
        kept, replaced = _coupled(p, q, pair.on, mirror)
        weight = over.weight[rows.numpy()]
        out += weight @ (kept + replaced)
        accepted += float(weight @ (kept @ pair.on.weight))
    return Output(pair.on, np.exp(pair.log_p(pair.on.x)), out, accepted)


def _surrogate(pair: Pair, nodes: int, criterion: Criterion) -> Output:
    return surrogate(pair.on, pair.log_p, _shared(pair, nodes), criterion)


EXACT: Mapping[str, Rule] = {
    "thinning": _one_step,
    "reflection": partial(_one_step, mirror=True),
    "maximal": partial(_one_step, mirror=True),
    "last-step": _last_step,
}
"""Rules that are lossless; "maximal" is the coupling of "reflection" where scales differ."""
CSPD: Mapping[str, Rule] = {
    # The paper sets no limit to its proposals.
    "cspd": partial(_surrogate, criterion=Criterion(cap=None)),
    **{
        f"cspd-{name.replace(' ', '-')}": partial(_surrogate, criterion=criterion)
        for name, criterion in CRITERIA.items()
        if name != "published"
    },
}
"""CSpD as published, with each departure of its code, and with all of them but its last step without noise."""


def known_wrong(cell: Cell) -> bool:
    """Whether a cell's decoder or rule must be refuted where it is held to be lossless."""
    if cell.kind == "density":
        return cell.decoder in CSPD and (cell.decoder != "cspd" or cell.draft not in SHARED_COVARIANCE)
    if cell.kind != "continuous":
        return False
    if cell.decoder in continuous_defects.names():
        return continuous_defects.get(cell.decoder).lossy
    return cell.decoder in ("cspd", "cspd-released")


def density(cell: Cell, result: dict[str, Any]) -> Verdict:
    """How far one step's token is from p, and whether that is as claimed; CSpD, where wrong, is held to lossless."""
    rule = {**EXACT, **CSPD}[cell.decoder]
    claim: Claim = NOTHING if cell.decoder in CSPD and not known_wrong(cell) else Lossless()
    assert cell.draft is not None
    on = pair(cell.model, cell.draft)
    coarse = pair(cell.model, cell.draft, quadrature.ORDER // 2)
    found = rule(on, NODES)
    found = replace(found, error=abs(found.tv - rule(coarse, NODES * 3 // 4).tv))
    common = quadrature.overlap(on.on, on.log_p, on.log_q)
    result["claim"] = str(claim)
    result["figures"]["density"] = {
        "tv": found.tv,
        "error": found.error,
        "accepted": min(1.0, found.accepted),
        "overlap": min(1.0, common),
        "atom": found.atom,
        **_curves(on, found),
    }
    return judge_density(claim, found, common)


def judge_density(claim: Claim, found: Output, overlap: float) -> Verdict:
    """The verdict on one step whose output density is known up to `found.error`."""
    if not abs(found.mass - 1) <= TOLERANCE:
        raise InputError(f"the step's output has mass {found.mass:.8g}; its quadrature is too coarse")
    tv = f"exact TV {found.tv:.3g} from p (quadrature {found.error:.1g})"
    if claim == NOTHING:
        return Verdict(Kind.VACUOUS, f"the rule claims nothing; {tv}: Sigma is 1 for these laws")
    if found.tv - found.error > TOLERANCE:
        rates = f"keeps {found.accepted:.4g} of drafts, where p and q have {overlap:.4g} in common"
        return Verdict(Kind.REFUTED, f"{tv}, where lossless allows {TOLERANCE:g}; {rates}")
    if found.tv + found.error > TOLERANCE:
        return Verdict(Kind.INCONCLUSIVE, f"{tv} is too coarse for {TOLERANCE:g}")
    if gap := Coverage(True, 1.0, found.accepted, 1 - found.accepted).gap():
        return Verdict(Kind.VACUOUS, gap)
    return Verdict(Kind.PROVED, tv)


def _curves(pair: Pair, found: Output) -> dict[str, list[float]]:
    """Densities where they matter, for a picture."""
    x = found.x
    q = np.exp(pair.log_q(x))
    mass = np.cumsum((found.p + q) * found.line.weight) / 2
    low, high = x[np.searchsorted(mass, [5e-4, 1 - 5e-4])]
    grid = np.linspace(low, high, _POINTS)
    shown = {"x": grid} | {
        name: np.interp(grid, x, y) for name, y in (("p", found.p), ("q", q), ("out", np.maximum(found.out, 0)))
    }
    return {name: [float(f"{value:.5g}") for value in values] for name, values in shown.items()}


def build(cell: Cell) -> tuple[ContinuousModel, ContinuousDecoder]:
    """The toy and the decoder, or the defect, of a cell of kind "continuous"."""
    model = continuous.toy(cell.model)
    settings = registry.Settings(
        window=cell.window or 1,
        draft_model=continuous_drafts.draft(cell.draft, model) if cell.draft else None,
        initial=cast("Initial", cell.initial or "left-law"),
    )
    if cell.decoder in continuous_defects.names():
        return model, continuous_defects.get(cell.decoder).build(settings)
    return model, registry.build(cell.decoder, settings)


def checks(cell: Cell) -> tuple[str, ...]:
    """The names of a continuous cell's checks."""
    names: tuple[str, ...] = ("uniformity", "by coordinate", "neighbouring positions", "neighbouring rows")
    names += ("neighbouring dimensions",) if continuous.toy(cell.model).dim > 1 else ()
    return (*names, "acceptance") if _overlap_is_known(cell) else names


def evidence(
    cell: Cell,
    model: ContinuousModel,
    decoder: ContinuousDecoder,
    tokens: Float[torch.Tensor, "n length dim"],
    alphas: Mapping[str, float],
    seed: int,
    result: dict[str, Any],
) -> list[Evidence]:
    """The checks of sampled sequences.

    Args:
        cell, model, decoder: what was sampled from.
        tokens: the sequences.
        alphas: by the names of `checks`.
        seed: for the first drafts, which are drawn apart.
        result: the overlap of the first token is written into it.
    """
    uniforms = transforms(model, tokens)
    pairs = {"positions": "position", "rows": "row", "dimensions": "dimension"}
    found = [
        RosenblattUniformity("all").check(uniforms, alpha=alphas["uniformity"], beta=BETA),
        RosenblattUniformity("coordinate").check(uniforms, alpha=alphas["by coordinate"], beta=BETA),
    ]
    found += [
        RosenblattPairs(axis).check(uniforms, alpha=alphas[f"neighbouring {name}"], beta=BETA)
        for name, axis in pairs.items()
        if f"neighbouring {name}" in alphas
    ]
    if "acceptance" in alphas:
        common = overlap(cell, model)
        result["figures"]["overlap"] = common
        # Whole trajectories, and steps of them, are kept at most as often as tokens can be.
        bound = bounds.acceptance if cell.decoder in ("sd", "sd-reflection") else bounds.at_most
        kept = _first_drafts_kept(decoder, model, len(tokens), seed)
        found.append(bound(common).check(kept, alpha=alphas["acceptance"], beta=BETA))
    return found


def _overlap_is_known(cell: Cell) -> bool:
    family, size = cell.model.split("-")
    alone = size.startswith("1x")
    return cell.decoder.startswith("sd") and (alone or (cell.draft == "shifted" and family != "mix"))


def overlap(cell: Cell, model: ContinuousModel) -> float:
    """1 - TV(p, q) of the first token: in closed form where covariances are equal, else, in one dimension, summed."""
    assert cell.draft is not None
    p, q = (_marginal(law) for law in _first_laws(model, cell.draft))
    if not isinstance(p, Mixture) and bool(reflection.equal_covariance(p, q).all()):
        return float(reflection.overlap(p, q))
    return quadrature.overlap(*_line(p, q))


def _first_drafts_kept(decoder: ContinuousDecoder, model: ContinuousModel, rows: int, seed: int) -> torch.Tensor:
    """Whether the first draft of each sequence was kept: independent, of one probability."""
    draws = Sampled(seed)
    _, info = decoder.step(decoder.init(model, rows, draws), model, draws)
    return info.accepted > 0
