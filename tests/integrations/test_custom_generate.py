"""Decoders here as the loop of transformers' `generate`, on a tiny Janus, beside plain sampling with the same noise."""

import folders
import pytest
import torch
import transformers

from specverify.errors import InputError
from specverify.integrations.transformers import decoder

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers, about its own arguments


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = folders.MADE["janus"](tmp_path_factory.mktemp("janus") / "janus")
    found = transformers.JanusForConditionalGeneration.from_pretrained(folder)
    found.generation_config.update(pad_token_id=folders.PAD, bos_token_id=folders.BOS)
    found.generation_config.generation_kwargs = {"boi_token_id": folders.BEGIN}
    return found


@pytest.fixture(scope="module")
def prompts():
    longest = max(map(len, folders.PROMPTS))
    ids = torch.tensor([[folders.PAD] * (longest - len(prompt)) + prompt for prompt in folders.PROMPTS])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in folders.PROMPTS])
    return {"inputs": ids, "attention_mask": mask}


SAMPLING = {"do_sample": True, "temperature": 0.9, "top_k": 12, "top_p": 0.95}


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_tokens_are_those_of_plain_sampling_with_the_same_noise(model, prompts, guidance, seed):
    common = {"guidance": guidance, "seed": seed}
    plain = model.generate(**prompts, **SAMPLING, custom_generate=decoder("ar-race", **common))
    for window in (1, 4, 16):
        fast = decoder("sjd-race", window=window, **common)
        assert torch.equal(model.generate(**prompts, **SAMPLING, custom_generate=fast), plain), window
        assert int(fast.run.passes.max()) <= model.model.vision_model.config.num_image_tokens
    other = model.generate(**prompts, custom_generate=decoder("ar-race", **common), do_sample=True, top_k=0)
    assert not torch.equal(other, plain)  # what is asked of sampling counts


def test_greedy_tokens_are_the_librarys_own(model, prompts):
    expected = model.generate(
        prompts["inputs"],
        attention_mask=prompts["attention_mask"],
        generation_mode="image",
        guidance_scale=3.0,
        do_sample=False,
    )
    made = decoder("scd-mc", window=5, guidance=3.0)
    found = model.generate(**prompts, do_sample=False, custom_generate=made)
    assert torch.equal(found, expected)
    assert model.decode_image_tokens(found).shape[0] == len(folders.PROMPTS)
    assert float(made.run.passes.double().mean()) < expected.shape[1]


def test_torchs_generator_repeats_it_and_the_scale_is_the_makers_unless_said(model, prompts):
    def drawn(guidance=None):
        torch.manual_seed(7)
        return model.generate(**prompts, **SAMPLING, custom_generate=decoder("scd-gs", window=4, guidance=guidance))

    assert torch.equal(drawn(), drawn())
    assert torch.equal(drawn(), drawn(5.0))
    assert not torch.equal(drawn(), drawn(1.0))


def test_tokens_come_in_a_dict_where_that_is_asked_for(model, prompts):
    made = decoder("sjd", window=4, seed=1)
    found = model.generate(**prompts, **SAMPLING, custom_generate=made, return_dict_in_generate=True)
    assert torch.equal(found.sequences, model.generate(**prompts, **SAMPLING, custom_generate=made))


def test_what_cannot_be_decoded_is_refused_with_the_remedy(model, prompts):
    for arguments, said in (
        (("sd",), "'sd' needs a draft model"),
        (("scd",), "unknown decoder 'scd'"),
        (("sjd",), "window 0"),
    ):
        with pytest.raises(InputError, match=said):
            decoder(*arguments, window=0 if "window" in said else 4)
    with pytest.raises(InputError, match="RepetitionPenaltyLogitsProcessor, which is not known at many positions"):
        model.generate(**prompts, do_sample=True, repetition_penalty=1.2, custom_generate=decoder("sjd"))
    ids = prompts["inputs"].clone()
    ids[0, -1] = 9
    with pytest.raises(InputError, match=r"prompts end with different tokens \(\[2, 9\]\)"):
        model.generate(ids, attention_mask=prompts["attention_mask"], custom_generate=decoder("sjd"))
    ids[:, -1] = 9
    with pytest.raises(InputError, match=f"prompts end with token 9; .* boi_token_id, is {folders.BEGIN}"):
        model.generate(ids, attention_mask=prompts["attention_mask"], custom_generate=decoder("sjd"))
    for asked in ({"num_beams": 3}, {"max_new_tokens": 5}, {"output_logits": True, "return_dict_in_generate": True}):
        with pytest.raises(InputError, match=next(iter(asked))):
            model.generate(**prompts, **asked, custom_generate=decoder("sjd"))
    embeds = model.get_input_embeddings()(prompts["inputs"])
    with pytest.raises(InputError, match="inputs_embeds: prompts are read as ids"):
        model.generate(inputs_embeds=embeds, attention_mask=prompts["attention_mask"], custom_generate=decoder("sjd"))
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
        )
    )
    with pytest.raises(InputError, match="knows JanusForConditionalGeneration, not LlamaForCausalLM"):
        llama.generate(torch.tensor([[1, 2]]), max_new_tokens=3, custom_generate=decoder("sjd"))
