"""Measuring one decoder of a model of patches: passes, time, and what its images and their patches are worth.

Images are rounded to grey levels and measured as those of the other models are. Of the patches themselves two things
are asked, given the target's law p at every position after the patches that came before:

    pit        the transform of each coordinate is uniform. A mixture's is its Rosenblatt transform. A chain's density
               is not known, but it can be sampled: the rank of a coordinate among `RANKS` fresh draws from p, made
               continuous by a uniform draw, is uniform too
    surprisal  -log p less its mean over fresh draws from p, of a mixture alone
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from realmodels import bootstrap, continuous, quality
from realmodels.bootstrap import Estimate
from realmodels.continuous import ContinuousDigits
from realmodels.patches import to_pixels
from specverify.decoders.continuous import Speculative, Surrogate, TokenRule
from specverify.decoders.protocol import Decoder
from specverify.draws import Sampled
from specverify.laws import Chain, Gaussian, Mixture, repeated
from specverify.tradeoff.decoders import build, draft_name
from specverify.tradeoff.plan import Cell
from specverify.tradeoff.setting import IMAGES, Setting, alone, costs, decode, distance, places, seed_of, shown, timed
from specverify.tradeoff.shape import Row
from specverify.tradeoff.watch_patches import WatchedPatches

PerToken = Float[np.ndarray, "n length"]
RANKS = 4
"""Fresh draws from a chain that a coordinate is ranked among."""
FRESH = 16
"""Fresh draws from a mixture that a patch's surprisal is compared with."""


def decoded(cell: Cell, setting: Setting, row: Row) -> dict[str, Estimate]:
    """Measure a decoder: metrics, and what is no metric into the row."""
    model = _model(setting.model, cell.guidance, setting.device)
    name = draft_name(setting.model)
    draft = None if name is None else _model(name, cell.guidance, setting.device)
    plain = build(cell, draft)
    decoder, watched = watch(plain, seed_of(cell, setting, 3))
    with head_evaluations(model, watched) as count:
        decoded = decode(decoder, model, cell, setting, lambda: watched.seconds if watched else 0.0)
    row["head_evaluations"] = count[0] / setting.n
    run, labels = decoded.run, decoded.labels
    single = alone(_singles(cell, model, draft), cell, setting, float(run.passes.double().mean()))
    timed(row, decoded, single, model.conditions)
    row["claim"] = str(plain.claim)

    patches = run.tokens.cpu()
    pixels = to_pixels(patches)
    row["images"] = shown(pixels[:IMAGES], labels[:IMAGES])
    weight = bootstrap.weights(setting.n, setting.resamples, seed_of(cell, setting, 1))
    found = costs(run, model.length, weight)
    if watched is not None:
        every = np.full(setting.n, float(model.length))
        found["bias"] = bootstrap.ratio(watched.bias.cpu().numpy(), every, weight)
    pit, excess, variance = statistics(model, patches, setting.batch, seed_of(cell, setting, 2))
    found["pit"] = distance(pit, weight)
    if excess is not None and variance is not None:
        found["surprisal"] = bootstrap.ratio(excess.sum(1), np.full(setting.n, float(model.length)), weight)
        row["z"] = float(excess.sum() / np.sqrt(variance.sum()))
    return found | quality.measure(pixels, labels, weight)


def watch(decoder: Decoder, seed: int) -> tuple[Decoder, WatchedPatches | None]:
    """The same decoder, watched if the distance of its tokens' laws from p can be estimated and is not 0."""
    if not isinstance(decoder, Speculative):
        return decoder, None
    rule = decoder.judging
    if not isinstance(rule, Surrogate) and not (isinstance(rule, TokenRule) and rule.limit is not None):
        return decoder, None
    watched = WatchedPatches(decoder.drafting, rule, seed)
    return replace(decoder, drafting=watched), watched


@contextmanager
def head_evaluations(model: ContinuousDigits, watched: WatchedPatches | None = None) -> Iterator[list[int]]:
    """Counts the laws and denoising steps that decoding, not watching, asks of the model's head: one number."""
    count = [0]

    def add(_module: torch.nn.Module, given: tuple[Tensor, ...], _result: object) -> None:
        if watched is None or not watched.looking:
            count[0] += given[-1].numel() // given[-1].shape[-1]

    handle = model.network.head.register_forward_hook(add)
    try:
        yield count
    finally:
        handle.remove()


@torch.no_grad()
def statistics(
    model: ContinuousDigits, patches: Float[Tensor, "n length dim"], batch: int, seed: int
) -> tuple[Float[np.ndarray, "n transforms"], PerToken | None, PerToken | None]:
    """Transforms of the coordinates; of mixtures the surprisal less its mean under p too, and the variance of that."""
    transforms, excess, variance = [], [], []
    generator = np.random.default_rng(seed)
    for number, some in enumerate(patches.to(model.device).split(batch)):
        law, draws = model.laws(model.start(len(some)), some[:, :-1]), Sampled(seed, number, model.device)
        where = torch.ones(some.shape[:2], dtype=torch.bool, device=model.device)
        if isinstance(law, Mixture):
            transforms.append(law.rosenblatt(some).flatten(1).cpu().numpy())
            flat = Mixture(*(part.flatten(0, 1) for part in (law.log_weight, law.mean, law.scale)))
            many = repeated(flat, FRESH)
            fresh = many.log_prob(many.sample(draws, where.flatten()[:, None].expand(-1, FRESH))).view(*where.shape, -1)
            excess.append((fresh.mean(-1) - law.log_prob(some)).cpu().numpy())
            variance.append((fresh.var(-1) * (1 + 1 / FRESH)).cpu().numpy())
        else:
            fresh = _fresh(cast("Chain", law), draws, where)
            ranks = (fresh < some[:, :, None]).sum(2).flatten(1).double().cpu().numpy()
            transforms.append((ranks + generator.random(ranks.shape)) / (RANKS + 1))
    joined = [np.concatenate(parts) if parts else None for parts in (excess, variance)]
    return np.concatenate(transforms), joined[0], joined[1]


def _fresh(law: Chain, draws: Sampled, where: Bool[Tensor, "batch length"]) -> Float[Tensor, "batch length draws dim"]:
    """`RANKS` tokens of each chain, whose head is given its condition once for all of them."""
    chain = Chain(law.condition[:, :, None], law.head)
    where = where[:, :, None].expand(-1, -1, RANKS)
    like = law.first().mean[:, :, None].expand(*where.shape, law.dim)
    x = Gaussian(like, torch.ones_like(like)).sample(draws, where)
    for t in range(law.steps, 0, -1):
        x = chain.transition(t, x).sample(draws, where)
    return x


def _singles(
    cell: Cell, model: ContinuousDigits, draft: ContinuousDigits | None
) -> Iterator[tuple[Decoder, ContinuousDigits]]:
    """A decoder and the model for each image alone: target and draft model are given its class."""
    for place in places(model.conditions):
        own = [model.conditions[place]]
        yield build(cell, None if draft is None else draft.like(conditions=own)), model.like(conditions=own)


@cache
def _model(name: str, guidance: float, device: str) -> ContinuousDigits:
    return continuous.load(name, guidance, device=device)
