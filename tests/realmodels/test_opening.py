"""What `open_model` takes, and what it refuses, with the remedy."""

import json
import shutil
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
import transformers
from folders import opened

from realmodels.images import ImageModel
from realmodels.models import GROUP, names, open_model
from specverify.decoders.registry import build
from specverify.decoders.run import run
from specverify.draws import Sampled
from specverify.errors import InputError

FULL = ["full_attention"] * 3


def test_digits_open_by_name_with_what_an_image_model_has():
    model = open_model("digits-s", guidance=1.5, conditions=[3, 7], processors="temperature=0.9")
    assert isinstance(model, ImageModel)
    assert (model.name, model.conditions, model.size) == ("digits-s-guidance-1.5|T=0.9", (3, 7), (8, 8))
    assert (model.description.grid, model.draft()) == ((8, 8), None)
    assert "digits-s" in names()
    pixels = model.render(run(build("ar"), model, 2, Sampled(0)).tokens)
    assert (pixels.shape, bool((pixels <= 1).all())) == ((2, 1, 8, 8), True)
    assert model.like(guidance=1.0, processors=()).name == "digits-s"


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(InputError, match="device 'tpu' is not there: "):
        open_model("digits-s", device="tpu")


def opener(guidance, dtype, device, conditions, processors):
    return open_model("digits-s", guidance=guidance, conditions=conditions, processors=processors).like()


def test_plug_ins_open_by_name(monkeypatch):
    found = [
        metadata.EntryPoint("mine", f"{__name__}:opener", GROUP),
        metadata.EntryPoint("broken", "no_such_module:opener", GROUP),
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda group: found if group == GROUP else [])
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__, SimpleNamespace(opener=opener)))
    assert names()[-2:] == ("mine", "broken")
    model = open_model("mine", guidance=1.5, conditions=[4], processors="top_k=2")
    assert (model.name, model.conditions) == ("digits-s-guidance-1.5|top-k=2", (4,))
    with pytest.raises(InputError, match="'broken' of no_such_module:opener cannot be loaded"):
        open_model("broken")


def test_a_draft_model_comes_with_its_target(made):
    draft = opened(made["causal"])
    model = opened(made["causal"], 3.0, draft=draft)
    assert model.draft() is model.like(guidance=2.0).draft() is draft


def test_tokenizers_turn_text_into_prompts(made, tmp_path):
    folder = shutil.copytree(made["janus"], tmp_path / "janus")
    words = {"<pad>": 0, "<s>": 1, "<|": 4, "User": 5, "|>:": 6, "a": 7, "cat": 8, "Assistant": 9, "?": 10}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=word_level(words), unk_token="?", pad_token="<pad>", bos_token="<s>"
    )
    tokenizer.save_pretrained(folder)
    model = opened(folder, conditions=["a cat", "cat"])
    assert model.start(2).session.inputs == 1 + len(tokenizer("<|User|>: a cat\n\n<|Assistant|>:")["input_ids"])
    with pytest.raises(InputError, match="holds no tokenizer"):
        opened(made["janus"], conditions=["a cat"])


def word_level(words):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def without(folder, tmp_path, *missing):
    copy = shutil.copytree(folder, tmp_path / "copy")
    for name in missing:
        (copy / name).unlink()
    return copy


def changed(folder, tmp_path, name, **settings):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / name).write_text(json.dumps({**json.loads((copy / name).read_text()), **settings}))
    return copy


