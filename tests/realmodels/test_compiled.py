"""Passes that torch compiles: the same laws, and the plain passes where it cannot."""

import shutil

import pytest
import torch
from typer.testing import CliRunner

from realmodels.compiled import Compiled
from realmodels.models import open_model
from specverify import cli
from specverify.conformance import conformance
from specverify.decoders import registry, sample
from specverify.errors import InputError

DECODER = registry.build("scd-mc", registry.Settings(window=4))


def drawn(model):
    return sample(DECODER, model, 6, seed=0, block=4).tokens


def test_passes_are_traced_without_a_break_and_change_nothing():
    plain, model = (open_model("mnist-vq", guidance=2.0) for _ in range(2))
    calls = []

    def counting(graph, inputs):
        calls.append(graph)
        return graph.forward

    model.network = Compiled(model.network, counting)
    assert torch.equal(drawn(model), drawn(plain))
    assert calls
    assert not model.network.failed
    assert model.like(guidance=1.0).network is model.network


def test_what_cannot_be_compiled_is_said_once_and_goes_on(recwarn):
    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    plain, model = (open_model("mnist-vq") for _ in range(2))
    model.network = Compiled(model.network, broken)
    assert torch.equal(drawn(model), drawn(plain))
    said = [str(each.message) for each in recwarn if "not compiled" in str(each.message)]
    assert len(said) == 1
    assert "no compiler here" in said[0]


def test_a_model_with_passes_of_its_own_is_not_compiled():
    with pytest.raises(InputError, match=r"digits-s has passes of its own.*leave out --compile"):
        open_model("digits-s", compiled=True)
    result = CliRunner().invoke(cli.app, ["sample", "digits-s", "--compile"])
    assert isinstance(result.exception, InputError)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU with g++")
def test_compiled_passes_conform():
    found = conformance(open_model("mnist-vq", guidance=2.0, compiled=True), batch=2, positions=3)
    assert found.ok, str(found)
