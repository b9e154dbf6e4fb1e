import folders
import pytest
import torch

from realmodels.digits import DigitsModel, load


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
