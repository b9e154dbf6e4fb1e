"""`specverify fetch` from a hub on this machine: whole, broken off, damaged, refused; and what opens afterwards."""

import contextlib
import errno
import json
import os
import shutil
import socket
import sys
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from commands import ran
from folders import PROMPTS
from hub import Hub
from huggingface_hub import file_download
from typer.testing import CliRunner

from realmodels import fetch
from realmodels.models import open_model
from specverify import cli, cli_fetch, fetched, files
from specverify.decoders.registry import Settings, build
from specverify.decoders.run import sample
from specverify.errors import InputError
from specverify.opening import Real

ID, WEIGHTS = Hub.id, "model.safetensors"
OLD = int(huggingface_hub.__version__.partition(".")[0]) < 1
OTHERS = {
    "README.md": b"of it",
    "modeling.py": b"import os",
    "pytorch_model.bin": b"80",
    "specverify-checkpoint.json": b"{}",
}
PROMPT = ["--condition", "[1, 7, 2]"]


@pytest.fixture
def hub(made, served):
    """A hub with Janus."""
    return served(Hub(made["janus"], **OTHERS))


def got(**more):
    return fetch.carry_out(fetch.plan(ID, **more))


def folder_of(hub):
    return fetched.place(ID, hub.commit)


def decoded(model):
    return sample(build("sjd", Settings(4)), model, 3, 0, 3).tokens


def test_what_was_fetched_opens_by_its_id_and_decodes_as_its_source_does(hub, made):
    said = ran("fetch", ID, "--revision", "main", "--yes")
    for line in (f"commit      {hub.commit} (main)", "licence     mit", "adapter     janus", "files       3, "):
        assert line in said
    assert "GB" in said.partition("free ")[2]
    there = {path.name: path.read_bytes() for path in folder_of(hub).iterdir()}
    marker = json.loads(there.pop(fetched.MARKER))
    assert there == {name: hub.files[name] for name in there}
    assert set(there) == {"config.json", "generation_config.json", WEIGHTS}
    assert {file["path"]: file["size"] for file in marker["files"]} == {name: len(data) for name, data in there.items()}
    source = decoded(open_model(made["janus"], conditions=PROMPTS))
    for name in (ID, f"{ID}@{hub.commit}", f"{ID}@{hub.commit[:7]}", folder_of(hub)):
        assert torch.equal(decoded(open_model(name, conditions=PROMPTS)), source)


def test_records_and_lists_name_the_commit(hub, tmp_path):
    got()
    ran("sample", ID, *PROMPT, "--n", 1, "--guidance", 1, "--out", tmp_path / "grid.png")
    assert json.loads((tmp_path / "grid.json").read_text())["model"] == f"{ID}@{hub.commit}"
    assert f"{ID}@{hub.commit}" in "".join(ran("list", "models").split())
    assert fetched.pinned(ID) == f"{ID}@{hub.commit}"
    assert Real(fetched.pinned(ID)).label == f"tiny-{hub.commit[:7]}"
    with pytest.raises(InputError, match="has no classes of its own"):
        Real(ID).check()


def test_a_broken_connection_is_taken_up(hub):
    hub.cut[WEIGHTS] = 4000
    with contextlib.suppress(InputError):  # releases of huggingface_hub below 1 leave that to the next call
        got()
    assert got().size == sum(len(hub.files[name]) for name in ("config.json", "generation_config.json", WEIGHTS))
    assert [span for path, span in hub.asked if path == WEIGHTS] == [None, "bytes=4000-"]


def test_a_download_that_broke_off_opens_nothing_and_goes_on_where_it_was(hub):
    hub.cut[WEIGHTS], hub.down = 5000, {WEIGHTS}
    # Releases of the hub's package before 1.0 do not ask again by themselves.
    said = "give the same command again" if OLD else "answers 503 for org/tiny; try again later"
    with pytest.raises(InputError, match=f"{said}: what is there is kept"):
        got()
    part = folder_of(hub) / f"{WEIGHTS}.part"
    assert part.read_bytes() == hub.files[WEIGHTS][:5000]
    for name in (ID, folder_of(hub)):
        with pytest.raises(
            InputError, match=f"is not finished: .*specverify fetch {ID} --revision {hub.commit} goes on"
        ):
            open_model(name, conditions=PROMPTS)
    assert f"unfinished; specverify fetch {ID} --revision {hub.commit}".replace(" ", "") in "".join(
        ran("list", "models").split()
    )
    hub.refused.clear()
    plan = fetch.plan(ID)
    assert plan.there == 5000 + len(hub.files["config.json"]) + len(hub.files["generation_config.json"])
    hub.asked.clear()
    fetch.carry_out(plan)
    assert hub.asked == [(WEIGHTS, "bytes=5000-")]
    assert not part.exists()
    assert open_model(ID, conditions=PROMPTS).length == 16


