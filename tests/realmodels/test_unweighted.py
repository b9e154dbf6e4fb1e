"""Models of published sizes with random weights: opened as checkpoints are, here with each number made small."""

import json
import shutil

import pytest
import torch
import transformers
from typer.testing import CliRunner

from realmodels import unweighted
from realmodels.models import open_model
from specverify import cli
from specverify.conformance import conformance
from specverify.decoders import registry, sample
from specverify.errors import InputError

TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL = {
    "janus-pro-1b": {"vision_config": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}},
    "glm-image": {"vision_config": {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32}},
    "lumina-mgpt-7b": {**TEXT, "num_key_value_heads": 4},
    "llamagen-xl": {"sizes": {"dim": 32, "layers": 2, "heads": 2, "hidden": 64}},
}
SMALL["janus-pro-1b"] |= {"text_config": {**TEXT, "num_key_value_heads": 4}}
SMALL["janus-pro-1b"] |= {"vq_config": {"projection_dim": 32, "image_token_embed_dim": 32, "base_channels": 32}}
SMALL["janus-pro-1b"]["vision_config"] |= {"projection_dim": 32}
SMALL["glm-image"] |= {"text_config": {**TEXT, "num_key_value_heads": 2}}
SMALL["glm-image"]["text_config"] |= {
    "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [1, 1, 2]}
}
SMALL["glm-image"] |= {"vq_config": {"embed_dim": 32, "latent_channels": 32}}
LENGTHS = {"janus-pro-1b": 576, "glm-image": 16 * 16 + 32 * 32 + 1, "lumina-mgpt-7b": 48 * 49 + 1, "llamagen-xl": 576}
VOCAB = {"janus-pro-1b": 16384, "glm-image": 16385, "lumina-mgpt-7b": 8194, "llamagen-xl": 16384}


def small(name, tmp_path):
    """The folder of a name, with numbers of `SMALL` in place of its own."""
    folder = tmp_path / name
    shutil.copytree(unweighted.folder(f"random:{name}"), folder)
    path = folder / ("image-model.json" if name == "llamagen-xl" else "config.json")
    said = json.loads(path.read_text())
    for key, value in SMALL[name].items():
        said[key] = {**said.get(key, {}), **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(said))
    return folder


@pytest.mark.parametrize("name", SMALL)
def test_published_sizes_open_with_their_own_prompt(name, tmp_path):
    if name == "glm-image" and not hasattr(transformers, "GlmImageForConditionalGeneration"):
        pytest.skip("transformers 5 has this class")
    model = open_model(small(name, tmp_path), guidance=1.0)
    assert (model.name, model.length, model.vocab) == (f"random:{name}", LENGTHS[name], VOCAB[name])
    context = model.start(2)
    law = model.laws(context, torch.zeros(2, 3, dtype=torch.int64))
    assert law.shape == (2, 4, VOCAB[name])
    assert float(law[:, 0].max()) < 0.1
    again = open_model(small(name, tmp_path / "again"), guidance=1.0)
    assert torch.equal(again.laws(again.start(2), torch.zeros(2, 3, dtype=torch.int64)), law)


def test_the_sizes_are_those_that_are_published():
    names = ("random:janus-pro-1b", "random:janus-pro-7b")
    sizes = {name: json.loads((unweighted.folder(name) / "config.json").read_text())["text_config"] for name in names}
    shape = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    assert [[text[key] for key in shape] for text in sizes.values()] == [
        [2048, 5632, 24, 16, 102400],
        [4096, 11008, 30, 32, 102400],
    ]


def test_a_tiny_one_decodes_in_half_precision():
    model = open_model("random:tiny", dtype=torch.bfloat16, guidance=2.0)
    run = sample(registry.build("scd-mc", registry.Settings(window=4)), model, 4, seed=0)
    assert run.tokens.shape == (4, 16)
    assert int(run.passes.max()) < 16
    wide = open_model("random:tiny", dtype=torch.float64)
    found = conformance(wide, batch=2, positions=8)
    assert found.largest < 1e-12
    assert all(finding.startswith("memory") for finding in found.findings)  # such weights hardly look back


def test_the_global_state_is_as_it_was():
    before = torch.get_rng_state()
    open_model("random:tiny", dtype=torch.bfloat16)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            lambda folder: (folder / "model.safetensors").touch(),
            "holds weights .* beside a random-weights.json; remove one",
        ),
        (lambda folder: (folder / "random-weights.json").write_text("{}"), "must have a seed, which is an integer"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "janus", "vq_config": 3}'), "correct it"),
    ],
    ids=["weights", "settings", "config"],
)
def test_what_is_wrong_with_a_folder_is_said(broken, message, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(unweighted.folder("random:tiny"), folder)
    assert open_model(folder).name == "random:tiny"
    broken(folder)
    with pytest.raises(InputError, match=message):
        open_model(folder)


def test_unknown_sizes_are_named():
    with pytest.raises(InputError, match=r"unknown sizes 'random:janus-pro-2b'; did you mean .*random:janus-pro-1b"):
        open_model("random:janus-pro-2b")
    done = CliRunner().invoke(cli.app, ["bench", "random:nothing"])
    assert isinstance(done.exception, InputError)
