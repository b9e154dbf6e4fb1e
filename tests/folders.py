"""Tiny random checkpoints, made through the model's own class and laid down as real ones are.

Weights are drawn wide, so that laws are far from uniform and depend on all that came before: a cache that is wrong in
one slot then shows.
"""

import argparse
import json
import re

import torch
import transformers
from transformers import (
    ChameleonConfig,
    ChameleonForConditionalGeneration,
    Emu3Config,
    Emu3ForConditionalGeneration,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusVisionConfig,
    JanusVQVAE,
    JanusVQVAEConfig,
    LlamaConfig,
)

from realmodels.adapters import mar_net
from realmodels.adapters.llamagen_gpt import Shape, Transformer
from realmodels.adapters.mar import Mar as MarModel
from realmodels.adapters.mar_net import Network as MarNetwork
from realmodels.adapters.mar_net import Shape as Mar
from realmodels.adapters.mar_net import Side
from realmodels.adapters.mar_pixels import Pixels
from realmodels.models import open_model

BOS, PAD, BEGIN = 1, 0, 2


def strong(model, seed=0, spread=0.35):
    """The model with wide random matrices."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, spread, generator=generator)
    return model


def janus(folder, side=4, codes=23, seed=0):
    vision = JanusVisionConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=4 * side,
        patch_size=4,
        projection_dim=32,
        num_image_tokens=side * side,
    )
    tokenizer = JanusVQVAEConfig(
        embed_dim=8,
        num_embeddings=codes,
        latent_channels=32,
        base_channels=32,
        channel_multiplier=[1, 1, 1],
        num_res_blocks=1,
        num_patches=side,
        projection_dim=32,
        image_token_embed_dim=32,
    )
    text = LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=BOS,
        pad_token_id=PAD,
        eos_token_id=3,
    )
    model = JanusForConditionalGeneration(JanusConfig(text_config=text, vision_config=vision, vq_config=tokenizer))
    strong(model.model.language_model, seed)
    strong(model.model.generation_embeddings, seed + 1, 1.0)
    strong(model.model.generation_aligner, seed + 2, 0.5)
    strong(model.model.generation_head, seed + 3, 0.3)
    model.generation_config.bos_token_id, model.generation_config.pad_token_id = BOS, PAD
    model.generation_config.generation_kwargs = {"boi_token_id": BEGIN}
    model.save_pretrained(folder)
    return folder


def causal(folder, kind="Qwen2", row_end=None, suffix=(), grid=(4, 4), codes=19, seed=0, **settings):
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=BOS,
        eos_token_id=3,
        pad_token_id=PAD,
        **settings,
    )
    strong(getattr(transformers, f"{kind}ForCausalLM")(config), seed).save_pretrained(folder)
    layout = {"adapter": "causal", "grid": grid, "first": 30, "codes": codes, "row_end": row_end, "suffix": suffix}
    (folder / "image-model.json").write_text(json.dumps({**layout, "unconditional": [BOS, BEGIN]}))
    return folder


def emu35(folder):
    """As Emu3.5 comes: weights by the names of Qwen3's, with a config that names code of its own."""
    causal(folder, "Qwen3", row_end=5, suffix=(7,), grid=(3, 4), head_dim=16)
    config, layout = (json.loads((folder / name).read_text()) for name in ("config.json", "image-model.json"))
    config.pop("rope_parameters", None)
    theirs = {"model_type": "Emu3", "architectures": ["Emu3ForCausalLM"], "pretraining_tp": 1, "image_area": 518400}
    theirs |= {"auto_map": {"AutoModelForCausalLM": "modeling_emu3.Emu3ForCausalLM"}, "rope_scaling": None}
    theirs["rope_theta"] = 12345.0
    (folder / "config.json").write_text(json.dumps({**config, **theirs}))
    (folder / "image-model.json").write_text(json.dumps({**layout, "class": "Qwen3ForCausalLM", "last_row_end": False}))
    return folder


