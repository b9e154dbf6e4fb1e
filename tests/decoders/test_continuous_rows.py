"""Decoders of continuous tokens: rows do not depend on each other, and impossible settings are refused by name."""

import re
from dataclasses import dataclass, fields

import pytest
import torch
from jaxtyping import TypeCheckError

from specverify.claims import Relaxed
from specverify.decoders import Run, registry, run, sample
from specverify.decoders.continuous import (
    Autoregressive,
    DraftModel,
    Jacobi,
    LastRule,
    PathRule,
    Reflection,
    Released,
    Speculative,
    Surrogate,
    TokenRule,
)
from specverify.draws import Sampled
from specverify.errors import ContractError, InputError
from specverify.laws import Chain, CheckedContinuous, Denoised, Denoiser, Gaussian, Mixture
from specverify.rules.cspd import Criterion
from toymodels.continuous import ContinuousToy, toy
from toymodels.continuous_drafts import draft

BATCH = 60


@dataclass(frozen=True)
class Row:
    """Which row this was when the batch started, how far it is, and its last token."""

    number: torch.Tensor
    position: torch.Tensor
    token: torch.Tensor


class Numbered:
    """A model whose laws tell rows apart, and so narrow that a draft is kept or rejected for certain.

    Means are 10 for each position and 1000 for each row; in odd rows also 3 for each unit of the token before, rounded,
    so that there a wrong draft spoils those behind it. `off` moves every third law far away: for draft models.
    """

    name, dim, length, dtype, device = "numbered", 2, 8, torch.float64, torch.device("cpu")

    def __init__(self, *, off=False, heads=False):
        self.off, self.heads = off, heads

    def start(self, batch):
        return Row(torch.arange(batch), torch.zeros(batch, dtype=torch.int64), torch.zeros(batch, 2, dtype=self.dtype))

    def laws(self, context, draft):
        place = context.position[:, None] + torch.arange(draft.shape[1] + 1)
        number = context.number[:, None].expand_as(place)
        before = torch.cat([context.token[:, None], draft], 1).round()
        mean = (10.0 * place + 1000 * number)[..., None] + torch.zeros(2, dtype=self.dtype)
        if self.off:
            mean = mean + 500.0 * ((place + number) % 3 == 0)[..., None]
        if self.heads:
            data = Mixture(torch.zeros_like(mean[..., :1]), mean[..., None, :], torch.ones_like(mean)[..., None, :])
            return Chain(Denoised(data, torch.ones_like(mean[..., 0])), Denoiser(2, 3))
        mean = mean + 3 * before * (number % 2 == 1)[..., None]
        return Gaussian(mean, torch.full_like(mean, 1e-3))

    def advance(self, context, tokens, count):
        seen = torch.cat([context.token[:, None], tokens], 1)
        return Row(context.number, context.position + count, seen[torch.arange(len(count)), count])


class Alone(Numbered):
    """One row of `Numbered`, whatever its place in the batch."""

    def __init__(self, row, **how):
        super().__init__(**how)
        self.row = row

    def start(self, batch):
        first = super().start(batch)
        return Row(first.number + self.row, first.position, first.token)


def heads(name):
    return registry.entry(name).vectors == "heads"


@pytest.mark.thinned(6)
@pytest.mark.parametrize("name", registry.names("vectors"))
def test_a_row_pays_the_same_and_says_the_same_whatever_its_batch(name):
    def ran(kind, batch, *row):
        drafts = kind(*row, off=True, heads=heads(name))
        decoder = registry.build(name, registry.Settings(3, draft_model=drafts, initial="zero", prefill=0.0))
        return run(decoder, kind(*row, heads=heads(name)), batch, Sampled(0))

    together = ran(Numbered, BATCH)
    if registry.entry(name).needs_draft_model and name != "cspd-released":
        assert len(together.passes.unique()) > 1, "rows of one length test nothing"
    if name in ("jacobi", "jacobi-noise", "jacobi-reflection"):
        assert int(together.passes[::2].max()) < int(together.passes[1::2].min())
    for number in (0, 7, 31, 59):
        alone = ran(Alone, 1, number)
        for field in fields(Run):
            if field.name != "tokens":
                assert torch.equal(getattr(alone, field.name)[0], getattr(together, field.name)[number]), field.name
        near = 20.0 if heads(name) else 0.02
        assert (alone.tokens[0] - together.tokens[number]).abs().max() < near


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["ar", "sd-reflection", "jacobi-noise", "jacobi-maximal"])
def test_blocks_run_apart_in_any_order_are_the_blocks_run_together(name, seed):
    model = toy("gauss-2x6")
    decoder = registry.build(name, registry.Settings(3, draft_model=draft("shifted", model)))
    together = sample(decoder, model, 250, seed, block=100)
    apart = {number: sample(decoder, model, size, seed, 100, number) for number, size in ((2, 50), (0, 100), (1, 100))}
    for field in fields(Run):
        joined = torch.cat([getattr(apart[number], field.name) for number in range(3)])
        assert torch.equal(getattr(together, field.name), joined)
    assert not torch.equal(apart[0].tokens, apart[1].tokens)


