"""Passes that torch compiles: the same laws, and the plain passes where it cannot."""

import shutil

import pytest
import torch
from typer.testing import CliRunner

from realmodels import compiled
from realmodels.compiled import Compiled
from realmodels.models import open_model
from specverify import cli
from specverify.conformance import conformance
from specverify.decoders import registry, sample
from specverify.errors import InputError


@pytest.fixture(autouse=True)
def anew():
    """Nothing compiled so far."""
    torch._dynamo.reset()


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


def test_few_compilations_serve_all_rows_and_windows():
    model, graphs = open_model("mnist-vq", guidance=2.0), []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model.network = Compiled(model.network, counting)
    for window, batch in ((2, 4), (3, 5), (4, 6), (5, 4), (6, 7)):
        context, draft = model.start(batch), torch.zeros(batch, window, dtype=torch.int64)
        model.laws(context, draft)
        model.laws(model.advance(context, draft, draft[:, 0] + 1), draft)
    assert 2 <= len(graphs) <= 4
    assert not model.network.failed


def test_more_shapes_than_torch_compiles_are_said(monkeypatch):
    monkeypatch.setattr(compiled, "SHAPES", 1)
    model = open_model("mnist-vq", guidance=2.0)
    model.network = Compiled(model.network, lambda graph, inputs: graph.forward)
    sample(DECODER, model, 1, seed=0)
    assert not model.network.failed
    with pytest.warns(UserWarning, match="not compiled, as torch could not"):
        sample(DECODER, model, 4, seed=0)
    assert "recompile_limit" in model.network.failed


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
