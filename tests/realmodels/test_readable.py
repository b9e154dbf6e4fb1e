"""Classes of transformers whose laws in windows would not be their own, though nothing breaks: they are refused."""

import json

import folders
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from realmodels import library
from realmodels.models import open_model
from specverify.errors import InputError

TEXT = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 3, "pad_token_id": 0,
}  # fmt: skip
SEES = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
EARLIER = transformers.__version__ < "5"
LAYOUT = {"adapter": "causal", "grid": [3, 4], "first": 30, "codes": 19}


pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers, about names of its own


def folder(path, kind, config, spread=0.35):
    torch.manual_seed(0)
    model = getattr(transformers, kind)(config)
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data.normal_(0, spread)
    model.save_pretrained(path)
    (path / "image-model.json").write_text(json.dumps({**LAYOUT, "class": kind}))
    return path


def llava(window, most=64):
    text = {"model_type": "mistral", **TEXT, "sliding_window": window, "max_position_embeddings": most}
    sees = {"model_type": "clip_vision_model", **SEES}
    return "LlavaForConditionalGeneration", transformers.LlavaConfig(text_config=text, vision_config=sees)


def phi(most):
    factors = {"short_factor": [1.0] * 4, "long_factor": [8.0] * 4}
    given = {"rope_scaling": {"type": "longrope", **factors}, "original_max_position_embeddings": most}
    return "Phi3ForCausalLM", transformers.Phi3Config(**TEXT, **given)


def bart():
    sizes = {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 64, "vocab_size": 64}
    return "BartForCausalLM", transformers.BartConfig(**sizes, max_position_embeddings=64, is_decoder=True)


def jamba():
    given = {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "num_experts": 2}
    return "JambaForCausalLM", transformers.JambaConfig(**TEXT, **given, use_mamba_kernels=False, mamba_dt_rank=4)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (llava(8), "MistralConfig has layers of the kind sliding.attention.*, and sequences are 14 long"),
        (llava(None, 8), "a prompt of 2 tokens and 12 image tokens need 13 positions; .* has 8: shorten the prompt"),
        (phi(12), "stretches its positions by how long a pass is .longrope. once there are more than 12, .* need 13"),
        (bart(), "makes other states of tokens that are read one by one over a cache, by 0.* than of all in one pass"),
        (jamba(), "cannot be read in windows here .*; write an adapter of its own"),
    ],
    ids=["a window in a text config", "positions there", "longrope", "positions by the cache", "another cache"],
)
def test_what_would_be_read_otherwise_than_it_reads_itself_is_refused(made, said, tmp_path):
    if EARLIER and made[0].startswith(("Llava", "Bart")):
        said = "cannot be read in windows here"  # these classes have other insides there
    with pytest.raises(InputError, match=f"(?s){said}"):
        open_model(folder(tmp_path / "made", *made), conditions=[[1, 2]])


@pytest.mark.parametrize("made", [llava(None), llava(14), phi(13)], ids=["no window", "a wide one", "a short text"])
def test_what_reads_alike_is_opened_with_its_own_laws(made, tmp_path):
    if EARLIER and made[0].startswith("Llava"):
        pytest.skip(f"transformers {transformers.__version__} has another Llava, which is refused")
    prompts = [[1, 2], [2]]
    model = open_model(folder(tmp_path / "made", *made), conditions=prompts)
    tokens = torch.tensor([[3, 0, 18, 7, 7, 1, 2, 5, 9, 11, 4]] * 2)
    laws = model.laws(model.start(2), tokens)
    network = model.network
    for prompt, law in zip(prompts, laws, strict=True):
        ids = torch.tensor([prompt + network.ids[tokens[0]].tolist()])
        whole = network.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :, network.ids]
        torch.testing.assert_close(law, whole.softmax(-1), atol=1e-5, rtol=1e-4)


def test_a_capped_head_is_refused_however_small_its_logits(tmp_path):
    if not hasattr(transformers, "NanoChatForCausalLM"):
        pytest.skip(f"transformers {transformers.__version__} has no NanoChat")
    config = transformers.NanoChatConfig(**TEXT)
    with pytest.raises(InputError, match="may be scaled or capped"):
        open_model(folder(tmp_path / "made", "NanoChatForCausalLM", config, spread=0.15), conditions=[[1, 2]])


def test_januss_prompt_counts_in_what_a_layer_sees(made):
    model = folders.opened(made["janus"])
    model.network.core.config.sliding_window = model.length + 1
    with pytest.raises(InputError, match="only layers that see all of a sequence are supported"):
        model.like(conditions=[[1, 5, 2]])


def test_positions_that_stretch_are_found_by_kind_of_layer():
    config = transformers.LlamaConfig(**TEXT)
    config.rope_parameters = {"full_attention": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}
    library.check_room(config, 2, 62, "mine")
    config.max_position_embeddings, config.rope_parameters["full_attention"]["original_max_position_embeddings"] = 99, 9
    with pytest.raises(InputError, match=r"mine stretches its positions .* \(dynamic\) once there are more than 9"):
        library.check_room(config, 2, 62, "mine")


def without(path, part, once=False):
    """A folder with no weight of a part, or one less."""
    file = path / "model.safetensors"
    weights = load_file(file)
    names = [name for name in weights if part in name]
    for name in names[:1] if once else names:
        del weights[name]
    save_file(weights, file, {"format": "pt"})
    return path


@pytest.mark.parametrize("make", [folders.chameleon, folders.emu3])
def test_a_folder_without_the_part_that_makes_pixels_is_read_as_before(make, tmp_path):
    whole, bare, torn = (make(tmp_path / name) for name in ("whole", "bare", "torn"))
    tokens = torch.tensor([[3, 0, 18]])
    given = {"conditions": [[1, 2]], "guidance": 1.0} | ({"grid": (3, 4)} if make is folders.emu3 else {})
    first, second = (open_model(path, **given) for path in (whole, without(bare, "vqmodel.")))
    laws = (model.laws(model.start(1), tokens) for model in (first, second))
    torch.testing.assert_close(*laws, rtol=0, atol=0)
    with pytest.raises(InputError, match=r"no weights of the tokenizer|makes pixels of them"):
        second.render(torch.zeros(1, second.length, dtype=torch.int64))
    with pytest.raises(InputError, match=r"do not fit .*: 1 missing keys, first model.vqmodel"):
        open_model(without(torn, "vqmodel.", once=True), **given)
