"""References, plug-ins, claims and levels from text."""

import json
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

from specverify.claims import ClusterLossless, Lossless, Relaxed
from specverify.decoders import Autoregressive, registry
from specverify.errors import InputError
from specverify.subjects import resolve
from specverify.subjects.judgement import Level
from specverify.subjects.level import level_of
from specverify.subjects.round import plain

FILE = Path(__file__).parent / "examples" / "misbehaving.py"


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch):
    """What a test imports is forgotten afterwards."""
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    monkeypatch.setattr("sys.modules", dict(__import__("sys").modules))


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def installed(monkeypatch):
    """Pretend that entry points are installed."""

    def install(**values):
        made = [metadata.EntryPoint(name.rstrip("_"), value, resolve.GROUP) for name, value in values.items()]
        owned = [SimpleNamespace(name=e.name, value=e.value, dist=SimpleNamespace(name="acme-decoders")) for e in made]
        monkeypatch.setattr(metadata, "entry_points", lambda group: owned if group == resolve.GROUP else [])

    return install


def test_modules_of_the_current_folder_and_dotted_objects(module):
    module("acme_fast/parts.py", "class A:\n    class B:\n        value = 3\n")
    module("acme_fast/__init__.py", "")
    assert resolve.resolve("acme_fast.parts:A.B.value") == 3


def test_files_are_found_by_path_and_keep_their_neighbours(module):
    module("deep/neighbour.py", "value = 5\n")
    path = module("deep/random.py", "from dataclasses import dataclass\nfrom neighbour import value\nx = value + 1\n")
    assert resolve.resolve(f"{path}:x") == 6
    assert resolve.resolve("deep/random.py:x") == 6
    assert __import__("random").random() < 1


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nowhere_at_all.mod:x", "no module named 'nowhere_at_all'"),
        ("json.nothing:x", "no module named 'json.nothing'"),
        ("json:dumsp", "json has no 'dumsp'; did you mean dump or dumps"),
        ("json:codec", "json has no 'codec'; did you mean .*JSONDecode"),
        ("json:JSONDecoder.decoed", r"json:JSONDecoder has no 'decoed'; did you mean decode"),
        ("no/such/file.py:x", "no/such/file.py: no such file"),
        ("json:", "'json:' names no object; write json:OBJECT"),
        ("a b:c", "'a b:c' is no reference; write PKG.MOD:OBJECT"),
        ("..x:c", "'..x:c' is no reference"),
        ("what.npz", "what.npz: no such file"),
        ("scd-mcc", "did you mean scd-mc"),
        ("json", "'json' is no plug-in and no decoder"),
        ("fails:x", r"fails raises ZeroDivisionError when imported: division by zero \(fails.py:2\)"),
        ("leaves:x", r"leaves raises SystemExit when imported: 3 \(leaves.py:2\)"),
        ("garbled.py:x", r"garbled.py raises SyntaxError when imported: .* \(garbled.py:1\)"),
        ("needy:x", "needy cannot be imported: it needs the module 'not_there_at_all'"),
        ("needy.py", "needy.py is a file; name an object in it: needy.py:OBJECT"),
        ("needy.Decoder", "'needy.Decoder' is no reference; did you mean needy.py:Decoder?"),
    ],
)
def test_what_names_nothing_is_told_apart(module, reference, words):
    module("fails.py", "x = 1\n1 / 0\n")
    module("leaves.py", "import sys\nsys.exit(3)\n")
    module("garbled.py", "def (:\n")
    module("needy.py", "import not_there_at_all\n")
    with pytest.raises(InputError, match=words) as caught:
        resolve.resolve(reference)
    assert "\n" not in str(caught.value)


def test_plugins_are_listed_without_being_run(module, installed):
    module("explosive.py", "raise RuntimeError('run')\n")
    __import__("sys").path.insert(0, ".")
    installed(good="json:dumps", bad="explosive:x", odd="json", gone="not_there_at_all:x")
    found = resolve.plugins()
    assert list(found) == ["good", "bad", "odd", "gone"]
    assert found["good"].summary == "plug-in of acme-decoders: json:dumps"
    assert found["bad"].broken == ""
    assert found["odd"].summary == "plug-in of acme-decoders: broken: 'json' is not MODULE:OBJECT"
    assert "not installed" in found["gone"].broken