def emu3(folder, codes=19, seed=0):
    names = {"<image>": 4, "<|extra_200|>": 5, "<|extra_201|>": 6, "<|image end|>": 7, "<|extra_204|>": 8}
    text = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    tokenizer = {"codebook_size": codes, "base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1}
    config = Emu3Config(
        vocabulary_map={**names, **{f"<|visual token {code:06d}|>": 30 + code for code in range(codes)}},
        text_config={**text, "bos_token_id": BOS, "pad_token_id": PAD, "eos_token_id": 8},
        vq_config={**tokenizer, "attn_resolutions": [], "hidden_size": 32, "num_attention_heads": 1},
    )
    model = Emu3ForConditionalGeneration(config)
    strong(model.model.text_model, seed)
    strong(model.lm_head, seed + 1)
    model.save_pretrained(folder)
    return folder


def chameleon(folder, codes=19, seed=0):
    letters = [f"{code:04d}".translate(str.maketrans("0123456789", "ABCDEFGHIJ")) for code in range(codes)]
    tokenizer = {"embed_dim": 8, "num_embeddings": codes, "latent_channels": 8, "resolution": 16, "base_channels": 32}
    config = ChameleonConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        vq_config={**tokenizer, "channel_multiplier": [1, 1], "num_res_blocks": 1},
        vocabulary_map={"<image>": 4, **{f"IMGIMG{name}Z": 30 + code for code, name in enumerate(letters)}},
    )
    strong(ChameleonForConditionalGeneration(config), seed).save_pretrained(folder)
    layout = {"adapter": "causal", "class": "ChameleonForConditionalGeneration", "first": 30, "codes": codes}
    layout |= {"grid": (3, 4), "row_end": 5, "suffix": (), "unconditional": [BEGIN]}
    (folder / "image-model.json").write_text(json.dumps(layout))
    return folder


def glm_image(folder, codes=19, seed=0):
    """Ids as the checkpoint numbers them: codes, what begins an image, what ends it, others; and then text."""
    text = {"vocab_size": 64, "vision_vocab_size": codes + 5, "hidden_size": 32, "intermediate_size": 64}
    text |= {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
    }
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [1, 1, 2]}}
    vision = {"depth": 1, "hidden_size": 16, "num_heads": 2, "image_size": 64, "intermediate_size": 16}
    config = transformers.GlmImageConfig(
        text_config={**text, "pad_token_id": 63, "eos_token_id": codes + 1},
        vision_config=vision,
        vq_config={"embed_dim": 8, "num_embeddings": codes, "latent_channels": 16},
        image_start_token_id=codes,
        image_end_token_id=codes + 1,
        image_token_id=62,
    )
    model = transformers.GlmImageForConditionalGeneration(config)
    strong(model.model.language_model, seed)
    strong(model.lm_head, seed + 1)
    model.save_pretrained(folder)
    return folder


def llamagen(folder, classes=5, side=4, codes=23, seed=0, captions=0):
    """As LlamaGen's checkpoints are named: the transformer under "model", the tokenizer's names turned back."""
    shape = Shape(codes, 32, 2, 4, 64, side, 0 if captions else classes, 6 if captions else 0, captions)
    folder.mkdir()
    model = strong(Transformer(shape), seed)
    torch.save({"model": model.state_dict()}, folder / "c2i.pt")
    config = JanusVQVAEConfig(
        num_embeddings=codes,
        latent_channels=32,
        base_channels=32,
        channel_multiplier=[1, 1, 2],
        num_res_blocks=1,
        num_patches=side,
    )
    torch.manual_seed(seed)
    tensors = JanusVQVAE(config).state_dict()
    back = {"up": "conv_blocks", "block": "res", "block_1": "0", "attn_1": "1", "block_2": "2"}
    names = {key: ".".join(back.get(part, part) for part in key.split(".")) for key in tensors}
    torch.save({"model": {names[key]: value for key, value in tensors.items()}}, folder / "vq.pt")
    settings = {"adapter": "llamagen", "weights": "c2i.pt", "tokenizer": "vq.pt", "grid": [side, side], "heads": 4}
    (folder / "image-model.json").write_text(json.dumps(settings))
    return folder


