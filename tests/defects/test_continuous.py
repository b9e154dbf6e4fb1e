"""Every known-wrong decoder of continuous tokens is killed by the transforms of its tokens, and its control is not."""

from dataclasses import dataclass

import pytest
import torch
from uniforms import assert_flagged, assert_uniform, transforms

from specverify.claims import Lossless
from specverify.decoders import registry, sample
from specverify.defects import continuous
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.laws import CheckedContinuous, Gaussian
from toymodels.continuous import toy
from toymodels.continuous_drafts import draft


@dataclass(frozen=True)
class Nothing:
    """A context of which only the batch matters."""

    row: torch.Tensor


class Constant:
    """One token from N(mean, 1), whatever came before."""

    name, dim, length, dtype, device = "constant", 1, 1, torch.float64, torch.device("cpu")

    def __init__(self, mean):
        self.mean = mean

    def start(self, batch):
        return Nothing(torch.zeros(batch))

    def laws(self, context, draft):
        mean = torch.full((len(draft), draft.shape[1] + 1, 1), self.mean, dtype=self.dtype)
        return Gaussian(mean, torch.ones_like(mean))

    def advance(self, context, tokens, count):
        return context


def transformed(name, model, drafts, rows, seed, window=3, strength=None):
    decoder = continuous.get(name).build(registry.Settings(window, draft_model=drafts), strength)
    assert (decoder.claim, decoder.name) == (Lossless(), name)
    return transforms(model, sample(decoder, model, rows, seed).tokens)


# Defect, toy, draft model, and the Kolmogorov distance that the transforms of 4,000 sequences are off by, at least.
KILLED = [
    ("cspd-acceptance-temperature", "gauss-1x6", "shifted", 0.2),
    ("cspd-acceptance-temperature", "gauss-8x4", "shifted", 0.1),
    ("cspd-target-not-conditioned-on-drafts", "gauss-1x6", "shifted", 0.05),
    ("cspd-inverted-trajectory-factor", "chain-1x4", "narrower", 0.04),
    ("cspd-last-step-law", "chain-1x4", "shifted", 0.02),
    ("cspd-last-step-law", "chain-1x4", "wider", 0.02),
    ("near-without-a-coin", "gauss-1x6", "shifted", 0.02),
]


@pytest.mark.parametrize(("name", "toy_name", "kind", "least"), KILLED)
def test_defects_are_killed(name, toy_name, kind, least, seed):
    """By Kolmogorov-Smirnov at alpha = 1e-6, on the first coordinate: shifts have a sign of their own in each."""
    model = toy(toy_name)
    assert_flagged(transformed(name, model, draft(kind, model), 4000, seed)[..., :1], least)


def test_zeros_after_a_hundred_trials_are_killed(seed):
    """At a total variation of 0.01, 0.0037 of all tokens are 0: a Kolmogorov distance of 0.0036 where p(x < 0) = 0.02.

    With 2,000,000 decisions alpha = 1e-6 lies at 0.0019.
    """
    model, drafts = Constant(2.0), Constant(2.025)
    u = transformed("cspd-trial-cap-zero", model, drafts, 2_000_000, seed, window=1)
    assert_flagged(u, 0.0025)
    zeros = float((u == torch.special.ndtr(torch.tensor(-2.0, dtype=torch.float64))).double().mean())
    assert 0.0034 < zeros < 0.0040


@pytest.mark.parametrize(
    ("name", "toy_name", "kind"),
    [
        ("cspd-acceptance-temperature", "gauss-1x6", "shifted"),
        ("cspd-inverted-trajectory-factor", "chain-1x4", "narrower"),
    ],
)
def test_without_their_flaw_they_are_exact(name, toy_name, kind, seed):
    """The same decoders at a strength that leaves nothing wrong; a Kolmogorov distance of 0.02 is seen."""
    model, known = toy(toy_name), continuous.get(name)
    rows = 55_000 // model.length
    assert_uniform(transformed(name, model, draft(kind, model), rows, seed, strength=known.harmless), 0.02)


def test_without_their_conditions_defects_do_not_show(seed):
    """Nothing is drafted before the one token, transitions share their noise, or 100 trials are plenty."""
    chains, gaussians = toy("chain-1x4"), toy("gauss-1x6")
    assert_uniform(transformed("cspd-inverted-trajectory-factor", chains, draft("shifted", chains), 14_000, seed), 0.02)
    assert_uniform(transformed("cspd-trial-cap-zero", gaussians, draft("shifted", gaussians), 9200, seed), 0.02)
    alone = Constant(0.0)
    assert_uniform(
        transformed("cspd-target-not-conditioned-on-drafts", alone, Constant(1.0), 55_000, seed, window=1), 0.02
    )


@pytest.mark.parametrize("kind", ["shifted", "narrower"])
def test_the_control_is_not_flagged(kind, seed):
    """A Kolmogorov distance of 0.01 is seen."""
    model = toy("gauss-1x6")
    assert not continuous.get("cspd-variance-as-std").lossy
    assert_uniform(transformed("cspd-variance-as-std", model, draft(kind, model), 37_000, seed), 0.01)


@pytest.mark.parametrize("name", continuous.names())
def test_records_are_whole_and_decoders_run_through_the_protocol(name):
    known = continuous.get(name)
    assert known.id == name
    assert known.category == ("continuous" if known.lossy else "control")
    assert min(len(known.source), len(known.mechanism), len(known.conditions)) > 10
    model = toy("gauss-2x6" if "last-step" not in name and "factor" not in name else "chain-2x4")
    decoder = known.build(registry.Settings(2, draft_model=CheckedContinuous(draft("shifted", model))))
    result = sample(decoder, CheckedContinuous(model), 50, 0)
    assert result.tokens.shape == (50, model.length, 2)
    assert int(result.branches.sum()) == 50 * model.length


def test_every_lossy_defect_has_its_kill():
    lossy = {name for name in continuous.names() if continuous.get(name).lossy}
    assert lossy == {case[0] for case in KILLED} | {"cspd-trial-cap-zero"}


def test_what_cannot_be_built_is_refused():
    with pytest.raises(
        InputError, match="unknown defect of continuous tokens 'cspd-trial'; did you mean cspd-trial-cap"
    ):
        continuous.get("cspd-trial")
    with pytest.raises(InputError, match="unknown defect of continuous tokens '1234'; known: cspd-acceptance"):
        continuous.get("1234")
    with pytest.raises(InputError, match="defect 'cspd-trial-cap-zero' has no strength; leave it out"):
        continuous.get("cspd-trial-cap-zero").build(registry.Settings(), 1.0)
    with pytest.raises(InputError, match="defect 'cspd-trial-cap-zero' drafts with a second model; give it one"):
        continuous.get("cspd-trial-cap-zero").build(registry.Settings())
    model = toy("chain-1x4")
    with pytest.raises(InputError, match="the tempered ratio is one of Gaussians with independent coordinates"):
        continuous.get("cspd-acceptance-temperature").build(registry.Settings(2, draft_model=model)).step(
            *_started("cspd-acceptance-temperature", model)
        )
    with pytest.raises(InputError, match="variances by coordinate are those of Gaussian laws, not of Chain"):
        continuous.get("cspd-variance-as-std").build(registry.Settings(2, draft_model=model)).step(
            *_started("cspd-variance-as-std", model)
        )


def _started(name, model):
    draws = Sampled(0)
    decoder = continuous.get(name).build(registry.Settings(2, draft_model=model))
    return decoder.init(model, 4, draws), model, draws