def test_a_broken_plugin_is_named_and_the_others_work(module, installed):
    module("explosive.py", "raise RuntimeError('bang')\n")
    installed(good="json:dumps", bad="explosive:x", odd="json")
    assert resolve.resolve("good")([1]) == "[1]"
    with pytest.raises(
        InputError, match=r"plug-in 'bad' of acme-decoders is broken: explosive raises RuntimeError.*bang"
    ):
        resolve.resolve("bad")
    with pytest.raises(InputError, match="plug-in 'odd' of acme-decoders is broken: 'json' is not MODULE:OBJECT"):
        resolve.resolve("odd")
    with pytest.raises(InputError, match="did you mean good"):
        resolve.resolve("godo")


def test_decoders_of_its_own_go_before_plugins(installed):
    installed(ar="json:dumps")
    assert "taken" in resolve.plugins()["ar"].broken
    assert resolve.resolve("ar") is not __import__("json").dumps


@pytest.mark.parametrize("name", ["scd-mc", "stale-scores-after-coupling"])
def test_names_of_its_own_make_decoders(name):
    made = resolve.resolve(name)
    assert made(registry.Settings(window=3)).window == 3
    assert level_of(name, made) == "decoder"


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("lossless", Lossless()),
        ("relaxed:0.05", Relaxed(0.05)),
        ("cluster:0,1|2,3", ClusterLossless(((0, 1), (2, 3)))),
        ("cluster:0|1,2", ClusterLossless(((0,), (1, 2)))),
    ],
)
def test_claims_from_text_and_back(text, claim):
    assert resolve.parse_claim(text) == claim
    assert resolve.claim_text(claim) == text


def test_a_claim_is_read_as_it_is_printed():
    assert resolve.parse_claim(str(Relaxed(0.05))) == Relaxed(0.05)


@pytest.mark.parametrize("text", ["", "perfect", "lossless:1", "relaxed", "relaxed:x", "cluster:a|b", "cluster:"])
def test_no_claim(text):
    with pytest.raises(InputError, match=r"use lossless, relaxed:TV such as relaxed:0.05, or cluster:0,1\|2,3"):
        resolve.parse_claim(text)


@pytest.mark.parametrize(
    ("text", "words"), [("relaxed:2", "lies between 0 and 1"), ("cluster:0,2", "no partition"), ("cluster:0,0", "no p")]
)
def test_claims_that_cannot_be(text, words):
    with pytest.raises(InputError, match=words):
        resolve.parse_claim(text)


def test_levels(tmp_path):
    def sampler(target, draft, n, seed):
        return None

    assert level_of("x", Autoregressive()) == "decoder"
    assert level_of("x", plain(sampler)) == "round"
    assert level_of("x", sampler, "sampler") == "sampler"
    assert level_of("x", Autoregressive(), "continuous") == "decoder"
    assert level_of("cspd", resolve.resolve("cspd"), "continuous") == "decoder"
    assert level_of("x", tmp_path / "a.npz") == "trace"


@pytest.mark.parametrize(
    ("subject", "level", "words"),
    [
        (lambda a, b: None, None, r"x is a function of \(a, b\).*--level round if it is .*--level sampler if it is"),
        (7, None, "x is an object of type int, which is no subject. decoder: an object with `init"),
        (7, "sampler", "x is an object of type int; at level sampler a subject is a function"),
        (lambda a: None, "trace", "at level trace a subject is a file"),
        (Path("a.npz"), "round", "a.npz|x is a file, which is judged at level trace, not round"),
        (7, "kernel", "unknown level 'kernel'; known: decoder, round, sampler, trace"),
    ],
)
def test_levels_that_do_not_fit(subject, level, words):
    with pytest.raises(InputError, match=words):
        level_of("x", subject, level)


def test_every_level_has_its_place_in_a_record():
    schema = json.loads((Path(__file__).parents[2] / "reports" / "schema" / "record-1.json").read_text())
    (known,) = [found for found in _enums(schema) if "trace" in found]
    assert set(known) == set(get_args(Level)) == {*resolve.LEVELS, *resolve.ALIASES, "unknown"}


def _enums(schema):
    if isinstance(schema, dict):
        if "enum" in schema:
            yield schema["enum"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _enums(part)
