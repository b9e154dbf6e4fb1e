"""Which files of a repository `specverify fetch` takes, which adapter it says reads them, and what none reads."""

import json
from dataclasses import replace

import pytest
import torch
from commands import ran
from folders import PROMPTS
from hub import Hub

from realmodels import fetch
from realmodels.models import open_model
from specverify import fetched
from specverify.decoders.registry import build
from specverify.decoders.run import sample
from specverify.errors import InputError

SETTINGS, WEIGHTS = "image-model.json", "model.safetensors"
CONFIG = json.dumps({"model_type": "janus"}).encode()


def tokens(model):
    return sample(build("ar"), model, 2, 0, 2).tokens


def holding(served, tmp_path, **contents):
    """A hub with these files alone."""
    (tmp_path / "none").mkdir()
    return served(Hub(tmp_path / "none", **contents))


def taken(settings=None):
    return [file.path for file in fetch.plan(Hub.id, settings=settings).choice.files]


def written(path, **settings):
    path.write_text(json.dumps(settings))
    return path


def test_llamagen_is_fetched_by_the_names_of_its_weights_and_said_to_be_read_as_tensors_alone(made, served, tmp_path):
    content = {path.name: path.read_bytes() for path in made["llamagen"].iterdir()}
    names = {"c2i_B_256.pt": content["c2i.pt"], "c2i_L_384.pt": b"another", "vq_ds16_c2i.pt": content["vq.pt"]}
    holding(served, tmp_path, **names)
    with pytest.raises(
        InputError, match=r"holds models of LlamaGen, c2i_B_256.pt, c2i_L_384.pt: say .* --settings FILE"
    ) as why:
        taken()
    example = json.loads(str(why.value).partition("as {")[2].partition("}")[0].join("{}"))
    assert example == {
        "adapter": "llamagen",
        "weights": "c2i_B_256.pt",
        "tokenizer": "vq_ds16_c2i.pt",
        "grid": [16, 16],
    }
    own = written(tmp_path / "own.json", **{**example, "grid": [4, 4], "heads": 4})
    said = ran("fetch", Hub.id, "--settings", own, "--yes")
    assert "c2i_B_256.pt, vq_ds16_c2i.pt: no safetensors; read as tensors alone, never unpickled" in said
    assert "all of it is there" in ran("fetch", Hub.id, "--settings", own)
    model, source = (open_model(name, conditions=[3, 5]) for name in (Hub.id, made["llamagen"]))
    assert torch.equal(tokens(model), tokens(source))
    assert torch.equal(model.render(tokens(model)), source.render(tokens(source)))
    other = written(tmp_path / "other.json", **{**example, "weights": "c2i_L_384.pt"})
    with pytest.raises(InputError, match="with other files or settings; give another --to"):
        taken(other)


def test_settings_come_from_the_repository_or_from_the_user_who_goes_first(made, served, tmp_path):
    hub = served(Hub(made["causal"]))
    assert SETTINGS in taken()
    own = written(tmp_path / "own.json", **{**json.loads(hub.files[SETTINGS]), "guidance": 7.0})
    assert SETTINGS not in taken(own)
    ran("fetch", Hub.id, "--settings", own, "--yes")
    model = open_model(Hub.id, conditions=PROMPTS)
    assert model.description.guidance == 7.0
    assert torch.equal(tokens(model), tokens(open_model(made["causal"], conditions=PROMPTS)))


def test_a_model_in_a_folder_of_its_repository_is_found_and_opened_there(made, served, tmp_path):
    inside = {f"vision_language_encoder/{path.name}": path.read_bytes() for path in made["janus"].iterdir()}
    more = {"processor/tokenizer.json": b"{}", "processor/code.py": b"", "transformer/config.json": b"{}"}
    holding(served, tmp_path, **inside, **more, **{f"transformer/{WEIGHTS}": b"diffusion", "model_index.json": b"{}"})
    said = ran("fetch", Hub.id, "--yes", "--to", tmp_path / "to")
    assert "adapter     janus, of the folder vision_language_encoder" in said
    found = {path.relative_to(tmp_path / "to").as_posix() for path in (tmp_path / "to").rglob("*") if path.is_file()}
    assert found == {*inside, "processor/tokenizer.json", "specverify-checkpoint.json"}
    ran("fetch", Hub.id, "--yes")
    source = tokens(open_model(made["janus"], conditions=PROMPTS))
    for name in (Hub.id, tmp_path / "to", tmp_path / "to" / "vision_language_encoder"):
        assert torch.equal(tokens(open_model(name, conditions=PROMPTS)), source)
    fetched.begin(replace(fetched.read(tmp_path / "to"), files=()))
    with pytest.raises(InputError, match=r"to is not finished: .* --to .*/to goes on"):
        open_model(tmp_path / "to" / "vision_language_encoder", conditions=PROMPTS)


