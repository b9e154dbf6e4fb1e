"""Results are taken over where nothing that they depend on has changed: not what was asked for, code, nor weights."""

import hashlib
import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import toymodels
from realmodels import models
from specverify import digests, fetched
from specverify.opening import Opening

ASKED = ["quick", 0]


def test_other_code_does_not_take_results_over(tmp_path, monkeypatch):
    source = tmp_path / "package"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "rule.py").write_text("right = True\n")
    monkeypatch.setattr(toymodels, "__path__", [str(source)])
    before = digests.digest(*ASKED)
    assert digests.digest(*ASKED) == before != digests.digest("full", 0)
    (source / "deep" / "rule.py").write_text("right = False\n")
    assert digests.digest(*ASKED) != before


def test_code_is_that_of_the_packages_wherever_the_command_is_given(tmp_path, monkeypatch):
    before = digests.digest(*ASKED)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "record.json").write_text("{}")
    assert digests.digest(*ASKED) == before


@pytest.mark.parametrize("name", ["plugged_in.py", "plugged_in/inner.py"])
def test_the_code_of_a_plug_in_counts(tmp_path, monkeypatch, name):
    plugin, info = tmp_path / name, tmp_path / "plugged_in-1.0.dist-info"
    plugin.parent.mkdir(exist_ok=True)
    info.mkdir()
    if plugin.parent != tmp_path:
        (plugin.parent / "__init__.py").write_text("")
    plugin.write_text("raise AssertionError('it is not run')\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged-in\nVersion: 1.0\n")
    without = digests.digest(*ASKED)
    (info / "entry_points.txt").write_text("[specverify.image_models]\nown = plugged_in:opened\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = digests.digest(*ASKED)
    assert before != without
    plugin.write_text("raise AssertionError('nor is this')\n")
    assert (after := digests.digest(*ASKED)) != before
    made, weights = plugin.parent / "__pycache__", plugin.parent / "weights.pt"
    if plugin.parent != tmp_path:
        made.mkdir()
        (made / "inner.pyc").write_bytes(b"compiled")
        assert digests.digest(*ASKED) == after
        weights.write_bytes(b"whatever they end with")
        assert digests.digest(*ASKED) != after


@pytest.mark.parametrize("release", ["4.57.0", None])
def test_another_release_of_transformers_is_other_code(monkeypatch, release):
    before, version = digests.digest(*ASKED), digests.metadata.version

    def told(package):
        if package == "transformers" and release is None:
            raise digests.metadata.PackageNotFoundError(package)
        return release if package == "transformers" else version(package)

    monkeypatch.setattr(digests.metadata, "version", told)
    assert digests.digest(*ASKED) != before


def test_a_number_of_the_weights_changes_the_digest_and_what_is_not_read_does_not(made, tmp_path):
    folder = shutil.copytree(made["janus"], tmp_path / "mine")
    before = digests.digest(*ASKED, fetched.digest(str(folder)))
    assert before != digests.digest(*ASKED)
    (folder / "verify").mkdir()
    (folder / "verify" / "record.json").write_text("{}")
    (folder / "notes.md").write_text("of what was trained")
    assert digests.digest(*ASKED, fetched.digest(str(folder))) == before
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "norm" in name)
    weights[name][-1] += 1e-3
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert digests.digest(*ASKED, fetched.digest(str(folder))) != before


def test_files_that_settings_name_are_read_wherever_they_are(tmp_path):
    folder, elsewhere = tmp_path / "mine", tmp_path / "weights.bin"
    folder.mkdir()
    elsewhere.write_bytes(b"some")
    (folder / "image-model.json").write_text(
        json.dumps({"adapter": "llamagen", "weights": "../weights.bin", "negative": "no " * 99})
    )
    before = fetched.digest(str(folder))
    elsewhere.write_bytes(b"more")
    assert fetched.digest(str(folder)) != before
    (folder / "image-model.json").write_text("no JSON")
    assert fetched.digest(str(folder)) not in ("", before)


def test_when_a_checkpoint_was_fetched_does_not_count_and_names_have_no_files(tmp_path, monkeypatch):
    monkeypatch.setenv(fetched.VARIABLE, str(tmp_path))
    found = []
    for time in (4e9, 5e9):
        folder = fetched.place("org/name", "0" * 40)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_bytes(b"weights")
        one = fetched.Checkpoint(folder, "org/name", "0" * 40, "MIT", "janus", "", time)
        fetched.begin(one)
        fetched.end(replace(one, files=(fetched.File("model.safetensors", 7, "abc"),)))
        found.append(fetched.digest("org/name"))
    assert found == [hashlib.sha256(b"model.safetensors abc\n").hexdigest()] * 2  # as it was checked when it came
    (folder / "model.safetensors").write_bytes(b"trained")  # on
    os.utime(folder / "model.safetensors", (6e9, 6e9))
    assert fetched.digest("org/name") != found[0]
    assert fetched.digest("digits-s") == fetched.digest("random:janus-pro-1b") == fetched.digest("") == ""


def test_a_model_that_is_kept_is_opened_anew_when_its_weights_were_written_anew(made, tmp_path):
    folder = shutil.copytree(made["janus"], tmp_path / "mine")
    opening = Opening(str(folder), ((1, 2),))
    first = models.kept(opening, "cpu")
    assert models.kept(opening, "cpu") is first
    weights = {name: 2 * weight for name, weight in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    second = models.kept(opening, "cpu")
    laws = (each.laws(each.start(1), torch.zeros(1, 0, dtype=torch.int64)) for each in (first, second))
    assert not torch.equal(*laws)
