"""What benchmarks are measured by: work of a fixed size, done in the same run, and the figures that were kept.

A second is another amount of work on every machine, and on a busy one; a ratio to work that is done beside it is not.
`nox -s bench -- --keep` writes reports/bench.json, with which later runs are compared.
"""

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest
from bench.measuring import fixed_work, seconds

KEPT = Path(__file__).parents[2] / "reports" / "bench.json"
SLOWER = 1.75
"""How much slower than the figure that was kept, beside the same yardstick, is a failure."""


def pytest_addoption(parser):
    parser.addoption("--keep", action="store_true", help="keep the figures of this run in reports/bench.json")


@pytest.fixture
def yardstick():
    """Seconds of the fixed work, now."""
    return seconds(fixed_work)


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return {"processor": name, "cores": os.cpu_count(), "system": platform.platform()}


@pytest.fixture(scope="session")
def figures(request):
    """What is measured, by name; with `--keep` it is written down in the end."""
    found = {}
    yield found
    if request.config.getoption("--keep") and found:
        kept = json.loads(KEPT.read_text())["figures"] if KEPT.exists() else {}
        names = ("specverify", "torch", "numpy")
        content = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine(),
            "software": {"python": platform.python_version()} | {name: version(name) for name in names},
            "figures": dict(sorted((kept | found).items())),
        }
        KEPT.write_text(json.dumps(content, indent=1) + "\n")


@pytest.fixture
def compare(figures, request):
    """`compare(name, ratio, **more)`: hold a ratio, small if fast, against the one that was kept under this name."""

    def held(name, ratio, **more):
        figures[name] = {"ratio": round(ratio, 4)} | {key: round(value, 6) for key, value in more.items()}
        before = json.loads(KEPT.read_text())["figures"].get(name) if KEPT.exists() else None
        was = "" if before is None else f", {before['ratio']:.3g} when it was kept"
        print(f"\n{name}: {ratio:.3g}{was}  {' '.join(f'{key} {value:.4g}' for key, value in more.items())}")
        if before is not None and not request.config.getoption("--keep"):
            assert ratio <= SLOWER * before["ratio"], f"{name} is {ratio / before['ratio']:.2f} times as slow as kept"

    return held
