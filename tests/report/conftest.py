import runpy
from pathlib import Path

import pytest

from specverify.report import render

EXAMPLE = runpy.run_path(str(Path(__file__).with_name("example.py")))


@pytest.fixture(scope="session")
def example():
    """The module that makes records."""
    return EXAMPLE


@pytest.fixture
def record():
    return EXAMPLE["record"]()


@pytest.fixture
def partial():
    return EXAMPLE["partial"]()


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The example's report, drawn once."""
    return render.write(EXAMPLE["record"](), tmp_path_factory.mktemp("report"))
