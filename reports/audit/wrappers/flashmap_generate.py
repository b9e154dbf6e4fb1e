"""flashmap: `FlashMapDraftModel.spec_generate` at temperature 1. A toy drafts in place of its flow map: like there, the
tokens of a block are independent."""

from contextlib import nullcontext
from types import SimpleNamespace

import torch
from flashmap.modeling_flashmap import FlashMapDraftModel

from specverify.integrations.causal import step_sampler

CONFIG = SimpleNamespace(block_size=2, hidden_size=1, num_attention_heads=1, num_hidden_layers=1)


def step(draft, target, ids):
    def block(anchor, *_, **__):
        return draft(torch.cat([ids, anchor[:, None]], 1)).logits[:, -1:].repeat(1, 2, 1)

    target.get_input_embeddings = target.get_output_embeddings = nothing = lambda *_: None
    model = SimpleNamespace(config=CONFIG, device=ids.device, dtype=torch.float32, check_target=nothing, draft=block)
    model.extend_context, model.target_features = nothing, lambda _: nullcontext(lambda: ids)
    return FlashMapDraftModel.spec_generate(model, target, ids, target.toys[0].length, 1.0).sequences


generate = step_sampler(step, cached=True)