def test_options_of_the_user_lie_where_the_adapter_reads_them(made, served, tmp_path):
    inside = {f"vision_language_encoder/{path.name}": path.read_bytes() for path in made["emu3"].iterdir()}
    holding(served, tmp_path, **inside)
    own = written(tmp_path / "own.json", grid=[2, 2], negative=[1])
    ran("fetch", Hub.id, "--settings", own, "--yes")
    assert open_model(Hub.id, conditions=PROMPTS).length == 2 * (2 + 1) + 3
    assert "all of it is there" in ran("fetch", Hub.id, "--settings", own)
    with pytest.raises(InputError, match="with other files or settings; give another --to"):
        fetch.plan(Hub.id, settings=written(tmp_path / "other.json", grid=[3, 3]))


def test_weights_settings_and_tokenizers_are_taken_and_nothing_else(served, tmp_path):
    parts = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    kept = ["config.json", *parts, f"{WEIGHTS}.index.json", "tokenizer.model", "merges.txt", "tokenizer.json"]
    left = ["consolidated.safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json", "modeling.py", "a.pkl"]
    left += ["onnx/config.txt", "README.md", "../up.json", "/root.json", ".hidden.json", "a b.json", "back\\slash.json"]
    left += ["specverify-checkpoint.json", ".specverify-unfinished.json", "tokenizer/../x.json"]
    hub = holding(served, tmp_path, **{**dict.fromkeys([*kept, *left], b"{}"), "config.json": CONFIG})
    assert sorted(taken()) == sorted(kept)
    hub.files[WEIGHTS] = b"whole"
    assert not set(parts) & set(taken())


@pytest.mark.parametrize(
    ("files", "settings", "said"),
    [
        ({}, None, "no adapter reads org/tiny: it holds no config.json that names a model_type"),
        ({"config.json": b'{"model_type": "qwen2"}'}, None, r"'qwen2' \(config.json\), .*with --settings FILE"),
        ({"config.json": b"[]"}, None, "config.json of org/tiny holds a list where an object is due"),
        ({"config.json": b"{"}, None, "config.json of org/tiny is not JSON"),
        ({"config.json": b" " * (1 << 24) + CONFIG}, None, "which is no file of settings"),
        ({"config.json": CONFIG, "pytorch_model.bin": b""}, None, "holds no model.safetensors; weights in other forms"),
        ({"config.json": CONFIG}, {"adapter": "mar"}, "is for the adapter 'mar'; those that fetch knows are janus"),
        ({WEIGHTS: b""}, {"adapter": "causal"}, "holds no config.json, which the adapter 'causal' reads"),
        ({"a.pt": b""}, {"adapter": "llamagen"}, "names no weights as weights and tokenizer; .*there: a.pt"),
        ({"a.pt": b""}, {"adapter": "llamagen", "weights": "b.pt"}, "names b.pt as weights"),
        ({"a.bin": b""}, {"adapter": "llamagen", "weights": "a.bin"}, "names a.bin as weights .*there: none"),
        ({"../a.pt": b""}, {"adapter": "llamagen", "weights": "../a.pt"}, "names ../a.pt as weights"),
    ],
)
def test_what_no_adapter_reads_is_refused_with_the_remedy(served, tmp_path, files, settings, said):
    holding(served, tmp_path, **files)
    with pytest.raises(InputError, match=said):
        taken(None if settings is None else written(tmp_path / "own.json", **settings))


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ({"license": "mit"}, "mit"),
        ({"license": "other", "license_name": "deepseek\nlicence"}, "deepseek licence"),
        ({"license": ["mit", "apache-2.0"]}, "mit, apache-2.0"),
        ({}, "apache-2.0"),
        (None, "apache-2.0"),
    ],
)
def test_the_licence_is_the_cards_or_the_tags(made, served, card, licence):
    served(Hub(made["janus"])).card = card
    assert fetch.plan(Hub.id).repository.licence == licence
