"""Passes that torch compiles: the same laws, and the plain passes where it cannot."""

import contextlib
import shutil

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from typer.testing import CliRunner

from realmodels import compiled
from realmodels.compiled import Compiled, compiling, recording
from realmodels.models import open_model
from specverify import cli, tree
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


class AsGraphs:
    """Records as CUDA does: the same operations on the same tensors, whatever Python would do by then."""

    def __init__(self):
        self.count = 0

    def __call__(self, work):
        self.count += 1
        return make_fx(torch.no_grad()(work))()


@pytest.mark.slow
def test_passes_are_traced_without_a_break_and_change_nothing():
    plain, model = (open_model("mnist-vq", guidance=2.0) for _ in range(2))
    calls = []

    def counting(graph, inputs):
        calls.append(graph)
        return graph.forward

    model.network = Compiled(model.network, compiling(model.network, counting))
    assert torch.equal(drawn(model), drawn(plain))
    assert calls
    assert not model.network.failed
    assert model.like(guidance=1.0).network is model.network


@pytest.mark.slow
def test_few_compilations_serve_all_rows_and_windows():
    model, graphs = open_model("mnist-vq", guidance=2.0), []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model.network = Compiled(model.network, compiling(model.network, counting))
    for window, batch in ((2, 4), (3, 5), (4, 6), (5, 4), (6, 7)):
        context, draft = model.start(batch), torch.zeros(batch, window, dtype=torch.int64)
        model.laws(context, draft)
        model.laws(model.advance(context, draft, draft[:, 0] + 1), draft)
    assert 2 <= len(graphs) <= 4
    assert not model.network.failed


def test_more_shapes_than_torch_compiles_are_said(monkeypatch):
    monkeypatch.setattr(compiled, "SHAPES", 1)
    model = open_model("mnist-vq", guidance=2.0)
    model.network = Compiled(model.network, compiling(model.network, lambda graph, inputs: graph.forward))
    sample(DECODER, model, 1, seed=0)
    assert not model.network.failed
    with pytest.warns(UserWarning, match="not compiled, as torch could not"):
        sample(DECODER, model, 4, seed=0)
    assert "recompile_limit" in model.network.failed


def test_what_cannot_be_compiled_is_said_once_and_goes_on(recwarn):
    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    plain, model = (open_model("mnist-vq") for _ in range(2))
    model.network = Compiled(model.network, compiling(model.network, broken))
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
    assert not found.costs


@pytest.mark.parametrize("name", [pytest.param("mnist-vq", marks=pytest.mark.slow), "random:tiny"])
def test_recorded_passes_change_nothing(name):
    """Rows are dropped within a batch, and a second batch has a cache of its own."""
    plain, model = (open_model(name, guidance=2.0) for _ in range(2))
    record = AsGraphs()
    model.network = Compiled(model.network, recording(model.network, record))
    for _ in range(2):
        assert torch.equal(drawn(model), drawn(plain))
    assert not model.network.failed
    assert 4 <= record.count <= 20  # a handful of shapes in each of four batches


def test_a_recording_is_of_one_cache():
    """More rows than a cache had room for make it another one, and what was recorded is not of that."""
    model, record = open_model("mnist-vq"), AsGraphs()
    model.network = Compiled(model.network, recording(model.network, record))
    context, draft = model.start(2), torch.zeros(2, 3, dtype=torch.int64)
    context = model.advance(context, draft, draft[:, 0] + 2)
    before = model.laws(context, draft)
    seen = record.count
    wider = tree.rows(context, torch.tensor([0, 1, 1, 0]))
    again = model.laws(wider, draft[[0, 0, 0, 0]])
    assert record.count == seen + 1
    torch.testing.assert_close(again, before[[0, 1, 1, 0]])
    wider = model.advance(wider, draft[[0, 0, 0, 0]], torch.zeros(4, dtype=torch.int64))
    narrow = tree.rows(wider, torch.tensor([3, 2]))
    torch.testing.assert_close(model.laws(narrow, draft), before)
    assert record.count == seen + 2  # of as many rows as at first, with another cache


def test_what_cannot_be_recorded_goes_on():
    def broken(work):
        raise RuntimeError("operation not permitted when stream is capturing")

    plain, model = (open_model("mnist-vq") for _ in range(2))
    model.network = Compiled(model.network, recording(model.network, broken))
    with pytest.warns(UserWarning, match="not permitted when stream is capturing"):
        assert torch.equal(drawn(model), drawn(plain))


def test_what_stops_half_way_through_a_recording_leaves_nothing_behind():
    """What a recording computes comes to be at its replay, and so never if there is none."""
    plain, model = (open_model("mnist-vq") for _ in range(2))

    def broken(work):
        work()
        kept.place = torch.full_like(kept.place, -(10**6))
        raise RuntimeError("operation not permitted when stream is capturing")

    faster = recording(model.network, broken)

    def noting(inputs):
        nonlocal kept
        kept = inputs.cache
        return faster(inputs)

    kept = None
    model.network = Compiled(model.network, noting)
    with pytest.warns(UserWarning, match="not permitted"):
        assert torch.equal(drawn(model), drawn(plain))


def test_too_little_memory_is_no_reason_to_give_up(recwarn):
    model, asked = open_model("mnist-vq"), []

    def full(inputs):
        asked.append(len(inputs.vectors))
        raise torch.OutOfMemoryError("no room")

    model.network = Compiled(model.network, full)
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            drawn(model)
    assert len(asked) == 2
    assert not model.network.failed


@pytest.mark.gpu
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_graphs_of_a_gpu_change_nothing(guidance):
    plain = open_model("mnist-vq", guidance=guidance, device="cuda")
    model = open_model("mnist-vq", guidance=guidance, device="cuda", compiled=True)
    for _ in range(2):
        assert torch.equal(drawn(model), drawn(plain))
    assert not model.network.failed


class Stream:
    device = torch.device("cpu")

    def __init__(self, device=None):
        pass

    def wait_stream(self, other):
        pass


class Capture:
    """A CUDA graph's calls, of which the last fails behind work that failed, as it does on a GPU."""

    broken = False

    def capture_begin(self, pool):
        assert pool == (0, 1)

    def capture_end(self):
        if Capture.broken:
            raise RuntimeError("the capture was invalidated")

    def replay(self):
        pass


def test_what_kept_a_pass_from_being_recorded_is_said_and_not_what_followed(monkeypatch):
    """With a torch.cuda that is none: the order of calls, and which of two errors is told."""
    for name, fake in {
        "graph_pool_handle": lambda: (0, 1),
        "Stream": Stream,
        "current_stream": Stream,
        "CUDAGraph": Capture,
        "synchronize": lambda: None,
        "stream": lambda one: contextlib.nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    graphs, calls = compiled._Graphs(torch.device("cpu")), []

    def work():
        calls.append(len(calls))
        Capture.broken = len(calls) > 3
        if Capture.broken:
            raise ValueError("it waits for the device")
        return torch.ones(2)

    assert torch.equal(graphs(work)(), torch.ones(2))
    assert calls == [0, 1]  # once as it is, and once to be recorded
    with pytest.raises(ValueError, match="it waits for the device"):
        graphs(work)
