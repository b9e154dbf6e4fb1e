"""rotalabs-accel: `verify_tokens` with its defaults, behind a draft that is drawn here. The model keeps no cache, since
releases of transformers from 5.15 on refuse the way in which `verify_tokens` cuts one."""

from types import SimpleNamespace

import torch
from rotalabs_accel.speculative import verify_tokens

from specverify.integrations.causal import step_sampler


def step(draft, target, ids):
    def model(last, **_):
        seen = torch.cat([ids[:, :-1], last], 1)
        return SimpleNamespace(logits=target(seen).logits[:, -last.shape[1] :], past_key_values=None)

    law = draft(ids).logits[0, -1].exp()
    token = torch.multinomial(law, 1)
    return torch.cat([ids, verify_tokens(model, ids[:, -1:], token, law[token], None)[0][None]], 1)


tokens = step_sampler(step)
