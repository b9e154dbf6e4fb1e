"""speculative-decoding: `speculative_decoding_with_prophet_model`, one sequence at a time; a toy is the prophet."""

from types import SimpleNamespace

import torch
from speculative_decoding.speculative_decoding_with_prophet import speculative_decoding_with_prophet_model as theirs

from specverify.integrations.causal import step_sampler


def cached(model):
    def net(ids, cache=None, **_):
        seen = ids if cache is None else torch.cat([cache[0][:, 0, :, 0], ids[:, cache[0].shape[2] :]], 1)
        return model(seen).logits, (seen[:, None, :, None], seen[..., None])

    return net


def step(draft, target, ids):
    net = SimpleNamespace(model=cached(target), prophet=cached(draft), num_leading_start_tokens=1)
    net.to_prophet_start_token = torch.nn.Identity()
    return torch.cat([ids, theirs(net, ids, max(target.model.length, 2) + 1, gamma=2, filter_thres=0.0)[0]], 1)


prophet = step_sampler(step)