def flipped(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", [WEIGHTS, "generation_config.json"])
@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (flipped, "(SHA-256|git blob id) is .*, and .* is due"),
        (lambda content: content[:-9], "bytes are due|bytes, and .* are due"),
        (lambda content: content + b"more", "bytes, and .* are due"),
    ],
)
def test_content_that_is_not_what_the_hub_lists_is_not_kept(hub, name, damaged, said):
    hub.sent[name] = damaged(hub.files[name])
    with pytest.raises(InputError, match=f"{name} of {ID} is not what the hub lists: .*{said}.*give the same command"):
        got()
    assert not list(folder_of(hub).glob(f"{name}*"))
    with pytest.raises(InputError, match="is not finished"):
        open_model(ID, conditions=PROMPTS)
    hub.sent.clear()
    assert len(got().files) == 3


def test_a_part_that_was_damaged_on_the_disk_is_found(hub):
    folder_of(hub).mkdir(parents=True)
    plan = fetch.plan(ID)
    (folder_of(hub) / f"{WEIGHTS}.part").write_bytes(b"\1" * 4000)
    with pytest.raises(InputError, match="SHA-256"):
        fetch.carry_out(plan)
    assert len(got().files) == 3


@pytest.mark.parametrize(
    ("path", "refused", "said"),
    [
        ("config.json", (403, "GatedRepo"), f"{ID} is gated: ask for access at http.*/{ID}, then log in"),
        ("api", (401, "GatedRepo"), "is gated"),
        ("api", (401,), r"shows no model 'org/tiny' to you \(401\); .*log in"),
        ("api", (403,), r"shows no model 'org/tiny' to you \(403\)"),
        ("api", (404, "RepoNotFound"), "the hub has no model 'org/tiny'; look for its id"),
        ("api", (429,), "answers 429 for org/tiny; try again later"),
        ("api", (500,), "answers 500 for org/tiny; try again later"),
        ("config.json", (404, "EntryNotFound"), "answers 404"),
    ],
)
def test_what_the_hub_refuses_is_said_with_the_remedy(hub, path, refused, said):
    hub.refused[path] = refused
    with pytest.raises(InputError, match=said):
        fetch.plan(ID)
    assert not fetched.root().exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["org/other"], "the hub has no model 'org/other'"),
        (["tiny"], "'tiny' is no id of a checkpoint; give ORG/NAME"),
        (["org/a--b"], "the hub has no model 'org/a--b'"),
        (["../tiny"], "is no id of a checkpoint"),
        ([ID, "--revision", "v9"], "org/tiny has no revision 'v9'; leave --revision out"),
        ([ID, "--to", "{file}"], "is there and was not fetched; give --to a folder that is new or empty"),
        ([ID, "--to", "{file}/.."], "is there and was not fetched"),
        ([ID, "--to", "{file}/in", "--yes"], "cannot write to .*; give another --to"),
        ([ID, "--settings", "{file}"], "is not JSON"),
        ([ID, "--settings", "{file}.no"], "cannot read .*; give --settings an image-model.json"),
        ([ID], "nothing was downloaded, since this is no terminal to ask on; say --yes"),
    ],
)
def test_what_cannot_be_fetched_is_said_with_the_remedy(hub, tmp_path, arguments, said):
    (tmp_path / "file").write_text("words")
    with pytest.raises(InputError, match=said):
        ran("fetch", *(one.format(file=tmp_path / "file") for one in arguments))
    assert not fetched.root().exists()


