"""Tiny random checkpoints, made through the model's own class and laid down as real ones are.

Weights are drawn wide, so that laws are far from uniform and depend on all that came before: a cache that is wrong in
one slot then shows.
"""

import json

import torch
import transformers
from transformers import (
    JanusConfig,
    JanusForConditionalGeneration,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
)

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


def prompts(count, begin=BEGIN, seed=0):
    """Prompts of different lengths, as token ids."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(0, 6, (count,), generator=generator).tolist()
    return [[BOS, *torch.randint(4, 30, (size,), generator=generator).tolist(), begin] for size in sizes]
