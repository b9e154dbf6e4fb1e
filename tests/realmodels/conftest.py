from contextlib import ExitStack
from types import SimpleNamespace

import folders
import pytest
import torch
from hub import serving

from realmodels import models
from realmodels.compiled import Compiled, compiling
from realmodels.digits import DigitsModel, load
from specverify import fetched


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(params=[1.0, 1.5], ids=lambda scale: f"guidance-{scale}")
def model(request: pytest.FixtureRequest, device: torch.device) -> DigitsModel:
    return load(guidance=request.param, device=device)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Every tiny checkpoint's folder, by its name."""
    return {name: make(tmp_path_factory.mktemp(name) / name) for name, make in folders.MADE.items()}


@pytest.fixture
def traced_passes(monkeypatch):
    """Has passes traced and not compiled, which takes minutes; and every graph that was traced."""
    graphs: list[object] = []
    torch._dynamo.reset()

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(models, "Compiled", lambda network: Compiled(network, compiling(network, backend)))
    return graphs


@pytest.fixture
def served(tmp_path, monkeypatch):
    """What has a hub answer instead of the usual one, with a cache of its own."""
    monkeypatch.setenv(fetched.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # what less is lost where it breaks
    monkeypatch.setattr(
        "huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda _: None)
    )  # before it goes on
    with ExitStack() as stack:

        def serve(hub):
            monkeypatch.setenv("HF_ENDPOINT", stack.enter_context(serving(hub)))
            return hub

        yield serve
