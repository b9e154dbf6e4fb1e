"""rotalabs-accel: `eagle_verify(use_sampling=True)` behind drafts that are drawn here."""

import torch
from rotalabs_accel.speculative import eagle_verify

from specverify.integrations.causal import step_sampler


def step(draft, target, ids):
    law = draft(ids).logits[:, -1].softmax(-1)
    token = torch.multinomial(law, 1)
    cache = target(ids[:, :-1]).past_key_values if ids.shape[1] > 1 else None
    return torch.cat([ids, eagle_verify(target, ids, token, law.gather(1, token), cache, 1.0, True)[0][None]], 1)


eagle = step_sampler(step, cached=True)
