"""Parts that add up: what is done is skipped, what was ended goes on, and each part is one file."""

import json
import signal
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from specverify import files
from specverify.errors import InputError
from specverify.gpu import carry
from specverify.gpu.parts import Part, Step

SCRIPT = """
import pathlib, sys, time
notes = pathlib.Path("notes.txt")
notes.write_text((notes.read_text() if notes.exists() else "") + sys.argv[1] + "\\n")
pathlib.Path(".half").write_text("what is being written")
print("in", pathlib.Path.cwd())
time.sleep(float(sys.argv[2]))
sys.exit(int(sys.argv[3]))
"""


def step(name, seconds=0.0, code=0, codes=(0,)):
    return Step(name, ("-c", SCRIPT, name, str(seconds), str(code)), codes)


@pytest.fixture
def run(tmp_path):
    said = []

    def run(*parts, seconds=None):
        said.clear()
        return carry.carry_out(parts, tmp_path, "cpu", seconds, said.append), list(said)

    return run


def content(path, name):
    with zipfile.ZipFile(path) as archive:
        return archive.read(name).decode()


def test_what_is_done_is_kept_and_skipped(run, tmp_path):
    part = Part("one", "", (step("a"), step("b", code=1, codes=(0, 1))))
    whole, said = run(part)
    assert whole
    assert [line.split(", ")[0] for line in said] == ["one: a: exit code 0", "one: b: exit code 1"]
    path = carry.path_of("one", tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == ["a.log", "b.log", "notes.txt", "part.json"]
    done = carry.read(path)["b"]
    assert (done["code"], done["device"], done["accelerator"]) == (1, "cpu", None)
    assert done["tail"] == "in FOLDER\n"
    assert done["software"]["torch"]
    assert run(part) == (True, ["one: done"])
    assert content(path, "notes.txt") == "a\nb\n"


def test_a_step_that_failed_is_tried_again_beside_what_it_left(run, tmp_path):
    whole, said = run(Part("one", "", (step("a", code=3), step("b"))))
    assert (whole, len(said)) == (False, 2)
    path = carry.path_of("one", tmp_path)
    assert carry.read(path)["a"]["code"] == 3
    whole, said = run(Part("one", "", (step("a"), step("b"))))
    assert (whole, len(said)) == (True, 1)
    assert content(path, "notes.txt") == "a\nb\na\n"


def test_another_command_is_another_step(run, tmp_path):
    run(Part("one", "", (step("a"),)))
    whole, said = run(Part("one", "", (step("a", seconds=0.01),)))
    assert whole
    assert said != ["one: done"]


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["by hand", "in a script's background"])
def shell(request):
    """What a shell does with Ctrl-C: what a script runs in the background is begun with it ignored."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("shell")
def test_what_has_no_time_left_is_ended_and_goes_on(run, tmp_path, monkeypatch):
    monkeypatch.setattr(carry, "LEAST", 0.5)
    part = Part("one", "", (step("a", seconds=60), step("b")))
    begun = time.monotonic()
    whole, said = run(part, seconds=3)
    assert time.monotonic() - begun < 30
    assert not whole
    assert said[0].startswith("one: a: ended for want of time")
    assert said[1] == "one: the time is over; the same command continues"
    path = carry.path_of("one", tmp_path)
    assert carry.read(path)["a"]["code"] is None
    assert content(path, "notes.txt") == "a\n"


def test_a_file_is_written_while_a_step_runs(run, tmp_path, monkeypatch):
    monkeypatch.setattr(carry, "EVERY", 0.2)
    path, seen = carry.path_of("one", tmp_path), []

    def look():
        while not seen:
            time.sleep(0.05)
            if path.exists() and "notes.txt" in zipfile.ZipFile(path).namelist():
                seen.append(carry.read(path))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    run(Part("one", "", (step("a", seconds=2),)))
    thread.join(10)
    assert seen == [{}]


def test_what_is_too_large_is_left_out(run, tmp_path, monkeypatch):
    monkeypatch.setattr(carry, "LARGEST", 100)
    run(Part("one", "", (step("a"),)))
    assert "notes.txt" in zipfile.ZipFile(carry.path_of("one", tmp_path)).namelist()
    monkeypatch.setattr(carry, "LARGEST", 1)
    _, said = run(Part("two", "", (step("a"),)))
    assert "notes.txt" not in zipfile.ZipFile(carry.path_of("two", tmp_path)).namelist()
    assert "more than the 0 that it should have" in said[-1]


def test_a_part_that_lacks_something_says_what(run):
    assert run(Part("one", "", (), "colour images")) == (True, ["one: needs colour images"])


def test_two_calls_do_not_work_on_one_folder(run, tmp_path):
    with files.locked(tmp_path), pytest.raises(InputError, match=r"another call works on .*; wait for it, or choose"):
        run(Part("one", "", (step("a"),)))
    assert run(Part("one", "", (step("a"),)))[0]


@pytest.mark.parametrize("content", [b"", b"no archive"], ids=["empty", "other"])
def test_a_damaged_file_is_named(run, tmp_path, content):
    path = carry.path_of("one", tmp_path)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"one\.zip is no file of a part .* remove it, or choose another --out"):
        run(Part("one", "", (step("a"),)))


def test_an_archive_of_something_else_is_named(run, tmp_path):
    path = carry.path_of("one", tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.json", "{}")
    with pytest.raises(InputError, match="is no file of a part"):
        run(Part("one", "", (step("a"),)))


def test_the_checkout_goes_before_what_is_installed(run, tmp_path):
    code = "import json, specverify; open('where.json', 'w').write(json.dumps(specverify.__file__))"
    run(Part("one", "", (Step("a", ("-c", code)),)))
    found = json.loads(content(carry.path_of("one", tmp_path), "where.json"))
    assert Path(found).is_relative_to(Path(__file__).parents[2])
    assert sys.executable not in carry.read(carry.path_of("one", tmp_path))["a"]["command"]
