"""Laws, drafts and limits that thinning and reflection refuse, by name."""

import math
import re
from dataclasses import dataclass

import pytest
import torch

from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.laws import Gaussian, check_fit
from specverify.rules import rejection
from specverify.rules.reflection import couple
from specverify.rules.rejection import (
    accept_probability,
    decide,
    thin,
)
from tests.rules.test_rejection import PAIRS, everywhere, gaussian, repeat


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "limit = 0: a rejected draft takes at least one trial; None allows as many as needed"),
        ({"limit": -3}, "limit = -3"),
        ({"limit": True}, "limit = True"),
        ({"log_factor": torch.zeros(1)}, "with a factor in the ratio there may be nothing to keep; set a limit"),
    ],
)
def test_impossible_limits_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        thin(*PAIRS["shifted"], Sampled(0), everywhere(1), **arguments)


UNIT = (torch.zeros(4, 3, dtype=torch.float64), torch.ones(4, 3, dtype=torch.float64))
WRONG = {
    "the standard deviation 0.0; it must be positive and finite": (UNIT[0], 0 * UNIT[1]),
    "the standard deviation -1.0": (UNIT[0], -UNIT[1]),
    "the standard deviation inf": (UNIT[0], UNIT[1] / 0),
    "the standard deviation nan": (UNIT[0], math.nan * UNIT[1]),
    "the mean nan; means are finite: check the network that gave it": (UNIT[0] * math.nan, UNIT[1]),
}


@pytest.mark.parametrize("rule", [decide, couple], ids=["thinning", "reflection"])
@pytest.mark.parametrize("message", WRONG)
def test_laws_that_are_none_are_refused_by_name_and_not_searched_for_ever(rule, message):
    bad, good = Gaussian(*WRONG[message]), Gaussian(*UNIT)
    for p, q, who in ((bad, good, "p"), (good, bad, "q"), (bad, bad, "p")):
        with pytest.raises(InputError, match=re.escape(f"{who} has {message}")):
            rule(p, q, q.sample(Sampled(1), everywhere(4)), Sampled(0), everywhere(4))
    with pytest.raises(InputError, match=re.escape(f"p has {message}")):
        thin(bad, good, Sampled(0), everywhere(4))


@pytest.mark.parametrize("rule", [decide, couple], ids=["thinning", "reflection"])
@pytest.mark.parametrize(("shape", "dim"), [((4,), 1), ((4,), 2), ((1,), 3)])
def test_laws_of_other_shapes_are_refused_where_they_would_broadcast(rule, shape, dim):
    p, q = Gaussian(*UNIT), Gaussian(torch.zeros(*shape, dim).double(), torch.ones(*shape, dim).double())
    message = re.escape(f"p has shape (4,) and dimension 3, q {shape} and {dim}; a target law and a draft law are")
    with pytest.raises(InputError, match=message):
        rule(p, q, UNIT[0], Sampled(0), everywhere(4))
    with pytest.raises(InputError, match=message):
        thin(p, q, Sampled(0), everywhere(4))
    with pytest.raises(InputError, match=message):
        accept_probability(p, q, UNIT[0])


def test_drafts_and_masks_that_do_not_fit_are_refused():
    p = Gaussian(*UNIT)
    with pytest.raises(InputError, match=re.escape("the draft tokens have shape (4, 1), but the law has shape (4,)")):
        check_fit(p, p, UNIT[0][:, :1])
    for where in (everywhere(1), torch.ones(4)):
        with pytest.raises(
            InputError, match=re.escape(f"where has shape {tuple(where.shape)} and dtype {where.dtype}")
        ):
            check_fit(p, p, UNIT[0], where)
    for value in (math.nan, math.inf):
        with pytest.raises(InputError, match=f"the draft tokens hold {value}; tokens are finite"):
            decide(p, p, UNIT[0] + value, Sampled(0), everywhere(4))


def test_densities_without_a_residual_are_refused_not_searched_for_ever(monkeypatch):
    monkeypatch.setattr(rejection, "HOPELESS", 10_000)

    @dataclass(frozen=True)
    class Half:
        """Half a density: nothing of it lies above the other."""

        inner: Gaussian
        dim = 1

        @property
        def shape(self):
            return self.inner.shape

        def log_prob(self, x):
            return self.inner.log_prob(x) - math.log(2)

        def sample(self, draws, where):
            return self.inner.sample(draws, where)

        def check(self, what):
            self.inner.check(what)

    q = repeat(gaussian(0.0, 1.0), 3)
    with pytest.raises(InputError, match=r"none of .* proposals is in the residual .* are no densities"):
        thin(Half(q), q, Sampled(0), everywhere(3))
