"""Decoders of continuous tokens: the exact ones have the target's law, CSpD has not, and what each run costs."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from uniforms import ALPHA, assert_flagged, assert_uniform, seen, transforms

from specverify.claims import Lossless, Relaxed
from specverify.decoders import Branch, registry, sample
from specverify.decoders.continuous import (
    DraftModel,
    Jacobi,
    LastRule,
    PathRule,
    Reflection,
    Speculative,
    StepRule,
    TokenRule,
)
from specverify.draws import Sampled
from specverify.laws import CheckedContinuous, FullGaussian, Gaussian, Mixture
from toymodels.continuous import toy
from toymodels.continuous_drafts import draft


def build(name, model, window=3, kind="shifted", **settings):
    return registry.build(name, registry.Settings(window, draft_model=draft(kind, model), **settings))


def drawn(name, model, rows, seed, **settings):
    return sample(build(name, model, **settings), model, rows, seed)


@dataclass(frozen=True)
class Last:
    """The last token of each row, 0 before the first."""

    token: torch.Tensor


class Walk:
    """Gaussian tokens around a multiple of the token before, all with one covariance: here drafts can be reflected."""

    name, dtype, device = "walk", torch.float64, torch.device("cpu")

    def __init__(self, dim, length, *, full=False, pull=0.4):
        self.dim, self.length, self.full, self.pull = dim, length, full, pull

    def start(self, batch):
        return Last(torch.zeros(batch, self.dim, dtype=self.dtype))

    def laws(self, context, draft):
        mean = 0.3 + self.pull * torch.cat([context.token[:, None], draft], 1)
        if not self.full:
            return Gaussian(mean, torch.full_like(mean, 0.8))
        factor = (torch.eye(self.dim) + 0.5 * torch.ones(self.dim, self.dim).tril(-1)).double()
        return FullGaussian(mean, factor.expand(*mean.shape, self.dim))

    def advance(self, context, tokens, count):
        seen = torch.cat([context.token[:, None], tokens], 1)
        return Last(seen[torch.arange(len(count)), count])


MODELS = {
    "walk-1x6": lambda: Walk(1, 6),
    "walk-8x4": lambda: Walk(8, 4),
    "walk-full-2x6": lambda: Walk(2, 6, full=True),
}


def model_of(name):
    return MODELS[name]() if name in MODELS else toy(name)


# Toy, decoder, draft model or settings, and the Kolmogorov distance of all tokens' transforms that is seen.
EXACT = [
    ("gauss-1x6", "ar", {}, 0.02),
    ("gauss-1x6", "sd", {}, 0.01),
    ("gauss-1x6", "sd", {"kind": "wider", "window": 1}, 0.02),
    ("gauss-1x6", "sd", {"kind": "narrower", "window": 8}, 0.02),
    ("gauss-1x6", "sd", {"kind": "disjoint"}, 0.02),
    ("gauss-1x6", "sd-reflection", {}, 0.01),
    ("gauss-1x6", "sd-reflection", {"kind": "narrower"}, 0.02),
    ("gauss-1x6", "jacobi", {}, 0.01),
    ("gauss-1x6", "jacobi", {"initial": "repeat-left", "window": 2}, 0.02),
    ("gauss-1x6", "jacobi-maximal", {"initial": "zero"}, 0.02),
    ("gauss-1x6", "jacobi-noise", {"window": 5}, 0.01),
    ("walk-1x6", "jacobi-reflection", {"window": 4}, 0.01),
    ("walk-1x6", "jacobi-reflection", {"window": 2, "initial": "zero"}, 0.02),
    ("walk-1x6", "jacobi-noise", {"initial": "repeat-left"}, 0.02),
    ("walk-full-2x6", "jacobi-reflection", {}, 0.02),
    ("walk-full-2x6", "jacobi-noise", {}, 0.02),
    ("walk-8x4", "jacobi-reflection", {}, 0.02),
    ("gauss-2x6", "ar", {}, 0.02),
    ("gauss-2x6", "sd-reflection", {}, 0.02),
    ("full-2x4", "sd-reflection", {}, 0.02),
    ("full-2x4", "jacobi-noise", {}, 0.02),
    ("gauss-8x4", "ar", {}, 0.02),
    ("gauss-8x4", "sd", {"kind": "wider"}, 0.02),
    ("gauss-8x4", "sd-reflection", {}, 0.02),
    ("gauss-8x4", "jacobi-noise", {}, 0.02),
    ("full-8x4", "sd", {}, 0.02),
    ("mix-1x6", "sd", {}, 0.02),
    ("mix-2x4", "jacobi-maximal", {}, 0.02),
    ("chain-1x4", "sd", {}, 0.02),
    ("chain-1x4", "sd-path", {"kind": "wider"}, 0.02),
    ("chain-1x4", "sd-steps", {"kind": "narrower"}, 0.02),
    ("chain-1x4", "sd-last", {"kind": "narrower"}, 0.02),
    ("chain-1x4", "jacobi-steps", {}, 0.02),
    ("chain-1x4", "jacobi-last", {}, 0.02),
    ("chain-1x4", "jacobi-noise", {"judging": PathRule()}, 0.02),
    ("chain-8x3", "sd-path", {}, 0.02),
    ("chain-8x3", "sd-steps", {}, 0.02),
]


@pytest.mark.thinned(6)
@pytest.mark.parametrize(("model_name", "name", "settings", "sees"), EXACT, ids=lambda part: str(part))
def test_exact_decoders_have_the_law_of_the_target(model_name, name, settings, sees, seed):
    model = model_of(model_name)
    rows = int({0.01: 220_000, 0.02: 55_000}[sees] / (model.length * model.dim)) + 1
    if name.startswith("sd") and model_name not in MODELS:
        settings = {"kind": "shifted", **settings}
    result = (
        drawn(name, model, rows, seed, **settings)
        if "walk" not in model_name
        else sample(registry.build(name, registry.Settings(**{"window": 3, **settings})), model, rows, seed)
    )
    assert_uniform(transforms(model, result.tokens), sees)
    if name != "ar" and settings.get("kind") != "disjoint":
        assert int(result.accepted.sum()) > rows / 20, "hardly a draft was accepted: this test says little"


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["sd-path", "sd-steps", "sd-last", "jacobi-steps"])
def test_heads_whose_marginal_is_known_by_quadrature_keep_it(name, seed):
    """The first token of all rows has one law, so that one quadrature is enough; 55,000 rows see 0.02."""
    model, rows = toy("score-1x4"), 55_000
    first = build(name, model, window=2, kind="wider")
    state = first.init(model, rows, draws := Sampled(seed))
    while int(state.length.min()) < 1:
        state, _ = first.step(state, model, draws)
    law = model.laws(model.start(1), torch.zeros(1, 0, 1, dtype=torch.float64)).marginal()
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    below = Mixture(*(part[0].expand(len(grid), *part.shape[2:]) for part in (law.log_weight, law.mean, law.scale)))
    level = below.rosenblatt(grid[:, None])[:, 0]
    token = state.tokens[:, 0]
    assert bool((token.abs() < 12).all())
    assert_uniform(torch.from_numpy(np.interp(token, grid, level))[:, None], 0.02)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["gauss-1x6", "gauss-2x6", "gauss-8x4", "full-8x4"])
@pytest.mark.parametrize("decoder", ["sd", "sd-reflection"])
def test_the_first_draft_is_accepted_as_often_as_the_closed_form_says(name, decoder, seed):
    """2 Phi(-|Delta| / 2) at a shift of one standard deviation; 40,000 rows."""
    model, rows = toy(name), 40_000
    built = build(decoder, model, window=1)
    _, info = built.step(built.init(model, rows, draws := Sampled(seed)), model, draws)
    chance = 2 * stats.norm.cdf(-0.5)
    assert stats.binomtest(int(info.accepted.sum()), rows, chance).pvalue >= ALPHA
    assert bool((info.verified == 1).all())
    assert bool((info.emitted == 1 + info.accepted).all())


def test_trajectories_are_accepted_less_often_than_tokens(seed):
    """C5: a trajectory tells draft and target apart at least as well as its end. Narrower drafts leave a wide gap."""
    model, rows, rate = toy("chain-2x4"), 10_000, {}
    for name in ("sd", "sd-path", "sd-steps", "sd-last"):
        built = build(name, model, window=1, kind="narrower")
        _, info = built.step(built.init(model, rows, draws := Sampled(seed)), model, draws)
        rate[name] = float(info.accepted.double().mean())
    assert rate["sd"] > max(rate["sd-path"], rate["sd-steps"], rate["sd-last"]) + 0.05


@pytest.mark.parametrize("window", [1, 2, 4])
def test_drafts_of_the_target_itself_are_all_accepted(window, seed):
    for name, model in (("sd", toy("gauss-2x6")), ("sd-reflection", toy("full-2x4")), ("sd-steps", toy("chain-1x4"))):
        result = drawn(name, model, 200, seed, kind="identical", window=window)
        assert torch.equal(result.passes, torch.full((200,), -(-model.length // (window + 1))))
        assert torch.equal(result.accepted, result.verified)
        assert int(result.branches[:, Branch.RECOVERED].sum()) == 0


def test_drafts_from_elsewhere_are_all_rejected(seed):
    model = toy("gauss-2x6")
    for name in ("sd", "sd-reflection"):
        result = drawn(name, model, 200, seed, kind="disjoint")
        assert bool((result.passes == model.length).all())
        assert bool((result.branches[:, Branch.RECOVERED] == model.length).all())


def test_fewer_passes_are_needed_with_longer_windows_and_with_coupled_drafts(seed):
    """Means over 4,000 rows; each gap is over ten standard errors."""
    model, passes = toy("gauss-1x6"), {}
    for window in (1, 3, 5):
        passes[window] = float(drawn("sd", model, 4000, seed, window=window).passes.double().mean())
    assert model.length > passes[1] + 1 > passes[3] + 1.2
    walk = Walk(8, 12, pull=0.4)
    jacobi = {
        name: float(sample(registry.build(name, registry.Settings(6)), walk, 4000, seed).passes.double().mean())
        for name in ("jacobi", "jacobi-maximal", "jacobi-reflection", "jacobi-noise")
    }
    assert walk.length > jacobi["jacobi"] + 0.1
    assert jacobi["jacobi"] > max(jacobi["jacobi-maximal"], jacobi["jacobi-noise"]) + 0.1
    # Both are maximal for one step; a reflected draft stays nearer to what the laws behind it had seen.
    assert jacobi["jacobi-maximal"] > jacobi["jacobi-reflection"] + 0.1


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", registry.names("vectors"))
def test_every_bill_adds_up(name, seed):
    """With a model that checks every call, and what `advance` relies on."""
    model, progress = (
        CheckedContinuous(toy("gauss-1x6" if registry.entry(name).vectors == "gaussian" else "chain-1x4")),
        [],
    )
    result = sample(build(name, model), model, 300, seed, on_tokens=progress.append)
    assert result.tokens.shape == (300, model.length, model.dim)
    assert sum(progress) == 300 * model.length
    assert bool((result.branches.sum(1) == model.length).all())
    assert torch.equal(result.branches[:, Branch.ACCEPTED], result.accepted)
    assert torch.equal(result.branches[:, Branch.RECOVERED], result.verified - result.accepted)
    assert bool((result.passes <= model.length).all())
    drafts = registry.entry(name).needs_draft_model
    assert bool((result.draft_passes > 0).all()) == drafts
    again = sample(build(name, model), model, 300, seed)
    assert torch.equal(again.tokens, result.tokens)


def test_tokens_of_single_precision_stay_so_and_keep_their_law(seed):
    model = toy("gauss-2x6", torch.float32)
    for name in ("sd-reflection", "jacobi-maximal", "jacobi-noise"):
        result = drawn(name, model, 4600, seed)
        assert result.tokens.dtype == torch.float32
        assert_uniform(transforms(model, result.tokens), 0.02)


LOSSLESS = [name for name in registry.names("vectors") if not name.startswith("cspd")]


def small(name, dtype):
    return toy("chain-1x4" if registry.entry(name).vectors == "heads" else "gauss-2x6", dtype)


@pytest.mark.thinned(6)
@pytest.mark.parametrize("window", [1, 9])
@pytest.mark.parametrize("name", LOSSLESS)
def test_windows_of_one_and_beyond_the_length_in_single_precision(name, window, seed):
    model = small(name, torch.float32)
    result = drawn(name, model, 24_000 // (model.length * model.dim), seed, window=window, kind="wider")
    assert result.tokens.dtype == torch.float32
    assert bool((result.branches.sum(1) == model.length).all())
    assert int(result.passes.min()) >= (1 if window > model.length else model.length / 2)
    assert_uniform(transforms(model, result.tokens), 0.04)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", LOSSLESS)
def test_batches_of_one_row(name, seed):
    model = small(name, torch.float64)
    decoder = build(name, model, kind="narrower")
    result = sample(decoder, model, 4, seed, block=1)
    assert len(result.tokens.unique(dim=0)) == 4
    assert bool(transforms(model, result.tokens).isfinite().all())
    alone = sample(decoder, model, 1, seed, block=1, first_block=3)
    assert torch.equal(alone.tokens[0], result.tokens[3])


@pytest.mark.parametrize(
    ("name", "kind", "least"),
    [("cspd", "wider", 0.03), ("cspd", "narrower", 0.1), ("cspd-released", "wider", 0.1),
     ("cspd-released", "narrower", 0.05), ("cspd-released", "shifted", 0.1)],
)  # fmt: skip
def test_cspd_is_far_from_the_target(name, kind, least, seed):
    model = toy("chain-1x4")
    result = drawn(name, model, 4000, seed, kind=kind)
    assert_flagged(transforms(model, result.tokens), least)
    assert build(name, model).claim == Relaxed(1.0)


def test_cspd_as_published_is_exact_where_its_factor_is_1(seed):
    """Drafts that are shifted share the covariances of all transitions, so that Sigma = 1; 60,000 tokens see 0.02."""
    model = toy("chain-1x4")
    assert_uniform(transforms(model, drawn("cspd", model, 15_000, seed).tokens), 0.02)


def test_cspd_as_published_truncates_and_as_released_never_does(seed):
    model, rows = toy("chain-1x4"), 500
    published, released = (
        drawn(name, model, rows, seed, window=3, kind="disjoint") for name in ("cspd", "cspd-released")
    )
    assert bool((published.passes == model.length).all())
    assert bool((released.passes == 2).all()), "one token alone, and a block of three"
    assert released.acceptance_rate < 0.1, "though not even 40 standard deviations are rejected for certain"
    assert bool((released.verified == 3).all())
    mixed = drawn("cspd-released", model, rows, seed, window=2, kind="wider")
    assert 0 < int(mixed.accepted.sum()) < int(mixed.verified.sum())
    assert bool((mixed.passes == 3).all())


@pytest.mark.parametrize(("name", "share", "alone"), [("cspd", 0.0, 0), ("cspd", 0.3, 2), ("cspd", 1.0, 4),
                                                     ("cspd-released", 0.0, 1), ("cspd-released", 0.5, 3)])  # fmt: skip
def test_the_target_decodes_the_prefill_alone(name, share, alone, seed):
    model = toy("chain-1x4")
    result = drawn(name, model, 50, seed, prefill=share)
    assert bool((result.branches[:, Branch.SAMPLED] == alone).all())
    assert bool((result.verified > 0).all()) == (alone < model.length)


def test_the_released_tokens_are_means(seed):
    """Without noise at the last step the target's own tokens bunch in the middle of their law."""
    model = toy("chain-1x4")
    u = transforms(model, drawn("cspd-released", model, 10_000, seed, kind="identical", prefill=1.0).tokens)
    assert float(u.var()) < 1 / 12 - 0.002
    assert_flagged(u, 0.01)


def test_a_limit_of_trials_is_a_claim_of_its_own_and_leaves_no_zeros(seed):
    model = toy("gauss-1x6")
    capped = Speculative(DraftModel(draft("shifted", model)), 3, TokenRule(limit=1), Relaxed(1.0))
    result = sample(capped, model, 10_000, seed)
    assert bool((result.tokens != 0).all())
    assert_flagged(transforms(model, result.tokens), seen(60_000) / 3)


def test_names_tell_drafting_and_coupling():
    model = toy("chain-1x4")
    drafts = DraftModel(draft("shifted", model))
    for coupling, name in (
        (PathRule(), "path"),
        (StepRule(), "steps"),
        (LastRule(), "last"),
        (Reflection(), "reflection"),
    ):
        assert Speculative(drafts, 2, coupling).name == f"sd-{name}"
        assert Speculative(Jacobi(coupling), 2, coupling).name == f"jacobi-{name}"
    assert Speculative(Jacobi("noise"), 2, PathRule()).name == "jacobi-noise-path"
    for name in registry.names("vectors"):
        assert build(name, model).name == name
        assert build(name, model).claim == (Relaxed(1.0) if name.startswith("cspd") else Lossless())
