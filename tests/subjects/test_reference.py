"""What a first look at a reference tells, without running anything."""

import subprocess
import sys

import pytest

from specverify.errors import InputError
from specverify.subjects import reference, resolve

MODULE = """
from dataclasses import dataclass as data
import os.path
try:
    import torch as fast
except ImportError:
    fast = None
RIGHT, (ALSO, *REST) = 1, (2, 3)
if RIGHT:
    class Inner:
        hidden = 1
for number in range(3):
    pass
def make():
    global late
    inside = 1
    late = [each for each in range(3)]
"""


@pytest.fixture(autouse=True)
def _modules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(MODULE)
    (tmp_path / "lazy.py").write_text("def __getattr__(name):\n    return name\n")
    (tmp_path / "made.py").write_text("globals()['thing'] = 1\n")
    (tmp_path / "log.csv").write_text("1,2\n")
    (tmp_path / "starred.py").write_text("from own import *\n")
    (tmp_path / "rude.py").write_text("print('hello')\n")
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "pack" / "deep").mkdir(parents=True)
    (tmp_path / "pack" / "__init__.py").write_text("import nothing_that_is_there\n")
    (tmp_path / "pack" / "deep" / "__init__.py").write_text("")
    (tmp_path / "pack" / "deep" / "part.py").write_text("X = 1\n")


@pytest.mark.parametrize("name", ["data", "os", "fast", "RIGHT", "ALSO", "REST", "Inner", "number", "make", "late"])
def test_what_a_module_binds_is_there(name):
    reference.check(f"own.py:{name}")
    reference.check(f"own:{name}.anything.more")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "lazy:anything",
            "made.py:thing",
            "starred:RIGHT",
            "broken.py:x",
            "own:__name__",
            "pack:deep",
            "pack.deep.part:X",
        ),
        *("os.path:join", "json:dumps", "numpy.random:default_rng", *resolve._own()),
    ],
)
def test_what_only_running_could_tell_is_left_to_that(name):
    reference.check(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own.py:RIHGT", r"own.py has no 'RIHGT'; did you mean RIGHT\?"),
        ("own:hidden", "own has no 'hidden'; own holds ALSO, Inner"),
        ("own:inside", "own has no 'inside'"),
        ("own.py:xyzzy", "own.py has no 'xyzzy'; own.py holds ALSO, Inner, REST, RIGHT, late, make, number$"),
        ("own.py:mke", r"own.py has no 'mke'; did you mean make\?"),
        ("onw.py:RIGHT", r"onw.py: no such file in .*; did you mean own.py"),
        ("there/own.py:x", r"there/own.py: no such file \(there is no folder .*there\)"),
        ("pack.deep.prat:X", "no module named 'pack.deep.prat' in .* a file is named by its path"),
        ("nowhere_at_all:x", "no module named 'nowhere_at_all' in"),
        ("own:", "'own:' names no object; write own:OBJECT"),
        ("own.py", "own.py is a file; name an object in it: own.py:OBJECT"),
        ("log.csv", "log.csv is a file of no kind that can be judged: a log is one in .npz or .safetensors"),
        ("pack", "pack is a folder; name an object in a file of it: .*pack/FILE.py:OBJECT"),
        ("log.npz", "log.npz: no such file"),
        ("scd-mcc", r"'scd-mcc' is no plug-in and no decoder; did you mean scd-mc"),
        ("nothing-of-the-kind-at-all", "no plug-in and no decoder; see `specverify list`. Other subjects"),
        ("a b:c", "'a b:c' is no reference"),
    ],
)
def test_what_names_nothing_is_said(name, words):
    with pytest.raises(InputError, match=words):
        reference.check(name)


def test_another_folder_can_be_looked_at(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "only_there.py").write_text("X = 1\n")
    reference.check("only_there:X", tmp_path / "other")
    assert reference.source("only_there.py:X", tmp_path / "other") == tmp_path / "other" / "only_there.py"
    with pytest.raises(InputError, match="only_there"):
        reference.check("only_there:X")


def test_it_runs_nothing_and_loads_nothing_slow():
    slow = ("torch", "numpy", "own", "pack")
    program = (
        "import sys; from specverify.subjects import reference; reference.check('own:RIGHT'); "
        f"print([name for name in {slow} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert resolve.near("a", ["b"], "there is") == "there is b"
