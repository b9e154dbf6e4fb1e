"""The bare decoder beside the guarded one: right code passes, and code that knows its draws is told."""

import pytest
import torch

from specverify.deadline import Deadline
from specverify.decoders import Autoregressive, Jacobi, Speculative, registry
from specverify.draws import Sampled
from specverify.errors import BudgetError, ContractError
from specverify.evidence.bare import difference, follows, sequences
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.guard import Guarded
from specverify.evidence.relay import Relay, Watched
from toymodels import draft, toy

MODEL = toy("ties-3x5")


class Plain:
    """Plain decoding that may know what it draws from."""

    inner = Autoregressive()

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        return self.inner.step(state, model, draws)


class KnowsDraws(Plain):
    """Draws a share of its tokens by a kernel of its own, where the draws have a generator."""

    def step(self, state, model, draws):
        return super().step(state, model, own_kernel(draws) if isinstance(draws, Sampled) else draws)


def own_kernel(draws):
    def relay(kind, law, where):
        return getattr(draws, kind)(torch.where(law < 0.3, law * 0.8, law), where)

    return Relay(relay)


class KnowsModel(Plain):
    """Reads the table of a model that has one, a little flattened."""

    def step(self, state, model, draws):
        return super().step(state, model if isinstance(model, Watched) else Flat(model), draws)


class Flat:
    def __init__(self, model):
        self.inner = model
        for part in ("name", "vocab", "length", "eos", "dtype", "device", "start", "advance"):
            setattr(self, part, getattr(model, part))

    def laws(self, context, drafts):
        law = self.inner.laws(context, drafts)
        return law.sqrt() / law.sqrt().sum(-1, keepdim=True)


class RaisesBare(Plain):
    def step(self, state, model, draws):
        if hasattr(draws, "generator"):
            raise ValueError("no kernel for this")
        return super().step(state, model, draws)


class Idle(Plain):
    def step(self, state, model, draws):
        return state, None


@pytest.mark.parametrize("name", ["ar", "sd", "sjd", "scd-gs", "sjd-race", "sd-multi", "sd-list-gumbel"])
def test_right_decoders_do_the_same_with_and_without_the_guard(name):
    decoder = registry.build(name, registry.Settings(2, draft_model=draft("perturbed", MODEL)))
    assert difference(decoder, Guarded(decoder), MODEL, seed=3, n=500) == ""


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (KnowsDraws(), "with the same seed it gives other tokens on real draws ("),
        (KnowsModel(), "it tells the draws or the model that it is proved on from the real ones"),
        (RaisesBare(), "on real draws, without the guard, it raised ValueError: no kernel for this"),
    ],
)
def test_code_that_knows_what_it_runs_on_is_told(decoder, message):
    assert message in difference(decoder, Guarded(decoder), MODEL, seed=0)


def test_rows_that_never_finish_are_an_error():
    with pytest.raises(ContractError, match="rows are unfinished after 5 steps on real draws"):
        sequences(Idle(), MODEL, 4, 0)


class Short:
    """The first positions of a model."""

    def __init__(self, model, length):
        self.length = length
        for part in ("name", "vocab", "eos", "dtype", "device", "start", "advance", "laws"):
            setattr(self, part, getattr(model, part))


def test_bare_sequences_follow_the_enumerated_law_of_right_code_alone():
    small = Short(toy("dense-2x8"), 3)
    decoder = Speculative(Jacobi(), 2)
    law = enumerate_decoder(decoder, small).law
    right = follows(decoder, small, law, seed=1)
    assert not right.rejected
    assert (right.alpha, right.beta) == (1e-6, 0.01)
    assert right.delta <= 0.05
    assert right.basis == right.power == "finite-sample bound"
    wrong = follows(KnowsDraws(), small, law, seed=1)
    assert wrong.rejected, f"TV about {wrong.estimate}"
    assert wrong.n == right.n


def test_drawing_ends_when_its_time_is_over():
    with pytest.raises(BudgetError, match="0 of 100 sequences were drawn when the time was over"):
        sequences(Autoregressive(), MODEL, 100, 0, 10, Deadline(0.0))
