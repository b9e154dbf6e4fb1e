"""The parts: commands that the command lines take, and tests that are there."""

import re
from pathlib import Path

import pytest
import typer

from realmodels import train_vq, unweighted
from specverify import bench_judging, bench_passes, cli
from specverify.gpu.parts import ROOT, parts

EVERY = [
    (f"{kind}-{part.name}-{step.name}", part.name, step)
    for kind, small in (("full", False), ("small", True))
    for part in parts("cpu" if small else "cuda", small, Path("images.npz"))
    for step in part.steps
]
APPS = {
    "specverify.cli": cli.app,
    "specverify.bench_judging": bench_judging.app,
    "specverify.bench_passes": bench_passes.app,
    "realmodels.train_vq": train_vq.app,
}


@pytest.mark.parametrize(("part", "step"), [one[1:] for one in EVERY], ids=[one[0] for one in EVERY])
def test_a_command_is_one_that_can_be_given(part, step):
    """Options and their values are read as they would be, and nothing is carried out."""
    assert step.command[0] == "-m"
    module, *arguments = step.command[1:]
    if part == "tests":
        assert module == "pytest"
        assert Path(arguments[-1]).exists()
        return
    command = typer.main.get_command(APPS[module])
    if module == "specverify.cli":
        command = command.commands[arguments.pop(0)]
    context = command.make_context(module, arguments)
    for name in re.findall(r"random:\S+", " ".join(arguments)):
        assert unweighted.folder(name).is_dir()
    assert str(context.params["out"]).partition("/")[0] in (step.name, f"{step.name}.json", "checkpoints")


def test_every_test_that_needs_a_gpu_is_in_a_part():
    tests = next(part for part in parts("cuda", False) if part.name == "tests")
    covered = [Path(step.command[-1]) for step in tests.steps]
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in path.read_text()]
    assert len(marked) > 4
    for path in marked:
        assert path == Path(__file__) or any(path == one or one in path.parents for one in covered), path


def test_names_are_unique():
    for small in (False, True):
        found = parts("cpu", small, Path("images.npz"))
        assert len({part.name for part in found}) == len(found) == 7
        for part in found:
            assert len({step.name for step in part.steps}) == len(part.steps) > 0
    assert [part.needs for part in parts("cuda", False)][-1] == "colour images, given with --images FILE"