def mar(folder, side=3, dim=2, classes=3, seed=0, moved=0.0):
    """As MAR's checkpoints are: weights under "model_ema", beside others and the arguments of training.

    The transformers are random. The head is random around noise = x, and not moved at all from there at the first time
    of denoising, where all but 1e-9 of the variance is noise: trained heads are so, and others throw tokens far away.

    Args:
        moved: deviation of what is added to the transformers' weights, for a model that is near another.
    """
    hidden, constant = 12 + 2 * dim, 1e3
    shape = Mar(dim, side * side, classes, 2, Side(16, 1, 2), Side(24, 2, 3), hidden, 2)
    torch.manual_seed(seed)
    model = strong(MarNetwork(shape, *mar_net.schedule(4)), seed)
    model.diffusion_pos_embed_learned.data.mul_(0.3)
    head, eye = model.diffloss["net"], torch.eye(dim)
    for parameter in head.parameters():
        parameter.data.mul_(0.3 if parameter.ndim > 1 else 0)
    # Numbers of x with either sign, and large ones that make the norm constant.
    head.input_proj.weight.data.zero_()[: 2 * dim] = torch.cat([eye, -eye])
    head.input_proj.bias.data[2 * dim :] = constant * (-1) ** torch.arange(12)
    norm = constant * (12 / hidden) ** 0.5
    head.final_layer.linear.weight.data[:dim, : 2 * dim] = norm / 2 * torch.cat([eye, -eye], 1)
    head.final_layer.linear.weight.data[:, 2 * dim :] = 0
    head.final_layer.adaLN_modulation[1].weight.data[:hidden] *= 8 / norm
    head.cond_embed.weight.data *= 3
    head.final_layer.linear.weight.data[dim:] *= norm / 10
    # At the last of the 1,000 times, and at no other of these, the condition is far below 0.
    for part in (head.time_embed.mlp[0].weight, head.time_embed.mlp[2].weight):
        part.data.zero_()
    head.time_embed.mlp[0].weight.data[0, -1], head.time_embed.mlp[0].bias.data[0] = 1e4, -900
    head.time_embed.mlp[2].weight.data[:, 0] = -0.3
    if moved:
        generator = torch.Generator().manual_seed(seed + 1)
        for part in (*model.encoder_blocks.parameters(), *model.decoder_blocks.parameters()):
            part.data.add_(moved * torch.randn(part.shape, generator=generator))
    folder.mkdir()
    other = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    args = argparse.Namespace(model="mar_tiny")
    torch.save({"model": other, "model_ema": model.state_dict(), "epoch": 3, "args": args}, folder / "last.pth")
    config = JanusVQVAEConfig(latent_channels=dim, base_channels=32, channel_multiplier=[1, 2], num_res_blocks=1)
    tensors = strong(Pixels(config), seed, 0.1).state_dict()
    names = {key: re.sub(r"up\.(\d)", lambda level: f"up.{1 - int(level[1])}", key) for key in tensors}
    encoder = {"encoder.conv_in.weight": torch.zeros(1)}
    torch.save({"model": encoder | {names[key]: value for key, value in tensors.items()}}, folder / "kl.ckpt")
    settings = {"adapter": "mar", "weights": "last.pth", "autoencoder": "kl.ckpt", "heads": [2, 3]}
    (folder / "image-model.json").write_text(json.dumps(settings))
    return folder


def opened_mar(folder, **settings):
    """What `mar` made, in double precision."""
    return MarModel(folder, **{"denoising": 4, "dtype": torch.float64, **settings})


def prompts(count, begin=BEGIN, seed=0):
    """Prompts of different lengths, as token ids."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(0, 6, (count,), generator=generator).tolist()
    return [[BOS, *torch.randint(4, 30, (size,), generator=generator).tolist(), begin] for size in sizes]


PROMPTS = prompts(8)
GLM_PROMPTS = [[*(30 + token for token in prompt[:-1]), 19] for prompt in PROMPTS]
TEXTS = [torch.randn(1 + i % 6, 6, generator=torch.Generator().manual_seed(i)) for i in range(8)]
MADE = {
    "janus": janus,
    "causal": causal,
    "causal-rows": lambda folder: causal(folder, "Llama", row_end=5, suffix=(6, 7), grid=(3, 4)),
    "causal-chameleon": chameleon,
    "causal-emu3.5": emu35,
    "emu3": emu3,
    "llamagen": lambda folder: llamagen(folder, classes=8),
    "llamagen-text": lambda folder: llamagen(folder, captions=7),
    **({"glm_image": glm_image} if hasattr(transformers, "GlmImageConfig") else {}),  # the class came with release 5
}
"""What makes a tiny checkpoint, at least one of every adapter."""
OPTIONS = {
    "emu3": {"grid": (3, 4), "negative": [1, 9, 9, 2]},
    "glm_image": {"grid": (3, 4), "preview": (3, 2), "unconditional": [41, 43, 19]},
}
CONDITIONS = {"llamagen": list(range(8)), "llamagen-text": TEXTS, "glm_image": GLM_PROMPTS}


def opened(folder, guidance=1.0, conditions=None, **options):
    """One of `MADE`, with eight conditions of different lengths."""
    conditions = CONDITIONS.get(folder.name, PROMPTS) if conditions is None else conditions
    return open_model(folder, guidance=guidance, conditions=conditions, **OPTIONS.get(folder.name, {}), **options)
