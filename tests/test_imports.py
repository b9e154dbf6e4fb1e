"""Imports run one way, so that the core can be read, and used, without what is built on it."""

import ast
import functools
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A part is a folder or a module, with those named after it (`cli_x` is part of `cli`). It may import itself and what
# stands on the lines above, never a neighbour on its own line.
LAYERS = (
    ("deadline", "errors", "lockstep", "memory"),
    ("tree",),
    ("catalogue", "checksum", "claims", "declared", "environment", "files", "model", "noise", "outcomes", "seeds"),
    ("fetched",),
    ("opening", "room"),
    ("cell", "draws", "enumerated", "processors", "waits"),
    ("conformance", "plan", "worlds"),
    ("recorded",),
    ("laws",),
    ("rules",),
    ("decoders",),
    ("evidence",),
    ("verdict",),
    ("judge",),
    ("batteries", "continuous_density"),
    ("subjects.rounds",),
    ("defects",),
    ("subjects",),
    ("report",),
    ("pool",),
    ("costs", "digests", "relaxed", "sensitivity", "study"),
    ("engine",),
    ("kinds",),
    ("cells", "planner", "killmatrix", "calibration"),
    ("campaign",),
    ("bench", "tradeoff"),
    ("compare", "gpu"),
    ("cli", "integrations"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MAY_USE_TOYS = {
    "subjects",
    "defects",
    "continuous_density",
    "plan",
    *(name for line in LAYERS[LEVEL["costs"] :] for name in line),
}
MAKES_MODELS = {
    f"evidence/{name}.py" for name in ("cases", "exact/goals", "exact/proof", "farthest", "flow", "localise", "smaller")
}
"""The search for counterexamples: its cases are models, which it shrinks and takes apart as tables."""
MODELS = ("toymodels", "realmodels")


def files(package):
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py"))


@functools.cache
def imported(file):
    """The dotted names that a file imports from this repository, inside functions too."""
    return tuple(_imported(file))


def _imported(file):
    for node in ast.walk(ast.parse((ROOT / file).read_text(), file)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} is a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("specverify", *MODELS))


def for_types(file):
    """Those that it imports for its annotations alone."""
    guards = (node for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.If))
    body = [line for node in guards if ast.unparse(node.test) == "TYPE_CHECKING" for line in node.body]
    return {f"{line.module}.{alias.name}" for line in body if isinstance(line, ast.ImportFrom) for alias in line.names}


def part(name):
    """The part of specverify that a dotted name belongs to: the longest that is listed, or else its first word."""
    words = name.split(".")[1:]
    listed = (known for known in (".".join(words[:n]) for n in (2, 1)) if known in LEVEL)
    return next(listed, words[0].partition("_")[0] if words else "")


def parts(names):
    """The parts of specverify among dotted names."""
    return {part(name) for name in names if name.startswith("specverify.")} & set(LEVEL)