def test_without_a_network_that_is_said(hub, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(InputError, match=r"cannot be reached at http.*Connect.*Error.*look at the network"):
            fetch.plan(ID)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if not OLD:  # where a session knows it from its beginning
        with pytest.raises(InputError, match="unset HF_HUB_OFFLINE"):
            fetch.plan(ID)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'specverify\[transformers\]'"):
        fetch.plan(ID)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(hub, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match=r"bytes of org/tiny are to come, and the disk .* has 1,000 left; make room"):
        ran("fetch", ID, "--yes")
    assert not fetched.root().exists()


def test_a_disk_that_fills_up_is_said_and_what_is_there_is_kept(hub, monkeypatch):
    plan = fetch.plan(ID)

    def full(url, target, **_):
        target.write(hub.files["config.json"][:100])
        target.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(file_download, "http_get", full)
        with pytest.raises(InputError, match=r"the disk is full .* give the same command again, which goes on"):
            fetch.carry_out(plan)
    hub.asked.clear()
    got()
    assert hub.asked[:2] == [("config.json", None), ("config.json", "bytes=100-")]


def test_on_a_terminal_it_asks(hub, monkeypatch):
    monkeypatch.setattr(
        cli_fetch,
        "sys",
        SimpleNamespace(**{name: SimpleNamespace(isatty=lambda: True) for name in ("stdin", "stdout")}),
    )
    for answer, end in (
        ("n", "nothing was downloaded\n"),
        ("y", f"it opens as {ID}: specverify sample {ID} --condition ...\n"),
    ):
        assert CliRunner().invoke(cli.app, ["fetch", ID], input=answer).output.endswith(end)


def test_fetching_again_checks_and_mends(hub):
    got()
    assert "all of it is there, and was checked again" in ran("fetch", ID)
    weights = folder_of(hub) / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"bytes were fetched; specverify fetch {ID} --revision {hub.commit} mends it"):
        open_model(ID, conditions=PROMPTS)
    weights.write_bytes(flipped(hub.files[WEIGHTS]))
    ran("fetch", ID, "--yes")
    assert weights.read_bytes() == hub.files[WEIGHTS]
    marker = folder_of(hub) / fetched.MARKER
    marker.write_text(marker.read_text().replace("janus", "emu3"))
    with pytest.raises(InputError, match="a value was changed; delete"):
        open_model(ID, conditions=PROMPTS)


@pytest.mark.parametrize("content", ['{"files": [{"path": 5, "size": 1, "sha256": ""}]}', "{}", "[" * 200_000, "5"])
def test_a_marker_that_fetch_did_not_write_is_an_error_with_a_remedy(hub, content):
    got()
    (folder_of(hub) / fetched.MARKER).write_text(content)
    with pytest.raises(InputError, match=r"delete .*, and fetch the checkpoint again"):
        open_model(ID, conditions=PROMPTS)
    assert fetched.everyone() == []


def test_the_newest_that_was_fetched_opens_and_a_commit_picks_another(hub, made, tmp_path):
    first = got()
    hub.files["chat_template.json"] = b"{}"
    second = got()
    assert fetched.find(ID).commit == second.commit != first.commit
    assert open_model(first.name, conditions=PROMPTS).name == first.name
    with pytest.raises(InputError, match=f"specverify fetch {ID} --revision {'0' * 40}"):
        open_model(f"{ID}@{'0' * 40}", conditions=PROMPTS)
    own = tmp_path / "own"
    got(to=own)
    assert open_model(own, conditions=PROMPTS).name == "own"
    inside = shutil.copytree(made["janus"], own / "mine")
    (own / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"own/config.json is 2 bytes"):
        open_model(own, conditions=PROMPTS)
    assert open_model(inside, conditions=PROMPTS).name == "mine"  # a folder of the user's that is no part of it
    hub.files["more.json"] = b"{}"
    with pytest.raises(InputError, match=f"own holds {second.name}; give --to another folder"):
        fetch.plan(ID, to=own)


def test_two_do_not_fetch_into_one_folder(hub):
    plan = fetch.plan(ID)
    plan.folder.mkdir(parents=True)
    with files.locked(plan.folder), pytest.raises(InputError, match="another process fetches into"):
        fetch.carry_out(plan)