def spoilt(folder, tmp_path, weight):
    copy = shutil.copytree(folder, tmp_path / "copy")
    tensors = safetensors.torch.load_file(copy / "model.safetensors")
    tensors[weight][0] = float("nan")
    safetensors.torch.save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    return copy


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("janus", lambda f, t: without(f, t, "config.json"), "cannot read .*config.json"),
        ("janus", lambda f, t: without(f, t, "model.safetensors"), "holds no .safetensors file"),
        ("janus", lambda f, t: without(f, t, "generation_config.json"), "generation_config.json .*; take the file"),
        (
            "causal",
            lambda f, t: without(f, t, "image-model.json"),
            "'qwen2'.*needs an image-model.json",
        ),
        ("causal", lambda f, t: changed(f, t, "config.json", hidden_size=48), "cannot be loaded as|do not fit"),
        (
            "causal",
            lambda f, t: changed(f, t, "config.json", num_hidden_layers=3, layer_types=FULL),
            "missing keys, first",
        ),
        (
            "causal",
            lambda f, t: changed(f, t, "config.json", num_hidden_layers=1, layer_types=FULL[:1]),
            r"no place for model.layers.1.input_layernorm.weight: .* more layers than config.json says",
        ),
        ("causal", lambda f, t: spoilt(f, t, "model.norm.weight"), "hold NaN or infinity, first in model.norm.weight"),
        ("causal", lambda f, t: changed(f, t, "image-model.json", codes=60), "has the id 89, and the model 0..63"),
        ("causal", lambda f, t: changed(f, t, "image-model.json", grid=[4]), "wrong kind"),
        (
            "causal",
            lambda f, t: changed(f, t, "image-model.json", grid=[9, 9]),
            "positions; copy has 64",
        ),
        ("causal", lambda f, t: changed(f, t, "image-model.json", last_row_end=0), "neither true nor false"),
        ("causal", lambda f, t: changed(f, t, "image-model.json", last_rowend=False), "unknown setting 'last_rowend'"),
        ("causal", lambda f, t: changed(f, t, "image-model.json", guidance="high"), "guidance 'high' is no number"),
        ("causal", lambda f, t: changed(f, t, "image-model.json", guidance=-1), "guidance -1 is no number"),
        (
            "causal-emu3.5",
            lambda f, t: changed(f, t, "image-model.json", **{"class": "LlamaForCausalLM"}),
            r"has no place for model.layers.0.self_attn.k_norm.weight: another class",
        ),
        ("causal", lambda f, t: changed(f, t, "image-model.json", last_row_end=False), "need a row_end, and a suffix"),
        ("causal", lambda f, t: changed(f, t, "image-model.json", row_end=31), "31 is one of the codes 30..48"),
        (
            "causal",
            lambda f, t: changed(f, t, "image-model.json", adapter="casual"),
            "adapter 'casual'; .*causal",
        ),
        (
            "causal",
            lambda f, t: changed(
                f, t, "config.json", use_sliding_window=True, sliding_window=4, layer_types=["sliding_attention"] * 2
            ),
            "only layers that see all of a sequence",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_with_the_remedy(made, tmp_path, name, change, said):
    with pytest.raises(InputError, match=f"(?s){said}"):
        opened(change(made[name], tmp_path))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('{"grid": [3]}', r"image-model.json: grid is \[3\] \(.*\); correct it"),
        ('{"grid": [3, 4.5]}', r"grid is \[3, 4.5\] \(.*integer"),
        ('{"grid": "3x4"}', r'grid is "3x4" \('),
        ('{"grid": [0, 4]}', "a grid of 0 x 4"),
        ('{"size": [3, 4]}', "unknown setting 'size'; known: adapter, grid, negative"),
        ('{"adapter": "emu3", "grids": [3, 4]}', r"unknown setting 'grids'; did you mean grid\?"),
        ('{"adapter": "emu", "grid": [3, 4]}', r"unknown adapter 'emu'; did you mean emu3\?"),
        ("[3, 4]", "image-model.json"),
    ],
)
def test_options_that_an_adapter_does_not_take_are_refused(made, tmp_path, settings, said):
    folder = shutil.copytree(made["emu3"], tmp_path / "mine")
    (folder / "image-model.json").write_text(settings)
    with pytest.raises(InputError, match=f"(?s){said}"):
        opened(folder)


@pytest.mark.parametrize("guidance", [0.0, 3.0])
def test_guidance_without_a_prompt_for_it_is_refused(made, tmp_path, guidance):
    folder = changed(made["causal"], tmp_path, "image-model.json", unconditional=None)
    model = opened(folder)
    with pytest.raises(InputError, match=f"guidance {guidance:g} needs a prompt without condition, and copy has none"):
        model.like(guidance=guidance)


def test_damaged_weights_are_refused(made, tmp_path):
    folder = without(made["causal"], tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(InputError, match="cannot be loaded as AutoModelForCausalLM"):
        opened(folder)


def test_a_class_that_cannot_be_read_in_windows_is_not_called_damaged(made, monkeypatch):
    def refuses(*_, **__):
        raise ValueError("Other does not support an attention implementation through scaled_dot_product_attention yet")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", refuses)
    with pytest.raises(InputError, match=r"cannot be read in windows here; the folder may be whole$"):
        opened(made["causal"])


def test_what_cannot_be_opened_says_what_can(made):
    for name, said in (
        ("digit-s", "did you mean digits-s"),
        ("deepseek-community/Janus-Pro-1B", "specverify fetch deepseek"),
    ):
        with pytest.raises(InputError, match=said):
            open_model(name)
    with pytest.raises(InputError, match="needs conditions"):
        open_model(made["causal"])
    for conditions, said in (
        ([[1, 99]], "token 99"),
        ([[]], "no token"),
        ([3.5], "neither text nor"),
        ([], "at least"),
    ):
        with pytest.raises(InputError, match=said):
            opened(made["causal"], conditions=conditions)
    with pytest.raises(InputError, match="ends with 9; a prompt of janus ends with 2"):
        opened(made["janus"], conditions=[[1, 9]])
    for guidance in (-1.0, float("nan")):
        with pytest.raises(InputError, match="finite number of at least 0"):
            opened(made["causal"], guidance)
    with pytest.raises(InputError, match=r"torch.int64 cannot hold"):
        opened(made["causal"], dtype=torch.int64)
    with pytest.raises(InputError, match="does not take colour"):
        opened(made["causal"], colour=True)