class Scaled(Numbered):
    """Tokens of 1024 dimensions and any scale, around a multiple of the token before; `away` in standard deviations."""

    name, dim, length = "scaled", 1024, 4

    def __init__(self, scale, away=0.0):
        self.scale, self.away = scale, away

    def start(self, batch):
        first = super().start(batch)
        return Row(first.number, first.position, torch.zeros(batch, self.dim, dtype=self.dtype))

    def laws(self, context, draft):
        before = torch.cat([context.token[:, None], draft], 1)
        mean = 1e-4 * before + self.away / 32 * self.scale
        return Gaussian(mean, torch.full_like(mean, self.scale))


@pytest.mark.thinned(2)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(
    "name", ["sd", "sd-reflection", "jacobi", "jacobi-maximal", "jacobi-reflection", "jacobi-noise"]
)
def test_nothing_overflows_in_1024_dimensions(name, scale):
    model = Scaled(scale)
    for away, accepts in ((100.0, False), (0.01, True)):
        decoder = registry.build(name, registry.Settings(2, draft_model=Scaled(scale, away)))
        result = run(decoder, model, 50, Sampled(0))
        assert bool(result.tokens.isfinite().all())
        spread = float((result.tokens / scale).std())
        assert abs(spread - 1) < 0.02
        if name.startswith("sd"):
            assert (result.acceptance_rate > 0.9) == accepts
            assert accepts or int(result.accepted.sum()) == 0


def refuses(message, error=InputError):
    return pytest.raises(error, match=re.escape(message))


def built(kind, **attributes):
    """An instance made past the type checker that tests run under and users do not."""
    instance = object.__new__(kind)
    for name, value in attributes.items():
        object.__setattr__(instance, name, value)
    instance.__post_init__()


@pytest.mark.parametrize("window", [0, -1, 2.5, True, None])
@pytest.mark.parametrize("kind", [Speculative, Released])
def test_impossible_windows_are_refused(kind, window):
    with refuses(f"window {window!r}: it is the number of draft tokens per forward pass, at least 1"):
        built(kind, window=window)
    with pytest.raises((InputError, TypeCheckError)):
        registry.build("jacobi", registry.Settings(window=window))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"redraw": "gumble"}, "choose one of independent, maximal, gumbel, noise, reuse, or a coupling"),
        ({"initial": "ones"}, "'ones'; choose one of repeat-left, zero, random, sample-left, left-law"),
        ({"redraw": TokenRule(limit=9)}, "drafts redrawn by TokenRule have no known law: it is biased by up to 0.0387"),
    ],
)
def test_unknown_ways_to_draft_are_refused(arguments, message):
    with refuses(message):
        built(Jacobi, **{"redraw": "independent", "initial": "zero"} | arguments)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (toy("gauss-1x6"), "the draft model 'gauss-1x6' has dim 1, the target 'gauss-2x6' 2"),
        (toy("full-2x4"), "the draft model 'full-2x4' has length 4, the target 'gauss-2x6' 6"),
        (toy("gauss-2x6", torch.float32), "has dtype torch.float32, the target 'gauss-2x6' torch.float64"),
    ],
)
def test_a_draft_model_of_other_tokens_is_refused(other, message):
    with refuses(message):
        run(Speculative(DraftModel(other), 2), toy("gauss-2x6"), 4, Sampled(0))


def test_couplings_refuse_laws_that_they_do_not_go_with():
    mixtures, gaussians = toy("mix-2x4"), toy("gauss-2x6")
    with refuses("a Mixture cannot be reflected, a Gaussian can; use the token rule"):
        run(Speculative(Jacobi(), 2, Reflection()), mixtures, 4, Sampled(0))
    with refuses("PathRule compares the trajectories of diffusion heads, and a Gaussian has none"):
        run(Speculative(Jacobi(), 2, PathRule()), gaussians, 4, Sampled(0))
    with refuses("Released compares the trajectories of diffusion heads, and a Gaussian has none"):
        run(Released(DraftModel(gaussians), 2), gaussians, 4, Sampled(0))
    with refuses("a token of a Mixture is not made from normal noise alone; redraw independently or by a coupling"):
        run(Speculative(Jacobi("noise"), 2), mixtures, 4, Sampled(0))
    family = toy("score-1x4").family
    unknown = ContinuousToy("score-2x4", 2, 4, family, torch.float64, torch.device("cpu"))
    with refuses("a chain towards a mixture in 2 dimensions has no known marginal"):
        run(Speculative(Jacobi(), 2), unknown, 4, Sampled(0))
    run(Speculative(Jacobi(), 2, PathRule()), unknown, 4, Sampled(0))