def module(file):
    """A file's dotted name."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_every_part_has_its_layer():
    found = {part(module(file)) for file in files("specverify")} - {""}
    assert len(found) > 8
    assert found <= set(LEVEL), f"give {found - set(LEVEL)} a line in LAYERS"


def test_imports_point_one_way():
    wrong = {}
    for file in files("specverify"):
        own = part(module(file))  # importing specverify itself must not import the rest of it
        low = {other for other in parts(imported(file)) if not own or (other != own and LEVEL[other] >= LEVEL[own])}
        wrong |= {file: low} if low else {}
    assert not wrong, "these are built on what imports them, or stand beside it"


def test_no_imports_go_in_a_circle():
    """Not even within a part, where the layers say nothing, nor inside functions; what types alone need goes apart."""
    names = {module(file): file for package in ("specverify", *MODELS) for file in files(package)}
    uses = {
        name: {one if one in names else one.rpartition(".")[0] for one in set(imported(file)) - for_types(file)}
        & set(names)
        for name, file in names.items()
    }
    while free := {name for name, used in uses.items() if not used & set(uses)}:
        uses = {name: used for name, used in uses.items() if name not in free}
    assert not uses, "each of these imports another of them"


def test_models_know_nothing_of_evidence():
    found = {file: parts(imported(file)) for package in MODELS for file in files(package)}
    wrong = {file: high for file, all_ in found.items() if (high := {o for o in all_ if LEVEL[o] >= LEVEL["evidence"]})}
    assert not wrong, "models are judged, they do not judge"


def test_the_core_takes_its_models_as_arguments():
    wrong = {}
    for file in files("specverify"):
        models = {name for name in imported(file) if name.split(".")[0] in MODELS}
        allowed = part(module(file)).split(".")[0] in MAY_USE_TOYS or file.removeprefix("specverify/") in MAKES_MODELS
        wrong |= {file: models} if models and not allowed else {}
    assert not wrong


CORE = "specverify.decoders, specverify.evidence.enumerate, specverify.judge"
HEAVY = ("toymodels", "realmodels", "matplotlib", "sklearn", "typer", "transformers", "hypothesis")


@pytest.mark.parametrize(
    ("loaded", "heavy"),
    [
        (CORE, HEAVY),
        ("specverify.report.render", ("torch", "scipy", "sklearn", "transformers")),
        ("realmodels.models, realmodels.train", ("transformers", "sklearn")),
    ],
)
def test_what_is_loaded_does_without(loaded, heavy):
    program = f"import sys, {loaded}; print(*(name for name in {heavy} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


FREE = {
    "specverify/report/shape.py": 1,  # a JSON schema
    "specverify/report/shape_cells.py": 1,  # what a check drew its figures from
    "specverify/report/shape_testers.py": 3,  # what judgements say of a place, which differs from level to level
}
LOOSE = (
    "specverify/cli_models.py",
    "realmodels/models.py",
    "specverify/files.py",
    "realmodels/adapters/causal.py",
)
"""Arguments of somebody else's function, and somebody else's JSON."""


TEXTS = {file: (ROOT / file).read_text() for package in ("specverify", *MODELS) for file in files(package)}


def test_what_is_written_down_has_a_class():
    found = {file: text.count("dict[str, Any]") for file, text in TEXTS.items()}
    most = dict.fromkeys(found, 0) | FREE | dict.fromkeys(LOOSE, 1)
    assert sum(map(bool, most.values())) < 10
    assert {file: n for file, n in found.items() if n > most[file]} == {}, "give them a class, as report/shape*.py has"


def test_what_a_model_is_is_told_by_its_protocol():
    asked = "has" + "attr(model"
    assert [file for file, text in TEXTS.items() if asked in text] == [], "they guess at a model; see model.py"


OTHERS = {
    "specverify.claims": "Lossless ClusterLossless Relaxed",
    "specverify.decoders": "Autoregressive Branch DraftModel Info Jacobi Speculative begin commit sample",
    "specverify.decoders.continuous": "DraftModel Jacobi Reflection Speculative",
    "specverify.decoders.continuous.registry": "Settings build entry",
    "specverify.decoders.registry": "Settings build entry names",
    "specverify.decoders.protocol": "Branch Info State begin commit",
    "specverify.draws": "Draws Sampled",
    "specverify.evidence.enumerate": "enumerate_decoder target_law",
    "specverify.evidence.sequences": "ExactLaw target_law",
    "specverify.model": "Checked Model row_mask",
    "specverify.processors": "Processed Processor parse_processors temperature top_k top_p",
    "specverify.rules.token": "accept_probability residual",
    "toymodels": "draft names toy",
    "toymodels.tables": "TableModel enumerable prefixes",
}
"""What subjects of others import: a file that was judged once can be judged again."""


@pytest.mark.parametrize("where", OTHERS)
def test_names_stay_where_others_import_them(where):
    there = importlib.import_module(where)
    assert [name for name in OTHERS[where].split() if not hasattr(there, name)] == []
