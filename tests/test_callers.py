"""Nothing is in the product for the sake of its tests: what has no caller there is no part of it."""

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = [path for part in ("specverify", "toymodels", "realmodels") for path in sorted((ROOT / part).rglob("*.py"))]
SHOWN = [*(ROOT / "specverify").rglob("templates/*"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
CALLED_BY_OTHERS = {
    "specverify.model.Checked": "by who looks at a model of theirs",
    "specverify.conformance_result.demand": "by who looks at an image model of theirs",
    "specverify.laws.chain.check_path": "by who looks at a head of theirs",
    "toymodels.strategies.draft_models": "a strategy for tests of anybody",
    "toymodels.strategies.windowed_models": "a strategy for tests of anybody",
    "specverify.integrations.image_toys.key_cache": "by loops that are written for caches of their own",
    "specverify.integrations.image_toys.value_cache": "by loops that are written for caches of their own",
    "specverify.integrations.trunk.reset_parameters": "by torch",
    "specverify.integrations.pytest_plugin.pytest_configure": "by pytest",
    "specverify.integrations.pytest_plugin.pytest_pyfunc_call": "by pytest",
    "specverify.subjects.sampler_worlds._should_skip_dynamo": "by torch",
    "specverify.cli._root": "by typer",
}
CHECK = {"check", "smallest_detectable", "sample_size"}


def words(text):
    return Counter(re.findall(r"[A-Za-z_]\w*", re.sub(r'"""[\s\S]*?"""', "", text)))


def defined():
    """(dotted name of the module, node) of every function, method and class."""
    for path in FILES:
        module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("__"):
                yield module, node


def test_everything_has_a_caller():
    read = sum((words(path.read_text()) for path in FILES), Counter())
    read += sum((Counter(re.findall(r"[A-Za-z_]\w*", path.read_text())) for path in SHOWN), Counter())
    names = [(module, node.name) for module, node in defined()]
    written = Counter(name for _, name in names)
    idle = {f"{module}.{name}" for module, name in names if read[name] <= written[name]}
    assert idle == set(CALLED_BY_OTHERS), "delete what nothing calls, or move it to the tests that do"


def test_every_check_has_a_user_beside_its_calibration():
    used = sum((words(path.read_text()) for path in FILES if "calibration" not in path.parts), Counter())
    checks = [
        node.name
        for module, node in defined()
        if isinstance(node, ast.ClassDef)
        and module.startswith("specverify.evidence.")
        and {part.name for part in node.body if isinstance(part, ast.FunctionDef)} >= CHECK
    ]
    assert len(checks) > 20
    assert [name for name in checks if used[name] < 2] == []
