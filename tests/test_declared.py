"""What `specverify list` reads from the source is what the catalogues hold, and reading it imports nothing heavy."""

import importlib
import inspect
import itertools
import pkgutil
import subprocess
import sys
from dataclasses import asdict, fields
from importlib import metadata
from pathlib import Path

import pytest

import specverify.evidence
import toymodels
from realmodels import continuous as trained
from realmodels import digits, models
from specverify import declared, defects
from specverify.decoders import registry
from specverify.defects import continuous as continuous_defects
from specverify.rules import registry as rules
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


def test_models_of_other_packages_are_listed(monkeypatch):
    found = [metadata.EntryPoint("mine", "some_package:opener", models.GROUP)]
    monkeypatch.setattr(metadata, "entry_points", lambda group: found if group == models.GROUP else [])
    assert declared.installed_models() == [("mine", "opened by some_package:opener")]


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


@pytest.mark.thinned(4)
@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("verify", "--help"),
        ("tradeoff", "--help"),
        ("list",),
        *(("list", kind) for kind in ("decoders", "models", "drafts", "defects", "checks", "cells")),
        ("list", "cells", "--tier", "full"),
    ],
)
def test_help_and_lists_import_nothing_heavy(arguments):
    assert _loaded_by(*arguments) == (0, set())


@pytest.mark.parametrize(
    "arguments", [("verfy",), ("verify", "--tier", "slow"), ("verify", "--jobs", "many"), ("list", "colours")]
)
def test_usage_errors_import_nothing_heavy(arguments):
    assert _loaded_by(*arguments) == (3, set())


def test_what_a_plan_reads_of_decoders_rules_and_toys_is_what_the_catalogues_hold():
    known = {field.name for field in fields(declared.OfDecoder)}
    assert known >= {"needs_draft_model", "races", "chains"}
    for name in registry.names():
        assert asdict(declared.decoder(name)) == {key: getattr(registry.entry(name), key) for key in known}
    for tokens, relaxed in itertools.product(("ids", "vectors"), (None, True, False)):
        assert declared.decoders_of(tokens, relaxed) == registry.names(tokens, relaxed)
    assert declared.sweeps() == {name: rules.rule(name).sweep for name in rules.names()}
    assert tuple(declared.toys()) == toymodels.names()
    assert tuple(declared.continuous_toys()) == continuous_toys.names()


def test_what_a_plan_reads_of_defects_is_what_they_state():
    lossy = [defects.get(name) for name in defects.names() if defects.get(name).lossy]
    assert list(declared.known_wrong().items()) == [(each.id, each.smallest) for each in lossy]
    vectors = [continuous_defects.get(name) for name in continuous_defects.names()]
    for controls in (False, True):
        stated = [(each.id, each.smallest) for each in vectors if each.lossy != controls]
        assert list(declared.continuous_known_wrong(controls).items()) == stated


def test_a_pattern_without_a_cell_is_refused_before_anything_heavy_is_imported():
    assert _loaded_by("verify", "--only", "exact/sdj/*") == (3, set())
