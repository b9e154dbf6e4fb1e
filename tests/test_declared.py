"""What `specverify list` reads from the source is what the catalogues hold, and reading it imports nothing heavy."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import specverify.evidence
import toymodels
from realmodels import continuous as trained
from realmodels import digits, models
from specverify import declared, defects
from specverify.decoders import registry
from specverify.defects import continuous as continuous_defects
from toymodels import continuous as continuous_toys
from toymodels import continuous_drafts, drafts, guided

ROOT = Path(__file__).parents[1]
HEAVY = "torch numpy scipy matplotlib sklearn transformers hypothesis torchmetrics prdc jinja2 jsonschema"


def _loaded_by(*arguments):
    """Which of the heavy packages a command imports."""
    program = (
        "import sys\nfrom specverify import cli\n"
        f"try:\n    cli.main({list(arguments)})\nexcept SystemExit as end:\n    code = end.code\n"
        f"print(code, *(name for name in '{HEAVY}'.split() if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    code, *loaded = done.stdout.splitlines()[-1].split()
    return int(code), set(loaded)


def test_decoders_have_their_summaries():
    for lines, tokens in ((declared.decoders(), "ids"), (declared.continuous_decoders(), "vectors")):
        assert lines == [(name, registry.entry(name).summary) for name in registry.names(tokens)]
    assert {name for name, _ in declared.decoders() + declared.continuous_decoders()} == set(registry.names())


def test_models_are_those_that_can_be_loaded_with_their_sizes():
    names = [name for name, _ in declared.models()]
    assert names == [*toymodels.names(), *models.names()]
    assert [name for name, _ in declared.continuous_models()] == [*continuous_toys.names(), *trained.names()]
    lines = dict(declared.models() + declared.continuous_models())
    assert lines["dense-3x6"] == "every token has mass after every prefix; 3 tokens, 6 positions"
    assert lines["gauss-1x6"] == "Gaussians with independent coordinates; 1 dimension, 6 positions"
    assert lines["gauss-2x6"].endswith("; 2 dimensions, 6 positions")
    assert "trained transformer" in lines[digits.names()[0]]
    assert "patches" in lines[trained.names()[0]]


def test_sizes_that_a_summary_states_are_those_of_the_code():
    lines = dict(declared.models() + declared.continuous_models())
    assert f"guidance of {guided.SCALE:g} " in lines["guided-2x5"]
    assert f"{continuous_toys.STEPS} steps" in lines["chain-1x4"]
    assert f"{continuous_toys.STEPS} steps" in lines["score-1x4"]


def test_drafts_are_those_that_can_be_made():
    for lines, kinds in (
        (declared.drafts(), drafts.kinds()),
        (declared.continuous_drafts(), continuous_drafts.kinds()),
    ):
        assert sorted(name for name, _ in lines) == sorted(kinds)
        assert all(text for _, text in lines)


def test_defects_have_their_mechanism_and_controls_come_last_and_say_so():
    known = {name: defects.get(name) for name in defects.names()}
    said = {name: ("" if each.lossy else "not a defect: ") + each.mechanism for name, each in known.items()}
    assert dict(declared.defects()) == said
    assert len(declared.defects()) == len(said)
    assert [known[name].lossy for name, _ in declared.defects()] == sorted(
        (d.lossy for d in known.values()), reverse=True
    )
    vectors = {name: continuous_defects.get(name) for name in continuous_defects.names()}
    assert declared.continuous_defects() == [
        (name, ("" if each.lossy else "not a defect: ") + each.mechanism) for name, each in vectors.items()
    ]


def test_checks_are_the_classes_that_keep_to_the_protocol():
    found = []
    for module in sorted(info.name for info in pkgutil.iter_modules(specverify.evidence.__path__)):
        for name, value in vars(importlib.import_module(f"specverify.evidence.{module}")).items():
            own = inspect.isclass(value) and value.__module__ == f"specverify.evidence.{module}"
            if own and all(hasattr(value, part) for part in ("check", "smallest_detectable", "sample_size")):
                found.append((f"{module}.{name}", value.__doc__.splitlines()[0]))
    assert len(found) > 20
    assert declared.checks() == found


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("verify", "--help"),
        ("tradeoff", "--help"),
        ("list",),
        *(("list", kind) for kind in ("decoders", "models", "drafts", "defects", "checks")),
    ],
)
def test_help_and_lists_import_nothing_heavy(arguments):
    assert _loaded_by(*arguments) == (0, set())


@pytest.mark.parametrize(
    "arguments", [("verfy",), ("verify", "--tier", "slow"), ("verify", "--jobs", "many"), ("list", "colours")]
)
def test_usage_errors_import_nothing_heavy(arguments):
    assert _loaded_by(*arguments) == (3, set())


def test_listing_cells_and_a_pattern_without_a_cell_take_no_more_than_the_checks_of_cells():
    """A kind of cell is one file, so that its checks come with its plan."""
    assert _loaded_by("list", "cells") == (0, {"torch", "numpy", "scipy"})
    assert _loaded_by("verify", "--only", "exact/sdj/*") == (3, {"torch", "numpy", "scipy"})