@pytest.mark.parametrize("coupling", [TokenRule(limit=100), Reflection(limit=100), Surrogate()])
def test_biased_couplings_do_not_pass_for_lossless(coupling):
    drafts = DraftModel(toy("chain-1x4"))
    with refuses(f"is not lossless: {type(coupling).__name__} can move the law of each token by {coupling.bias:.3g}"):
        Speculative(drafts, 2, coupling)
    assert Speculative(drafts, 2, coupling, Relaxed(0.5)).claim == Relaxed(0.5)
    assert registry.build("sd", registry.Settings(2, draft_model=toy("chain-1x4"), judging=coupling)).claim == Relaxed(
        1.0
    )


def test_shares_of_prefill_outside_0_to_1_are_refused():
    for share in (-0.1, 1.5, float("nan")):
        with refuses(f"prefill = {share}: it is the share of a sequence's positions, between 0 and 1"):
            DraftModel(toy("chain-1x4"), share)


def test_names_and_settings_that_do_not_fit_are_refused():
    with refuses("unknown decoder 'jacobi-nois'; did you mean jacobi-noise"):
        registry.build("jacobi-nois")
    with refuses("unknown decoder 'zzz'; known: ar, ar-race, sd"):
        registry.entry("zzz")
    for name in registry.names("vectors"):
        if registry.entry(name).needs_draft_model:
            with refuses(f"decoder {name!r} drafts with a second model; give it one"):
                registry.build(name)
    with refuses(
        "decoder 'sd-path' has its own way of judging; rules go with sd, sjd, sjd-reuse, scd-mc, scd-gs, jacobi, "
        "jacobi-noise"
    ):
        registry.build("sd-path", registry.Settings(2, draft_model=toy("chain-1x4"), judging=TokenRule()))


class Broken(Numbered):
    """Gives a mean that is NaN."""

    def laws(self, context, draft):
        law = super().laws(context, draft)
        return Gaussian(law.mean * torch.nan, law.scale)


def test_a_model_that_gives_nan_is_told_of():
    for decoder in (Autoregressive(), Speculative(DraftModel(Numbered()), 2, Reflection())):
        with refuses("a law of model 'numbered' has the mean nan; means are finite: check the network that gave it"):
            run(decoder, Broken(), 4, Sampled(0))
    with refuses("a law of model 'numbered' has the mean nan"):
        run(Speculative(DraftModel(Broken()), 2, Reflection()), Numbered(), 4, Sampled(0))


class Narrowing(Numbered):
    """Gives scales that are `last` from the third position on, and positive before."""

    def __init__(self, last):
        super().__init__()
        self.last = last

    def laws(self, context, draft):
        law = super().laws(context, draft)
        place = context.position[:, None] + torch.arange(draft.shape[1] + 1)
        return Gaussian(law.mean, law.scale.where((place < 2)[..., None], self.last))


@pytest.mark.parametrize(
    "name", ["sd", "sd-reflection", "jacobi", "jacobi-maximal", "jacobi-reflection", "jacobi-noise"]
)
@pytest.mark.parametrize("last", [0.0, -1.0])
def test_a_model_that_gives_no_distribution_later_on_is_told_of(name, last):
    with refuses(f"has the standard deviation {last}; it must be positive and finite"):
        run(registry.build(name, registry.Settings(2, draft_model=Numbered())), Narrowing(last), 4, Sampled(0))


def test_tokens_that_are_not_finite_are_never_handed_out():
    with refuses("decoder 'ar' committed a token that holds nan; a run of CheckedContinuous(model)", ContractError):
        run(Autoregressive(), Narrowing(float("nan")), 4, Sampled(0))
    with refuses("a law of model 'numbered' has the standard deviation 0.0"):
        run(Autoregressive(), CheckedContinuous(Narrowing(0.0)), 4, Sampled(0))


@pytest.mark.parametrize("coupling", [TokenRule, Reflection, PathRule, LastRule, Criterion])
@pytest.mark.parametrize("limit", [0, -1])
def test_limits_below_one_are_refused_when_a_decoder_is_built(coupling, limit):
    with refuses(f"limit = {limit}: a rejected draft takes at least one trial; None allows as many as needed"):
        Speculative(DraftModel(toy("chain-1x4")), 2, coupling(limit=limit), Relaxed(0.5))
